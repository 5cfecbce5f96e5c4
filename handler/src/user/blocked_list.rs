//! `get_blocked`: whom the caller has blocked.

use serde::Serialize;

use crate::declaration::Declared;
use crate::error::Error;
use crate::field::Field;
use crate::fields::Fields;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::reply::Reply;
use crate::sql::{Rows, Statement};

/// `get_blocked` → [`BlockedUsers`].
pub struct GetBlocked;

/// The users whom the caller has blocked.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BlockedUsers {
    /// In the order in which they were blocked; at most `BLOCKS_MAX`.
    usernames: Vec<String>,
}

impl Declared for GetBlocked {
    const TYPE: &'static str = "get_blocked";
    const FIELDS: &'static [Field] = &[];
    type Data = BlockedUsers;

    fn read(_: &Fields) -> Result<Self, Error> {
        Ok(GetBlocked)
    }
}

impl Operation for GetBlocked {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "select cast(u.username as blob) from blocks b cross join users u on u.id = b.blocked_id
             where b.user_id = ?1 order by b.rowid",
            [ctx.user_id.into()],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        Ok(Reply::of(&BlockedUsers {
            usernames: rows[0].texts(),
        }))
    }
}
