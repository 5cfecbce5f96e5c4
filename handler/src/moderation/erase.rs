//! Deleting a message as the operator.

use crate::error::Error;
use crate::message::change::{Kept, is_deleted, next_rev, raise_rev};
use crate::message::delete::forget_reactions;
use crate::message::mention::forget_mentions;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::sql::{Rows, Statement};

/// Does what `delete_message` does, for a message of anybody. The conversation's rev rises, so that
/// clients find out with the next push or `sync`; nobody is told now. Does nothing if the message is
/// deleted already. Returns whether it exists.
pub struct EraseMessage {
    pub message_id: i64,
}

impl Operation for EraseMessage {
    type Output = bool;

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        let id = || [self.message_id.into()];
        let kept = Kept {
            is_deleted: true,
            ..Kept::default()
        };
        vec![
            Statement::new(
                concat!(
                    "update messages as m set content = '', mentions = null, changed_rev = ",
                    next_rev!(),
                    " where m.id = ?1 and not ",
                    is_deleted!()
                ),
                id(),
            ),
            raise_rev(self.message_id),
            kept.statement(self.message_id),
            Statement::new(forget_mentions!(), id()),
            Statement::new(forget_reactions!(), id()),
            Statement::new("select id from messages where id = ?1", id()),
        ]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<bool, Error> {
        Ok(rows.last().is_some_and(|rows| !rows.is_empty()))
    }
}
