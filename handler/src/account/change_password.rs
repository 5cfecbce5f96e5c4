//! Changing a password.

use crate::account::body::{at_most, required_texts};
use crate::account::login_id::SessionId;
use crate::account::open_login::earlier_now;
use crate::account::register::PASSWORD_BYTES_MAX;
use crate::account::session::{session_ids, tell_ended};
use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::sql::{Rows, Statement};

/// The body of `POST /auth/password`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordChange {
    pub old_password: String,
    pub new_password: String,
}

impl PasswordChange {
    /// Parses the JSON of a request's body.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let [old_password, new_password] = required_texts(body, ["old_password", "new_password"])?;
        at_most(
            "new_password",
            new_password.len(),
            PASSWORD_BYTES_MAX,
            "bytes",
        )?;
        Ok(PasswordChange {
            old_password,
            new_password,
        })
    }
}

/// Changes the caller's password, and ends all of the caller's other logins. Fails with `Conflict` if
/// the password has been changed since the old one was checked.
pub struct ChangePassword {
    /// The one that the old password was checked with.
    pub old_hash: String,
    /// With a random salt, so that no other hash is the same.
    pub new_hash: String,
    /// The caller's session, which goes on. A login without a session ends too.
    pub kept: Option<SessionId>,
}

impl Operation for ChangePassword {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let user_id = ctx.user_id;
        let new_hash = || self.new_hash.as_str().into();
        vec![
            Statement::new(
                concat!(
                    "update users set password = ?3, tokens_from = ",
                    earlier_now!("?4"),
                    " where id = ?1 and password = ?2"
                ),
                [
                    user_id.into(),
                    self.old_hash.as_str().into(),
                    new_hash(),
                    ctx.now.into(),
                ],
            ),
            // If the answer is lost, the sockets of these are closed within a minute instead of now.
            Statement::new(
                "delete from sessions where user_id = ?1 and id <> ?3
                     and exists (select 1 from users where id = ?1 and password = ?2)
                 returning id",
                [
                    user_id.into(),
                    new_hash(),
                    self.kept.map_or(0, SessionId::number).into(),
                ],
            ),
            Statement::new(
                "select tokens_from from users where id = ?1 and password = ?2",
                [user_id.into(), new_hash()],
            ),
        ]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<(), Error> {
        let Some(row) = rows[2].first() else {
            let text = "the password was changed at the same time";
            return Err(Error::Conflict(text.into()));
        };
        let tokens_until = row.columns().integer();
        tell_ended(ctx.user_id, session_ids(&rows[1]), Some(tokens_until), out);
        Ok(())
    }
}
