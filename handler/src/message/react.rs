//! `react`: the reactions to a message.

use std::collections::BTreeMap;

use crate::answer_budget::ANSWER_BYTES_MAX;
use crate::error::Error;
use crate::field::{Field, Kind, Length};
use crate::fields::Fields;
use crate::message::change::{
    Change, Kept, deleted, found, is_deleted, is_member, is_silent, next_rev,
};
use crate::message::{MESSAGE_ID, Message};
use crate::operation::Context;
use crate::sql::Statement;

/// The longest emoji, in bytes of UTF-8. Families with skin tones take up to 35, flags and most
/// others less than 30.
pub const EMOJI_BYTES_MAX: usize = 32;

/// The most different emojis on one message, and so also of one user.
pub const MESSAGE_EMOJIS_MAX: i64 = 20;

/// The most reactions to one message, of all users and with all emojis: each is a username in every
/// push and page that has the message.
pub const MESSAGE_REACTIONS_MAX: i64 = 500;

const EMOJI: Field = Field::required("emoji", Kind::Text(Length::bytes(1, EMOJI_BYTES_MAX)));
const ON: Field = Field::required("on", Kind::Flag).wrong("expected on as boolean");

/// `react {message_id, emoji, on}` → the [`Message`]. The emoji may be any text.
pub struct React {
    emoji: String,
    on: bool,
}

impl Change for React {
    const TYPE: &'static str = "react";
    const FIELDS: &'static [Field] = &[MESSAGE_ID, EMOJI, ON];
    /// Every member may.
    const FOUND: &'static str = found!("1");
    const FORBIDDEN: &'static str = "";
    /// The content of the message may be long too.
    const ANSWER_BYTES_MAX: usize = ANSWER_BYTES_MAX;

    fn read(fields: &Fields) -> Result<Self, Error> {
        Ok(React {
            emoji: EMOJI.required_text(fields)?,
            on: ON.required_flag(fields)?,
        })
    }

    fn statements(&self, message_id: i64, ctx: &Context) -> Vec<Statement> {
        let emoji = self.emoji.as_str().into();
        let react = match self.on {
            true => Statement::new(
                concat!(
                    "insert or fail into reactions (message_id, emoji, user_id)
                     select m.id, ?3, ?2 from messages m
                     where m.id = ?1 and ",
                    is_member!(),
                    " and not ",
                    is_deleted!(),
                    " and not ",
                    is_silent!(),
                    " and not exists (select 1 from reactions where message_id = ?1 and emoji = ?3 and user_id = ?2)
                      and coalesce((select reactions from changed_messages where message_id = ?1), 0) < ?4
                      and (exists (select 1 from reactions where message_id = ?1 and emoji = ?3)
                          or (select count(distinct emoji) from reactions where message_id = ?1) < ?5)"
                ),
                [
                    message_id.into(),
                    ctx.user_id.into(),
                    emoji,
                    MESSAGE_REACTIONS_MAX.into(),
                    MESSAGE_EMOJIS_MAX.into(),
                ],
            ),
            false => Statement::new(
                concat!(
                    "delete from reactions where message_id = ?1 and emoji = ?3 and user_id = ?2
                     and exists (select 1 from messages m where m.id = ?1 and ",
                    is_member!(),
                    ")"
                ),
                [message_id.into(), ctx.user_id.into(), emoji],
            ),
        };
        vec![
            react,
            Statement::new(
                concat!(
                    "update messages as m set changed_rev = ",
                    next_rev!(),
                    " where m.id = ?1 and changes() = 1"
                ),
                [message_id.into()],
            ),
        ]
    }

    fn kept(&self, _: &Context) -> Kept {
        Kept {
            reactions: if self.on { 1 } else { -1 },
            ..Kept::default()
        }
    }

    fn afterwards(&self, _: i64) -> Vec<Statement> {
        Vec::new()
    }

    /// An emoji may be any text.
    fn is_said(&self) -> bool {
        self.on
    }

    fn check(&self, message: &Message, ctx: &Context) -> Result<(), Error> {
        if message.is_deleted() {
            return Err(deleted());
        }
        let details = message.details.as_ref();
        let reactions = details.and_then(|details| details.reactions.as_ref());
        let reactions = reactions.and_then(|json| serde_json::from_str(json.get()).ok());
        let reactions: BTreeMap<String, Vec<String>> = reactions.unwrap_or_default();
        let users = reactions.get(&self.emoji);
        let has = users.is_some_and(|users| users.iter().any(|name| **name == *ctx.username));
        if has == self.on {
            return Ok(());
        }
        let (max, what) = match reactions.len() as i64 {
            MESSAGE_EMOJIS_MAX if users.is_none() => (MESSAGE_EMOJIS_MAX, "different emojis"),
            _ => (MESSAGE_REACTIONS_MAX, "reactions"),
        };
        let text = format!("a message can have at most {max} {what}");
        Err(Error::TooLarge(text))
    }
}
