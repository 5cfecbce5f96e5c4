//! Messages.

pub mod change;
pub mod delete;
#[cfg(feature = "schema")]
mod described;
pub mod edit;
pub mod history;
mod marks;
pub mod mention;
pub mod mention_list;
pub mod react;
pub mod read;
pub mod report;
pub mod search;
pub mod send;
mod sends;
pub mod typing;

use std::borrow::Cow;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::answer_budget::AnswerBudget;
use crate::error::Error;
use crate::field::{Field, Kind};
use crate::reply::json;
use crate::sql::{Columns, Row};
use crate::user::DELETED_USERNAME;

/// The message that an event is about.
pub(crate) const MESSAGE_ID: Field =
    Field::required("message_id", Kind::Message).wrong("expected message_id as integer");

/// The columns of a `Message`, from a `messages` row called `m` and the row that `sender!` joins. A
/// `client_id` that is not text is the id of a request, which the host stored because the client
/// sent no `client_id`. The last column is the JSON of `Details`; it is null, and looked for nowhere,
/// if nothing has changed the message and it mentions nobody.
macro_rules! message_columns {
    () => {
        "m.id, m.conversation_id, coalesce(m.changed_rev, m.rev), cast(m.reply_id as integer), cast(m.sent_at as integer), \
         cast(u.username as blob), cast(m.content as blob), \
         case typeof(m.client_id) when 'text' then cast(m.client_id as blob) end, \
         case when m.changed_rev is not null or m.mentions is not null then cast((
             select json_object(
                 'edited_at', ch.edited_at,
                 'is_deleted', json(iif(ch.is_deleted, 'true', 'false')),
                 'reactions', case when ch.reactions > 0 then json((
                     select '{' || group_concat(json_quote(emoji) || ':' || nullif(usernames, '[]')) || '}' from (
                         select emoji, (
                             select json_group_array(username) from (
                                 select o.username from reactions r cross join users o on o.id = r.user_id
                                 where r.message_id = own.id and r.emoji = used.emoji order by r.rowid)) as usernames
                         from (select emoji, min(rowid) as first from reactions
                             where message_id = own.id group by emoji) as used
                         order by first))) end,
                 'mentions', case when own.mentions is not null then json((
                     select json_group_array(username) from (
                         select o.username from json_each(own.mentions) j cross join users o on o.id = j.value
                         order by j.key))) end)
             from (select m.id as id, m.mentions as mentions) as own
                 left join changed_messages ch on ch.message_id = own.id) as blob) end"
    };
}
pub(crate) use message_columns;

/// Joins the sender of the message `m`. It costs a tenth less of a page than a subselect for each
/// message, which would open the table each time.
macro_rules! sender {
    () => {
        " left join users u on u.id = m.sender_id"
    };
}
pub(crate) use sender;

/// About how many bytes a message takes in an answer, from a `messages` row called `m`, without
/// reading its content or its reactions.
macro_rules! message_bytes {
    () => {
        "coalesce(octet_length(m.content), 0) + case when m.changed_rev is null and m.mentions is null then 0
             else 64 * coalesce(octet_length(m.mentions), 0)
                 + 300 * coalesce((select reactions from changed_messages where message_id = m.id), 0) end"
    };
}
pub(crate) use message_bytes;

/// The columns of the messages in the table `found (id, place, bytes)`, in the order of their places, as many as
/// may fit into an answer, and one more, then how many were found. A server would make and send all of them.
macro_rules! fitting_messages {
    ($max:literal) => {
        concat!(
            ", fitting as materialized (
                 select id, place, sum(bytes) over (order by place rows unbounded preceding) - bytes as taken from found
             )
             select ",
            message_columns!(),
            ", (select count(*) from found) from fitting cross join messages m on m.id = fitting.id",
            sender!(),
            " where fitting.taken <= ",
            $max,
            " order by fitting.place"
        )
    };
}
pub(crate) use fitting_messages;

