//! `edit_message`.

use crate::answer_budget::NAMES_ANSWER_BYTES_MAX;
use crate::error::Error;
use crate::field::Field;
use crate::fields::Fields;
use crate::message::change::{
    Change, Kept, deleted, found, is_deleted, is_member, is_silent, next_rev,
};
use crate::message::mention::{
    ALL_MEMBERS_MAX, Candidates, forget_mentions, insert_mentions, mentioned,
};
use crate::message::send::CONTENT;
use crate::message::{MESSAGE_ID, Message};
use crate::operation::Context;
use crate::search::keep_indexed;
use crate::sql::Statement;

/// `edit_message {message_id, content}` → the [`Message`]. Only its sender may edit it.
pub struct EditMessage {
    content: String,
    candidates: Option<Candidates>,
}

/// Whether `?2` may give the message `m` the content `?3`, and it has another one.
macro_rules! is_edit {
    () => {
        concat!(
            "m.sender_id = ?2 and m.content <> ?3 and ",
            is_member!(),
            " and not ",
            is_silent!(),
            " and not ",
            is_deleted!()
        )
    };
}

/// The `?2` of the message `?1` gives it the content `?3`, unless that is its content already.
macro_rules! edit {
    ($mentions:expr) => {
        concat!(
            "update messages as m set content = ?3, mentions = ",
            $mentions,
            ", changed_rev = ",
            next_rev!(),
            " where m.id = ?1 and ",
            is_edit!()
        )
    };
}

impl Change for EditMessage {
    const TYPE: &'static str = "edit_message";
    const FIELDS: &'static [Field] = &[MESSAGE_ID, CONTENT];
    const FOUND: &'static str = found!("m.sender_id = ?2");
    const FORBIDDEN: &'static str = "only its sender may edit a message";
    const ANSWER_BYTES_MAX: usize = NAMES_ANSWER_BYTES_MAX;

    fn read(fields: &Fields) -> Result<Self, Error> {
        let content = CONTENT.required_text(fields)?;
        Ok(EditMessage {
            candidates: Candidates::of(&content),
            content,
        })
    }

    fn mentions_max(&self) -> usize {
        let candidates = self.candidates.as_ref();
        candidates.map_or(0, |candidates| candidates.mentions_max)
    }

    fn statements(&self, message_id: i64, ctx: &Context) -> Vec<Statement> {
        let content = || self.content.as_str().into();
        let parameters = || [message_id.into(), ctx.user_id.into(), content()];
        let edit = match &self.candidates {
            None => Statement::new(edit!("null"), parameters()),
            Some(Candidates { names, .. }) => {
                let mentioned = edit!(mentioned!("m.conversation_id", "m.sender_id", "?4", "?5"));
                let mut edit = Statement::new(mentioned, parameters());
                let more = [names.as_str().into(), ALL_MEMBERS_MAX.into()];
                edit.parameters.extend(more);
                edit
            }
        };
        vec![
            Statement::new(keep_indexed!(is_edit!()), parameters()),
            edit,
        ]
    }

    fn kept(&self, ctx: &Context) -> Kept {
        Kept {
            edited_at: Some(ctx.now),
            ..Kept::default()
        }
    }

    fn afterwards(&self, message_id: i64) -> Vec<Statement> {
        let forget = Statement::new(forget_mentions!(), [message_id.into()]);
        match &self.candidates {
            None => vec![forget],
            Some(_) => vec![
                Statement::new(
                    insert_mentions!("m.id = ?1 and changes() = 1"),
                    [message_id.into()],
                ),
                forget,
            ],
        }
    }

    fn is_said(&self) -> bool {
        true
    }

    fn check(&self, message: &Message, _: &Context) -> Result<(), Error> {
        match message.is_deleted() {
            true => Err(deleted()),
            false => Ok(()),
        }
    }
}
