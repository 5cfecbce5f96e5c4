//! Limits on how often something may be done.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, NotUntil, Quota};
use handler::Error;

use crate::limits::remembered::Remembered;

/// How often one thing may be done. Idle sockets have several, so "no limit" takes no space of its
/// own: it is a rate that nobody reaches.
pub struct Rate(DefaultDirectRateLimiter);

const UNREACHED_PERIOD: Duration = Duration::from_nanos(1);

impl Rate {
    pub fn per_second(count: u32, at_once: u32) -> Self {
        Self::new(quota(count, Duration::from_secs(1), at_once))
    }

    pub fn new(quota: Option<Quota>) -> Self {
        let unlimited = || {
            let quota = Quota::with_period(UNREACHED_PERIOD);
            let quota = quota.expect("the period is longer than zero");
            quota.allow_burst(NonZeroU32::MAX)
        };
        Rate(DefaultDirectRateLimiter::direct(
            quota.unwrap_or_else(unlimited),
        ))
    }

    /// Counts one more. `Err` if it is too early, with the time to wait.
    pub fn check(&self) -> Result<(), Duration> {
        self.0.check().map_err(wait)
    }

    /// Counts this many more, or none. More than are ever allowed at once are not refused.
    pub fn check_many(&self, count: usize) -> Result<(), Duration> {
        let count = u32::try_from(count).ok().and_then(NonZeroU32::new);
        let Some(count) = count else {
            return Ok(());
        };
        let checked = self.0.check_n(count);
        checked.map_or(Ok(()), |checked| checked.map_err(wait))
    }
}

fn wait(not_until: NotUntil<<DefaultClock as Clock>::Instant>) -> Duration {
    not_until.wait_time_from(DefaultClock::default().now())
}

/// The same rate for each key.
pub struct Rates<K> {
    quota: Option<Quota>,
    remembered: Remembered<K, Rate>,
}

impl<K: Hash + Eq> Rates<K> {
    pub fn new(quota: Option<Quota>) -> Self {
        Rates {
            quota,
            remembered: Remembered::new(),
        }
    }

    /// Counts one more for this key.
    pub fn check(&self, key: K) -> Result<(), Duration> {
        self.remembered.of(key, || Rate::new(self.quota)).check()
    }

    /// Forgets what this key has done.
    pub fn forget(&self, key: &K) {
        self.remembered.forget(key);
    }
}

/// `count` in each `period`, evenly spread, and `at_once` after a pause. `None`, no limit, if
/// `count` is 0.
pub fn quota(count: u32, period: Duration, at_once: u32) -> Option<Quota> {
    let quota = Quota::with_period(period.checked_div(count)?)?;
    Some(quota.allow_burst(NonZeroU32::new(at_once)?))
}

/// The error for a request that may be repeated after `wait`.
pub fn rate_limited(wait: Duration) -> Error {
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
    Error::RateLimited {
        retry_after_seconds: seconds.saturating_add(1),
    }
}
