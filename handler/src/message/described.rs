//! The shape of a [`Message`], which is serialised by hand.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::message::Message;

/// A message in its present state.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only described")]
struct Described {
    /// Its place in the history: later messages have higher ids.
    id: i64,
    conversation_id: i64,
    /// The conversation's rev at the latest change of the message.
    rev: i64,
    /// The id of the message that it answers.
    reply_id: Option<i64>,
    /// Unix seconds.
    sent_at: i64,
    sender_username: String,
    /// Empty if the message is deleted, and never otherwise.
    content: String,
    /// What its sender calls it.
    #[schemars(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    /// When it was last edited, in Unix seconds.
    #[schemars(skip_serializing_if = "Option::is_none")]
    edited_at: Option<i64>,
    /// `true` if its content was erased.
    #[schemars(skip_serializing_if = "std::ops::Not::not", extend("const" = true))]
    deleted: bool,
    /// For each emoji, in the order in which they came, the usernames of those who reacted with it,
    /// in that order too.
    #[schemars(skip_serializing_if = "Option::is_none")]
    reactions: Option<BTreeMap<String, Vec<String>>>,
    /// The usernames of those whom it mentions.
    #[schemars(skip_serializing_if = "Option::is_none")]
    mentions: Option<Vec<String>>,
}

impl JsonSchema for Message<'_> {
    fn schema_name() -> Cow<'static, str> {
        "Message".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Described::json_schema(generator)
    }
}
