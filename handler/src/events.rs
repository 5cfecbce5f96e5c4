//! Every event of the protocol, a line each; and from a text frame to the operation that answers it.

use crate::conversation::create::CreateConversation;
use crate::conversation::info::GetConversationInfo;
use crate::conversation::list::GetConversations;
use crate::declaration::{Declaration, EventOperation};
use crate::error::Error;
use crate::fields::Fields;
use crate::member::ByMember;
use crate::message::history::GetMessages;
use crate::message::read::MarkRead;
use crate::message::send::SendMessage;
use crate::message::typing::Typing;
use crate::ping::Ping;
use crate::reply::{Envelope, json};
use crate::sync::Sync;
use crate::user::add_contact::AddContact;
use crate::user::get_contacts::GetContacts;
use crate::user::profile::GetSelf;

/// What holds for all events (how they are read, who may ask, what their statements may do, that a lost answer is found
/// again, that they are described) is done and tested by going through this list.
pub const EVENTS: &[Declaration] = &[
    Declaration::of::<Ping>(),
    Declaration::of::<GetSelf>(),
    Declaration::of::<AddContact>(),
    Declaration::of::<GetContacts>(),
    Declaration::of::<CreateConversation>(),
    Declaration::of::<GetConversations>(),
    Declaration::of::<ByMember<GetConversationInfo>>(),
    Declaration::of::<ByMember<SendMessage>>(),
    Declaration::of::<ByMember<GetMessages>>(),
    Declaration::of::<ByMember<Typing>>(),
    Declaration::of::<ByMember<MarkRead>>(),
    Declaration::of::<Sync>(),
];

/// Longest `ref` that is a string, in characters.
pub const REF_CHARS_MAX: usize = 64;

/// A request as it came: how to reply to it, and what to run, or the reason why it cannot be run.
pub struct Event {
    pub envelope: Envelope,
    pub operation: Result<EventOperation, Error>,
}

impl Event {
    /// Reads one text frame. Never fails: a frame that makes no sense is an event whose operation is the error.
    pub fn parse(text: &str) -> Event {
        let Some(fields) = Fields::parse(text) else {
            return Event::unreadable(Error::Invalid("invalid json event".into()));
        };
        let reference = reference(&fields);
        let kind = fields.text("type").ok().flatten();
        let declared = EVENTS
            .iter()
            .find(|declared| Some(declared.kind) == kind.as_deref());
        let (kind, operation) = match declared {
            Some(declared) => (declared.kind, declared.read(fields)),
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
