//! What of the other hosts' packets is missing.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::wire::{Body, Packet};

/// An idle host says this often which packet was its last.
pub const BEAT: Duration = Duration::from_secs(1);
/// A host that was silent for so long may have died with something unsaid.
const SILENCE: Duration = Duration::from_secs(5);

/// What the other hosts have last said.
pub struct Others {
    since: Instant,
    /// By origin: the number of the last packet, and when it came.
    last: HashMap<u64, (u64, Instant)>,
}

impl Others {
    pub fn new(since: Instant) -> Self {
        Others {
            since,
            last: HashMap::new(),
        }
    }

    /// Takes note of a packet. Whether something has been missed before it.
    pub fn hear(&mut self, packet: &Packet, now: Instant) -> bool {
        let (number, is_numbered) = match packet.body {
            Body::Outputs(_) => (packet.number, 1),
            Body::Beat | Body::Goodbye => (packet.number, 0),
        };
        let known = self.last.insert(packet.origin, (number, now));
        if matches!(packet.body, Body::Goodbye) {
            self.last.remove(&packet.origin);
        }
        match known {
            Some((known, _)) => number != known + is_numbered,
            // A host that was here before this one began has said more, which nobody here has missed; one that came
            // since has begun at nought.
            None => number > is_numbered && now - self.since > 3 * BEAT,
        }
    }

    /// Whether a host has fallen silent. It is forgotten then.
    pub fn has_silent(&mut self, now: Instant) -> bool {
        let before = self.last.len();
        self.last
            .retain(|_, (_, heard_at)| now - *heard_at < SILENCE);
        self.last.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(number: u64, body: Body) -> Packet {
        Packet {
            origin: 1,
            number,
            body,
        }
    }

    fn outputs(number: u64) -> Packet<'static> {
        packet(number, Body::Outputs(Default::default()))
    }

    #[test]
    fn gaps_and_silence_are_noticed() {
        let start = Instant::now();
        let mut others = Others::new(start);
        assert!(!others.hear(&outputs(5), start), "it was there before");
        assert!(!others.hear(&outputs(6), start));
        assert!(!others.hear(&packet(6, Body::Beat), start));
        assert!(others.hear(&outputs(8), start), "7 is missing");
        assert!(others.hear(&packet(9, Body::Beat), start), "9 is missing");
        assert!(!others.has_silent(start + SILENCE / 2));
        assert!(others.has_silent(start + SILENCE), "it may have died");
        assert!(!others.has_silent(start + SILENCE), "which is told once");
        let later = start + SILENCE;
        assert!(
            others.hear(&outputs(10), later),
            "it was not heard for a while"
        );
        assert!(!others.hear(&packet(10, Body::Goodbye), later));
        assert!(!others.has_silent(later + SILENCE), "it has said goodbye");
    }

    #[test]
    fn a_new_host_begins_at_nought() {
        let start = Instant::now();
        let mut others = Others::new(start);
        let later = start + 10 * BEAT;
        assert!(!others.hear(&packet(0, Body::Beat), later));
        assert!(!others.hear(&outputs(1), later));
        let mut others = Others::new(start);
        assert!(others.hear(&outputs(2), later), "1 is missing");
    }
}
