//! Bans: a banned user cannot log in. What the user has written stays.

use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::sql::{Rows, Statement};

/// Bans a user, or does nothing if the user is banned already. Returns whether the user exists. Its
/// sockets close when their hosts look next. Nobody finds the user by searching.
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
            find(&self.username),
        ]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<bool, Error> {
        Ok(rows.last().is_some_and(|rows| !rows.is_empty()))
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
