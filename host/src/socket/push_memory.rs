//! Memory for pushes that wait for slow clients.
//!
//! A frame is shared by all its receivers, and counted once; its place in the queue of each slow client
//! is counted too, because a small frame takes less than that. The fuller the memory is, the less may
//! wait for one client, so that it never gets full: "dynamic queue length thresholds" (Choudhury and
//! Hahne, 1998), with which switches share their buffers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::socket::frame;

/// Bytes of pushes that may wait for one client while memory is free.
pub const CLIENT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of pushes that may wait for all.
const ALL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The part of the free memory that one client may take.
const CLIENT_PART: usize = 8;
/// Bytes that a push takes besides its own: the allocator's, and its counters.
const FRAME_BYTES: usize = 128;
/// Bytes that a push takes in the queue of a client, which may be half empty.
pub const PLACE_BYTES: usize = 96;

/// The bytes of all pushes that exist.
#[derive(Default)]
pub struct PushMemory(Arc<AtomicUsize>);

/// A push that is counted as long as it exists.
struct Counted {
    frame: Bytes,
    all: Arc<AtomicUsize>,
}

/// The place of a push in the queue of a slow client, counted as long as it exists.
pub struct PushPlace(Arc<AtomicUsize>);

impl PushMemory {
    /// The frame of a push.
    pub fn frame(&self, event: &str) -> Bytes {
        let frame = frame::text_frame(event);
        self.0
            .fetch_add(FRAME_BYTES + frame.len(), Ordering::Relaxed);
        let all = self.0.clone();
        Bytes::from_owner(Counted { frame, all })
    }

    /// A place in the queue of a client that reads slowly.
    pub fn place(&self) -> PushPlace {
        self.0.fetch_add(PLACE_BYTES, Ordering::Relaxed);
        PushPlace(self.0.clone())
    }

    /// The bytes of pushes, with their places, that may wait for a client that reads slowly.
    pub fn client_bytes_max(&self) -> usize {
        let free = ALL_BYTES_MAX.saturating_sub(self.0.load(Ordering::Relaxed));
        CLIENT_BYTES_MAX.min(free / CLIENT_PART)
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.all
            .fetch_sub(FRAME_BYTES + self.frame.len(), Ordering::Relaxed);
    }
}

impl Drop for PushPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(PLACE_BYTES, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_may_wait_for_one_while_much_waits_for_all() {
        let memory = PushMemory::default();
        assert_eq!(memory.client_bytes_max(), CLIENT_BYTES_MAX);
        // Clients that read nothing, each of which has as much as it may.
        let mut waiting: Vec<Bytes> = Vec::new();
        let push = "x".repeat(32 * 1024);
        for _ in 0..1000 {
            let mut bytes = 0;
            while bytes + push.len() <= memory.client_bytes_max() {
                waiting.push(memory.frame(&push));
                bytes += push.len();
            }
        }
        let bytes: usize = waiting.iter().map(Bytes::len).sum();
        assert!(
            (ALL_BYTES_MAX / 2..ALL_BYTES_MAX).contains(&bytes),
            "{bytes}"
        );
        assert!(memory.client_bytes_max() < CLIENT_BYTES_MAX / 8);
        // A receiver more costs nothing, unless it is slow.
        let before = memory.client_bytes_max();
        let shared: Vec<_> = (0..1000).map(|_| waiting[0].clone()).collect();
        assert_eq!(memory.client_bytes_max(), before);
        let places: Vec<_> = (0..1000).map(|_| memory.place()).collect();
        let taken = 1000 * PLACE_BYTES / CLIENT_PART;
        assert_eq!(memory.client_bytes_max(), before.saturating_sub(taken));
        drop((waiting, shared, places));
        assert_eq!(memory.0.load(Ordering::Relaxed), 0);
    }
}
