//! How often logins and registrations may be tried, so that passwords cannot be guessed.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use handler::Error;

use crate::limits::Limits;
use crate::limits::client_address::ClientNetwork;
use crate::limits::rates::{Quota, Rates, rate_limited};
use crate::limits::refusal::Refusal;

/// Passwords that one address may try for one username at once, and the period in which it may then
/// try one more. A correct password resets the count.
const PASSWORDS_AT_ONCE: u32 = 10;
const PASSWORD_PERIOD: Duration = Duration::from_secs(30);
/// After this many passwords for one username, from any addresses, the username is under attack
/// until fewer than one is tried in each period. Meanwhile each address may try one password at
/// once, and one more in each longer period.
const ATTACK_AT_ONCE: u32 = 100;
const ATTACK_PERIOD: Duration = Duration::from_secs(36);
const PASSWORD_PERIOD_UNDER_ATTACK: Duration = Duration::from_secs(60);
/// An action that may be tried only so often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    Login,
    Registration,
    /// The first login of a user whom another program knows, which creates the user. The token is
    /// valid, so there is no limit.
    FirstLogin,
    /// A change of sessions: a new token, or an end.
    Session,
}

impl Attempt {
    /// The reason to log and count if it is refused.
    pub fn refusal(self) -> Refusal {
        match self {
            Attempt::Login => Refusal::Login,
            Attempt::Registration | Attempt::FirstLogin => Refusal::Registration,
            Attempt::Session => Refusal::Session,
        }
    }
}

/// Counts password attempts and registrations. Nobody can lock a user out: the first try from an
/// address is never refused because of what others did.
pub struct AccountGuesses {
    logins: Rates<ClientNetwork>,
    registrations: Rates<ClientNetwork>,
    /// As many as logins, but counted apart, so that neither uses up the other.
    sessions: Rates<ClientNetwork>,
    passwords: Rates<(u64, ClientNetwork)>,
    /// Passwords for one username, from any address.
    attacks: Rates<u64>,
    passwords_under_attack: Rates<(u64, ClientNetwork)>,
    /// Usernames are stored as hashes with a random key, so that nobody can foresee them.
    hasher: RandomState,
}

impl AccountGuesses {
    pub fn new(limits: &Limits) -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        const HOUR: Duration = Duration::from_secs(3600);
        let (logins, registrations) = (limits.logins_per_minute, limits.registrations_per_hour);
        let of_passwords = |period, at_once| match logins {
            0 => Quota::default(),
            _ => Quota::new(1, period, at_once),
        };
        AccountGuesses {
            logins: Rates::new(Quota::new(logins, MINUTE, logins)),
            registrations: Rates::new(Quota::new(registrations, HOUR, registrations)),
            sessions: Rates::new(Quota::new(logins, MINUTE, logins)),
            passwords: Rates::new(of_passwords(PASSWORD_PERIOD, PASSWORDS_AT_ONCE)),
            attacks: Rates::new(of_passwords(ATTACK_PERIOD, ATTACK_AT_ONCE)),
            passwords_under_attack: Rates::new(of_passwords(PASSWORD_PERIOD_UNDER_ATTACK, 1)),
            hasher: RandomState::new(),
        }
    }

    /// Counts one more attempt from this address.
    pub fn attempt(&self, attempt: Attempt, address: IpAddr) -> Result<(), Error> {
        let rates = match attempt {
            Attempt::Login => &self.logins,
            Attempt::Registration => &self.registrations,
            Attempt::Session => &self.sessions,
            Attempt::FirstLogin => return Ok(()),
        };
        rates.check(address.into()).map_err(rate_limited)
    }

    /// Counts one more password from this address for this username, which need not exist.
    pub fn password(&self, username: &str, address: IpAddr) -> Result<(), Error> {
        let (name, network) = (self.hash(username), ClientNetwork::from(address));
        self.passwords
            .check((name, network))
            .map_err(rate_limited)?;
        if self.attacks.check(name).is_err() {
            let key = (name, network);
            self.passwords_under_attack
                .check(key)
                .map_err(rate_limited)?;
        }
        Ok(())
    }

    /// Resets the counts of this username and address: the password was correct.
    pub fn logged_in(&self, username: &str, address: IpAddr) {
        let key = (self.hash(username), ClientNetwork::from(address));
        self.passwords.forget(&key);
        self.passwords_under_attack.forget(&key);
    }

    fn hash(&self, username: &str) -> u64 {
        self.hasher.hash_one(username)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(address: &str) -> IpAddr {
        address.parse().expect("an address")
    }

    #[test]
    fn guessing_is_slowed_down_and_locks_nobody_out() {
        let rates = AccountGuesses::new(&Limits {
            logins_per_minute: 1000,
            ..Limits::OFF
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
        // Another username from that address, and the same username from another address.
        assert_eq!(rates.password("bob", ip("192.0.2.1")), Ok(()));
        assert_eq!(guess("192.0.2.2"), Ok(()));
        // Many addresses together: each still has its first try, and a correct password resets it.
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
        let rates = AccountGuesses::new(&Limits {
            logins_per_minute: 5,
            registrations_per_hour: 3,
            ..Limits::OFF
        });
        let network = |index: u32| ip(&format!("2001:db8::{index:x}"));
        for index in 0..5 {
            assert_eq!(rates.attempt(Attempt::Login, network(index)), Ok(()));
        }
        assert!(rates.attempt(Attempt::Login, network(9)).is_err());
        assert_eq!(rates.attempt(Attempt::Login, ip("192.0.2.1")), Ok(()));
        for index in 0..3 {
            assert_eq!(rates.attempt(Attempt::Registration, network(index)), Ok(()));
        }
        assert!(rates.attempt(Attempt::Registration, network(9)).is_err());
        let off = AccountGuesses::new(&Limits::OFF);
        let login = || {
            off.attempt(Attempt::Login, network(1))
                .and(off.password("alice", network(1)))
        };
        assert!((0..10_000).all(|_| login().is_ok()));
    }
}
