//! Deleting a message as the operator.

use crate::error::Error;
use crate::message::change::{Kept, changed_rev, is_deleted, raise_rev};
use crate::message::mention::erase_mentions;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::sql::{Rows, Statement};

/// Does what `delete_message` does, for a message of anybody. The conversation's rev rises, so that
/// clients find out with the next push or `sync`; nobody is told now. Does nothing if the message is
/// deleted already. Returns whether it exists.
pub struct EraseMessage {
    pub message_id: i64,
}

macro_rules! is_there {
    () => {
        concat!("not ", is_deleted!())
    };
}

impl Operation for EraseMessage {
    type Output = bool;

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        let id = || [self.message_id.into()];
        vec![
            Statement::new(erase_mentions!(is_there!()), id()),
            Statement::new(raise_rev!(is_there!()), id()),
            Statement::new(
                concat!(
                    "update messages set content = '', mentions = null, changed_rev = ",
                    changed_rev!(),
                    " where id = ?1 and changes() = 1"
                ),
                id(),
            ),
            Kept {
                is_deleted: true,
                ..Kept::default()
            }
            .statement(self.message_id),
            Statement::new(
                "delete from reactions where message_id = ?1 and changes() = 1",
                id(),
            ),
            Statement::new("select id from messages where id = ?1", id()),
        ]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<bool, Error> {
        Ok(rows.last().is_some_and(|rows| !rows.is_empty()))
    }
}
