//! Threads that must not end by a panic, and work that may.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use handler::Error;

/// Runs what may have a fault: a panic, which is logged where it happens, fails this alone.
pub fn contain<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Error::Internal("a panic".into())))
}

/// A thread without which the server would be half dead: should it ever panic, the process ends, to be started again.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(move || {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            // Time for the log to say why.
            thread::sleep(Duration::from_millis(100));
            std::process::abort();
        }
    })
}
