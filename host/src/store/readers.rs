//! The reader threads: they share a queue. On a file each runs one job at a time, and one of them is
//! kept free of sources whose reads take long, so that others need not wait for the end of one. To a
//! server each thread takes the jobs that wait, in one request. There, large reads and those of such
//! sources have threads of their own: whatever shares a request with them has to wait for them, and
//! each thread keeps the memory that it has needed once.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use handler::Access;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;

use crate::delivery::Delivery;
use crate::store::group::{own_times, refuse_late, run_group, tell};
use crate::store::job::Job;
use crate::store::job_queue::{Entry, Receiver, Reports, Sender};
use crate::store::reading_gate::ReadingGate;
use crate::store::transactor::Transactor;
use crate::threads::spawn;

/// Threads that share a queue.
pub struct Readers {
    jobs: Sender,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// A thread for each of these connections. It runs up to `together_max` jobs in one request. Reads of a
    /// file pass its gate.
    pub fn start(
        databases: Vec<Transactor>,
        gate: Option<&Arc<ReadingGate>>,
        together_max: usize,
        (jobs, queued): (Sender, Receiver),
        timeout: Duration,
        deliveries: &mpsc::Sender<Vec<Delivery>>,
    ) -> std::io::Result<Self> {
        let queued = Arc::new(Mutex::new(queued));
        let start = |database| {
            let (queued, deliveries) = (queued.clone(), deliveries.clone());
            let (reports, gate) = (jobs.reports(), gate.cloned());
            let read = move || {
                read_all(
                    database,
                    gate.as_ref(),
                    together_max,
                    &queued,
                    &reports,
                    timeout,
                    &deliveries,
                )
            };
            spawn("reader", read)
        };
        let threads = databases.into_iter().map(start).collect::<Result<_, _>>()?;
        Ok(Readers { jobs, threads })
    }

    pub fn jobs(&self) -> Sender {
        self.jobs.clone()
    }

    /// Returns when the threads have run what is queued.
    pub fn stop(self) {
        for _ in &self.threads {
            let _ = self.jobs.send(Entry::Stop);
        }
        // A thread that panicked has logged why.
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Runs jobs, at most so many in one request, until the queue has ended.
fn read_all(
    mut database: Transactor,
    gate: Option<&Arc<ReadingGate>>,
    together_max: usize,
    queue: &Mutex<Receiver>,
    reports: &Reports,
    timeout: Duration,
    deliveries: &mpsc::Sender<Vec<Delivery>>,
) {
    loop {
        let jobs = next(queue, together_max);
        if jobs.is_empty() {
            return;
        }
        let mut told = Vec::new();
        let (mut sources, mut running) = (Vec::new(), Vec::new());
        for job in jobs {
            let (address, heaviness) = (job.room.address, job.room.heaviness.clone());
            match refuse_late(vec![job], timeout, &mut told).pop() {
                Some(job) => {
                    running.push(job);
                    sources.push((address, heaviness));
                }
                None => reports.ran(address, Duration::ZERO),
            }
        }
        let reading = gate.map(ReadingGate::enter);
        let (started, computed) = (Instant::now(), cpu_time());
        let mut ends = Vec::new();
        run_group(
            &mut database,
            Access::Read,
            running,
            timeout,
            &mut told,
            &mut ends,
        );
        drop(reading);
        tell(deliveries, told);
        let mut elapsed = started.elapsed();
        if let Transactor::Local(_) = database {
            // The time of its only job has what comes after the read too.
            ends.clear();
            elapsed = local_cost(cpu_time().saturating_sub(computed), elapsed);
        }
        let costs = costs(sources.len(), &ends, elapsed);
        // A thread that waits for jobs holds the lock, and takes this in too.
        for ((address, heaviness), cost) in sources.into_iter().zip(costs) {
            heaviness.note(cost);
            reports.ran(address, cost);
        }
    }
}

/// The time for which this thread has used a processor.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // It is never negative.
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The cost of a read on a file is the time for which it has computed. It takes longer if others compute
/// too, and that is not its source's fault. A read that takes ten times as long may wait for the disk, and
/// that counts.
fn local_cost(computed: Duration, elapsed: Duration) -> Duration {
    computed.max(elapsed / 10)
}

/// What each of so many jobs has cost. If the time at which each had run is not known, it is the mean of
/// the time that all of them took.
fn costs(count: usize, ends: &[Duration], all: Duration) -> Vec<Duration> {
    if ends.len() != count {
        return vec![all / count.max(1) as u32; count];
    }
    own_times(ends).collect()
}

/// Holds the lock only while waiting for a job, never while running one.
fn next(queue: &Mutex<Receiver>, max: usize) -> Vec<Job> {
    let Ok(mut queue) = queue.lock() else {
        return Vec::new();
    };
    queue.wait();
    std::iter::from_fn(|| queue.take()).take(max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_costs_what_it_has_computed() {
        let before = cpu_time();
        std::thread::sleep(Duration::from_millis(20));
        assert!(cpu_time() - before < Duration::from_millis(10));
        let ms = Duration::from_millis;
        assert_eq!(local_cost(ms(1), ms(9)), ms(1));
        assert_eq!(local_cost(ms(7), ms(9)), ms(7));
        assert_eq!(local_cost(ms(1), ms(90)), ms(9));
    }

    #[test]
    fn jobs_pay_for_themselves_if_it_is_known_when_they_had_run() {
        let ms = Duration::from_millis;
        assert_eq!(
            costs(3, &[ms(1), ms(11), ms(12)], ms(30)),
            [ms(1), ms(10), ms(1)]
        );
        assert_eq!(costs(3, &[ms(1)], ms(30)), [ms(10); 3]);
        assert!(costs(0, &[], ms(30)).is_empty());
    }
}
