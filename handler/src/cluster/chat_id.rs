//! The id of a chat. The hosts over one database find each other by it, and it is the chat's epoch
//! (see `sync`).

use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::sql::{Rows, Statement};

/// Gives the database a new chat id, which is also its new epoch (see `sync`).
pub const NEW_CHAT_ID: &str = "update community set id = lower(hex(randomblob(8)))";

/// Finds the id by which the hosts over a database find each other.
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
