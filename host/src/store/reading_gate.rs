//! Keeps reads of a file from beginning while its write-ahead log is emptied. The log can only be emptied while
//! nobody reads. If one long read follows the other, on different threads, there is no such moment.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Reads wait no longer than this for those that are under way.
const CLOSED_MAX: Duration = Duration::from_secs(1);
/// Once nobody reads, they wait no longer than this for the writer, which may have nothing to commit.
const WRITER_WAIT_MAX: Duration = Duration::from_millis(250);

#[derive(Default)]
pub struct ReadingGate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    reading: usize,
    closed: Option<Instant>,
    /// If nobody reads: since when, or when the writer has last found that.
    idle: Option<Instant>,
}

/// The state in which the writer finds a gate that it has closed.
#[derive(Debug, PartialEq)]
pub enum Found {
    /// Nobody reads until it is opened.
    Idle,
    /// Reads are under way that began before.
    Reading,
    /// It was closed for too long, and is open again.
    Opened,
}

/// A read that is under way.
pub struct Reading(Arc<ReadingGate>);

impl ReadingGate {
    /// Begins a read, once the gate is open.
    pub fn enter(self: &Arc<Self>) -> Reading {
        let mut state = self.state();
        while let Some(closed) = state.closed {
            let writer = state.idle.map(|idle| idle.max(closed) + WRITER_WAIT_MAX);
            let until = (closed + CLOSED_MAX).min(writer.unwrap_or(closed + CLOSED_MAX));
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.closed = None;
                self.changed.notify_all();
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.reading += 1;
        state.idle = None;
        Reading(self.clone())
    }

    /// Lets no further read begin, until `open`.
    pub fn close(&self) {
        let mut state = self.state();
        let now = Instant::now();
        state.closed = Some(now);
        state.idle = (state.reading == 0).then_some(now);
    }

    pub fn open(&self) {
        self.state().closed = None;
        self.changed.notify_all();
    }

    pub fn find(&self) -> Found {
        let mut state = self.state();
        match state.closed {
            Some(closed) if closed.elapsed() < CLOSED_MAX => match state.reading {
                0 => {
                    state.idle = Some(Instant::now());
                    Found::Idle
                }
                _ => Found::Reading,
            },
            _ => {
                state.closed = None;
                self.changed.notify_all();
                Found::Opened
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.reading -= 1;
        if state.reading == 0 {
            state.idle = Some(Instant::now());
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn no_read_begins_while_the_gate_is_closed() {
        let gate = Arc::new(ReadingGate::default());
        let first = gate.enter();
        gate.close();
        assert_eq!(gate.find(), Found::Reading);
        let begins = || {
            let gate = gate.clone();
            thread::spawn(move || drop(gate.enter()))
        };
        let second = begins();
        thread::yield_now();
        assert!(!second.is_finished());
        drop(first);
        assert_eq!(gate.find(), Found::Idle);
        gate.open();
        second.join().expect("it has begun");
        // It does not wait for a writer that has nothing to do.
        gate.close();
        begins().join().expect("it has begun");
        assert_eq!(gate.find(), Found::Opened);
    }

    #[test]
    fn reads_do_not_wait_for_ever_for_one_that_does_not_end() {
        let gate = Arc::new(ReadingGate::default());
        let _endless = gate.enter();
        gate.close();
        let _second = gate.enter();
        assert_eq!(gate.find(), Found::Opened);
    }
}
