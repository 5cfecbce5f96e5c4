//! Threads for password hashing, so that a login storm delays logins only.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread;

use handler::Error;
use tokio::sync::{mpsc, oneshot};

use crate::metrics::METRICS;

/// Logins and registrations that may wait. Each takes tens of milliseconds of a thread.
const QUEUE_MAX: usize = 64;
/// What is waiting is done by then.
const RETRY_AFTER_SECONDS: u32 = 2;

type Job = Box<dyn FnOnce() + Send>;

/// A bounded pool: half of the cores (each hash holds 19 MiB), behind everyone else in the system's schedule.
#[derive(Clone)]
pub struct HashingThreads {
    queue: mpsc::Sender<Job>,
}

impl HashingThreads {
    pub fn start() -> Self {
        let (queue, jobs) = mpsc::channel::<Job>(QUEUE_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..cores.div_ceil(2) {
            let jobs = jobs.clone();
            thread::spawn(move || {
                yield_to_other_threads();
                while let Some(job) = next(&jobs) {
                    // A panic has been printed; whoever waits for the result sees that it is gone.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            });
        }
        HashingThreads { queue }
    }

    /// Logins and registrations that wait.
    pub fn queued(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// A place in the queue. `Unavailable` when too many wait already.
    pub fn reserve(&self) -> Result<HashingPlace, Error> {
        let place = self.queue.clone().try_reserve_owned();
        place.map(HashingPlace).map_err(|_| Error::Unavailable {
            retry_after_seconds: RETRY_AFTER_SECONDS,
        })
    }
}

pub struct HashingPlace(mpsc::OwnedPermit<Job>);

impl HashingPlace {
    /// Runs `work` on one of the threads.
    pub async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (done, result) = oneshot::channel();
        let job = Box::new(move || {
            // Nobody is waiting any more where the client has gone.
            if !done.is_closed() {
                let timer = METRICS.password_seconds.start_timer();
                let result = work();
                timer.observe_duration();
                let _ = done.send(result);
            }
        });
        self.0.send(job);
        result
            .await
            .map_err(|_| Error::Internal("a password thread ended".into()))
    }
}

/// The lock is held only while waiting, never while working.
fn next(jobs: &Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    jobs.lock().ok()?.blocking_recv()
}

/// On Linux the priority of a process id that is a thread's is that thread's.
#[cfg(target_os = "linux")]
fn yield_to_other_threads() {
    const NICE: i32 = 10;
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), NICE) {
        tracing::warn!(%error, "password threads keep the normal priority");
    }
}

/// Elsewhere threads have no priority of their own.
#[cfg(not(target_os = "linux"))]
fn yield_to_other_threads() {}
