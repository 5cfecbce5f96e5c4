//! How much of the server one client may take: how many of a thing at once, and how often.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota};
use handler::Error;
use hyper::header::HeaderMap;
use ipnet::IpNet;
use lru::LruCache;

/// What an operator may set. 0 stands for no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// SOCKETS_MAX: open sockets.
    pub sockets: u32,
    /// SOCKETS_PER_USER: open sockets of one user, on this host.
    pub sockets_per_user: u32,
    /// SOCKETS_PER_ADDRESS: open sockets from one address.
    pub sockets_per_address: u32,
    /// EVENTS_PER_SECOND: of one socket; ten seconds' worth may come at once.
    pub events_per_second: u32,
    /// LOGINS_PER_MINUTE: tries from one address, and that many at once.
    pub logins_per_minute: u32,
    /// REGISTRATIONS_PER_HOUR: tries from one address, and that many at once.
    pub registrations_per_hour: u32,
}

/// Pings and pongs of one socket: so many a second, and so many at once. One that sends more is closed.
const CONTROL_FRAMES_PER_SECOND: u32 = 10;
const CONTROL_FRAMES_AT_ONCE: u32 = 100;
/// What a user may send on all sockets together, in events of one socket.
const USER_EVENTS: u32 = 4;
/// An address may try so many passwords for one username, then one in each period. A right one clears the account.
const PASSWORDS_AT_ONCE: u32 = 10;
const PASSWORD_PERIOD: Duration = Duration::from_secs(30);
/// A username for which so many passwords were tried, from anywhere, is under attack until fewer than one in each period
/// are: each address may then try one, and another in each longer period.
const ATTACK_AT_ONCE: u32 = 100;
const ATTACK_PERIOD: Duration = Duration::from_secs(36);
const PASSWORD_PERIOD_UNDER_ATTACK: Duration = Duration::from_secs(60);
/// Addresses, and usernames by address, that are remembered: those that were seen last.
pub const REMEMBERED_MAX: usize = 100_000;

/// `count` in each `period`, evenly, and `at_once` after a pause. `None`, no limit, where `count` is 0.
fn quota(count: u32, period: Duration, at_once: u32) -> Option<Quota> {
    let quota = Quota::with_period(period.checked_div(count)?)?;
    Some(quota.allow_burst(NonZeroU32::new(at_once)?))
}

/// How often one thing may be done.
pub struct Rate(Option<DefaultDirectRateLimiter>);

impl Rate {
    pub fn per_second(count: u32, at_once: u32) -> Self {
        Self::new(quota(count, Duration::from_secs(1), at_once))
    }

    fn new(quota: Option<Quota>) -> Self {
        Rate(quota.map(DefaultDirectRateLimiter::direct))
    }

    /// Once more. `Err`: not now, but after this time.
    pub fn check(&self) -> Result<(), Duration> {
        let Some(limiter) = &self.0 else {
            return Ok(());
        };
        let refused = |not_until: governor::NotUntil<_>| {
            not_until.wait_time_from(DefaultClock::default().now())
        };
        limiter.check().map_err(refused)
    }
}

/// What is known of each of many: of those that were seen last.
struct Remembered<K, V>(Mutex<LruCache<K, Arc<V>>>);

impl<K: Hash + Eq, V> Remembered<K, V> {
    fn new() -> Self {
        // With a capacity it would take the memory at once.
        Remembered(Mutex::new(LruCache::unbounded()))
    }

    fn of(&self, key: K, make: impl FnOnce() -> V) -> Arc<V> {
        let mut remembered = locked(&self.0);
        let value = remembered.get_or_insert(key, || Arc::new(make())).clone();
        if remembered.len() > REMEMBERED_MAX {
            remembered.pop_lru();
        }
        value
    }
}

/// The same rate for each of many.
pub struct Rates<K> {
    quota: Option<Quota>,
    remembered: Remembered<K, Rate>,
}

impl<K: Hash + Eq> Rates<K> {
    fn new(quota: Option<Quota>) -> Self {
        Rates {
            quota,
            remembered: Remembered::new(),
        }
    }

    fn check(&self, key: K) -> Result<(), Duration> {
        self.remembered.of(key, || Rate::new(self.quota)).check()
    }

