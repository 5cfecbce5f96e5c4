//! Jobs that wait for the database: bounded in bytes, and taken in turns, so that a heavy client
//! delays only itself.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use handler::Error;
use tokio::sync::{Semaphore, mpsc};

use crate::awake;
use crate::limits::client_address::ClientNetwork;
use crate::store::failures::busy;
use crate::store::job::Job;
use crate::store::source::{Heaviness, QUEUE_BYTES_MAX, Room, SOURCE_BYTES_MAX, Source};

/// How long an operation waits for room in a queue before it is refused as `Unavailable`.
const QUEUE_WAIT: Duration = Duration::from_secs(2);
/// What a job costs its source until its real cost is known.
const COST_MIN: Duration = Duration::from_micros(50);
/// A source that uses less than its part may use so much at once before it has to wait for its turn.
const CREDIT: Duration = Duration::from_millis(5);
/// Sources whose costs are remembered. If there are more, those without an effect are forgotten, or,
/// if these are few, all.
const COSTS_MAX: usize = 10_000;

pub type SourceAddress = Option<ClientNetwork>;

pub enum Entry {
    Job(Job),
    /// A job of this source has run, and took so long.
    Ran(SourceAddress, Duration),
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
    lines: HashMap<SourceAddress, Line>,
    /// The sources by their turns.
    turns: BTreeMap<Turn, SourceAddress>,
    next_number: u64,
    /// The time of the last turn that was taken.
    now: Duration,
    /// How far sources have used the database beyond `now`.
    used: HashMap<SourceAddress, Duration>,
    /// The number of jobs of heavy sources that may run at once, if there is a limit.
    heavy_max: Option<usize>,
    /// The jobs of each source that run, if there is a limit.
    running: HashMap<SourceAddress, Running>,
    length: usize,
    is_stopped: bool,
}

/// When a source's next job may run: at this time, of those at the same time by their number. Time
/// advances as the database is used ("start-time fair queuing", Goyal, Vin and Cheng, 1996): who has
/// just used much of it has a late turn.
type Turn = (Duration, u64);

struct Line {
    turn: Turn,
    jobs: VecDeque<Job>,
}

struct Running {
    heaviness: Heaviness,
    jobs: usize,
}

/// Tells the receiving end which jobs have run. It does not keep the queue alive.
pub struct Reports(mpsc::WeakUnboundedSender<Entry>);

impl Reports {
    pub fn ran(&self, source: SourceAddress, cost: Duration) {
        // Otherwise the queue has ended.
        if let Some(entries) = self.0.upgrade() {
            let _ = entries.send(Entry::Ran(source, cost));
        }
    }
}

/// A queue for at most `jobs_max` jobs, of which `heavy_max` of heavy sources may run at once.
pub fn queue(jobs_max: usize, heavy_max: Option<usize>) -> (Sender, Receiver) {
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
        turns: BTreeMap::new(),
        next_number: 0,
        now: Duration::ZERO,
        used: HashMap::new(),
        heavy_max,
        running: HashMap::new(),
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

    pub fn reports(&self) -> Reports {
        Reports(self.entries.downgrade())
    }

    /// The number of jobs that wait or are under way.
    pub fn jobs(&self) -> usize {
        self.jobs.load(Ordering::Relaxed)
    }
}

