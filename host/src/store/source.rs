//! The sources of operations, and what each source may have in the queues and in memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turn, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::limits::answer_room::AnswerShare;
use crate::limits::arrivals::Arrivals;
use crate::limits::client_address::ClientNetwork;
use crate::limits::large_events::LargeEvents;
use crate::limits::memory::AllMemory;
use crate::limits::unfinished::Unfinished;

/// Bytes that may wait for the writer, and for the readers.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What the sockets of one address, or a single operation, may take of these bytes.
pub const SOURCE_BYTES_MAX: usize = QUEUE_BYTES_MAX / 32;

/// A source is heavy after a job that took longer, for so many times as long as it took.
pub const HEAVY_COST: Duration = Duration::from_millis(5);
pub const HEAVY_TIMES: u32 = 200;

/// A source of operations: the sockets of an address, or the server itself, whose operations are
/// limited elsewhere.
pub struct Source {
    address: Option<ClientNetwork>,
    writes: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    pub answers: AnswerShare,
    pub unfinished: Unfinished,
    /// Bodies of requests that are not answered yet.
    pub bodies: Unfinished,
    pub large_events: LargeEvents,
    pub arrivals: Arrivals,
    /// Held while the signature of one of its tokens is checked.
    pub signatures: Turn<()>,
    pub heaviness: Heaviness,
    /// What all sources share.
    pub all: Arc<AllMemory>,
}

impl Source {
    pub fn of(address: ClientNetwork, all: Arc<AllMemory>) -> Self {
        Self::new(Some(address), SOURCE_BYTES_MAX, all)
    }

    pub fn own(all: Arc<AllMemory>) -> Self {
        Self::new(None, QUEUE_BYTES_MAX, all)
    }

    fn new(address: Option<ClientNetwork>, bytes: usize, all: Arc<AllMemory>) -> Self {
        Source {
            address,
            writes: Arc::new(Semaphore::new(bytes)),
            reads: Arc::new(Semaphore::new(bytes)),
            answers: AnswerShare::of_address(),
            unfinished: Unfinished::of_address(),
            bodies: Unfinished::of_address(),
            large_events: LargeEvents::default(),
            arrivals: Arrivals::of_address(),
            signatures: Turn::default(),
            heaviness: Heaviness::default(),
            all,
        }
    }

    #[cfg(test)]
    pub fn address(&self) -> Option<ClientNetwork> {
        self.address
    }

    pub fn writes(&self) -> &Arc<Semaphore> {
        &self.writes
    }

    pub fn reads(&self) -> &Arc<Semaphore> {
        &self.reads
    }
}

/// Until when a source is heavy: after a read that took long, for so many times as long as it took.
/// Cheap reads in between do not make up for it.
#[derive(Clone, Default)]
pub struct Heaviness(Arc<Mutex<Option<Instant>>>);

impl Heaviness {
    pub fn is_heavy(&self) -> bool {
        self.until().is_some_and(|until| until > Instant::now())
    }

    /// A read has taken so long.
    pub fn note(&self, cost: Duration) {
        if cost > HEAVY_COST {
            let until = Instant::now() + cost * HEAVY_TIMES;
            let mut latest = self.until();
            *latest = (*latest).max(Some(until));
        }
    }

    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a job takes of the limits until it is done.
pub struct Room {
    pub heaviness: Heaviness,
    /// The address of its source.
    pub address: Option<ClientNetwork>,
    /// `None` if another job of its source may already wait in its place.
    of_source: Option<OwnedSemaphorePermit>,
    _of_all: OwnedSemaphorePermit,
    /// The number of jobs in its queue.
    jobs: Arc<AtomicUsize>,
}

impl Room {
    /// Counts one more of `jobs`, with its permits from its source's share and from all.
    pub fn new(
        source: &Source,
        of_source: OwnedSemaphorePermit,
        of_all: OwnedSemaphorePermit,
        jobs: Arc<AtomicUsize>,
    ) -> Self {
        jobs.fetch_add(1, Ordering::Relaxed);
        Room {
            heaviness: source.heaviness.clone(),
            address: source.address,
            of_source: Some(of_source),
            _of_all: of_all,
            jobs,
        }
    }

    /// The job no longer waits, so another one of its source may. Otherwise those that run and those
    /// that wait would share the places of their source, and commits would be half as large.
    pub fn leave_queue(&mut self) {
        self.of_source = None;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.jobs.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_source_is_heavy_for_some_time_after_a_long_read() {
        let heaviness = Heaviness::default();
        heaviness.note(HEAVY_COST);
        assert!(!heaviness.is_heavy());
        heaviness.note(2 * HEAVY_COST);
        tokio::time::advance(HEAVY_COST * HEAVY_TIMES).await;
        heaviness.note(Duration::ZERO);
        assert!(heaviness.is_heavy());
        tokio::time::advance(HEAVY_COST * HEAVY_TIMES).await;
        assert!(!heaviness.is_heavy());
    }
}