    fn forget(&self, key: &K) {
        locked(&self.remembered.0).pop(key);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Numbers alone: a panic cannot have left them half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused(wait: Duration) -> Error {
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
    Error::RateLimited {
        retry_after_seconds: seconds.saturating_add(1),
    }
}

/// What users may do, with all of their sockets on this host.
pub struct UserRates {
    limits: Limits,
    users: Remembered<Arc<str>, UserRate>,
}

/// Of one user.
struct UserRate {
    events: Rate,
    connects: Rate,
}

impl UserRates {
    pub fn new(limits: &Limits) -> Self {
        UserRates {
            limits: limits.clone(),
            users: Remembered::new(),
        }
    }

    /// One more socket: what may be sent on it.
    pub fn connect(&self, username: &Arc<str>) -> Result<SocketRates, Flood> {
        let user = self.users.of(username.clone(), || UserRate {
            events: events(self.limits.events_per_second.saturating_mul(USER_EVENTS)),
            connects: match self.limits.sockets_per_user {
                0 => Rate(None),
                sockets => Rate::per_second(1, sockets.saturating_mul(2)),
            },
        });
        user.connects.check().map_err(|_| Flood)?;
        Ok(SocketRates::new(self.limits.events_per_second, user))
    }
}

/// What one socket may send.
pub struct SocketRates {
    /// Events.
    per_second: u32,
    events: Rate,
    user: Arc<UserRate>,
    /// Events that were refused: one who does not listen to that is closed.
    refusals: OnceLock<Box<Rate>>,
    control_frames: Rate,
}

/// So many a second, and ten seconds' worth at once.
fn events(per_second: u32) -> Rate {
    Rate::per_second(per_second, per_second.saturating_mul(10))
}

/// The socket is to be closed.
#[derive(Debug)]
pub struct Flood;

impl SocketRates {
    fn new(per_second: u32, user: Arc<UserRate>) -> Self {
        SocketRates {
            per_second,
            events: events(per_second),
            user,
            refusals: OnceLock::new(),
            control_frames: Rate::per_second(CONTROL_FRAMES_PER_SECOND, CONTROL_FRAMES_AT_ONCE),
        }
    }

    /// One more event. `Ok(Err(…))`: it is refused with that.
    pub fn event(&self) -> Result<Result<(), Error>, Flood> {
        let both = self.events.check();
        match both.and_then(|()| self.user.events.check()) {
            Ok(()) => Ok(Ok(())),
            Err(wait) => {
                let refusals = self
                    .refusals
                    .get_or_init(|| Box::new(events(self.per_second)));
                refusals.check().map_err(|_| Flood)?;
                Ok(Err(refused(wait)))
            }
        }
    }

    /// One more ping or pong.
    pub fn control_frame(&self) -> Result<(), Flood> {
        self.control_frames.check().map_err(|_| Flood)
    }
}

/// What counts as one address: one of version 4, or a network of version 6 such as one customer has (a /56).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin(IpAddr);

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        Origin(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => {
                const NETWORK: u128 = !(u128::MAX >> 56);
                Ipv6Addr::from_bits(address.to_bits() & NETWORK).into()
            }
        })
    }
}

/// The tries of passwords, and of new accounts. Nobody can lock a user out: a first try from an address is never refused for
/// what others did.
pub struct AccountRates {
    logins: Rates<Origin>,
    registrations: Rates<Origin>,
    passwords: Rates<(u64, Origin)>,
    /// Of one username, from anywhere.
    attacks: Rates<u64>,
    passwords_under_attack: Rates<(u64, Origin)>,
    /// Usernames are remembered by their hashes, which nobody outside can foresee.
    hasher: std::hash::RandomState,
}

impl AccountRates {
    pub fn new(limits: &Limits) -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        const HOUR: Duration = Duration::from_secs(3600);
        let (logins, registrations) = (limits.logins_per_minute, limits.registrations_per_hour);
        let of_passwords = |period, at_once| match logins {
            0 => None,
            _ => quota(1, period, at_once),
        };
        AccountRates {
            logins: Rates::new(quota(logins, MINUTE, logins)),
            registrations: Rates::new(quota(registrations, HOUR, registrations)),
            passwords: Rates::new(of_passwords(PASSWORD_PERIOD, PASSWORDS_AT_ONCE)),
            attacks: Rates::new(of_passwords(ATTACK_PERIOD, ATTACK_AT_ONCE)),
            passwords_under_attack: Rates::new(of_passwords(PASSWORD_PERIOD_UNDER_ATTACK, 1)),
            hasher: std::hash::RandomState::new(),
        }
    }

    /// One more registration from this address.
    pub fn registration(&self, address: IpAddr) -> Result<(), Error> {
        self.registrations.check(address.into()).map_err(refused)
    }

    /// One more login from this address.
    pub fn login(&self, address: IpAddr) -> Result<(), Error> {
        self.logins.check(address.into()).map_err(refused)
    }

    /// One more password for this username, which need not exist, from this address.
    pub fn password(&self, username: &str, address: IpAddr) -> Result<(), Error> {
        let (name, origin) = (self.hash(username), Origin::from(address));
        self.passwords.check((name, origin)).map_err(refused)?;
        if self.attacks.check(name).is_err() {
            let key = (name, origin);
            self.passwords_under_attack.check(key).map_err(refused)?;
        }
        Ok(())
    }

    /// The password was right.
    pub fn logged_in(&self, username: &str, address: IpAddr) {
        let key = (self.hash(username), Origin::from(address));
        self.passwords.forget(&key);
        self.passwords_under_attack.forget(&key);
    }

    fn hash(&self, username: &str) -> u64 {
        std::hash::BuildHasher::hash_one(&self.hasher, username)
    }
}

