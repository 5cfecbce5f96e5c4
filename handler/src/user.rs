//! Users as others see them: the profile, and the `self` event.

use serde::Serialize;

use crate::error::Error;
use crate::event::Reply;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::statement::{Row, Rows, Statement};

/// The columns of a `Profile`, of a `users` row called `u`.
macro_rules! profile_columns {
    () => {
        "cast(u.username as blob), cast(u.fullname as blob), \
         cast(u.is_online as integer), cast(u.last_online as integer), cast(u.created_at as integer)"
    };
}
pub(crate) use profile_columns;

/// Times are Unix seconds.
#[derive(Debug, Serialize)]
pub(crate) struct Profile {
    pub username: String,
    pub fullname: String,
    pub is_online: bool,
    pub last_online: i64,
    pub created_at: i64,
}

impl Profile {
    /// From a row of `profile_columns!()`.
    pub fn of(row: &Row) -> Self {
        Profile {
            username: row.text(0),
            fullname: row.text(1),
            is_online: row.flag(2),
            last_online: row.integer(3),
            created_at: row.integer(4),
        }
    }
}

/// `self`: the caller's own profile.
pub struct GetSelf;

impl Operation for GetSelf {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        vec![Statement::new(
            concat!(
                "select ",
                profile_columns!(),
                " from users u where u.id = ?1"
            ),
            [ctx.user_id.into()],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        let row = rows[0]
            .first()
            .ok_or_else(|| Error::NotFound("no such user".into()))?;
        Ok(Reply::of(&Profile::of(row)))
    }
}
