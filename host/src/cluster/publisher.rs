//! The registry's end of the bus: numbers packets and hands them on without ever waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use handler::Output;
use tokio::sync::mpsc;

use crate::cluster::wire::{self, Body, Packet};

/// Outputs of one commit with more than this many bytes are sent in several packets.
const PACKET_BYTES: usize = 256 * 1024;
/// Packets, and their bytes, that may wait for a slow bus; further ones are left out, which the
/// other hosts notice.
const QUEUED_MAX: usize = 4096;
const QUEUED_BYTES_MAX: usize = 4 * 1024 * 1024;

pub struct Publisher {
    origin: u64,
    number: u64,
    queue: mpsc::Sender<(u64, Bytes)>,
    shared: Arc<Shared>,
}

/// The end of the bus that sends.
pub struct Published {
    /// Each with its number.
    pub packets: mpsc::Receiver<(u64, Bytes)>,
    pub shared: Arc<Shared>,
}

/// What both ends share.
#[derive(Default)]
pub struct Shared {
    pub queued_bytes: AtomicUsize,
    /// The number of the last packet, queued or left out.
    pub number: AtomicU64,
}

impl Publisher {
    /// Both ends for the host with this random number.
    pub fn new(origin: u64) -> (Publisher, Published) {
        let (queue, packets) = mpsc::channel(QUEUED_MAX);
        let shared = Arc::new(Shared::default());
        let publisher = Publisher {
            origin,
            number: 0,
            queue,
            shared: shared.clone(),
        };
        (publisher, Published { packets, shared })
    }

    /// Sends outputs in one packet, or in several that each hold at least one output.
    pub fn publish(&mut self, outputs: &[Output]) {
        let mut rest = outputs;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |output: &&Output| {
                bytes += wire::bytes(output);
                bytes <= PACKET_BYTES
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (now, later) = rest.split_at(count);
            rest = later;
            self.number += 1;
            let packet = Packet {
                origin: self.origin,
                number: self.number,
                body: Body::Outputs(now.into()),
            };
            self.send(packet.encode());
        }
        self.shared.number.store(self.number, Ordering::Release);
    }

    /// Leaves a gap in the numbers, so that other hosts notice that they may have missed something
    /// that is not known here.
    pub fn skip(&mut self) {
        self.number += 1;
        self.shared.number.store(self.number, Ordering::Release);
    }

    fn send(&self, packet: Bytes) {
        let queued = &self.shared.queued_bytes;
        let bytes = packet.len();
        if queued.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUED_BYTES_MAX
            || self.queue.try_send((self.number, packet)).is_err()
        {
            queued.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use handler::Audience;

    use super::*;

    #[test]
    fn a_slow_bus_is_given_no_more_than_it_can_hold() {
        let (mut publisher, mut published) = Publisher::new(1);
        let output = Output::Push {
            to: Audience::Users(vec![1]),
            event: "x".repeat(60 * 1024),
            is_droppable: false,
        };
        let outputs = vec![output; 10];
        for _ in 0..100 {
            publisher.publish(&outputs);
        }
        let mut bytes = 0;
        let mut packets = 0;
        while let Ok(packet) = published.packets.try_recv() {
            assert!(packet.1.len() <= PACKET_BYTES + 1024);
            bytes += packet.1.len();
            packets += 1;
        }
        assert!(bytes <= QUEUED_BYTES_MAX);
        assert_eq!(
            published.shared.number.load(Ordering::Relaxed),
            300,
            "all are numbered"
        );
        assert!(packets > 10 && packets < 300, "{packets}");
    }
}
