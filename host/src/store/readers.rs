//! The reader threads: they share a queue, and each runs one job at a time. One of them is kept free
//! of sources whose reads take long, so that others need not wait for the end of one.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use handler::Access;
use tokio::sync::mpsc;

use crate::delivery::Delivery;
use crate::store::group::{refuse_late, run_group, tell};
use crate::store::job::Job;
use crate::store::job_queue::{Receiver, Reports};
use crate::store::transactor::Transactor;

/// Runs jobs until the queue has ended.
pub fn read_all(
    mut database: Transactor,
    queue: &Mutex<Receiver>,
    reports: &Reports,
    timeout: Duration,
    deliveries: &mpsc::Sender<Vec<Delivery>>,
) {
    while let Some(job) = next(queue) {
        let (source, started) = (job.room.address, Instant::now());
        let mut told = Vec::new();
        let jobs = refuse_late(vec![job], timeout, &mut told);
        run_group(
            &mut database,
            Access::Read,
            jobs,
            timeout,
            &mut told,
            &mut Vec::new(),
        );
        tell(deliveries, told);
        // A thread that waits for jobs holds the lock, and takes this in too.
        reports.ran(source, started.elapsed());
    }
}

/// Holds the lock only while waiting for a job, never while running one.
fn next(queue: &Mutex<Receiver>) -> Option<Job> {
    let mut queue = queue.lock().ok()?;
    queue.wait();
    queue.take()
}
