//! What one committed operation means for the sockets of this host. The store hands it on, in
//! commit order, and the registry applies it. The store knows nothing of sockets, and the registry
//! nothing of the database.

use std::sync::Arc;

use bytes::Bytes;
use handler::Outbox;
use handler::cluster::memberships::Memberships;
use handler::presence::Arrival;

use crate::limits::spending::{Payment, Spending};
use crate::socket::handle::Socket;

/// The socket that made the request; `None` if the host itself did.
pub type Requester = Option<Arc<Socket>>;

/// The user who pays for pushes; `None` if the host itself makes them.
pub type Payer = Option<Arc<Spending>>;

/// Applied in this order: `change`, `outbox`, `reply`, `done`.
#[derive(Default)]
pub struct Delivery {
    pub change: Option<Change>,
    /// Gets the reply, and none of the outbox's pushes.
    pub requester: Requester,
    pub reply: Option<Bytes>,
    pub outbox: Outbox,
    /// For the pushes of the outbox.
    pub payment: Option<Payment>,
    pub done: Option<Done>,
}

/// Gets the name of the arrival, if the delivery began one.
pub type Done = Box<dyn FnOnce(Option<Arriving>) + Send>;

/// Names the arrival of a user whose conversations still have to be found.
pub type Arriving = u64;

/// A change in the registry, made before anything is delivered.
pub enum Change {
    Opened(Arc<Socket>, Arrival),
    /// The conversations of a user who was arriving.
    Found(Arriving, Memberships),
    Closed(Arc<Socket>),
    /// The database no longer counts the sockets of this host, which has this new lease.
    PresenceLost(i64),
    /// Something may have been committed that was not delivered to anyone.
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
    /// Pushes to other sockets than this one, and what to do after them.
    pub fn pushes(
        (requester, payment): (Requester, Option<Payment>),
        outbox: Outbox,
        done: impl FnOnce() + Send + 'static,
    ) -> Self {
        Delivery {
            requester,
            outbox,
            payment,
            done: Some(Box::new(move |_| done())),
            ..Self::default()
        }
    }

    /// The reply to a socket's request, and the pushes to others.
    pub fn reply(requester: Arc<Socket>, reply: Bytes, outbox: Outbox, payment: Payment) -> Self {
        Delivery {
            payment: Some(payment),
            requester: Some(requester),
            reply: Some(reply),
            outbox,
            ..Self::default()
        }
    }

    /// From this delivery on the socket receives its user's pushes, and those of the conversations
    /// that are known. `done` gets the name of the arrival if there may be others.
    pub fn opened(
        socket: Arc<Socket>,
        arrival: Arrival,
        outbox: Outbox,
        done: impl FnOnce(Option<Arriving>) + Send + 'static,
    ) -> Self {
        Delivery {
            outbox,
            done: Some(Box::new(done)),
            ..Change::Opened(socket, arrival).into()
        }
    }

    /// From this delivery on the sockets of an arriving user receive the pushes of these
    /// conversations.
    pub fn found(
        arriving: Arriving,
        memberships: Memberships,
        done: impl FnOnce() + Send + 'static,
    ) -> Self {
        Delivery {
            done: Some(Box::new(move |_| done())),
            ..Change::Found(arriving, memberships).into()
        }
    }

    /// From this delivery on the socket receives nothing.
    pub fn closed(socket: Arc<Socket>, outbox: Outbox) -> Self {
        Delivery {
            outbox,
            ..Change::Closed(socket).into()
        }
    }
}