/// How many of a thing each of many has, at most `max`; 0 stands for no limit.
pub struct Places<K: Hash + Eq> {
    max: u32,
    taken: Mutex<HashMap<K, u32>>,
}

/// One of them, given back when it is dropped.
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

    /// `None`: it has as many as it may have.
    pub fn take(self: &Arc<Self>, key: K) -> Option<Place<K>> {
        self.enter(&key).then(|| Place {
            key,
            places: self.clone(),
        })
    }

    /// Takes one that `leave` gives back; `false`: it has as many as it may have.
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
    addresses: Places<Origin>,
}

/// What one socket takes of them, in few bytes.
pub struct SocketPlace {
    user: Arc<str>,
    address: Origin,
    places: Arc<SocketPlaces>,
}

/// Which of them is taken.
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
        let address = Origin::from(address);
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

/// The address of the client: the peer's, unless that is a trusted proxy, which says in `X-Forwarded-For` for whom it asks.
/// Proxies append to that header, so it is read from its end, up to the first address that is no trusted proxy's.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let forwarded = headers.get_all("x-forwarded-for").into_iter();
    // What the client has put there itself may be any bytes.
    let forwarded: Vec<&[u8]> = forwarded
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .collect();
    let mut address = peer.to_canonical();
    for hop in forwarded.iter().rev() {
        if !is_trusted(address) {
            break;
        }
        let Some(next) = std::str::from_utf8(hop).ok().and_then(hop_address) else {
            break;
        };
        address = next.to_canonical();
    }
    address
}

