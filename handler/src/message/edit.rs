//! `edit_message`.

use crate::error::Error;
use crate::field::Field;
use crate::fields::Fields;
use crate::message::change::{
    Change, Kept, changed_rev, deleted, found, is_deleted, is_member, raise_rev,
};
use crate::message::mention::{
    ALL_MEMBERS_MAX, Candidates, erase_mentions, insert_mentions, mentioned,
};
use crate::message::send::CONTENT;
use crate::message::{MESSAGE_ID, Message};
use crate::operation::Context;
use crate::search::keep_indexed;
use crate::sql::Statement;

/// `edit_message {message_id, content}` → the [`Message`]. Only its sender may edit it.
pub struct EditMessage {
    content: String,
}

/// Whether `?2` may give the message `m` the content `?3`, and it has another one.
macro_rules! is_edit {
    () => {
        concat!(
            "m.sender_id = ?2 and m.content <> ?3 and ",
            is_member!(),
            " and not ",
            is_deleted!()
        )
    };
}

impl Change for EditMessage {
    const TYPE: &'static str = "edit_message";
    const FIELDS: &'static [Field] = &[MESSAGE_ID, CONTENT];
    const FOUND: &'static str = found!("m.sender_id = ?2");
    const FORBIDDEN: &'static str = "only its sender may edit a message";

    fn read(fields: &Fields) -> Result<Self, Error> {
        Ok(EditMessage {
            content: CONTENT.required_text(fields)?,
        })
    }

    fn statements(&self, message_id: i64, ctx: &Context) -> Vec<Statement> {
        let candidates = Candidates::of(&self.content);
        let content = || self.content.as_str().into();
        let parameters = || [message_id.into(), ctx.user_id.into(), content()];
        let mut statements = vec![
            Statement::new(keep_indexed!(is_edit!()), parameters()),
            Statement::new(erase_mentions!(is_edit!()), parameters()),
            Statement::new(raise_rev!(is_edit!()), parameters()),
            match &candidates {
                None => Statement::new(
                    concat!(
                        "update messages set content = ?2, mentions = null, changed_rev = ",
                        changed_rev!(),
                        " where id = ?1 and changes() = 1"
                    ),
                    [message_id.into(), content()],
                ),
                Some(Candidates(names)) => Statement::new(
                    concat!(
                        "update messages set content = ?2, mentions = ",
                        mentioned!("messages.conversation_id", "messages.sender_id", "?3", "?4"),
                        ", changed_rev = ",
                        changed_rev!(),
                        " where id = ?1 and changes() = 1"
                    ),
                    [
                        message_id.into(),
                        content(),
                        names.as_str().into(),
                        ALL_MEMBERS_MAX.into(),
                    ],
                ),
            },
            Kept {
                edited_at: Some(ctx.now),
                ..Kept::default()
            }
            .statement(message_id),
        ];
        if candidates.is_some() {
            statements.push(Statement::new(insert_mentions!("?1"), [message_id.into()]));
        }
        statements
    }

    fn check(&self, message: &Message, _: &Context) -> Result<(), Error> {
        match message.is_deleted() {
            true => Err(deleted()),
            false => Ok(()),
        }
    }
}
