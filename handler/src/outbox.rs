//! What a committed request tells the world: pushes to audiences, and changes of who belongs to an audience.

use serde::{Deserialize, Serialize};

/// Who receives a push. The host knows their sockets. The socket that made the request is never among them: its
/// copy is the reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audience {
    /// Every socket of these users.
    Users(Vec<i64>),
    /// Every socket of the online members of this conversation, as they are after the change of its members that
    /// `members_rev` names (see [`MembersChange`]). 0 on a file: its one host hears of all changes in the order of commits, and needs
    /// no telling.
    Conversation { id: i64, members_rev: i64 },
}

/// One consequence of a request, to be applied in order, and only after its commit has returned. Hosts send it to each other as
/// it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// `event` is the JSON text of a whole push. One that is droppable is worth nothing later: it is not sent to a socket
    /// that is behind.
    Push {
        to: Audience,
        event: String,
        is_droppable: bool,
    },
    /// These users are members from here on.
    Join(MembersChange),
    /// These users are members no more.
    Leave(MembersChange),
}

/// A change of who is in a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersChange {
    pub conversation_id: i64,
    pub user_ids: Vec<i64>,
    /// The conversation's rev at the change of its members before this one; 0 where this is the first.
    pub before: i64,
    /// Its rev at this one. A host that knows the members as of `before` knows them now; any other host has missed a change.
    pub members_rev: i64,
}

/// The consequences of one request, in order.
pub type Outbox = Vec<Output>;