impl Receiver {
    /// Waits until there is a job that may run; returns how many there are. 0 means that the queue
    /// has ended.
    pub fn wait(&mut self) -> usize {
        self.receive();
        // When it has stopped, every job has its turn.
        while !self.has_turn() && !self.is_stopped {
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
        match entry {
            Entry::Job(job) => {
                self.line(job.room.address).jobs.push_back(job);
                self.length += 1;
            }
            Entry::Ran(source, cost) => {
                if let Some(running) = self.running.get_mut(&source) {
                    running.jobs -= 1;
                    if running.jobs == 0 {
                        self.running.remove(&source);
                    }
                }
                self.charge(source, cost);
            }
            Entry::Stop => self.is_stopped = true,
        }
    }

    fn has_turn(&self) -> bool {
        self.turns.values().any(|source| self.may_run(source))
    }

    /// Whether the next job of this source may run now: those of heavy sources leave room for others.
    fn may_run(&self, source: &SourceAddress) -> bool {
        let Some(max) = self.heavy_max.filter(|_| !self.is_stopped) else {
            return true;
        };
        let next = self.lines.get(source).and_then(|line| line.jobs.front());
        if next.is_none_or(|job| !job.room.heaviness.is_heavy()) {
            return true;
        }
        let running = self.running.values();
        let heavy = running.filter(|running| running.heaviness.is_heavy());
        heavy.map(|running| running.jobs).sum::<usize>() < max
    }

    /// Puts jobs that were taken, but have not run, back to the beginnings of their lines.
    pub fn put_back(&mut self, jobs: Vec<Job>) {
        self.length += jobs.len();
        for job in jobs.into_iter().rev() {
            let source = job.room.address;
            // Otherwise its costs were forgotten meanwhile, and it counts as one that has come now.
            let used = self.used.get_mut(&source).map(|used| {
                *used = used.saturating_sub(COST_MIN);
                *used
            });
            self.line(source).jobs.push_front(job);
            if let Some(used) = used {
                self.set_turn(source, used);
            }
        }
        // It went as far as the last one that was taken.
        if let Some(((first, _), _)) = self.turns.first_key_value() {
            self.now = self.now.min(*first);
        }
    }

    /// Changes the turn of a source, if any of its jobs wait.
    fn set_turn(&mut self, source: SourceAddress, at: Duration) {
        if let Some(line) = self.lines.get_mut(&source) {
            self.turns.remove(&line.turn);
            line.turn.0 = at;
            self.turns.insert(line.turn, source);
        }
    }

    fn earliest(&self) -> Duration {
        self.now.saturating_sub(CREDIT)
    }

    /// The line of a source; a new one gets its turn.
    fn line(&mut self, source: SourceAddress) -> &mut Line {
        let at = self.used.get(&source).copied();
        let turn = (
            at.unwrap_or_default().max(self.earliest()),
            self.next_number,
        );
        self.lines.entry(source).or_insert_with(|| {
            self.next_number += 1;
            self.turns.insert(turn, source);
            Line {
                turn,
                jobs: VecDeque::new(),
            }
        })
    }

    /// The next job of the source whose turn it is, of those that may run.
    pub fn take(&mut self) -> Option<Job> {
        let mut turns = self.turns.iter();
        let turn = *turns.find(|(_, source)| self.may_run(source))?.0;
        let (at, _) = turn;
        let source = self.turns.remove(&turn)?;
        self.now = self.now.max(at);
        let line = self.lines.get_mut(&source)?;
        let job = line.jobs.pop_front()?;
        if self.heavy_max.is_some() {
            let running = self.running.entry(source).or_insert_with(|| Running {
                heaviness: job.room.heaviness.clone(),
                jobs: 0,
            });
            running.jobs += 1;
        }
        let next = at + COST_MIN;
        self.used.insert(source, next);
        if line.jobs.is_empty() {
            self.lines.remove(&source);
        } else {
            line.turn = (next, self.next_number);
            self.next_number += 1;
            self.turns.insert(line.turn, source);
        }
        self.length -= 1;
        if self.used.len() > COSTS_MAX {
            let earliest = self.earliest();
            self.used.retain(|_, used| *used > earliest);
            if self.used.len() > COSTS_MAX / 2 {
                self.used.clear();
            }
        }
        Some(job)
    }

    /// Notes what a job of this source has cost.
    pub fn charge(&mut self, source: SourceAddress, cost: Duration) {
        let cost = cost.saturating_sub(COST_MIN);
        if cost.is_zero() {
            return;
        }
        let used = self.used.entry(source).or_default();
        *used += cost;
        let used = *used;
        self.set_turn(source, used);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::limits::memory::AllMemory;
    use crate::store::source::{HEAVY_COST, HEAVY_TIMES};

    const JOBS_MAX: usize = 1024;

    /// Sends a job with this number.
    async fn send(sender: &Sender, source: &Source, number: usize) {
        let room = sender.room(source, source.reads(), 1).await;
        let entry = Entry::Job(Job::idle(number, room.expect("room")));
        sender.send(entry).expect("sent");
    }

    fn memory() -> Arc<AllMemory> {
        Arc::new(AllMemory::new())
    }

    fn source(last: u8) -> Source {
        Source::of(IpAddr::from([192, 0, 2, last]).into(), memory())
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_have_a_limit_in_all_and_for_each_source() {
        let (sender, _receiver) = queue(JOBS_MAX, None);
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
        let (sender, mut receiver) = queue(JOBS_MAX, None);
        let sources = [source(1), source(2), Source::own(memory())];
        for (number, from) in [0, 0, 0, 1, 0, 2, 1].into_iter().enumerate() {
            let room = sender.room(&sources[from], sources[from].reads(), 1).await;
            sender
                .send(Entry::Job(Job::idle(number, room.expect("room"))))
                .expect("sent");
        }
        assert_eq!(receiver.receive(), 7);
        let taken = std::iter::from_fn(|| receiver.take());
        let taken: Vec<_> = taken.map(|job| job.bytes).collect();
        assert_eq!(taken, [0, 3, 5, 1, 6, 2, 4]);
        assert!(receiver.lines.is_empty() && receiver.turns.is_empty());
        assert_eq!(sender.jobs(), 0);
    }

    /// A source that uses the database for long gets as much of it as the others, not as many turns.
    #[tokio::test]
    async fn turns_are_by_cost() {
        let (sender, mut receiver) = queue(JOBS_MAX, None);
        let sources = [source(1), source(2)];
        let send = |from: usize| send(&sender, &sources[from], from);
        let cost = [Duration::from_millis(100), Duration::from_millis(1)];
        let mut counts = [0; 2];
        for _ in 0..3 {
            // The one sends always as soon as it is answered, the other has several waiting.
            send(0).await;
            send(1).await;
            send(1).await;
        }
        for _ in 0..606 {
            receiver.receive();
            let from = receiver.take().expect("a job").bytes;
            counts[from] += 1;
            receiver.charge(sources[from].address(), cost[from]);
            send(from).await;
        }
        assert_eq!(counts[0] + counts[1], 606);
        assert!((5..=8).contains(&counts[0]), "{counts:?}");
        // Who comes later does not have to wait until the others have used as much before.
        let late = source(3);
        let room = sender.room(&late, late.reads(), 1).await.expect("room");
        sender.send(Entry::Job(Job::idle(2, room))).expect("sent");
        receiver.receive();
        let next: Vec<_> = (0..3).filter_map(|_| receiver.take()).collect();
        assert!(next.iter().any(|job| job.bytes == 2));
    }

    /// Two threads run jobs, and one of them at most those of a source whose jobs take long.
    #[tokio::test(start_paused = true)]
    async fn heavy_sources_leave_room_for_others() {
        let (sender, mut receiver) = queue(JOBS_MAX, Some(1));
        let sources = [source(1), source(2)];
        let send = |from: usize| send(&sender, &sources[from], from);
        let reports = sender.reports();
        let ran = |from: usize, cost| {
            sources[from].heaviness.note(cost);
            reports.ran(sources[from].address(), cost);
        };
        for _ in 0..6 {
            send(0).await;
        }
        let taken = |receiver: &mut Receiver| {
            receiver.receive();
            receiver.take().map(|job| job.bytes)
        };
        // Nothing is known of the source yet.
        assert_eq!(taken(&mut receiver), Some(0));
        assert_eq!(taken(&mut receiver), Some(0));
        ran(0, 2 * HEAVY_COST);
        assert_eq!(taken(&mut receiver), None);
        ran(0, 2 * HEAVY_COST);
        assert_eq!(taken(&mut receiver), Some(0));
        assert_eq!(taken(&mut receiver), None);
        send(1).await;
        assert_eq!(taken(&mut receiver), Some(1));
        ran(1, Duration::ZERO);
        // A cheap job does not make up for it, only time does.
        ran(0, Duration::ZERO);
        assert_eq!(taken(&mut receiver), Some(0));
        assert_eq!(taken(&mut receiver), None);
        tokio::time::advance(2 * HEAVY_COST * HEAVY_TIMES).await;
        assert_eq!(taken(&mut receiver), Some(0));
        // At the end everything is run, whoever waits.
        ran(0, 2 * HEAVY_COST);
        assert_eq!(taken(&mut receiver), None);
        sender.send(Entry::Stop).expect("sent");
        assert_eq!(taken(&mut receiver), Some(0));
        assert_eq!(receiver.wait(), 0);
    }

    #[tokio::test]
    async fn jobs_that_are_put_back_keep_their_order() {
        let (sender, mut receiver) = queue(JOBS_MAX, None);
        let sources = [source(1), source(2)];
        for (number, from) in [0, 1, 0, 1, 0].into_iter().enumerate() {
            let room = sender.room(&sources[from], sources[from].reads(), 1).await;
            let entry = Entry::Job(Job::idle(number, room.expect("room")));
            sender.send(entry).expect("sent");
        }
        receiver.receive();
        let taken: Vec<_> = std::iter::from_fn(|| receiver.take()).collect();
        assert_eq!(receiver.receive(), 0);
        receiver.put_back(taken);
        assert_eq!(receiver.receive(), 5);
        let taken = std::iter::from_fn(|| receiver.take());
        let (even, odd): (Vec<_>, Vec<_>) = taken
            .map(|job| job.bytes)
            .partition(|number| number % 2 == 0);
        assert_eq!((even, odd), (vec![0, 2, 4], vec![1, 3]));
    }

    /// A commit takes more jobs than it has time for: those that are put back have cost nothing.
    #[tokio::test]
    async fn only_what_has_run_is_paid_for() {
        const LIGHT: usize = 20;
        let (sender, mut receiver) = queue(JOBS_MAX, None);
        let sources: Vec<_> = (0..=LIGHT as u8).map(source).collect();
        let send = |from: usize| send(&sender, &sources[from], from);
        let cost = |from: usize| Duration::from_micros(if from == LIGHT { 100 } else { 500 });
        for _ in 0..20 {
            for heavy in 0..LIGHT {
                send(heavy).await;
            }
        }
        let mut waiting = 0;
        for round in 0..100 {
            // Less than its share of a commit, which would be five.
            for _ in 0..3 {
                send(LIGHT).await;
            }
            waiting += 3;
            receiver.receive();
            let mut jobs: Vec<_> = std::iter::from_fn(|| receiver.take()).take(256).collect();
            let mut used = Duration::ZERO;
            let run = jobs.iter().position(|job| {
                used += cost(job.bytes);
                used > Duration::from_millis(10)
            });
            let rest = jobs.split_off(run.unwrap_or(jobs.len()));
            for job in &jobs {
                receiver.charge(sources[job.bytes].address(), cost(job.bytes));
            }
            waiting -= jobs.iter().filter(|job| job.bytes == LIGHT).count();
            receiver.put_back(rest);
            for job in jobs.iter().filter(|job| job.bytes != LIGHT) {
                send(job.bytes).await;
            }
            assert!(waiting <= 3, "{waiting} wait after {round} rounds");
        }
    }

    /// A source that has used little gets its next jobs run at once, up to its credit.
    #[tokio::test]
    async fn a_source_that_uses_little_goes_first() {
        let (sender, mut receiver) = queue(JOBS_MAX, None);
        let sources = [source(1), source(2)];
        let send = |from: usize| send(&sender, &sources[from], from);
        let ms = Duration::from_millis(1);
        for _ in 0..25 {
            send(0).await;
        }
        receiver.receive();
        for _ in 0..15 {
            receiver.take().expect("a job");
            receiver.charge(sources[0].address(), ms);
        }
        for _ in 0..9 {
            send(1).await;
        }
        receiver.receive();
        let taken = (0..8).map(|_| {
            let from = receiver.take().expect("a job").bytes;
            receiver.charge(sources[from].address(), ms);
            from
        });
        assert_eq!(taken.collect::<Vec<_>>(), [1, 1, 1, 1, 1, 1, 0, 1]);
    }

    #[tokio::test]
    async fn forgotten_costs_do_not_set_the_time_back() {
        let (sender, mut receiver) = queue(JOBS_MAX, None);
        let source = source(1);
        for number in 0..3 {
            send(&sender, &source, number).await;
        }
        receiver.receive();
        receiver.take().expect("a job");
        receiver.charge(source.address(), Duration::from_secs(1));
        let taken: Vec<_> = std::iter::from_fn(|| receiver.take()).collect();
        receiver.used.clear();
        receiver.put_back(taken);
        assert!(receiver.now >= Duration::from_secs(1) - CREDIT);
    }

    #[tokio::test]
    async fn costs_need_bounded_memory() {
        let (sender, mut receiver) = queue(JOBS_MAX, None);
        let memory = memory();
        for index in 0..3 * COSTS_MAX as u32 {
            let address = IpAddr::from(index.to_be_bytes());
            let source = Source::of(address.into(), memory.clone());
            let room = sender.room(&source, source.reads(), 1).await;
            let entry = Entry::Job(Job::idle(0, room.expect("room")));
            sender.send(entry).expect("sent");
            receiver.receive();
            drop(receiver.take());
            receiver.charge(source.address(), Duration::from_millis(1));
        }
        assert!(receiver.used.len() <= COSTS_MAX + 1);
    }
}