/// An address, which some proxies give with the port.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let with_port = || hop.parse::<SocketAddr>().map(|address| address.ip());
    hop.parse().or_else(|_| with_port()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    use hyper::header::HeaderValue;

    const OFF: Limits = Limits {
        sockets: 0,
        sockets_per_user: 0,
        sockets_per_address: 0,
        events_per_second: 0,
        logins_per_minute: 0,
        registrations_per_hour: 0,
    };

    fn ip(address: &str) -> IpAddr {
        address.parse().expect("an address")
    }

    #[test]
    fn the_address_of_a_client_is_what_trusted_proxies_say() {
        let trusted =
            ["127.0.0.0/8", "::1/128", "10.0.0.0/8"].map(|n| n.parse().expect("a network"));
        for (peer, forwarded, expected) in [
            ("192.0.2.1", vec![], "192.0.2.1"),
            ("192.0.2.1", vec!["198.51.100.7"], "192.0.2.1"),
            ("127.0.0.1", vec![], "127.0.0.1"),
            ("127.0.0.1", vec!["198.51.100.7"], "198.51.100.7"),
            // What the client has sent itself comes first.
            ("127.0.0.1", vec!["10.9.9.9, 198.51.100.7"], "198.51.100.7"),
            (
                "127.0.0.1",
                vec!["203.0.113.5, 198.51.100.7, 10.0.0.2"],
                "198.51.100.7",
            ),
            (
                "127.0.0.1",
                vec!["203.0.113.5", "198.51.100.7", "10.0.0.2"],
                "198.51.100.7",
            ),
            ("127.0.0.1", vec!["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("127.0.0.1", vec!["nonsense"], "127.0.0.1"),
            (
                "127.0.0.1",
                vec!["198.51.100.7, nonsense, 10.0.0.2"],
                "10.0.0.2",
            ),
            ("127.0.0.1", vec![""], "127.0.0.1"),
            ("127.0.0.1", vec!["é, 198.51.100.7"], "198.51.100.7"),
            ("127.0.0.1", vec!["198.51.100.7:4711"], "198.51.100.7"),
            ("127.0.0.1", vec!["[2001:db8::1]:4711"], "2001:db8::1"),
            ("::ffff:127.0.0.1", vec!["2001:db8::1"], "2001:db8::1"),
            ("::1", vec!["::ffff:198.51.100.7"], "198.51.100.7"),
        ] {
            let mut headers = HeaderMap::new();
            for value in &forwarded {
                let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header");
                headers.append("x-forwarded-for", value);
            }
            let address = client_address(ip(peer), &headers, &trusted);
            assert_eq!(address, ip(expected), "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn a_network_of_version_6_counts_as_one() {
        let of = |address| Origin::from(ip(address));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_eq!(of("2001:db8::1"), of("2001:db8:0:ff::1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:100::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn guessing_is_slowed_down_and_locks_nobody_out() {
        let rates = AccountRates::new(&Limits {
            logins_per_minute: 1000,
            ..OFF
        });
        let guess = |address: &str| rates.password("alice", ip(address));
        for _ in 0..PASSWORDS_AT_ONCE {
            assert_eq!(guess("192.0.2.1"), Ok(()));
        }
        let slow = |error| match error {
            Err(Error::RateLimited {
                retry_after_seconds,
            }) => retry_after_seconds,
            other => panic!("{other:?}"),
        };
        assert!((25..=31).contains(&slow(guess("192.0.2.1"))));
        // Another user of that address, and the same user elsewhere.
        assert_eq!(rates.password("bob", ip("192.0.2.1")), Ok(()));
        assert_eq!(guess("192.0.2.2"), Ok(()));
        // Many addresses together: each still has its first try, and a right one clears it.
        for index in 0..ATTACK_AT_ONCE {
            assert_eq!(guess(&format!("198.51.100.{index}")), Ok(()));
        }
        assert_eq!(guess("203.0.113.1"), Ok(()));
        assert!((55..=61).contains(&slow(guess("203.0.113.1"))));
        rates.logged_in("alice", ip("203.0.113.1"));
        assert_eq!(guess("203.0.113.1"), Ok(()));
    }

    #[test]
    fn an_address_has_its_rate_whatever_the_usernames() {
        let rates = AccountRates::new(&Limits {
            logins_per_minute: 5,
            registrations_per_hour: 3,
            ..OFF
        });
        let network = |index: u32| ip(&format!("2001:db8::{index:x}"));
        for index in 0..5 {
            assert_eq!(rates.login(network(index)), Ok(()));
        }
        assert!(rates.login(network(9)).is_err());
        assert_eq!(rates.login(ip("192.0.2.1")), Ok(()));
        for index in 0..3 {
            assert_eq!(rates.registration(network(index)), Ok(()));
        }
        assert!(rates.registration(network(9)).is_err());
        let off = AccountRates::new(&OFF);
        let login = || off.login(network(1)).and(off.password("alice", network(1)));
        assert!((0..10_000).all(|_| login().is_ok()));
    }

    #[test]
    fn a_socket_that_does_not_listen_to_refusals_is_closed() {
        let limits = Limits {
            events_per_second: 1,
            ..OFF
        };
        let users = UserRates::new(&limits);
        let connect = |users: &UserRates| users.connect(&"alice".into()).expect("a socket");
        let rates = connect(&users);
        let mut outcomes = Vec::new();
        while let Ok(outcome) = rates.event() {
            outcomes.push(outcome.map_err(|error| error.code()));
            assert!(outcomes.len() < 100, "it is never closed");
        }
        assert_eq!(outcomes[..10], [Ok(()); 10]);
        let refused = outcomes[10..]
            .iter()
            .filter(|outcome| **outcome == Err("rate_limited"));
        assert!(refused.count() >= 10);
        let controls = (0..).take_while(|_| rates.control_frame().is_ok()).count();
        assert!((100..110).contains(&controls), "{controls}");
        let off = connect(&UserRates::new(&OFF));
        assert!((0..10_000).all(|_| matches!(off.event(), Ok(Ok(())))));
    }

    #[test]
    fn more_sockets_do_not_give_a_user_more_events_for_ever() {
        let limits = Limits {
            sockets_per_user: 10,
            events_per_second: 1,
            ..OFF
        };
        let users = UserRates::new(&limits);
        let mut done = 0;
        for _ in 0..20 {
            let socket = users.connect(&"alice".into()).expect("a socket");
            done += (0..10)
                .filter(|_| matches!(socket.event(), Ok(Ok(()))))
                .count();
        }
        assert!((40..50).contains(&done), "{done}");
        assert!(users.connect(&"alice".into()).is_err(), "one more socket");
        let other = users.connect(&"bob".into()).expect("a socket");
        assert!(matches!(other.event(), Ok(Ok(()))));
    }

    #[test]
    fn a_socket_that_has_no_place_takes_none() {
        let limits = Limits {
            sockets: 3,
            sockets_per_user: 1,
            sockets_per_address: 2,
            ..OFF
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
