//! The cost of a user's events: bytes to store, and pushes to write. Much of it is known only
//! afterwards. So it is charged when it is known, and a user in debt waits before the next write.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

/// Bytes of events that write, per second.
const BYTES_PER_SECOND: u64 = 512 * 1024;
/// Pushes that a user's events cause, per second: each counts for every socket that receives it, and
/// once for each of its `PUSH_BYTES`.
const PUSHES_PER_SECOND: u64 = 25_000;
const PUSH_BYTES: u64 = 512;
/// A user who has spent nothing for this long may spend what is earned in it at once.
const CREDIT: Duration = Duration::from_secs(4);
/// Nobody waits longer than this.
pub const DEBT_MAX: Duration = Duration::from_secs(10);

/// What one user has spent.
pub struct Spending {
    is_limited: bool,
    since: Instant,
    /// Microseconds after `since` until which everything is paid. In the past: nothing is spent.
    paid_at: AtomicU64,
    /// Held by the one write that a user in debt may have under way.
    turn: Mutex<()>,
}

impl Spending {
    pub fn new(is_limited: bool) -> Self {
        Spending {
            is_limited,
            since: Instant::now(),
            paid_at: AtomicU64::new(0),
            turn: Mutex::default(),
        }
    }

    pub fn is_limited(&self) -> bool {
        self.is_limited
    }

    /// An event of this many bytes is about to be stored.
    pub fn charge_event(&self, bytes: usize) {
        self.charge(bytes as u64 * 1_000_000 / BYTES_PER_SECOND);
    }

    /// A push of this many bytes was queued for this many sockets.
    pub fn charge_push(&self, bytes: usize, sockets: usize) {
        let pushes = sockets as u64 * (bytes as u64).div_ceil(PUSH_BYTES);
        self.charge(pushes * 1_000_000 / PUSHES_PER_SECOND);
    }

    fn charge(&self, microseconds: u64) {
        if !self.is_limited {
            return;
        }
        let now = self.now();
        let worst = now + (CREDIT + DEBT_MAX).as_micros() as u64;
        let add = |paid_at: u64| Some((paid_at.max(now) + microseconds).min(worst));
        // It never fails, because `add` always returns a value.
        let _ = self
            .paid_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// How long until the user is out of debt. Zero if the user is not in debt.
    pub fn debt(&self) -> Duration {
        let paid_at = self.paid_at.load(Ordering::Relaxed);
        // Most users have spent nothing in their whole life that is worth a look at the clock.
        let credit = CREDIT.as_micros() as u64;
        if paid_at <= credit {
            return Duration::ZERO;
        }
        Duration::from_micros(paid_at.saturating_sub(credit + self.now()))
    }

    /// The turn of a user in debt.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    fn now(&self) -> u64 {
        self.since.elapsed().as_micros() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_spends_more_than_is_earned_waits() {
        let spending = Spending::new(true);
        // As much as is earned in the time of the credit.
        for _ in 0..32 {
            assert_eq!(spending.debt(), Duration::ZERO);
            spending.charge_event(64 * 1024);
        }
        assert_eq!(spending.debt(), Duration::ZERO);
        spending.charge_event(BYTES_PER_SECOND as usize);
        assert_eq!(spending.debt(), Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(spending.debt(), Duration::ZERO);
        // Pushes cost by their receivers and their bytes.
        spending.charge_push(100, PUSHES_PER_SECOND as usize);
        assert_eq!(spending.debt(), Duration::from_secs(1));
        spending.charge_push(4 * PUSH_BYTES as usize, PUSHES_PER_SECOND as usize);
        assert_eq!(spending.debt(), Duration::from_secs(5));
        spending.charge_push(1_000_000, 10_000);
        assert_eq!(spending.debt(), DEBT_MAX);
        tokio::time::advance(DEBT_MAX + CREDIT).await;
        spending.charge_event(4 * BYTES_PER_SECOND as usize);
        assert_eq!(spending.debt(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_limit_nothing_is_charged() {
        let spending = Spending::new(false);
        spending.charge_push(1_000_000, 10_000);
        assert_eq!(spending.debt(), Duration::ZERO);
    }
}
