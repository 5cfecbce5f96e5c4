//! Limits on how often something may be done.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, NotUntil, Quota};
use handler::Error;

use crate::limits::remembered::Remembered;

/// How often one thing may be done.
pub struct Rate(Option<DefaultDirectRateLimiter>);

impl Rate {
    pub fn per_second(count: u32, at_once: u32) -> Self {
        Self::new(quota(count, Duration::from_secs(1), at_once))
    }

    pub fn new(quota: Option<Quota>) -> Self {
        Rate(quota.map(DefaultDirectRateLimiter::direct))
    }

    /// Counts one more. `Err` if it is too early, with the time to wait.
    pub fn check(&self) -> Result<(), Duration> {
        match &self.0 {
            Some(limiter) => limiter.check().map_err(wait),
            None => Ok(()),
        }
    }

    /// Counts this many more, or none. More than are ever allowed at once are not refused.
    pub fn check_many(&self, count: usize) -> Result<(), Duration> {
        let count = u32::try_from(count).ok().and_then(NonZeroU32::new);
        let (Some(limiter), Some(count)) = (&self.0, count) else {
            return Ok(());
        };
        limiter
            .check_n(count)
            .map_or(Ok(()), |checked| checked.map_err(wait))
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
