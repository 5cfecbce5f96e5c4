//! Counts open sockets in the database, so that it knows who is online. A socket is counted, and no
//! longer counted, in the same order in which the registry adds and removes it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use handler::account::login_id::LoginId;
use handler::cluster::memberships::{FindMemberships, Memberships};
use handler::presence::{Arrival, Connected, Disconnected};
use handler::{Context, Error};
use tokio::sync::oneshot;

use crate::clock;
use crate::delivery::{Arriving, Delivery};
use crate::limits::arrivals::Arrivals;
use crate::socket::close_reason::CloseReason;
use crate::socket::handle::{Socket, User};
use crate::store::Store;
use crate::store::source::Source;

/// Closed sockets that are stored together when storing them is retried.
const DEPARTURES: usize = 256;

pub struct Presence {
    pub store: Store,
    /// Closed sockets whose end could not be stored yet.
    departed: Mutex<Vec<Departure>>,
}

/// A closed socket that the database still counts.
pub struct Departure {
    pub socket: Arc<Socket>,
    pub source: Arc<Source>,
    pub ctx: Context,
}

impl Presence {
    pub fn new(store: Store) -> Self {
        Presence {
            store,
            departed: Mutex::default(),
        }
    }

    /// Registers the socket, in commit order, under the user's id. When this returns, the socket
    /// receives pushes: what other hosts committed before, the socket's requests find in the
    /// database.
    pub async fn open(
        &self,
        socket: &Arc<Socket>,
        username: Arc<str>,
        login: LoginId,
        source: &Arc<Source>,
    ) -> Result<User, CloseReason> {
        let ctx = Context::anonymous(clock::now());
        let operation = Connected {
            username: username.to_string(),
            login,
            host_id: self.store.host_id(),
        };
        let (done, opened) = oneshot::channel();
        let (registered, name) = (socket.clone(), username.clone());
        let then = move |outcome: Result<Arrival, Error>, outbox| match outcome {
            Ok(arrival) => {
                let id = arrival.user_id;
                let user = registered.user.get_or_init(|| User { id, name, login });
                let user = user.clone();
                let done = move |arriving| drop(done.send(Ok((user, arriving))));
                Some(Delivery::opened(registered, arrival, outbox, done))
            }
            Err(error) => {
                let _ = done.send(Err(error));
                None
            }
        };
        let submitted = self.store.submit(source, ctx, operation, then);
        let outcome = match submitted.await {
            Ok(()) => opened
                .await
                .unwrap_or(Err(Error::Internal("dropped".into()))),
            Err(error) => Err(error),
        };
        match outcome {
            Ok((user, None)) => Ok(user),
            Ok((user, Some(arriving))) => {
                if self.find(source, user.id, arriving).await {
                    return Ok(user);
                }
                let (id, name) = (user.id, user.name);
                let departure = Departure {
                    socket: socket.clone(),
                    source: source.clone(),
                    ctx: Context::new(id, name, clock::now()),
                };
                self.close(departure).await;
                Err(CloseReason::UNAVAILABLE)
            }
            Err(Error::NotFound(text) | Error::Unauthorized(text)) => {
                Err(CloseReason::refused(text))
            }
            Err(error) => {
                if let Error::Internal(detail) = error {
                    tracing::error!(detail, user = &*username, "a socket could not be opened");
                }
                Err(CloseReason::UNAVAILABLE)
            }
        }
    }

    /// Finds the conversations of an arriving user for the registry, on a reader: a user may be in so
    /// many that the writer would be busy with them. Returns whether that was possible.
    async fn find(&self, source: &Source, user_id: i64, arriving: Arriving) -> bool {
        let user_ids = vec![user_id];
        let (done, found) = oneshot::channel();
        let then = move |outcome: Result<Vec<Memberships>, Error>, _| match outcome {
            Ok(mut memberships) => {
                let done = move || {
                    let _ = done.send(());
                };
                Some(Delivery::found(arriving, memberships.pop()?, done))
            }
            Err(error) => {
                if let Error::Internal(detail) = error {
                    tracing::error!(detail, user_id, "a socket could not be opened");
                }
                None
            }
        };
        let _places = Arrivals::place(
            &source.arrivals,
            &source.all.arrivals,
            self.store.is_shared(),
        )
        .await;
        let ctx = Context::anonymous(clock::now());
        let find = FindMemberships { user_ids };
        let submitted = self.store.submit(source, ctx, find, then).await;
        submitted.is_ok() && found.await.is_ok()
    }

    /// Removes the socket from the registry and from its user's presence. If the database fails,
    /// `retry` tries again.
    pub async fn close(&self, departure: Departure) {
        let operation = Disconnected {
            host_id: self.store.host_id(),
        };
        let closed = departure.socket.clone();
        let (done, stored) = oneshot::channel();
        let then = move |outcome: Result<(), Error>, outbox| {
            if let Err(Error::Internal(detail)) = &outcome {
                tracing::error!(
                    detail,
                    socket = closed.id,
                    "the end of a socket could not be stored"
                );
            }
            let is_stored = outcome.is_ok();
            let _ = done.send(is_stored);
            // If it is not stored, the socket still counts, here as well.
            is_stored.then(|| Delivery::closed(closed, outbox))
        };
        let (source, ctx) = (&departure.source, departure.ctx.clone());
        let submitted = self.store.submit(source, ctx, operation, then);
        if submitted.await.is_err() || stored.await != Ok(true) {
            self.departed().push(departure);
        }
    }

    /// Retries the ends of sockets that could not be stored before.
    pub async fn retry(&self) {
        let mut departed = std::mem::take(&mut *self.departed());
        while !departed.is_empty() {
            // Together, so that they share commits.
            let some = departed.split_off(departed.len().saturating_sub(DEPARTURES));
            join_all(some.into_iter().map(|departure| self.close(departure))).await;
        }
    }

    fn departed(&self) -> MutexGuard<'_, Vec<Departure>> {
        self.departed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
