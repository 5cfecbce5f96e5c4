//! What the operator, or a program of the operator, does with accounts. It does not need the users'
//! passwords.

use serde::Serialize;

use crate::account::body::{at_most, fields};
use crate::account::open_login::earlier_now;
use crate::account::register::{PASSWORD_BYTES_MAX, check_fullname};
use crate::account::session::{session_ids, tell_ended};
use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::sql::{Columns, Row, Rows, Statement};
use crate::user::no_such_user;

/// The most users in one list.
pub const USERS_LISTED_MAX: usize = 100;

/// Begins every PHC string. What else there is in the place of a hash, no password matches.
const PHC: &str = "$";

/// The body of `PUT /users/{username}`: what the user is to be. What is missing stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserChange {
    pub fullname: Option<String>,
    pub password: Option<String>,
    pub banned: Option<bool>,
}

impl UserChange {
    /// Parses the JSON of a request's body, which may be empty.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        if body.is_empty() {
            return Ok(UserChange::default());
        }
        let fields = fields(body)?;
        let text = |name: &'static str| match fields.text(name) {
            Ok(Some(text)) if text.is_empty() => {
                Err(Error::Invalid(format!("{name} should not be empty")))
            }
            Ok(text) => Ok(text),
            Err(_) => Err(Error::Invalid(format!("{name} should be a string"))),
        };
        let change = UserChange {
            fullname: text("fullname")?,
            password: text("password")?,
            banned: fields
                .flag("banned")
                .map_err(|_| Error::Invalid("banned should be true or false".into()))?,
        };
        if let Some(fullname) = &change.fullname {
            check_fullname(fullname)?;
        }
        if let Some(password) = &change.password {
            at_most("password", password.len(), PASSWORD_BYTES_MAX, "bytes")?;
        }
        Ok(change)
    }
}

/// A user, as the operator sees it. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListedUser {
    pub username: String,
    pub fullname: String,
    /// Nobody can log in as a banned user.
    pub banned: bool,
    /// Without one, the user logs in with tokens that another program signs.
    pub has_password: bool,
    /// Whether a socket of the user is open.
    pub is_online: bool,
    /// When the user last came or went.
    pub last_online: i64,
    pub created_at: i64,
}

/// The columns of a `ListedUser`, of the table `users`. ?1 begins every password hash.
macro_rules! listed_columns {
    () => {
        "cast(username as blob), cast(fullname as blob), banned_at is not null, substr(password, 1, 1) = ?1,
         cast(is_online as integer), cast(last_online as integer), cast(created_at as integer)"
    };
}

impl ListedUser {
    fn read(columns: &mut Columns) -> Self {
        ListedUser {
            username: columns.text(),
            fullname: columns.text(),
            banned: columns.flag(),
            has_password: columns.flag(),
            is_online: columns.flag(),
            last_online: columns.integer(),
            created_at: columns.integer(),
        }
    }
}

/// Finds a user. Fails with `NotFound` if there is none of this name.
pub struct FindUser {
    pub username: String,
}

impl Operation for FindUser {
    type Output = ListedUser;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            concat!(
                "select ",
                listed_columns!(),
                " from users where username = ?2"
            ),
            [PHC.into(), self.username.as_str().into()],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<ListedUser, Error> {
        let row = rows[0].first();
        let row = row.ok_or_else(|| no_such_user(&self.username))?;
        Ok(ListedUser::read(&mut row.columns()))
    }
}

/// Lists users in the order of their names.
pub struct ListUsers {
    /// Only names behind this one.
    pub after: String,
    /// At most `USERS_LISTED_MAX`.
    pub limit: usize,
}

/// A page of users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListedUsers {
    pub users: Vec<ListedUser>,
    /// Whether there are more behind the last one.
    pub has_more: bool,
}

impl Operation for ListUsers {
    type Output = ListedUsers;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        // One more shows whether there are more.
        let limit = self.limit.min(USERS_LISTED_MAX) as i64 + 1;
        vec![Statement::new(
            concat!(
                "select ",
                listed_columns!(),
                " from users where username > ?2 order by username limit +?3"
            ),
            [PHC.into(), self.after.as_str().into(), limit.into()],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<ListedUsers, Error> {
        let user = |row: &Row| ListedUser::read(&mut row.columns());
        let limit = self.limit.min(USERS_LISTED_MAX);
        Ok(ListedUsers {
            users: rows[0].0.iter().take(limit).map(user).collect(),
            has_more: rows[0].0.len() > limit,
        })
    }
}

/// Gives a user a password, whatever it was before, and ends all logins. Fails with `NotFound` if there
/// is no such user.
pub struct SetPassword {
    pub username: String,
    /// A PHC string.
    pub password_hash: String,
}

impl Operation for SetPassword {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let username = || self.username.as_str().into();
        let hash = || self.password_hash.as_str().into();
        vec![
            Statement::new(
                concat!(
                    "update users set password = ?2, tokens_from = ",
                    earlier_now!("?3"),
                    " where username = ?1 and password <> ?2"
                ),
                [username(), hash(), ctx.now.into()],
            ),
            // If the answer is lost, the sockets of these are closed within a minute instead of now.
            Statement::new(
                "delete from sessions where user_id = (select id from users where username = ?1 and password = ?2)
                 returning id",
                [username(), hash()],
            ),
            Statement::new(
                "select id, tokens_from from users where username = ?1 and password = ?2",
                [username(), hash()],
            ),
        ]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], out: &mut Outbox) -> Result<(), Error> {
        let row = rows[2].first();
        let mut columns = row.ok_or_else(|| no_such_user(&self.username))?.columns();
        let (user_id, tokens_until) = (columns.integer(), columns.integer());
        tell_ended(user_id, session_ids(&rows[1]), Some(tokens_until), out);
        Ok(())
    }
}
