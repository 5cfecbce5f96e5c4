//! Bans: a banned user cannot log in, and has no sockets. What the user has written stays.

use crate::account::session::{session_ids, tell_ended};
use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::sql::{Rows, Statement};

/// Bans a user, who may be banned already, and has the user's sockets closed. Returns whether the user
/// exists. Nobody finds the user by searching.
pub struct BanUser {
    pub username: String,
}

impl Operation for BanUser {
    type Output = bool;

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let username = || self.username.as_str().into();
        vec![
            Statement::new(
                "update users set banned_at = ?2, has_words = 0
                 where username = ?1 and banned_at is null",
                [username(), ctx.now.into()],
            ),
            Statement::new(
                "delete from user_words where user_id = (select id from users
                     where username = ?1 and banned_at is not null)",
                [username()],
            ),
            Statement::new(
                "select id from sessions where user_id = (select id from users where username = ?1)",
                [username()],
            ),
            find(&self.username),
        ]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], out: &mut Outbox) -> Result<bool, Error> {
        let [_, _, sessions, user] = rows else {
            return Err(Error::Internal("four statements, four results".into()));
        };
        let user_id = user.first().map(|row| row.columns().integer());
        if let Some(user_id) = user_id {
            tell_ended(user_id, session_ids(sessions), Some(i64::MAX), out);
        }
        Ok(user_id.is_some())
    }
}

/// Lifts a ban, if there is one. Returns whether the user exists. Its words are missing afterwards:
/// see [`StoreWords`](crate::user::words::StoreWords).
pub struct UnbanUser {
    pub username: String,
}

impl Operation for UnbanUser {
    type Output = bool;

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![
            Statement::new(
                "update users set banned_at = null where username = ?1 and banned_at is not null",
                [self.username.as_str().into()],
            ),
            find(&self.username),
        ]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<bool, Error> {
        Ok(rows.last().is_some_and(|rows| !rows.is_empty()))
    }
}

fn find(username: &str) -> Statement {
    Statement::new(
        "select id from users where username = ?1",
        [username.into()],
    )
}
