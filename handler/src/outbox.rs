//! What a committed request causes for others: pushes to audiences, and changes to who belongs to
//! an audience.

use serde::{Deserialize, Serialize};

use crate::account::login_id::EndedLogins;

/// Who receives a push. The host knows their sockets. The socket that made the request is never
/// among them, because it gets the reply instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audience {
    /// Every socket of these users.
    Users(Vec<i64>),
    /// Every socket of the conversation's online members, as of the change of its members that
    /// `members_rev` names (see [`MembersChange`]). On a file, `members_rev` is 0: the file's one
    /// host hears of all changes in commit order and does not need it.
    Conversation { id: i64, members_rev: i64 },
    /// Like `Conversation`, without these users.
    MembersExcept {
        id: i64,
        members_rev: i64,
        except: Vec<i64>,
    },
}

/// One consequence of a request. Consequences are applied in order, and only after the commit has
/// returned. Hosts send them to each other unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// `event` is the JSON text of a whole push. A droppable push is worth nothing later, so it is
    /// not sent to a socket that is behind.
    Push {
        to: Audience,
        event: String,
        is_droppable: bool,
    },
    /// These users are now members.
    Join(MembersChange),
    /// These users are no longer members.
    Leave(MembersChange),
    /// These logins have ended: their sockets are closed.
    EndLogins(EndedLogins),
}

/// A change of who is in a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersChange {
    pub conversation_id: i64,
    pub user_ids: Vec<i64>,
    /// The conversation's rev at the previous change of its members; 0 if this is the first.
    pub before: i64,
    /// The conversation's rev at this change. A host that knew the members as of `before` now knows
    /// them again; any other host has missed a change.
    pub members_rev: i64,
}

/// The consequences of one request, in order.
pub type Outbox = Vec<Output>;
