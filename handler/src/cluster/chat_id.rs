//! The name of a chat, by which the hosts over its database find each other, and which is its epoch (see `sync`).

use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::sql::{Rows, Statement};

/// Gives the database another name under which its hosts find each other, which is also its epoch (see `sync`).
pub const NEW_CHAT_ID: &str = "update community set id = lower(hex(randomblob(8)))";

/// The name under which the hosts over a database find each other.
pub struct FindChatId;

impl Operation for FindChatId {
    type Output = String;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new("select cast(id as blob) from community", [])]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<String, Error> {
        let row = rows[0].first();
        let missing = || Error::Internal("the table community is empty".into());
        row.map(|row| row.columns().text()).ok_or_else(missing)
    }
}
