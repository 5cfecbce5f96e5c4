//! Messages.

pub mod history;
pub mod read;
pub mod send;
pub mod typing;

use std::borrow::Cow;

use serde::Serialize;

use crate::error::Error;
use crate::sql::Columns;

/// The columns of a `Message`, from a `messages` row called `m` and the row that `sender!` joins. A
/// `client_id` that is not text is the id of a request, which the host stored because the client
/// sent no `client_id`.
macro_rules! message_columns {
    () => {
        "m.id, m.conversation_id, coalesce(m.changed_rev, m.rev), cast(m.reply_id as integer), cast(m.sent_at as integer), \
         cast(u.username as blob), cast(m.content as blob), \
         case typeof(m.client_id) when 'text' then cast(m.client_id as blob) end"
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

/// A message in its present state. `rev` is the rev of its latest change; `sent_at` is in Unix
/// seconds.
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
            sender_username: columns.str(),
            content: columns.str(),
            client_id: columns.optional_str(),
        }
    }
}

pub(crate) fn no_such_message(message_id: i64, conversation_id: i64) -> Error {
    Error::NotFound(format!(
        "No such {message_id} message id found in {conversation_id} conversation_id"
    ))
}
