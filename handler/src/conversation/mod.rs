//! Conversations and their members.

pub mod create;
pub mod info;
pub mod list;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::Error;
use crate::operation::Context;

/// Unread messages are counted up to this number, which stands for itself and every higher number.
pub const UNREAD_MAX: i64 = 100;

/// The rev of the last message that the caller has read in `page.id`: that of `page.read_id`.
macro_rules! read_rev {
    () => {
        "coalesce((select rev from messages where id = page.read_id and conversation_id = page.id), 0)"
    };
}
pub(crate) use read_rev;

/// The number of messages that others have sent after `page.read_rev` in `page.id` and that are not
/// deleted, up to `$max`. Only if an unread message is deleted, each of them is looked at, of the
/// next thousand. `?1` is the caller.
macro_rules! unread_column {
    ($max:literal) => {
        concat!(
            "case when exists (select 1 from changed_messages
                 where conversation_id = page.id and is_deleted = 1 and rev > page.read_rev)
             then (select count(*) from (select 1 from (
                     select id from messages
                     where conversation_id = page.id and sender_id <> ?1 and rev > page.read_rev
                     order by rev limit 1000) as unread
                 where not exists (select 1 from changed_messages where message_id = unread.id and is_deleted = 1)
                 limit ", $max, "))
             else (select count(*) from (select 1 from messages
                 where conversation_id = page.id and sender_id <> ?1 and rev > page.read_rev
                 limit ", $max, ")) end"
        )
    };
}
pub(crate) use unread_column;

/// How many of the messages that `unread_column!` counts mention the caller `?1`, up to `$max`. A
/// deleted message mentions nobody.
macro_rules! mentions_column {
    ($max:literal) => {
        concat!(
            "(select count(*) from (select 1 from mentions
             where user_id = ?1 and conversation_id = page.id and rev > page.read_rev limit ",
            $max,
            "))"
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

/// A conversation with its members, in the order in which they joined.
#[derive(Serialize)]
pub struct Conversation<'a> {
    pub id: i64,
    pub name: &'a str,
    pub rev: i64,
    pub members: &'a [String],
    /// The id of the last message that each member has read, by username.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<BTreeMap<&'a str, i64>>,
}

pub(crate) fn no_such_conversation(id: i64, ctx: &Context) -> Error {
    Error::NotFound(format!(
        "{} is not part of any conversation with {id} id",
        ctx.username
    ))
}
