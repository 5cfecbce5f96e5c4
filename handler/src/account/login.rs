//! Logging in.

use crate::account::body::{optional_flag, required_texts};
use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::sql::{Rows, Statement};

/// The body of `POST /auth/login` and `POST /auth/token`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub username: String,
    pub password: String,
    /// The login lasts longer than an hour.
    pub remember: bool,
}

impl Credentials {
    /// Parses the JSON of a request's body.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let [username, password] = required_texts(body, ["username", "password"])?;
        Ok(Credentials {
            username,
            password,
            remember: optional_flag(body, "remember")?,
        })
    }
}

/// Looks up an account by its username.
pub struct FindAccount {
    pub username: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub user_id: i64,
    pub password_hash: String,
    /// Nobody may log in as a banned user.
    pub is_banned: bool,
}

impl Operation for FindAccount {
    type Output = Option<Account>;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "select id, cast(password as blob), banned_at is not null from users where username = ?1",
            [self.username.as_str().into()],
        )]
    }

    fn conclude(
        &self,
        _: &Context,
        rows: &[Rows],
        _: &mut Outbox,
    ) -> Result<Option<Account>, Error> {
        Ok(rows[0].first().map(|row| {
            let mut columns = row.columns();
            Account {
                user_id: columns.integer(),
                password_hash: columns.text(),
                is_banned: columns.flag(),
            }
        }))
    }
}

/// Replaces a password hash, unless it has changed since it was read.
pub struct ReplacePasswordHash {
    pub user_id: i64,
    pub old: String,
    pub new: String,
}

impl Operation for ReplacePasswordHash {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "update users set password = ?3 where id = ?1 and password = ?2",
            [
                self.user_id.into(),
                self.old.as_str().into(),
                self.new.as_str().into(),
            ],
        )]
    }

    fn conclude(&self, _: &Context, _: &[Rows], _: &mut Outbox) -> Result<(), Error> {
        Ok(())
    }
}
