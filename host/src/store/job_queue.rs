//! Jobs that wait for the database: bounded in bytes, and taken in turns, so that a heavy client
//! delays only itself.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use handler::Error;
use tokio::sync::{Semaphore, mpsc};

use crate::awake;
use crate::limits::client_address::ClientNetwork;
use crate::store::failures::busy;
use crate::store::job::Job;
use crate::store::source::{QUEUE_BYTES_MAX, Room, SOURCE_BYTES_MAX, Source};

/// How long an operation waits for room in a queue before it is refused as `Unavailable`.
const QUEUE_WAIT: Duration = Duration::from_secs(2);

pub enum Entry {
    Job(Job),
    /// The thread that receives it ends.
    Stop,
}

/// The sending end.
#[derive(Clone)]
pub struct Sender {
    /// Unbounded, because each job needs a `Room`, which is bounded.
    entries: mpsc::UnboundedSender<Entry>,
    bytes: Arc<Semaphore>,
    /// The least that an operation counts for, which also bounds the number of operations.
    job_bytes_min: usize,
    jobs: Arc<AtomicUsize>,
}

/// The receiving end.
pub struct Receiver {
    entries: mpsc::UnboundedReceiver<Entry>,
    /// The received jobs of each source, in order. No line is empty.
    lines: HashMap<Option<ClientNetwork>, VecDeque<Job>>,
    /// The sources in the order of their turns.
    turns: VecDeque<Option<ClientNetwork>>,
    length: usize,
    is_stopped: bool,
}

/// A queue for at most `jobs_max` jobs.
pub fn queue(jobs_max: usize) -> (Sender, Receiver) {
    let (sender, entries) = mpsc::unbounded_channel();
    let sender = Sender {
        entries: sender,
        bytes: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
        job_bytes_min: QUEUE_BYTES_MAX / jobs_max,
        jobs: Arc::default(),
    };
    let receiver = Receiver {
        entries,
        lines: HashMap::new(),
        turns: VecDeque::new(),
        length: 0,
        is_stopped: false,
    };
    (sender, receiver)
}

impl Sender {
    /// Room for a job of this size; waits for it, but at most `QUEUE_WAIT`. `share` belongs to its
    /// source.
    pub async fn room(
        &self,
        source: &Source,
        share: &Arc<Semaphore>,
        bytes: usize,
    ) -> Result<Room, Error> {
        let bytes = bytes.clamp(self.job_bytes_min, SOURCE_BYTES_MAX) as u32;
        let at_once = || {
            let of_source = share.clone().try_acquire_many_owned(bytes).ok()?;
            let of_all = self.bytes.clone().try_acquire_many_owned(bytes).ok()?;
            Some((of_source, of_all))
        };
        let in_time = async {
            let of_source = share.clone().acquire_many_owned(bytes).await;
            let of_all = self.bytes.clone().acquire_many_owned(bytes).await;
            Some((of_source.ok()?, of_all.ok()?))
        };
        let room = match at_once() {
            Some(room) => Some(room),
            None => awake::timeout(QUEUE_WAIT, in_time).await.flatten(),
        };
        let (of_source, of_all) = room.ok_or_else(busy)?;
        Ok(Room::new(source, of_source, of_all, self.jobs.clone()))
    }

    pub fn send(&self, entry: Entry) -> Result<(), Error> {
        self.entries.send(entry).map_err(|_| busy())
    }

    /// The number of jobs that wait or are under way.
    pub fn jobs(&self) -> usize {
        self.jobs.load(Ordering::Relaxed)
    }
}

impl Receiver {
    /// Waits until there is a job; returns how many there are. 0 means that the queue has ended.
    pub fn wait(&mut self) -> usize {
        self.receive();
        while self.length == 0 && !self.is_stopped {
            match self.entries.blocking_recv() {
                Some(entry) => self.add(entry),
                None => self.is_stopped = true,
            }
            self.receive();
        }
        self.length
    }

    /// Takes in the jobs that have come; returns how many there are.
    pub fn receive(&mut self) -> usize {
        while let Ok(entry) = self.entries.try_recv() {
            self.add(entry);
        }
        self.length
    }

    fn add(&mut self, entry: Entry) {
        let Entry::Job(job) = entry else {
            self.is_stopped = true;
            return;
        };
        let source = job.room.address;
        let line = self.lines.entry(source).or_default();
        if line.is_empty() {
            self.turns.push_back(source);
        }
        line.push_back(job);
        self.length += 1;
    }

    /// The next job of the source that has waited longest for its turn.
    pub fn take(&mut self) -> Option<Job> {
        let source = self.turns.pop_front()?;
        let line = self.lines.get_mut(&source)?;
        let job = line.pop_front()?;
        match line.is_empty() {
            true => drop(self.lines.remove(&source)),
            false => self.turns.push_back(source),
        }
        self.length -= 1;
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use handler::Rows;

    use super::*;
    use crate::awake::Moment;
    use crate::delivery::Delivery;
    use crate::store::job::Work;

    const JOBS_MAX: usize = 1024;

    struct Nothing;

    impl Work for Nothing {
        fn statements(&self) -> Vec<handler::Statement> {
            Vec::new()
        }

        fn repeat(&mut self) {}

        fn finish(self: Box<Self>, _: Result<Vec<Rows>, Error>) -> Option<Delivery> {
            None
        }
    }

    fn source(last: u8) -> Source {
        Source::of(IpAddr::from([192, 0, 2, last]).into())
    }

    #[tokio::test]
    async fn bytes_have_a_limit_in_all_and_for_each_source() {
        let (sender, _receiver) = queue(JOBS_MAX);
        let sources: Vec<_> = (0..33).map(source).collect();
        let room = async |source: &Source, bytes| sender.room(source, source.reads(), bytes).await;
        let refused =
            |room: Result<Room, Error>| room.is_err_and(|error| error.code() == "unavailable");
        // Larger than all that one source may have, but accepted.
        let mut taken = vec![room(&sources[0], 10 * SOURCE_BYTES_MAX).await];
        assert!(refused(room(&sources[0], 1).await));
        for source in &sources[1..32] {
            taken.push(room(source, SOURCE_BYTES_MAX).await);
        }
        assert!(taken.iter().all(Result::is_ok));
        assert_eq!(sender.jobs(), 32);
        assert!(refused(room(&sources[32], 1).await));
        taken.pop();
        // Small jobs count for more than their bytes.
        let mut small = Vec::new();
        for _ in 0..JOBS_MAX / 32 {
            small.push(room(&sources[32], 1).await);
        }
        assert!(small.iter().all(Result::is_ok));
        assert!(refused(room(&sources[32], 1).await));
    }

    #[tokio::test]
    async fn sources_take_turns() {
        let (sender, mut receiver) = queue(JOBS_MAX);
        let sources = [source(1), source(2), Source::own()];
        for (number, from) in [0, 0, 0, 1, 0, 2, 1].into_iter().enumerate() {
            let room = sender.room(&sources[from], sources[from].reads(), 1).await;
            let job = Job {
                statements: Vec::new(),
                bytes: number,
                submitted_at: Moment::now(),
                work: Box::new(Nothing),
                room: room.expect("room"),
            };
            sender.send(Entry::Job(job)).expect("sent");
        }
        assert_eq!(receiver.receive(), 7);
        let taken = std::iter::from_fn(|| receiver.take());
        let taken: Vec<_> = taken.map(|job| job.bytes).collect();
        assert_eq!(taken, [0, 3, 5, 1, 6, 2, 4]);
        assert!(receiver.lines.is_empty() && receiver.turns.is_empty());
        assert_eq!(sender.jobs(), 0);
    }
}
