//! Finds gaps in the packets of other hosts.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::wire::{Body, Packet};

/// How often a host announces the number of its last packet.
pub const BEAT: Duration = Duration::from_secs(1);
/// A host that was silent for this long may have died with packets unsent.
const SILENCE: Duration = Duration::from_secs(5);

/// The last packet of each other host.
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

    /// Notes a packet. Returns whether packets before it were missed.
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
            // A host that is older than this one has sent packets that nobody here missed. A newer
            // host begins at 0.
            None => number > is_numbered && now - self.since > 3 * BEAT,
        }
    }

    /// Returns whether a host has fallen silent, and forgets it.
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
        assert!(!others.has_silent(start + SILENCE), "it is reported once");
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
