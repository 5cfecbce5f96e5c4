//! The reader threads: they share a queue. On a file each runs one job at a time, and one of them is
//! kept free of sources whose reads take long, so that others need not wait for the end of one. To a
//! server each thread takes the jobs that wait, in one request.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use handler::Access;
use tokio::sync::mpsc;

use crate::delivery::Delivery;
use crate::store::group::{refuse_late, run_group, tell};
use crate::store::job::Job;
use crate::store::job_queue::{Receiver, Reports};
use crate::store::transactor::Transactor;

/// Reads in one request to a server.
pub const READS_TOGETHER_MAX: usize = 32;

/// Runs jobs until the queue has ended.
pub fn read_all(
    mut database: Transactor,
    queue: &Mutex<Receiver>,
    reports: &Reports,
    timeout: Duration,
    deliveries: &mpsc::Sender<Vec<Delivery>>,
) {
    let max = match database {
        Transactor::Local(_) => 1,
        _ => READS_TOGETHER_MAX,
    };
    loop {
        let jobs = next(queue, max);
        if jobs.is_empty() {
            return;
        }
        let sources: Vec<_> = jobs.iter().map(|job| job.room.address).collect();
        let started = Instant::now();
        let mut told = Vec::new();
        let jobs = refuse_late(jobs, timeout, &mut told);
        run_group(
            &mut database,
            Access::Read,
            jobs,
            timeout,
            &mut told,
            &mut Vec::new(),
        );
        tell(deliveries, told);
        let cost = started.elapsed() / sources.len() as u32;
        // A thread that waits for jobs holds the lock, and takes this in too.
        for source in sources {
            reports.ran(source, cost);
        }
    }
}

/// Holds the lock only while waiting for a job, never while running one.
fn next(queue: &Mutex<Receiver>, max: usize) -> Vec<Job> {
    let Ok(mut queue) = queue.lock() else {
        return Vec::new();
    };
    queue.wait();
    std::iter::from_fn(|| queue.take()).take(max).collect()
}