/// The messages of these rows that fit into an answer, as JSON, and whether there are more. Behind the columns of
/// `message_columns!()` a row may have the number of all that were found.
pub(crate) fn fitting(rows: &[Row], limit: i64) -> (Vec<String>, bool) {
    let (mut budget, mut found) = (AnswerBudget::new(limit), rows.len());
    let take = |row: &Row| {
        let mut columns = row.columns();
        let message = json(&Message::read(&mut columns));
        if let Some(all) = columns.optional_integer() {
            found = all as usize;
        }
        budget.take(message)
    };
    let messages: Vec<_> = rows.iter().map_while(take).collect();
    let has_more = messages.len() < found;
    (messages, has_more)
}

/// A message in its present state. `rev` is the rev of its latest change; `sent_at` is in Unix
/// seconds. The content of a deleted message is empty.
pub struct Message<'a> {
    pub id: i64,
    pub conversation_id: i64,
    pub rev: i64,
    pub reply_id: Option<i64>,
    pub sent_at: i64,
    pub sender_username: Cow<'a, str>,
    pub content: Cow<'a, str>,
    pub client_id: Option<Cow<'a, str>>,
    pub details: Option<Box<Details>>,
}

/// The details of a message that was changed or mentions somebody.
#[derive(Deserialize)]
// Without code that skips unknown fields, the compiler inlines serde_json's for events.
#[serde(deny_unknown_fields)]
pub struct Details {
    /// Unix seconds.
    pub edited_at: Option<i64>,
    pub is_deleted: bool,
    /// From emojis, in the order in which they first came, to lists of usernames.
    pub reactions: Option<Box<RawValue>>,
    /// A list of usernames.
    pub mentions: Option<Box<RawValue>>,
}

impl<'a> Message<'a> {
    /// Reads the columns of `message_columns!()`.
    pub(crate) fn read(columns: &mut Columns<'a>) -> Self {
        Message {
            id: columns.integer(),
            conversation_id: columns.integer(),
            rev: columns.integer(),
            reply_id: columns.optional_integer(),
            sent_at: columns.integer(),
            // Nobody is left of a deleted account.
            sender_username: columns.optional_str().unwrap_or(DELETED_USERNAME.into()),
            content: columns.str(),
            client_id: columns.optional_str(),
            details: columns
                .optional_str()
                .and_then(|details| serde_json::from_str(&details).ok()),
        }
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.details
            .as_ref()
            .is_some_and(|details| details.is_deleted)
    }
}

/// By hand, because most messages have no details, and so pay for one comparison instead of one for
/// each field that is absent.
impl Serialize for Message<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Message", 7)?;
        fields.serialize_field("id", &self.id)?;
        fields.serialize_field("conversation_id", &self.conversation_id)?;
        fields.serialize_field("rev", &self.rev)?;
        fields.serialize_field("reply_id", &self.reply_id)?;
        fields.serialize_field("sent_at", &self.sent_at)?;
        fields.serialize_field("sender_username", &self.sender_username)?;
        fields.serialize_field("content", &self.content)?;
        if let Some(client_id) = &self.client_id {
            fields.serialize_field("client_id", client_id)?;
        }
        if let Some(details) = &self.details {
            if let Some(edited_at) = details.edited_at {
                fields.serialize_field("edited_at", &edited_at)?;
            }
            if details.is_deleted {
                fields.serialize_field("deleted", &true)?;
            }
            if let Some(reactions) = &details.reactions {
                fields.serialize_field("reactions", reactions)?;
            }
            // Those whom it mentions may have deleted their accounts.
            if let Some(mentions) = &details.mentions
                && mentions.get() != "[]"
            {
                fields.serialize_field("mentions", mentions)?;
            }
        }
        fields.end()
    }
}

pub(crate) fn no_such_message(message_id: i64, conversation_id: i64) -> Error {
    Error::NotFound(format!(
        "No such {message_id} message id found in {conversation_id} conversation_id"
    ))
}
