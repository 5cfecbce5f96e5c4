//! Conversations and their members.

pub mod add;
pub mod change;
pub mod create;
pub mod deleted_member;
pub mod info;
pub mod leave;
pub mod list;
pub mod remove;
pub mod rename;
pub mod set_role;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::Error;
use crate::field::{Field, Kind};
use crate::fields::Fields;
use crate::operation::Context;
use crate::reply::json;
use crate::role::Role;

/// Unread messages are counted up to this number, which stands for itself and every higher number.
pub const UNREAD_MAX: i64 = 100;

/// Unread messages are looked for among so many of the latest changes of a conversation. Otherwise
/// to count them would take longer the more messages the caller has sent without reading any.
pub const UNREAD_REVS_MAX: i64 = 4_000;

/// The rev in `page.id` after which messages can be unread: that of `page.read_id`, the last message
/// that the caller has read, or `$max` before the latest change.
macro_rules! read_rev {
    ($max:literal) => {
        concat!(
            "max(page.rev - ",
            $max,
            ", coalesce((select rev from messages where id = page.read_id and conversation_id = page.id), 0))"
        )
    };
}
pub(crate) use read_rev;

/// The number of messages that others have sent after `page.read_rev` in `page.id` and that are not
/// deleted, up to `$max`. Only if an unread message is deleted, each of them is looked at, of the
/// next thousand. `?1` is the caller.
///
/// Nothing is unread if the conversation has not changed since the last message that the caller has
/// read. If there are `$max`, SQLite passes over them, which costs less than to count them.
macro_rules! unread_column {
    ($max:literal) => {
        concat!(
            "case when page.rev <= page.read_rev then 0
             when exists (select 1 from changed_messages
                 where conversation_id = page.id and is_deleted = 1 and rev > page.read_rev)
             then (select count(*) from (select 1 from (
                     select id from messages
                     where conversation_id = page.id and sender_id <> ?1 and rev > page.read_rev
                     order by rev limit 1000) as unread
                 where not exists (select 1 from changed_messages where message_id = unread.id and is_deleted = 1)
                 limit ", $max, "))
             else coalesce(
                 (select ", $max, " from messages
                     where conversation_id = page.id and sender_id <> ?1 and rev > page.read_rev
                     limit 1 offset ", $max, " - 1),
                 (select count(*) from messages
                     where conversation_id = page.id and sender_id <> ?1 and rev > page.read_rev)) end"
        )
    };
}
pub(crate) use unread_column;

/// How many of the messages that `unread_column!` counts mention the caller `?1`, up to `$max`. A
/// deleted message mentions nobody. These are the mentions from the first unread message on, because
/// the ids of messages rise with their revs.
macro_rules! mentions_column {
    ($max:literal) => {
        concat!(
            "case when page.rev <= page.read_rev then 0 else
                 (select count(*) from (select 1 from mentions
                     where user_id = ?1 and conversation_id = page.id and message_id >= (
                         select id from messages where conversation_id = page.id and rev > page.read_rev
                         order by rev limit 1)
                     limit ", $max, ")) end"
        )
    };
}
pub(crate) use mentions_column;

/// The rev of a new conversation and of its first members.
pub(crate) const FIRST_REV: i64 = 1;

/// The `members_rev` of the conversation with the id `$id`: its rev at the latest change of its
/// members.
macro_rules! members_rev {
    ($id:literal) => {
        concat!(
            "coalesce((select members_rev from members_changes where conversation_id = ",
            $id,
            "), 1)"
        )
    };
}
pub(crate) use members_rev;

/// The longest name of a conversation, in characters.
pub const NAME_CHARS_MAX: usize = 256;

/// The most members of a conversation, including its creator.
pub const MEMBERS_MAX: usize = 10_000;

/// The most conversations that a user may be in.
pub const CONVERSATIONS_MAX: i64 = 10_000;

/// The number of conversations that the user `u` is in: null if there is none.
macro_rules! conversation_count {
    () => {
        "(select conversations from conversation_counts where user_id = u.id)"
    };
}
pub(crate) use conversation_count;

/// Usernames, as `create_conversation` and `add_members` take them.
pub(crate) const MEMBERS: Field =
    Field::required("members", Kind::Users).wrong("members value expected a list");

/// Reads [`MEMBERS`]. A list of more than `max` is not looked into.
pub(crate) fn members(fields: &Fields, max: usize) -> Result<Vec<String>, Error> {
    let Ok(Some(items)) = fields.list(MEMBERS.name, max) else {
        return Err(MEMBERS.error());
    };
    if items.len() > max {
        return Err(too_many_members());
    }
    let names: Result<_, _> = items.into_iter().map(serde_json::from_str).collect();
    names.map_err(|_| Error::Invalid("members should be a list of string".into()))
}

/// A conversation.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Conversation<'a> {
    pub id: i64,
    pub name: Cow<'a, str>,
    /// The number of lasting changes in it.
    pub rev: i64,
    /// Whether it is the one conversation of two users, which cannot be changed.
    pub direct: bool,
    /// Unix seconds; `null` for a conversation from before this was stored.
    pub created_at: Option<i64>,
    /// A list of usernames, in the order in which they joined. Left out when a large conversation
    /// has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<String>>"))]
    pub members: Option<Box<RawValue>>,
    /// For the usernames of owners and admins: `"owner"` or `"admin"`.
    #[cfg_attr(feature = "schema", schemars(schema_with = "roles_schema"))]
    pub roles: Box<RawValue>,
}

#[cfg(feature = "schema")]
fn roles_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "additionalProperties": { "enum": ["owner", "admin"] },
    })
}

/// An object of the roles of these members. Those who are only members are not in it.
pub(crate) fn roles<'a>(members: impl Iterator<Item = (&'a str, Role)>) -> Box<RawValue> {
    let roles: BTreeMap<_, _> = members
        .filter(|(_, role)| *role > Role::Member)
        .map(|(username, role)| (username, role.name()))
        .collect();
    raw(json(&roles))
}

/// JSON text, as a part of a reply. The database and this crate write only valid text.
pub(crate) fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text).unwrap_or_default()
}

pub(crate) fn too_many_members() -> Error {
    Error::TooLarge(format!(
        "a conversation can have at most {MEMBERS_MAX} members"
    ))
}

pub(crate) fn too_many_conversations(username: &str) -> Error {
    Error::TooLarge(format!(
        "'{username}' can be in at most {CONVERSATIONS_MAX} conversations"
    ))
}

pub(crate) fn no_such_user(username: &str) -> Error {
    Error::NotFound(format!("'{username}' is not a valid username"))
}

pub(crate) fn no_such_conversation(id: i64, ctx: &Context) -> Error {
    Error::NotFound(format!(
        "{} is not part of any conversation with {id} id",
        ctx.username
    ))
}

pub(crate) fn no_such_member(username: &str) -> Error {
    Error::NotFound(format!("'{username}' is not a member"))
}
