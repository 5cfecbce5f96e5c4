//! Limits on how often something may be done: the "generic cell rate algorithm" (ITU-T I.371).

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use handler::Error;
use once_cell::sync::Lazy;

use crate::limits::remembered::Remembered;

/// How often something may be done: once in each period, and after a pause some times at once. The
/// default is no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quota {
    /// Nanoseconds; 0 means no limit.
    period: u64,
    at_once: u32,
}

/// How much of a quota one has used. Every idle socket has several of these, so the quota is not in
/// here.
#[derive(Debug, Default)]
pub struct Used {
    /// Nanoseconds after `START` at which nothing will be in use any more.
    free_at: AtomicU64,
}

static START: Lazy<Instant> = Lazy::new(Instant::now);

impl Quota {
    /// `count` in each `period`, evenly spread, and `at_once` after a pause. No limit if one of the
    /// counts is 0.
    pub fn new(count: u32, period: Duration, at_once: u32) -> Self {
        let period = period.checked_div(count).filter(|_| at_once > 0);
        let period = period.map_or(0, |period| nanoseconds(period).max(1));
        Quota { period, at_once }
    }

    /// `count` in each second.
    pub fn per_second(count: u32, at_once: u32) -> Self {
        Self::new(count, Duration::from_secs(1), at_once)
    }

    /// Counts one more. `Err` if it is too early, with the time to wait.
    pub fn check(self, used: &Used) -> Result<(), Duration> {
        self.check_many(used, 1)
    }

    /// Whether one more would be too early.
    fn is_spent(self, used: &Used) -> bool {
        let unspent = Used {
            free_at: AtomicU64::new(used.free_at.load(Ordering::Relaxed)),
        };
        self.check(&unspent).is_err()
    }

    /// Counts this many more, or none. More than are ever allowed at once are not refused.
    pub fn check_many(self, used: &Used, count: usize) -> Result<(), Duration> {
        if self.period == 0 || count == 0 || count > self.at_once as usize {
            return Ok(());
        }
        let now = nanoseconds(START.elapsed());
        let all = self.period.saturating_mul(self.at_once.into());
        let more = self.period.saturating_mul(count as u64);
        let after = |free_at: u64| free_at.max(now).saturating_add(more);
        let latest = now.saturating_add(all);
        let add = |free_at| Some(after(free_at)).filter(|after| *after <= latest);
        let added = used
            .free_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        match added {
            Ok(_) => Ok(()),
            Err(free_at) => Err(Duration::from_nanos(after(free_at).saturating_sub(latest))),
        }
    }
}

/// Five centuries fit.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How often one thing may be done.
pub struct Rate {
    quota: Quota,
    used: Used,
}

impl Rate {
    pub fn new(quota: Quota) -> Self {
        let used = Used::default();
        Rate { quota, used }
    }

    /// See [`Quota::check`].
    pub fn check(&self) -> Result<(), Duration> {
        self.quota.check(&self.used)
    }

    /// See [`Quota::check_many`].
    pub fn check_many(&self, count: usize) -> Result<(), Duration> {
        self.quota.check_many(&self.used, count)
    }
}

/// The same rate for each key.
pub struct Rates<K> {
    quota: Quota,
    remembered: Remembered<K, Used>,
}

impl<K: Hash + Eq> Rates<K> {
    pub fn new(quota: Quota) -> Self {
        Rates {
            quota,
            remembered: Remembered::new(),
        }
    }

    /// Counts one more for this key.
    pub fn check(&self, key: K) -> Result<(), Duration> {
        let used = self.remembered.of(key, Used::default);
        self.quota.check(&used)
    }

    /// Whether one more of this key would be too early.
    pub fn is_spent(&self, key: &K) -> bool {
        let used = self.remembered.known(key);
        used.is_some_and(|used| self.quota.is_spent(&used))
    }

    /// Forgets what this key has done.
    pub fn forget(&self, key: &K) {
        self.remembered.forget(key);
    }
}

/// The error for a request that may be repeated after `wait`.
pub fn rate_limited(wait: Duration) -> Error {
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
    Error::RateLimited {
        retry_after_seconds: seconds.saturating_add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// How many of the next hundred are allowed.
    fn allowed(rate: &Rate) -> usize {
        (0..100).filter(|_| rate.check().is_ok()).count()
    }

    #[test]
    fn as_many_as_allowed_come_at_once_and_then_one_in_each_period() {
        let rate = Rate::new(Quota::new(10, HOUR, 3));
        assert_eq!(allowed(&rate), 3);
        let wait = rate.check().expect_err("the next one is too early");
        assert!(wait <= HOUR / 10 && wait > HOUR / 10 - Duration::from_secs(60));
        // As if that time had passed.
        let waited = nanoseconds(wait);
        rate.used.free_at.fetch_sub(waited, Ordering::Relaxed);
        assert_eq!(allowed(&rate), 1);
        rate.used.free_at.store(0, Ordering::Relaxed);
        assert_eq!(allowed(&rate), 3);
    }

    #[test]
    fn many_are_counted_together_or_not_at_all() {
        let rate = Rate::new(Quota::new(10, HOUR, 10));
        assert!(rate.check_many(7).is_ok());
        assert!(rate.check_many(4).is_err());
        assert!(rate.check_many(3).is_ok());
        assert!(rate.check_many(0).is_ok() && rate.check().is_err());
        assert!(rate.check_many(11).is_ok(), "nobody could ever do that");
    }

    #[test]
    fn nothing_is_refused_without_a_limit() {
        for (count, at_once) in [(0, 0), (0, 5), (5, 0)] {
            assert_eq!(allowed(&Rate::new(Quota::new(count, HOUR, at_once))), 100);
        }
        assert_eq!(allowed(&Rate::new(Quota::default())), 100);
    }
}
