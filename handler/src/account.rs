//! Accounts: registering one, looking one up to log in.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::Error;
use crate::event::json;
use crate::fields::Fields;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::statement::{Rows, Statement};

/// Longest username at registration, in characters.
pub const USERNAME_CHARS_MAX: usize = 64;
/// Longest fullname, in characters.
pub const FULLNAME_CHARS_MAX: usize = 256;
/// Longest password, in bytes of UTF-8.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// The body of `POST /register`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    pub username: String,
    pub password: String,
    pub fullname: String,
}

impl Registration {
    /// From the JSON of a request's body.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let [username, password, fullname] =
            required_texts(body, ["username", "password", "fullname"])?;
        at_most(
            "username",
            username.chars().count(),
            USERNAME_CHARS_MAX,
            "characters",
        )?;
        at_most("password", password.len(), PASSWORD_BYTES_MAX, "bytes")?;
        at_most(
            "fullname",
            fullname.chars().count(),
            FULLNAME_CHARS_MAX,
            "characters",
        )?;
        Ok(Registration {
            username,
            password,
            fullname,
        })
    }
}

/// The body of `POST /auth/login`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub username: String,
    pub password: String,
}

impl Credentials {
    /// From the JSON of a request's body.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let [username, password] = required_texts(body, ["username", "password"])?;
        Ok(Credentials { username, password })
    }
}

/// Presence of all, then the types of all, then the emptiness of all, as the first backend judged them.
fn required_texts<const N: usize>(
    body: &[u8],
    names: [&'static str; N],
) -> Result<[String; N], Error> {
    let fields = std::str::from_utf8(body).ok().and_then(Fields::parse);
    let fields = fields.ok_or_else(|| Error::Invalid("not a valid json".into()))?;
    for name in names {
        if fields.raw(name).is_none() {
            return Err(Error::Invalid(format!("{name} required")));
        }
    }
    let mut texts = [const { String::new() }; N];
    for (name, text) in names.iter().zip(&mut texts) {
        match fields.text(name) {
            Ok(Some(value)) => *text = value,
            _ => return Err(Error::Invalid(format!("{name} should be a string"))),
        }
    }
    for (name, text) in names.iter().zip(&texts) {
        if text.is_empty() {
            return Err(Error::Invalid(format!("{name} should not be empty")));
        }
    }
    Ok(texts)
}

fn at_most(name: &str, length: usize, max: usize, unit: &str) -> Result<(), Error> {
    if length > max {
        let text = format!("{name} should be at most {max} {unit}");
        return Err(Error::Invalid(text));
    }
    Ok(())
}

/// Makes the account. `Conflict` where the name is taken.
pub struct Register {
    pub username: String,
    pub fullname: String,
    /// A PHC string.
    pub password_hash: String,
}

impl Operation for Register {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        vec![
            Statement::new(
                "insert into users (username, fullname, password, is_online, last_online, created_at)
                 values (?1, ?2, ?3, 0, ?4, ?4) on conflict do nothing returning id",
                [
                    self.username.as_str().into(),
                    self.fullname.as_str().into(),
                    self.password_hash.as_str().into(),
                    ctx.now.into(),
                ],
            ),
            // No two hashes are the same: their salts are random.
            Statement::new(
                "select 1 from users where username = ?1 and password = ?2",
                [
                    self.username.as_str().into(),
                    self.password_hash.as_str().into(),
                ],
            ),
        ]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], _: &mut Outbox) -> Result<(), Error> {
        let is_own = ctx.is_repeat && !rows[1].is_empty();
        if rows[0].is_empty() && !is_own {
            return Err(Error::Conflict("username already exists".into()));
        }
        Ok(())
    }
}

/// Looks an account up by its name.
pub struct FindAccount {
    pub username: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub user_id: i64,
    pub password_hash: String,
}

impl Operation for FindAccount {
    type Output = Option<Account>;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "select id, cast(password as blob) from users where username = ?1",
            [self.username.as_str().into()],
        )]
    }

    fn conclude(
        &self,
        _: &Context,
        rows: &[Rows],
        _: &mut Outbox,
    ) -> Result<Option<Account>, Error> {
        Ok(rows[0].first().map(|row| Account {
            user_id: row.integer(0),
            password_hash: row.text(1),
        }))
    }
}

/// Of these users, by id and name, finds those whose account is not there any more.
pub struct FindGone {
    pub users: Vec<(i64, Arc<str>)>,
}

impl Operation for FindGone {
    type Output = Vec<(i64, Arc<str>)>;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        let ids: Vec<i64> = self.users.iter().map(|(id, _)| *id).collect();
        vec![Statement::new(
            "select id, cast(username as blob) from users where id in (select value from json_each(?1))",
            [json(&ids).into()],
        )]
    }

    fn conclude(
        &self,
        _: &Context,
        rows: &[Rows],
        _: &mut Outbox,
    ) -> Result<Vec<(i64, Arc<str>)>, Error> {
        let there = rows[0].0.iter();
        let there: HashMap<i64, String> = there.map(|row| (row.integer(0), row.text(1))).collect();
        // An id may have been given to somebody else since.
        let is_there = |id, name: &str| there.get(&id).is_some_and(|now| now == name);
        let gone = self.users.iter().filter(|(id, name)| !is_there(*id, name));
        Ok(gone.cloned().collect())
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
