//! Messages.

pub mod change;
pub mod delete;
pub mod edit;
pub mod history;
pub mod mention;
pub mod mention_list;
pub mod react;
pub mod read;
pub mod send;
pub mod typing;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::Error;
use crate::field::{Field, Kind};
use crate::sql::Columns;

/// The message that an event is about.
pub(crate) const MESSAGE_ID: Field =
    Field::required("message_id", Kind::Message).wrong("expected message_id as integer");

/// The columns of a `Message`, from a `messages` row called `m`. A `client_id` that is not text is
/// the id of a request, which the host stored because the client sent no `client_id`. The last
/// column is the JSON of `Details`; it is null, and looked for nowhere, if nothing has changed the
/// message and it mentions nobody.
macro_rules! message_columns {
    () => {
        "m.id, m.conversation_id, coalesce(m.changed_rev, m.rev), cast(m.reply_id as integer), cast(m.sent_at as integer), \
         cast((select username from users where id = m.sender_id) as blob), cast(m.content as blob), \
         case typeof(m.client_id) when 'text' then cast(m.client_id as blob) end, \
         case when m.changed_rev is not null or m.mentions is not null then cast((
             select json_object(
                 'edited_at', ch.edited_at,
                 'is_deleted', json(iif(ch.is_deleted, 'true', 'false')),
                 'reactions', case when ch.reactions > 0 then json((
                     select json_group_object(emoji, json(usernames)) from (
                         select emoji, (
                             select json_group_array(username) from (
                                 select u.username from reactions r cross join users u on u.id = r.user_id
                                 where r.message_id = own.id and r.emoji = used.emoji order by r.rowid)) as usernames
                         from (select emoji, min(rowid) as first from reactions
                             where message_id = own.id group by emoji) as used
                         order by first))) end,
                 'mentions', case when own.mentions is not null then json((
                     select json_group_array(username) from (
                         select u.username from json_each(own.mentions) j cross join users u on u.id = j.value
                         order by j.key))) end)
             from (select m.id as id, m.mentions as mentions) as own
                 left join changed_messages ch on ch.message_id = own.id) as blob) end"
    };
}
pub(crate) use message_columns;

/// About how many bytes a message takes in an answer, from a `messages` row called `m`, without
/// reading its content or its reactions.
macro_rules! message_bytes {
    () => {
        "coalesce(octet_length(m.content), 0) + case when m.changed_rev is null and m.mentions is null then 0
             else 8 * coalesce(octet_length(m.mentions), 0)
                 + 64 * coalesce((select reactions from changed_messages where message_id = m.id), 0) end"
    };
}
pub(crate) use message_bytes;

/// A message in its present state. `rev` is the rev of its latest change; `sent_at` and `edited_at`
/// are in Unix seconds. The content of a deleted message is empty. `reactions` is an object from
/// emojis, in the order in which they first came, to lists of usernames; `mentions` is a list of
/// usernames.
#[derive(Serialize)]
pub struct Message<'a> {
    pub id: i64,
    pub conversation_id: i64,
    pub rev: i64,
    pub reply_id: Option<i64>,
    pub sent_at: i64,
    pub sender_username: Cow<'a, str>,
    pub content: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edited_at: Option<i64>,
    #[serde(rename = "deleted", skip_serializing_if = "std::ops::Not::not")]
    pub is_deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reactions: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mentions: Option<Box<RawValue>>,
}

/// What only some messages have.
#[derive(Default, Deserialize)]
struct Details {
    edited_at: Option<i64>,
    is_deleted: bool,
    reactions: Option<Box<RawValue>>,
    mentions: Option<Box<RawValue>>,
}

impl<'a> Message<'a> {
    /// Reads the columns of `message_columns!()`.
    pub(crate) fn read(columns: &mut Columns<'a>) -> Self {
        let mut message = Message {
            id: columns.integer(),
            conversation_id: columns.integer(),
            rev: columns.integer(),
            reply_id: columns.optional_integer(),
            sent_at: columns.integer(),
            sender_username: columns.str(),
            content: columns.str(),
            client_id: columns.optional_str(),
            edited_at: None,
            is_deleted: false,
            reactions: None,
            mentions: None,
        };
        if let Some(details) = columns.optional_str() {
            let details: Details = serde_json::from_str(&details).unwrap_or_default();
            message.edited_at = details.edited_at;
            message.is_deleted = details.is_deleted;
            message.reactions = details.reactions;
            message.mentions = details.mentions;
        }
        message
    }
}

pub(crate) fn no_such_message(message_id: i64, conversation_id: i64) -> Error {
    Error::NotFound(format!(
        "No such {message_id} message id found in {conversation_id} conversation_id"
    ))
}
