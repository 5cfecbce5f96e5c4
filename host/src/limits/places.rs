//! Limits on how many of something may exist at once.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::limits::Limits;
use crate::limits::answer_room::{AllAnswers, Holder};
use crate::limits::client_address::ClientNetwork;
use crate::metrics::METRICS;

/// The places that each key has taken, at most `max`; 0 means no limit.
pub struct Places<K: Hash + Eq> {
    max: u32,
    taken: Mutex<HashMap<K, u32>>,
}

/// One place of a key, given back when it is dropped.
pub struct Place<K: Hash + Eq> {
    key: K,
    places: Arc<Places<K>>,
}

impl<K: Hash + Eq + Clone> Places<K> {
    pub fn new(max: u32) -> Self {
        Places {
            max,
            taken: Mutex::default(),
        }
    }

    /// `None` if the key has as many as it may have.
    pub fn take(self: &Arc<Self>, key: K) -> Option<Place<K>> {
        self.enter(&key).then(|| Place {
            key,
            places: self.clone(),
        })
    }

    /// Takes a place that `leave` gives back; `false` if the key has as many as it may have.
    fn enter(&self, key: &K) -> bool {
        let mut taken = locked(&self.taken);
        let count = taken.entry(key.clone()).or_default();
        let is_free = self.max == 0 || *count < self.max;
        *count += u32::from(is_free);
        is_free
    }
}

impl<K: Hash + Eq> Places<K> {
    fn leave(&self, key: &K) {
        let mut taken = locked(&self.taken);
        if let Some(count) = taken.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(key);
            }
        }
    }
}

impl<K: Hash + Eq> Drop for Place<K> {
    fn drop(&mut self) {
        self.places.leave(&self.key);
    }
}

/// The sockets that may be open on this host.
pub struct SocketPlaces {
    all: Places<()>,
    users: Places<Arc<str>>,
    addresses: Places<ClientNetwork>,
}

/// The places of one socket, in few bytes.
pub struct SocketPlace {
    user: Arc<str>,
    address: ClientNetwork,
    places: Arc<SocketPlaces>,
}

/// The limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    All,
    User,
    Address,
}

impl SocketPlaces {
    pub fn new(limits: &Limits) -> Self {
        SocketPlaces {
            all: Places::new(limits.sockets),
            users: Places::new(limits.sockets_per_user),
            addresses: Places::new(limits.sockets_per_address),
        }
    }

    pub fn take(self: &Arc<Self>, user: &Arc<str>, address: IpAddr) -> Result<SocketPlace, Full> {
        let address = ClientNetwork::from(address);
        if !self.all.enter(&()) {
            return Err(Full::All);
        }
        if !self.users.enter(user) {
            self.all.leave(&());
            return Err(Full::User);
        }
        if !self.addresses.enter(&address) {
            self.users.leave(user);
            self.all.leave(&());
            return Err(Full::Address);
        }
        Ok(SocketPlace {
            user: user.clone(),
            address,
            places: self.clone(),
        })
    }
}

impl Drop for SocketPlace {
    fn drop(&mut self) {
        self.places.addresses.leave(&self.address);
        self.places.users.leave(&self.user);
        self.places.all.leave(&());
    }
}

/// Held while a connection speaks HTTP. A connection that becomes a socket takes a `SocketPlace`
/// instead.
pub struct ConnectionPlace {
    _permit: OwnedSemaphorePermit,
    _place: Option<Place<ClientNetwork>>,
    /// The number of its answers that hold room and are not sent yet, and the user who asked
    /// last.
    unsent: watch::Sender<(usize, Option<Holder>)>,
}

/// Held by an answer with room until it is sent.
pub struct Unsent(Arc<ConnectionPlace>);

impl ConnectionPlace {
    pub fn new(permit: OwnedSemaphorePermit, place: Option<Place<ClientNetwork>>) -> Self {
        METRICS.http_connections.inc();
        ConnectionPlace {
            _permit: permit,
            _place: place,
            unsent: watch::Sender::default(),
        }
    }

    pub fn unsent(self: &Arc<Self>, user: Holder) -> Unsent {
        self.unsent.send_modify(|(count, of)| {
            *count += 1;
            *of = Some(user);
        });
        Unsent(self.clone())
    }

    /// Waits until the connection's answers have to give their room to others.
    pub async fn pressed(&self, all: &AllAnswers) {
        let mut unsent = self.unsent.subscribe();
        loop {
            // The sender is there.
            let user = unsent.wait_for(|(count, _)| *count > 0).await;
            let Some(user) = user.ok().and_then(|unsent| unsent.1.clone()) else {
                return std::future::pending().await;
            };
            tokio::select! {
                () = all.pressed(user) => return,
                _ = unsent.wait_for(|(count, _)| *count == 0) => {}
            }
        }
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.0.unsent.send_modify(|(count, _)| *count -= 1);
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        METRICS.http_connections.dec();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // These are only numbers, which a panic cannot leave half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(address: &str) -> IpAddr {
        address.parse().expect("an address")
    }

    #[test]
    fn a_socket_that_has_no_place_takes_none() {
        let limits = Limits {
            sockets: 3,
            sockets_per_user: 1,
            sockets_per_address: 2,
            ..Limits::OFF
        };
        let places = Arc::new(SocketPlaces::new(&limits));
        let take = |user: &str, address: &str| places.take(&user.into(), ip(address));
        let first = take("alice", "192.0.2.1").expect("a place");
        for _ in 0..9 {
            assert_eq!(take("alice", "192.0.2.1").err(), Some(Full::User));
        }
        let _second = take("bob", "192.0.2.1").expect("a place");
        for _ in 0..9 {
            assert_eq!(take("carol", "192.0.2.1").err(), Some(Full::Address));
        }
        let _third = take("carol", "192.0.2.2").expect("a place");
        assert_eq!(take("dave", "192.0.2.2").err(), Some(Full::All));
        drop(first);
        assert!(take("alice", "192.0.2.1").is_ok());
    }

    #[test]
    fn places_are_given_back() {
        let places = Arc::new(Places::new(2));
        let first = places.take("alice");
        let second = places.take("alice");
        assert!(first.is_some() && second.is_some() && places.take("alice").is_none());
        assert!(places.take("bob").is_some());
        drop(first);
        assert!(places.take("alice").is_some());
        drop(second);
        assert!(locked(&places.taken).is_empty());
    }
}
