//! What one committed operation means for the sockets of this host: the store hands it on, in commit order, and the registry
//! applies it. The store knows no sockets, and the registry no database.

use std::sync::Arc;

use bytes::Bytes;
use handler::Outbox;
use handler::presence::Arrival;

use crate::socket::handle::Socket;

/// The socket that asked; `None`: the host itself did.
pub type Requester = Option<Arc<Socket>>;

/// Applied in this order: `change`, `outbox`, `reply`, `done`.
#[derive(Default)]
pub struct Delivery {
    pub change: Option<Change>,
    /// Gets the reply, and none of the outbox's pushes.
    pub requester: Requester,
    pub reply: Option<Bytes>,
    pub outbox: Outbox,
    pub done: Option<Box<dyn FnOnce() + Send>>,
}

/// What changes in the registry before anybody is told.
pub enum Change {
    Opened(Arc<Socket>, Arrival),
    Closed(Arc<Socket>),
    /// What this host has counted in the database is gone; it has this new lease.
    PresenceLost(i64),
    /// Something may have been committed that nobody was told of.
    Missed,
}

impl From<Change> for Delivery {
    fn from(change: Change) -> Self {
        Delivery {
            change: Some(change),
            ..Self::default()
        }
    }
}

impl Delivery {
    /// What others than this socket are told, and what to do when they have been.
    pub fn pushes(
        requester: Requester,
        outbox: Outbox,
        done: impl FnOnce() + Send + 'static,
    ) -> Self {
        Delivery {
            requester,
            outbox,
            done: Some(Box::new(done)),
            ..Self::default()
        }
    }

    /// The answer to a socket's request, and what others are told.
    pub fn reply(requester: Arc<Socket>, reply: Bytes, outbox: Outbox) -> Self {
        Delivery {
            requester: Some(requester),
            reply: Some(reply),
            outbox,
            ..Self::default()
        }
    }

    /// From here on the socket receives what its user is to hear.
    pub fn opened(socket: Arc<Socket>, arrival: Arrival, outbox: Outbox) -> Self {
        Delivery {
            outbox,
            ..Change::Opened(socket, arrival).into()
        }
    }

    /// From here on it receives nothing.
    pub fn closed(socket: Arc<Socket>, outbox: Outbox) -> Self {
        Delivery {
            outbox,
            ..Change::Closed(socket).into()
        }
    }
}
