//! `delete_message`.

use crate::answer_budget::SMALL_ANSWER_BYTES_MAX;
use crate::error::Error;
use crate::field::Field;
use crate::fields::Fields;
use crate::member::may_change;
use crate::message::change::{Change, Kept, found, is_deleted, is_member, next_rev};
use crate::message::mention::forget_mentions;
use crate::message::{MESSAGE_ID, Message};
use crate::operation::Context;
use crate::search::keep_indexed;
use crate::sql::Statement;

/// `delete_message {message_id}` → the [`Message`], without its content, mentions and reactions.
/// Its sender may delete it, and so may the owners and admins of its conversation.
pub struct DeleteMessage;

/// Whether `?2` may delete the message `m`, as its sender, or as an owner or admin.
macro_rules! may_delete {
    () => {
        concat!(
            "(m.sender_id = ?2 or ",
            may_change!("m.conversation_id", 1),
            ")"
        )
    };
}

/// Whether `?2` may delete the message `m`, and it is not deleted yet.
macro_rules! is_deletion {
    () => {
        concat!(
            may_delete!(),
            " and ",
            is_member!(),
            " and not ",
            is_deleted!()
        )
    };
}

/// Forgets the reactions to the message `?1`, if it is deleted.
macro_rules! forget_reactions {
    () => {
        concat!(
            "delete from reactions where message_id = ?1
             and exists (select 1 from messages m where m.id = ?1 and ",
            $crate::message::change::is_deleted!(),
            ")"
        )
    };
}

impl Change for DeleteMessage {
    const TYPE: &'static str = "delete_message";
    const FIELDS: &'static [Field] = &[MESSAGE_ID];
    const FOUND: &'static str = found!(may_delete!());
    const FORBIDDEN: &'static str =
        "only its sender and the owners and admins may delete a message";
    const ANSWER_BYTES_MAX: usize = SMALL_ANSWER_BYTES_MAX;

    fn read(_: &Fields) -> Result<Self, Error> {
        Ok(DeleteMessage)
    }

    fn statements(&self, message_id: i64, ctx: &Context) -> Vec<Statement> {
        let ids = || [message_id.into(), ctx.user_id.into()];
        vec![
            Statement::new(keep_indexed!(is_deletion!()), ids()),
            Statement::new(
                concat!(
                    "update messages as m set content = '', mentions = null, changed_rev = ",
                    next_rev!(),
                    " where m.id = ?1 and ",
                    is_deletion!()
                ),
                ids(),
            ),
        ]
    }

    fn kept(&self, _: &Context) -> Kept {
        Kept {
            is_deleted: true,
            ..Kept::default()
        }
    }

    fn afterwards(&self, message_id: i64) -> Vec<Statement> {
        let id = || [message_id.into()];
        vec![
            Statement::new(forget_mentions!(), id()),
            Statement::new(forget_reactions!(), id()),
        ]
    }

    fn is_said(&self) -> bool {
        false
    }

    /// A message that is deleted already is as it should be.
    fn check(&self, _: &Message, _: &Context) -> Result<(), Error> {
        Ok(())
    }
}
