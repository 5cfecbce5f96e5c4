//! The envelope: a text frame becomes an operation, its outcome becomes a text frame.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::contact::{AddContact, GetContacts};
use crate::conversation::{CreateConversation, GetConversationInfo, GetConversations};
use crate::error::Error;
use crate::fields::Fields;
use crate::message::{GetMessages, MarkRead, SendMessage};
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::statement::{Rows, Statement};
use crate::sync::Sync;
use crate::typing::Typing;
use crate::user::GetSelf;

/// Longest `ref` that is a string, in characters.
pub const REF_CHARS_MAX: usize = 64;

/// `data` of a successful reply, as JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply(pub String);

impl Reply {
    pub fn of(data: &impl Serialize) -> Self {
        Reply(json(data))
    }
}

/// JSON text of anything this crate sends.
pub(crate) fn json(data: &impl Serialize) -> String {
    serde_json::to_string(data).expect("strings, integers, lists and structs always serialise")
}

/// A request as it came: how to reply to it, and what to run, or the reason why it cannot be run.
pub struct Event {
    pub envelope: Envelope,
    pub operation: Result<EventOperation, Error>,
}

/// Any operation that answers an event.
pub type EventOperation = Box<dyn Operation<Output = Reply>>;

/// What a reply repeats of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The event's `type`; `root` where it has none that is known.
    pub kind: &'static str,
    /// JSON text of `ref`.
    reference: Option<String>,
}

impl Event {
    /// Reads one text frame. Never fails: a frame that makes no sense is an event whose operation is the error.
    pub fn parse(text: &str) -> Event {
        let Some(fields) = Fields::parse(text) else {
            return Event::unreadable(Error::Invalid("invalid json event".into()));
        };
        let kind = fields.text("type").ok().flatten();
        let (kind, mut operation) = kind
            .and_then(|kind| operation(&kind, &fields))
            .unwrap_or_else(|| {
                let text = "no type field found in the event";
                ("root", Err(Error::Invalid(text.into())))
            });
        let reference = reference(&fields).unwrap_or_else(|error| {
            operation = Err(error);
            None
        });
        Event {
            envelope: Envelope { kind, reference },
            operation,
        }
    }
}

impl Event {
    /// One of which nothing is known but what to answer.
    pub fn unreadable(error: Error) -> Event {
        Event {
            envelope: Envelope {
                kind: "root",
                reference: None,
            },
            operation: Err(error),
        }
    }
}

impl Envelope {
    /// The whole reply, as JSON text.
    pub fn reply(&self, outcome: &Result<Reply, Error>) -> String {
        let reference = self.reference.as_deref().map(raw);
        json(&match outcome {
            Ok(Reply(data)) => Sent {
                kind: self.kind,
                success: true,
                data: Some(raw(data)),
                reference,
                ..Sent::default()
            },
            Err(error) => Sent {
                kind: self.kind,
                success: false,
                error: Some(error.to_string()),
                code: Some(error.code()),
                retry_after: error.retry_after_seconds(),
                reference,
                ..Sent::default()
            },
        })
    }
}

/// The JSON text of a push of type `kind` with this `data` (JSON text).
pub(crate) fn push(kind: &'static str, data: &str) -> String {
    json(&Sent {
        kind,
        success: true,
        data: Some(raw(data)),
        ..Sent::default()
    })
}

/// Each event of PROTOCOL.md by its `type`.
fn operation(kind: &str, fields: &Fields) -> Option<(&'static str, Result<EventOperation, Error>)> {
    fn boxed(operation: impl Operation<Output = Reply> + 'static) -> EventOperation {
        Box::new(operation)
    }
    Some(match kind {
        "ping" => ("ping", Ok(boxed(Ping))),
        "self" => ("self", Ok(boxed(GetSelf))),
        "add_contact" => ("add_contact", AddContact::parse(fields).map(boxed)),
        "get_contacts" => ("get_contacts", Ok(boxed(GetContacts))),
        "create_conversation" => (
            "create_conversation",
            CreateConversation::parse(fields).map(boxed),
        ),
        "get_conversations" => (
            "get_conversations",
            GetConversations::parse(fields).map(boxed),
        ),
        "get_conversation_info" => (
            "get_conversation_info",
            GetConversationInfo::parse(fields).map(boxed),
        ),
        "typing" => ("typing", Typing::parse(fields).map(boxed)),
        "mark_read" => ("mark_read", MarkRead::parse(fields).map(boxed)),
        "sync" => ("sync", Sync::parse(fields).map(boxed)),
        "send_message" => ("send_message", SendMessage::parse(fields).map(boxed)),
        "get_messages" => ("get_messages", GetMessages::parse(fields).map(boxed)),
        _ => return None,
    })
}

/// JSON text of the `ref` to echo.
fn reference(fields: &Fields) -> Result<Option<String>, Error> {
    if fields.raw("ref").is_none() {
        return Ok(None);
    }
    if let Ok(Some(number)) = fields.integer("ref") {
        return Ok(Some(number.to_string()));
    }
    match fields.text("ref") {
        Ok(Some(text)) if text.chars().count() <= REF_CHARS_MAX => Ok(Some(json(&text))),
        _ => Err(Error::Invalid(format!(
            "ref should be an integer or a string of at most {REF_CHARS_MAX} characters"
        ))),
    }
}

/// What leaves: a reply or a push.
#[derive(Default, Serialize)]
struct Sent<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u32>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<&'a RawValue>,
}

fn raw(text: &str) -> &RawValue {
    serde_json::from_str(text).expect("text that this crate serialised is JSON")
}

/// `ping`: answered without the database.
struct Ping;

impl Operation for Ping {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::None
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        Vec::new()
    }

    fn conclude(&self, _: &Context, _: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        Ok(Reply::of(&"pong"))
    }
}
