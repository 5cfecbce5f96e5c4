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
        let reference = reference(&fields);
        let kind = fields.text("type").ok().flatten();
        let known = EVENTS
            .iter()
            .find(|(name, ..)| Some(*name) == kind.as_deref());
        let (kind, operation) = match known {
            Some((kind, names, parse)) => (*kind, parse(&fields.only(names))),
            None => {
                let text = "no type field found in the event";
                ("root", Err(Error::Invalid(text.into())))
            }
        };
        let (reference, operation) = match reference {
            Ok(reference) => (reference, operation),
            Err(error) => (None, Err(error)),
        };
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
        let reference = self.reference.as_deref();
        match outcome {
            Ok(Reply(data)) => success(self.kind, data, reference),
            Err(error) => json(&Refused {
                kind: self.kind,
                success: false,
                error: error.to_string(),
                code: error.code(),
                retry_after: error.retry_after_seconds(),
                reference: reference.map(raw),
            }),
        }
    }
}

/// The JSON text of a push of type `kind` with this `data` (JSON text).
pub(crate) fn push(kind: &'static str, data: &str) -> String {
    success(kind, data, None)
}

/// `data` and `reference` are JSON text, and `kind` needs no escapes: they are written as they are.
fn success(kind: &'static str, data: &str, reference: Option<&str>) -> String {
    let mut text =
        String::with_capacity(kind.len() + data.len() + reference.map_or(0, str::len) + 64);
    for piece in [r#"{"type":""#, kind, r#"","success":true,"data":"#, data] {
        text.push_str(piece);
    }
    if let Some(reference) = reference {
        text.push_str(r#","ref":"#);
        text.push_str(reference);
    }
    text.push('}');
    text
}

type Parse = fn(&Fields) -> Result<EventOperation, Error>;

/// Each event of PROTOCOL.md: its `type`, the names of its fields, and how it is read. What is not named here is not there
/// for it to read.
const EVENTS: [(&str, &[&str], Parse); 12] = [
    ("ping", &[], |_| Ok(Box::new(Ping))),
    ("self", &[], |_| Ok(Box::new(GetSelf))),
    ("add_contact", &["contact_username"], |fields| {
        Ok(Box::new(AddContact::parse(fields)?))
    }),
    ("get_contacts", &[], |_| Ok(Box::new(GetContacts))),
    ("create_conversation", &["members", "name"], |fields| {
        Ok(Box::new(CreateConversation::parse(fields)?))
    }),
    ("get_conversations", &["limit", "before"], |fields| {
        Ok(Box::new(GetConversations::parse(fields)?))
    }),
    ("get_conversation_info", &["id"], |fields| {
        Ok(Box::new(GetConversationInfo::parse(fields)?))
    }),
    (
        "send_message",
        &["conversation_id", "content", "reply_id", "client_id"],
        |fields| Ok(Box::new(SendMessage::parse(fields)?)),
    ),
    (
        "get_messages",
        &["conversation_id", "before", "after", "limit"],
        |fields| Ok(Box::new(GetMessages::parse(fields)?)),
    ),
    ("typing", &["conversation_id", "on"], |fields| {
        Ok(Box::new(Typing::parse(fields)?))
    }),
    ("mark_read", &["conversation_id", "message_id"], |fields| {
        Ok(Box::new(MarkRead::parse(fields)?))
    }),
    ("sync", &["revs", "limit", "epoch"], |fields| {
        Ok(Box::new(Sync::parse(fields)?))
    }),
];

/// The `type` of every event, with the names of all of its fields (beside `type` and `ref`).
pub fn events() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    EVENTS.iter().map(|(kind, names, _)| (*kind, *names))
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

/// The reply to an event that failed.
#[derive(Serialize)]
struct Refused<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    success: bool,
    error: String,
    code: &'static str,
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
