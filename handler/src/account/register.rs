//! Registering an account.

use crate::account::body::{at_most, required_texts};
use crate::account::skeleton::skeleton;
use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::sql::{Rows, Statement};
use crate::user::words::words;

/// The longest username at registration, in characters.
pub const USERNAME_CHARS_MAX: usize = 64;
/// The longest fullname, in characters.
pub const FULLNAME_CHARS_MAX: usize = 256;
/// The longest password, in bytes of UTF-8.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// The body of `POST /register`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    pub username: String,
    pub password: String,
    pub fullname: String,
}

impl Registration {
    /// Parses the JSON of a request's body.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let [username, password, fullname] =
            required_texts(body, ["username", "password", "fullname"])?;
        check_username(&username)?;
        at_most("password", password.len(), PASSWORD_BYTES_MAX, "bytes")?;
        check_fullname(&fullname)?;
        Ok(Registration {
            username,
            password,
            fullname,
        })
    }
}

/// Whether a new user may have this name. It may be taken.
pub fn check_username(username: &str) -> Result<(), Error> {
    let length = username.chars().count();
    at_most("username", length, USERNAME_CHARS_MAX, "characters")?;
    if skeleton(username).is_empty() {
        let text = "username should have a visible character";
        return Err(Error::Invalid(text.into()));
    }
    // In an address, they are steps between folders: clients turn `/users/..` into `/` (URL Standard, section 4.4).
    if matches!(username, "." | "..") {
        let text = "username should not be . or ..";
        return Err(Error::Invalid(text.into()));
    }
    Ok(())
}

pub(crate) fn check_fullname(fullname: &str) -> Result<(), Error> {
    let length = fullname.chars().count();
    at_most("fullname", length, FULLNAME_CHARS_MAX, "characters")
}

/// Creates the account. Fails with `Conflict` if the username is taken, or looks like one that is;
/// the name of a deleted account stays taken.
/// Fails with `Unavailable` while an account has no skeleton yet: that one may look the same.
pub struct Register {
    pub username: String,
    pub fullname: String,
    /// A PHC string, or `NO_PASSWORD`.
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
                // SQLite itself would give the id of a deleted account again, if it was the largest.
                "insert into users (id, username, fullname, password, is_online, last_online, created_at, skeleton, has_words)
                 select 1 + max(coalesce((select max(id) from users), 0),
                         coalesce((select max(user_id) from deleted_accounts), 0)),
                     ?1, ?2, ?3, 0, ?4, ?4, ?5, 1
                 where not exists (select 1 from users where skeleton = ?5)
                     and not exists (select 1 from users where skeleton is null)
                     and not exists (select 1 from deleted_accounts where skeleton = ?5)
                     and not exists (select 1 from deleted_accounts where username = ?1)
                 on conflict do nothing returning id",
                [
                    self.username.as_str().into(),
                    self.fullname.as_str().into(),
                    self.password_hash.as_str().into(),
                    ctx.now.into(),
                    skeleton(&self.username).into(),
                ],
            ),
            // Why it was refused.
            Statement::new(
                "select exists (select 1 from users where username = ?1)
                         or exists (select 1 from deleted_accounts where username = ?1),
                     exists (select 1 from users where skeleton is null)",
                [self.username.as_str().into()],
            ),
            // No two hashes are equal, because their salts are random.
            Statement::new(
                "select 1 from users where username = ?1 and password = ?2",
                [
                    self.username.as_str().into(),
                    self.password_hash.as_str().into(),
                ],
            ),
            // changes() is 1 if the account was created.
            Statement::new(
                "insert into user_words (user_id, word)
                 select u.id, word.value from users u cross join json_each(?2) word
                 where u.username = ?1 and changes() = 1",
                [
                    self.username.as_str().into(),
                    words(&self.username, &self.fullname).into(),
                ],
            ),
        ]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], _: &mut Outbox) -> Result<(), Error> {
        let is_own = ctx.is_repeat && !rows[2].is_empty();
        if !rows[0].is_empty() || is_own {
            return Ok(());
        }
        let (is_taken, has_unseen) = rows[1].first().map_or((false, false), |row| {
            let mut columns = row.columns();
            (columns.flag(), columns.flag())
        });
        Err(match (is_taken, has_unseen) {
            (true, _) => Error::Conflict("username already exists".into()),
            (false, true) => Error::Unavailable {
                retry_after_seconds: 1,
            },
            (false, false) => Error::Conflict("username looks like one that exists".into()),
        })
    }
}
