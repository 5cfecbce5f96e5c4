//! What a committed request tells the world: pushes to audiences, and changes of who belongs to an audience.

use serde::{Deserialize, Serialize};

/// Who receives a push. The host knows their sockets. The socket that made the request is never among them: its
/// copy is the reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audience {
    /// Every socket of these users.
    Users(Vec<i64>),
    /// Every socket of the online members of this conversation.
    Conversation(i64),
}

/// One consequence of a request, to be applied in order, and only after its commit has returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// `event` is the JSON text of a whole push. One that is droppable is worth nothing later: it is not sent to a socket
    /// that is behind.
    Push {
        to: Audience,
        event: String,
        is_droppable: bool,
    },
    /// These users are members of the conversation from here on.
    Join {
        conversation_id: i64,
        user_ids: Vec<i64>,
    },
}

/// The consequences of one request, in order.
pub type Outbox = Vec<Output>;
