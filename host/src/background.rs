//! Threads for what takes long and can wait, such as password hashing, so that a login storm delays
//! logins only.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread;

use handler::Error;
use tokio::sync::{mpsc, oneshot};

/// Jobs that may wait. A login or a registration takes tens of milliseconds of a thread.
const QUEUE_MAX: usize = 64;
/// By then the waiting ones are done.
const RETRY_AFTER_SECONDS: u32 = 2;

type Job = Box<dyn FnOnce() + Send>;

pub fn thread_count() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    cores.div_ceil(2)
}

/// Threads for half of the cores (each hash of a password takes 19 MiB), at a lower priority than all
/// other threads.
#[derive(Clone)]
pub struct BackgroundThreads {
    queue: mpsc::Sender<Job>,
}

impl BackgroundThreads {
    pub fn start() -> Self {
        let (queue, jobs) = mpsc::channel::<Job>(QUEUE_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..thread_count() {
            let jobs = jobs.clone();
            thread::spawn(move || {
                yield_to_other_threads();
                while let Some(job) = next(&jobs) {
                    // The panic has been logged; the caller sees that its result was dropped.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            });
        }
        BackgroundThreads { queue }
    }

    /// Jobs that wait.
    pub fn queued(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Reserves a place in the queue. `Unavailable` if too many wait already.
    pub fn reserve(&self) -> Result<BackgroundPlace, Error> {
        let place = self.queue.clone().try_reserve_owned();
        place.map(BackgroundPlace).map_err(|_| Error::Unavailable {
            retry_after_seconds: RETRY_AFTER_SECONDS,
        })
    }

    /// Waits for a place in the queue.
    pub async fn place(&self) -> Result<BackgroundPlace, Error> {
        let place = self.queue.clone().reserve_owned().await;
        place.map(BackgroundPlace).map_err(|_| ended())
    }
}

pub struct BackgroundPlace(mpsc::OwnedPermit<Job>);

impl BackgroundPlace {
    /// Runs `work` on one of the threads.
    pub async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (done, result) = oneshot::channel();
        let job = Box::new(move || {
            // If the client has gone, nobody waits for the result.
            if !done.is_closed() {
                let _ = done.send(work());
            }
        });
        self.0.send(job);
        result.await.map_err(|_| ended())
    }
}

fn ended() -> Error {
    Error::Internal("a background thread ended".into())
}

/// Holds the lock only while waiting for a job, never while running one.
fn next(jobs: &Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    jobs.lock().ok()?.blocking_recv()
}

/// On Linux a priority that is set for a thread's id is that thread's alone.
#[cfg(target_os = "linux")]
fn yield_to_other_threads() {
    const NICE: i32 = 10;
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), NICE) {
        tracing::warn!(%error, "background threads keep the normal priority");
    }
}

/// On other systems a thread has no priority of its own.
#[cfg(not(target_os = "linux"))]
fn yield_to_other_threads() {}
