//! Waits that do not count the time in which this process did not run: it was stopped (SIGSTOP,
//! `docker pause`), or the machine was frozen. Nobody is to be blamed for the server's own sleep.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use once_cell::sync::Lazy;
use tokio::time::Instant;

/// A wait is a row of this many short ones. One that takes much longer does not count.
const STEPS: u32 = 20;
/// The pace of the clock.
const TICK: Duration = Duration::from_millis(100);

/// Sleeps for this time, not counting pauses of the process.
pub async fn sleep(time: Duration) {
    let step = time / STEPS;
    let mut left = STEPS;
    // On a machine that is always late this ends too.
    for _ in 0..2 * STEPS {
        let started = Instant::now();
        tokio::time::sleep(step).await;
        if started.elapsed() < 2 * step.max(TICK) {
            left -= 1;
        }
        if left == 0 {
            return;
        }
    }
}

/// The value of a future that is ready in this time, not counting pauses of the process.
pub async fn timeout<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        value = future => Some(value),
        () = sleep(time) => None,
    }
}

/// A moment on a clock that stands still while the process does not run. It is exact to `TICK`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    pub fn now() -> Self {
        Moment(TICKS.load(Ordering::Relaxed))
    }

    pub fn elapsed(self) -> Duration {
        let ticks = Self::now().0.saturating_sub(self.0);
        TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
    }
}

/// Counts, in a thread of its own. Without the thread it stands still: nothing is late then.
static TICKS: Lazy<&AtomicU64> = Lazy::new(|| {
    static TICKS: AtomicU64 = AtomicU64::new(0);
    let count = || {
        loop {
            thread::sleep(TICK);
            TICKS.fetch_add(1, Ordering::Relaxed);
        }
    };
    if let Err(error) = thread::Builder::new().name("clock".into()).spawn(count) {
        tracing::error!(%error, "no thread for the clock");
    }
    &TICKS
});

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocking the only thread of the test is what a pause is for the program.
    #[tokio::test]
    async fn a_pause_does_not_count() {
        let time = Duration::from_millis(500);
        let (give, given) = tokio::sync::oneshot::channel();
        let giving = async {
            tokio::task::yield_now().await;
            thread::sleep(2 * time);
            // What arrived meanwhile is taken in by another task.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            let _ = give.send(());
        };
        let (taken, ()) = tokio::join!(timeout(time, given), giving);
        assert_eq!(taken, Some(Ok(())));
    }

    #[tokio::test]
    async fn it_ends() {
        let never = std::future::pending::<()>();
        assert_eq!(timeout(Duration::from_millis(40), never).await, None);
    }
}
