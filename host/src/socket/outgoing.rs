//! The queue of frames for one socket.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

use crate::socket::push_memory::{PLACE_BYTES, PushPlace};

/// The frames in order, with their sizes added up. Owns no memory while it is empty.
#[derive(Default)]
pub struct Outgoing {
    frames: VecDeque<Queued>,
    bytes: usize,
    push_bytes: usize,
    pushes: usize,
    /// Bytes of the first frame that the system has accepted.
    written: usize,
    /// The system accepts no more for now; the socket's task writes when it does.
    pub is_blocked: bool,
    pub turns: FlushTurns,
    state: State,
}

/// When a socket is to be flushed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum FlushTurn {
    Soon,
    /// After others: it is one of many that get the same.
    InCrowd,
}

/// For which turns a socket waits since the last flush.
#[derive(Default)]
pub struct FlushTurns {
    soon: bool,
    in_crowd: bool,
}

impl FlushTurns {
    /// Returns whether the socket did not wait for this turn yet.
    pub fn add(&mut self, turn: FlushTurn) -> bool {
        let waits = match turn {
            FlushTurn::Soon => &mut self.soon,
            FlushTurn::InCrowd => &mut self.in_crowd,
        };
        !std::mem::replace(waits, true)
    }
}

struct Queued {
    frame: Bytes,
    is_push: bool,
    /// Of a push to a client that reads slowly.
    _place: Option<PushPlace>,
}

#[derive(Default, PartialEq)]
enum State {
    #[default]
    Open,
    /// No more frames are accepted.
    Closing,
    /// The connection is gone.
    Broken,
}

impl Outgoing {
    /// Bytes of all frames, including the written part of the first one.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of the frames that are pushes, and of their places in the queue.
    pub fn push_memory(&self) -> usize {
        self.push_bytes + self.pushes * PLACE_BYTES
    }

    /// Bytes of the frames that are not pushes.
    pub fn reply_bytes(&self) -> usize {
        self.bytes - self.push_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether frames are still accepted.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    pub fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    /// Queues a reply or a control frame.
    pub fn add(&mut self, frame: Bytes) {
        self.append(frame, false, None);
    }

    /// With the `place` that is counted, if the client reads slowly.
    pub fn add_push(&mut self, frame: Bytes, place: Option<PushPlace>) {
        self.append(frame, true, place);
    }

    /// Queues the last frame.
    pub fn close(&mut self, frame: Bytes) {
        self.add(frame);
        self.end();
    }

    /// Accepts no more frames; what is queued is still written.
    pub fn end(&mut self) {
        if self.is_open() {
            self.state = State::Closing;
        }
    }

    /// The connection is gone: drops what is queued.
    pub fn break_off(&mut self) {
        self.written = 0;
        self.clear();
        self.state = State::Broken;
    }

    /// Drops the queued frames, but not a first one that is partly written.
    pub fn clear(&mut self) {
        self.frames.truncate(usize::from(self.written > 0));
        self.bytes = self.frames.iter().map(|queued| queued.frame.len()).sum();
        let pushes = self.frames.iter().filter(|queued| queued.is_push);
        self.pushes = pushes.clone().count();
        self.push_bytes = pushes.map(|queued| queued.frame.len()).sum();
    }

    /// Fills `slices` with what is to be written next; returns how many it used.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slice, queued) in slices.iter_mut().zip(&self.frames) {
            let written = if count == 0 { self.written } else { 0 };
            *slice = IoSlice::new(&queued.frame[written..]);
            count += 1;
        }
        count
    }

    /// Notes that the system has accepted this many bytes.
    pub fn advance(&mut self, mut bytes: usize) {
        while let Some(first) = self.frames.front() {
            let length = first.frame.len();
            if bytes < length - self.written {
                self.written += bytes;
                return;
            }
            bytes -= length - self.written;
            self.written = 0;
            self.bytes -= length;
            if first.is_push {
                self.push_bytes -= length;
                self.pushes -= 1;
            }
            self.frames.pop_front();
        }
        self.frames = VecDeque::new();
    }

    fn append(&mut self, frame: Bytes, is_push: bool, place: Option<PushPlace>) {
        if !self.is_open() {
            return;
        }
        self.bytes += frame.len();
        if is_push {
            self.push_bytes += frame.len();
            self.pushes += 1;
        }
        self.frames.push_back(Queued {
            frame,
            is_push,
            _place: place,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at most `bytes` of what would be written next.
    fn take(outgoing: &mut Outgoing, bytes: usize) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 3];
        let count = outgoing.slices(&mut slices);
        let mut taken: Vec<u8> = slices[..count]
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect();
        taken.truncate(bytes);
        outgoing.advance(taken.len());
        taken
    }

    #[test]
    fn frames_leave_in_order_in_pieces_of_any_size() {
        for piece in 1..12 {
            let mut outgoing = Outgoing::default();
            for frame in ["one", "two", "three", "four"] {
                outgoing.add_push(Bytes::from_static(frame.as_bytes()), None);
            }
            let mut all = Vec::new();
            while !outgoing.is_empty() {
                all.extend(take(&mut outgoing, piece));
            }
            assert_eq!(all, b"onetwothreefour", "pieces of {piece}");
            assert_eq!((outgoing.bytes(), outgoing.push_memory()), (0, 0));
            assert_eq!(outgoing.frames.capacity(), 0, "an empty queue owns memory");
        }
    }

    #[test]
    fn clearing_keeps_a_frame_that_is_half_written() {
        let mut outgoing = Outgoing::default();
        outgoing.add_push(Bytes::from_static(b"begun"), None);
        outgoing.add_push(Bytes::from_static(b"waiting"), None);
        assert_eq!(take(&mut outgoing, 2), b"be");
        outgoing.clear();
        outgoing.close(Bytes::from_static(b"end"));
        outgoing.add(Bytes::from_static(b"too late"));
        assert_eq!(take(&mut outgoing, 100), b"gunend");
        assert!(outgoing.is_empty() && !outgoing.is_open() && !outgoing.is_broken());
    }

    #[test]
    fn a_place_takes_what_is_counted() {
        assert!(2 * size_of::<Queued>() <= PLACE_BYTES);
    }

    #[test]
    fn only_pushes_count_as_pushes() {
        let mut outgoing = Outgoing::default();
        outgoing.add(Bytes::from_static(b"reply"));
        outgoing.add_push(Bytes::from_static(b"push"), None);
        assert_eq!(
            (outgoing.bytes(), outgoing.push_memory()),
            (9, PLACE_BYTES + 4)
        );
        take(&mut outgoing, 5);
        assert_eq!(
            (outgoing.bytes(), outgoing.push_memory()),
            (4, PLACE_BYTES + 4)
        );
        outgoing.break_off();
        assert_eq!((outgoing.bytes(), outgoing.push_memory()), (0, 0));
        assert!(outgoing.is_broken());
    }
}
