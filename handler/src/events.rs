//! The list of all events of the protocol, and the parser that turns a text frame into the
//! operation that answers it.

use crate::account::delete::AccountDeleted;
use crate::conversation::add::AddMembers;
use crate::conversation::create::CreateConversation;
use crate::conversation::info::GetConversationInfo;
use crate::conversation::leave::LeaveConversation;
use crate::conversation::list::GetConversations;
use crate::conversation::remove::RemoveMember;
use crate::conversation::rename::RenameConversation;
use crate::conversation::set_role::SetRole;
use crate::declaration::{Declaration, EventOperation, Push};
use crate::error::Error;
use crate::fields::Fields;
use crate::member::ByMember;
use crate::message::Message;
use crate::message::change::ByMessage;
use crate::message::delete::DeleteMessage;
use crate::message::edit::EditMessage;
use crate::message::history::GetMessages;
use crate::message::mention_list::GetMentions;
use crate::message::react::React;
use crate::message::read::MarkRead;
use crate::message::report::ReportMessage;
use crate::message::search::SearchMessages;
use crate::message::send::SendMessage;
use crate::message::typing::Typing;
use crate::ping::Ping;
use crate::presence::UserStatus;
use crate::reply::{Envelope, json};
use crate::sync::Sync;
use crate::user::Profile;
use crate::user::add_contact::AddContact;
use crate::user::block::BlockUser;
use crate::user::blocked_list::GetBlocked;
use crate::user::get::GetUser;
use crate::user::get_contacts::GetContacts;
use crate::user::profile::GetSelf;
use crate::user::remove_contact::RemoveContact;
use crate::user::search::SearchUsers;
use crate::user::unblock::UnblockUser;
use crate::user::update::UpdateProfile;

/// All events of the protocol. Code and tests for what must hold for every event walk this list:
/// how it is read, who may send it, what its statements may do, that a lost answer is found again,
/// and that it is described.
pub const EVENTS: &[Declaration] = &[
    Declaration::of::<Ping>(),
    Declaration::of::<GetSelf>(),
    Declaration::of::<GetUser>(),
    Declaration::of::<SearchUsers>(),
    Declaration::of::<UpdateProfile>(),
    Declaration::of::<AddContact>(),
    Declaration::of::<RemoveContact>(),
    Declaration::of::<GetContacts>(),
    Declaration::of::<BlockUser>(),
    Declaration::of::<UnblockUser>(),
    Declaration::of::<GetBlocked>(),
    Declaration::of::<CreateConversation>(),
    Declaration::of::<GetConversations>(),
    Declaration::of::<ByMember<GetConversationInfo>>(),
    Declaration::of::<ByMember<RenameConversation>>(),
    Declaration::of::<ByMember<AddMembers>>(),
    Declaration::of::<ByMember<RemoveMember>>(),
    Declaration::of::<ByMember<LeaveConversation>>(),
    Declaration::of::<ByMember<SetRole>>(),
    Declaration::of::<ByMember<SendMessage>>(),
    Declaration::of::<ByMember<GetMessages>>(),
    Declaration::of::<ByMessage<EditMessage>>(),
    Declaration::of::<ByMessage<DeleteMessage>>(),
    Declaration::of::<ByMessage<React>>(),
    Declaration::of::<ByMember<Typing>>(),
    Declaration::of::<ByMember<MarkRead>>(),
    Declaration::of::<GetMentions>(),
    Declaration::of::<ReportMessage>(),
    Declaration::of::<SearchMessages>(),
    Declaration::of::<Sync>(),
];

/// All pushes of the protocol: what clients hear without having asked.
pub const PUSHES: &[Push] = &[
    Push::of::<UserStatus>("user_status"),
    Push::of::<Profile>("contact_added"),
    Push::of::<Profile>("profile_updated"),
    Push::of::<AccountDeleted>(AccountDeleted::TYPE),
    Push::of_event::<CreateConversation>(),
    Push::of_event::<ByMember<RenameConversation>>(),
    Push::of_event::<ByMember<AddMembers>>(),
    Push::of_event::<ByMember<RemoveMember>>(),
    Push::of_event::<ByMember<LeaveConversation>>(),
    Push::of_event::<ByMember<SetRole>>(),
    Push::of::<Message>("send_message"),
    Push::of_event::<ByMessage<EditMessage>>(),
    Push::of_event::<ByMessage<DeleteMessage>>(),
    Push::of_event::<ByMessage<React>>(),
    Push::of_event::<ByMember<Typing>>(),
    Push::of_event::<ByMember<MarkRead>>(),
    Push::of_event::<Sync>(),
];

/// The longest string `ref`, in characters.
pub const REF_CHARS_MAX: usize = 64;

/// As many characters of an unknown type are in the text of the error.
const SHOWN_TYPE_CHARS_MAX: usize = 64;

/// A received request: how to reply to it, and the operation to run or the error that prevents it.
pub struct Event {
    pub envelope: Envelope,
    pub operation: Result<EventOperation, Error>,
    /// The number of users that it counts for: an event that lists users stores a row for each of
    /// them.
    pub users: usize,
}

/// The username in the field `as`: the user whose event it is, if a program sends it for somebody.
/// `null` counts as absent.
pub fn acting_as(text: &str) -> Result<Option<String>, Error> {
    let name = Fields::parse(text).map_or(Ok(None), |fields| fields.text("as"));
    name.map_err(|_| Error::Invalid("as should be a string".into()))
}

impl Event {
    /// Reads one text frame. Never fails: for an invalid frame, the event's operation is the error.
    pub fn parse(text: &str) -> Event {
        let Some(fields) = Fields::parse(text) else {
            return Event::unreadable(Error::Invalid("invalid json event".into()));
        };
        let reference = reference(&fields);
        let kind = fields.str("type").ok().flatten();
        let mut users = 0;
        let declared = EVENTS
            .iter()
            .find(|declared| Some(declared.kind) == kind.as_deref());
        let (kind, operation) = match declared {
            Some(declared) => {
                users = declared.users(&fields);
                (declared.kind, declared.read(fields))
            }
            None => ("root", Err(unknown(kind.as_deref(), &reference))),
        };
        let (reference, operation) = match reference {
            Ok(reference) => (reference, operation),
            Err(error) => (None, Err(error)),
        };
        Event {
            envelope: Envelope { kind, reference },
            operation,
            users,
        }
    }

    /// An event that could not be read, and the error to answer it with.
    pub fn unreadable(error: Error) -> Event {
        Event {
            envelope: Envelope {
                kind: "root",
                reference: None,
            },
            operation: Err(error),
            users: 0,
        }
    }
}

/// The error for an event of no known type. Clients of the first backend, which send no `ref`, get
/// the text that they know.
fn unknown(kind: Option<&str>, reference: &Result<Option<String>, Error>) -> Error {
    Error::Invalid(match (kind, reference) {
        (Some(kind), Ok(Some(_))) => {
            let shown: String = kind.chars().take(SHOWN_TYPE_CHARS_MAX).collect();
            format!("unknown type {}", json(&shown))
        }
        _ => "no type field found in the event".to_owned(),
    })
}

/// The JSON text of the `ref` to return.
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
