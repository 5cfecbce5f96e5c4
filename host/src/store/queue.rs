//! What waits for the database: bounded in bytes, and taken in turns, so that whoever asks for much waits behind himself.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use handler::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::{Job, Message, QUEUE_WAIT, busy};
use crate::limits::Origin;

/// Bytes that may wait for the writer, and for the readers.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What the sockets of one address may take of them, and a single operation.
const SOURCE_BYTES_MAX: usize = QUEUE_BYTES_MAX / 32;

/// Where operations come from: the sockets of an address, or the server itself, of whose operations each is limited
/// elsewhere.
pub struct Source {
    address: Option<Origin>,
    writes: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

impl Source {
    pub fn of(address: Origin) -> Self {
        Self::new(Some(address), SOURCE_BYTES_MAX)
    }

    pub fn own() -> Self {
        Self::new(None, QUEUE_BYTES_MAX)
    }

    fn new(address: Option<Origin>, bytes: usize) -> Self {
        Source {
            address,
            writes: Arc::new(Semaphore::new(bytes)),
            reads: Arc::new(Semaphore::new(bytes)),
        }
    }

    pub fn writes(&self) -> &Arc<Semaphore> {
        &self.writes
    }

    pub fn reads(&self) -> &Arc<Semaphore> {
        &self.reads
    }
}

/// The sending end.
#[derive(Clone)]
pub struct Sender {
    /// What is sent has `Room`: that is the limit.
    messages: mpsc::UnboundedSender<Message>,
    bytes: Arc<Semaphore>,
    /// What an operation counts for at least: so there is a limit on their number.
    job_bytes_min: usize,
    jobs: Arc<AtomicUsize>,
}

/// The receiving end.
pub struct Receiver {
    messages: mpsc::UnboundedReceiver<Message>,
    /// What was received, of each source in the order of its coming. None is empty.
    lines: HashMap<Option<Origin>, VecDeque<Job>>,
    /// Whose turn is next.
    turns: VecDeque<Option<Origin>>,
    length: usize,
    is_stopped: bool,
}

/// What a job takes of the limits until it is done.
pub struct Room {
    pub source: Option<Origin>,
    _of_source: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
    jobs: Arc<AtomicUsize>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.jobs.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A queue for at most so many.
pub fn queue(jobs_max: usize) -> (Sender, Receiver) {
    let (sender, messages) = mpsc::unbounded_channel();
    let sender = Sender {
        messages: sender,
        bytes: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
        job_bytes_min: QUEUE_BYTES_MAX / jobs_max,
        jobs: Arc::default(),
    };
    let receiver = Receiver {
        messages,
        lines: HashMap::new(),
        turns: VecDeque::new(),
        length: 0,
        is_stopped: false,
    };
    (sender, receiver)
}

impl Sender {
    /// Room for a job of this size; waits for it, but not for long. `share` is what its source has.
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
            None => timeout(QUEUE_WAIT, in_time).await.ok().flatten(),
        };
        let (of_source, of_all) = room.ok_or_else(busy)?;
        self.jobs.fetch_add(1, Ordering::Relaxed);
        Ok(Room {
            source: source.address,
            _of_source: of_source,
            _of_all: of_all,
            jobs: self.jobs.clone(),
        })
    }

    pub fn send(&self, message: Message) -> Result<(), Error> {
        self.messages.send(message).map_err(|_| busy())
    }

    /// Those that wait, or are under way.
    pub fn jobs(&self) -> usize {
        self.jobs.load(Ordering::Relaxed)
    }
}

impl Receiver {
    /// Waits where there is nothing. Nothing then: it has ended.
    pub fn wait(&mut self) -> usize {
        self.receive();
        while self.length == 0 && !self.is_stopped {
            match self.messages.blocking_recv() {
                Some(message) => self.add(message),
                None => self.is_stopped = true,
            }
            self.receive();
        }
        self.length
    }

    /// Takes in what has come; returns how many there are.
    pub fn receive(&mut self) -> usize {
        while let Ok(message) = self.messages.try_recv() {
            self.add(message);
        }
        self.length
    }

    fn add(&mut self, message: Message) {
        let Message::Run(job) = message else {
            self.is_stopped = true;
            return;
        };
        let source = job.room.source;
        let line = self.lines.entry(source).or_default();
        if line.is_empty() {
            self.turns.push_back(source);
        }
        line.push_back(job);
        self.length += 1;
    }

    /// The next one of whoever has waited longest for his turn.
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
    use std::time::Instant;

    use handler::Rows;

    use super::*;
    use crate::registry::Delivery;
    use crate::store::{READS_QUEUED_MAX, Work};

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
        let (sender, _receiver) = queue(READS_QUEUED_MAX);
        let sources: Vec<_> = (0..33).map(source).collect();
        let room = async |source: &Source, bytes| sender.room(source, source.reads(), bytes).await;
        let refused =
            |room: Result<Room, Error>| room.is_err_and(|error| error.code() == "unavailable");
        // Larger than all that one source may have, and still possible.
        let mut taken = vec![room(&sources[0], 10 * SOURCE_BYTES_MAX).await];
        assert!(refused(room(&sources[0], 1).await));
        for source in &sources[1..32] {
            taken.push(room(source, SOURCE_BYTES_MAX).await);
        }
        assert!(taken.iter().all(Result::is_ok));
        assert_eq!(sender.jobs(), 32);
        assert!(refused(room(&sources[32], 1).await));
        taken.pop();
        // The small ones count for more than they are.
        let mut small = Vec::new();
        for _ in 0..READS_QUEUED_MAX / 32 {
            small.push(room(&sources[32], 1).await);
        }
        assert!(small.iter().all(Result::is_ok));
        assert!(refused(room(&sources[32], 1).await));
    }

    #[tokio::test]
    async fn sources_take_turns() {
        let (sender, mut receiver) = queue(READS_QUEUED_MAX);
        let sources = [source(1), source(2), Source::own()];
        for (number, from) in [0, 0, 0, 1, 0, 2, 1].into_iter().enumerate() {
            let room = sender.room(&sources[from], sources[from].reads(), 1).await;
            let job = Job {
                statements: Vec::new(),
                bytes: number,
                submitted_at: Instant::now(),
                work: Box::new(Nothing),
                room: room.expect("room"),
            };
            sender.send(Message::Run(job)).expect("sent");
        }
        assert_eq!(receiver.receive(), 7);
        let taken = std::iter::from_fn(|| receiver.take());
        let taken: Vec<_> = taken.map(|job| job.bytes).collect();
        assert_eq!(taken, [0, 3, 5, 1, 6, 2, 4]);
        assert!(receiver.lines.is_empty() && receiver.turns.is_empty());
        assert_eq!(sender.jobs(), 0);
    }
}
