//! The sources of operations, and what each source may have in the queues and in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::answer_room::AnswerShare;
use crate::limits::client_address::ClientNetwork;
use crate::limits::large_events::LargeEvents;
use crate::limits::memory::AllMemory;
use crate::limits::unfinished::Unfinished;

/// Bytes that may wait for the writer, and for the readers.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What the sockets of one address, or a single operation, may take of these bytes.
pub const SOURCE_BYTES_MAX: usize = QUEUE_BYTES_MAX / 32;

/// A source of operations: the sockets of an address, or the server itself, whose operations are
/// limited elsewhere.
pub struct Source {
    address: Option<ClientNetwork>,
    writes: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    pub answers: AnswerShare,
    pub unfinished: Unfinished,
    pub large_events: LargeEvents,
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
            large_events: LargeEvents::default(),
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

/// What a job takes of the limits until it is done.
pub struct Room {
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
