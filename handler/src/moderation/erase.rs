//! Deleting a message as the operator.

use crate::error::Error;
use crate::message::change::{Change, is_deleted, next_rev, raise_rev};
use crate::message::delete::DeleteMessage;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::search::keep_indexed;
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

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let id = self.message_id;
        let mut statements = vec![
            Statement::new(keep_indexed!(concat!("not ", is_deleted!())), [id.into()]),
            Statement::new(
                concat!(
                    "update messages as m set content = '', mentions = null, changed_rev = ",
                    next_rev!(),
                    " where m.id = ?1 and not ",
                    is_deleted!()
                ),
                [id.into()],
            ),
            raise_rev(id),
            DeleteMessage.kept(ctx).statement(id),
        ];
        statements.extend(DeleteMessage.afterwards(id));
        let find = "select id from messages where id = ?1";
        statements.push(Statement::new(find, [id.into()]));
        statements
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<bool, Error> {
        Ok(rows.last().is_some_and(|rows| !rows.is_empty()))
    }
}
