//! Threads that must not panic, and work that may.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use handler::Error;

/// Runs `work`. If it panics, which is logged where it happens, only this work fails.
pub fn contain<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Error::Internal("a panic".into())))
}

/// Starts a thread that the server cannot do without. If the thread panics, the process aborts, so
/// that it can be started again.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(move || {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            // The log needs time to write why.
            thread::sleep(Duration::from_millis(100));
            std::process::abort();
        }
    })
}
