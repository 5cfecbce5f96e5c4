//! The frame decoder: the result does not depend on how a stream is cut, memory is bounded, and
//! tungstenite reads the same messages.
#![no_main]

use std::io::{self, Read, Write};

use arbitrary::Arbitrary;
use frame::{Decoder, MESSAGE_BYTES_MAX, MESSAGES_AT_ONCE, Message, Violation};
use libfuzzer_sys::fuzz_target;
use tungstenite::error::{Error, ProtocolError};
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

// Included by its file, because the package `host` has a hundred more dependencies to instrument.
#[allow(dead_code)]
#[path = "../../../host/src/socket/frame.rs"]
mod frame;

/// The most bytes that a decoder holds: the fragments of the longest message, and a control frame
/// without its last byte.
const HELD_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 2 + 4 + 125 - 1;

/// A stream is `bytes` with `fill` inserted at `at`, many times, so that short inputs make long
/// frames.
#[derive(Debug, Arbitrary)]
struct Input<'a> {
    /// The sizes of pieces, used in turn.
    sizes: [u8; 4],
    at: u8,
    fill: u8,
    count: u8,
    scale: u8,
    bytes: &'a [u8],
}

impl Input<'_> {
    fn stream(&self) -> Vec<u8> {
        let (before, after) = self.bytes.split_at(self.bytes.len().min(self.at.into()));
        // Usually a few bytes; at most twice the longest message.
        let count = usize::from(self.count) << self.scale.saturating_sub(242);
        [before, &vec![self.fill; count], after].concat()
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Decoded {
    Text(String),
    Binary,
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

fuzz_target!(|input: Input| {
    let stream = input.stream();
    let (messages, violation) = ours(&stream, std::iter::repeat(stream.len()));
    // Long streams have larger pieces, so that there are never more than some thousands.
    let sizes = input
        .sizes
        .iter()
        .map(|size| usize::from(*size) + stream.len() / 1024);
    assert_eq!(
        ours(&stream, sizes.cycle()),
        (messages.clone(), violation),
        "in pieces and whole"
    );
    agree(&messages, violation, &stream);
});

fn ours(stream: &[u8], sizes: impl Iterator<Item = usize>) -> (Vec<Decoded>, Option<Violation>) {
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    let mut violation = None;
    let mut rest = stream;
    for size in sizes {
        if rest.is_empty() {
            break;
        }
        let (piece, later) = rest.split_at(size.clamp(1, rest.len()));
        rest = later;
        let mut piece = piece.to_vec();
        loop {
            let before = messages.len();
            let fed = decoder.feed(&mut piece, |message| {
                assert_eq!(violation, None, "a message after a violation");
                assert!(
                    !matches!(messages.last(), Some(Decoded::Close(_))),
                    "a message after a close"
                );
                messages.push(match message {
                    Message::Text(text) => Decoded::Text(text.into()),
                    Message::Ping(payload) => Decoded::Ping(payload.into()),
                    Message::Pong => Decoded::Pong,
                    Message::Close(code) => Decoded::Close(code),
                });
            });
            assert!(messages.len() - before <= MESSAGES_AT_ONCE);
            if let Err(found) = fed {
                assert_eq!(violation, None, "a second violation");
                violation = Some(found);
            }
            if !decoder.has_more() {
                break;
            }
            piece.clear();
        }
        assert!(
            decoder.held_bytes() <= HELD_BYTES_MAX,
            "the decoder holds too much"
        );
    }
    (messages, violation)
}

/// Checks that both decoders read the same messages. Each is stricter than the other in some
/// respects; up to there they must agree.
fn agree(ours: &[Decoded], violation: Option<Violation>, stream: &[u8]) {
    let (theirs, error) = theirs(stream);
    let common = ours.len().min(theirs.len());
    assert_eq!(ours[..common], theirs[..common], "{violation:?}, {error}");
    let reason = violation.map(|violation| (violation.code, violation.reason));
    // tungstenite continues after binary messages and after lengths in too many bytes (which a
    // control frame has no room for), and reads a bad close code as 1002.
    let ours_is_stricter = matches!(
        reason,
        Some(
            (1003, _)
                | (
                    1002,
                    "length not in its shortest form"
                        | "control frame too long"
                        | "invalid close code"
                )
        )
    );
    assert!(
        theirs.len() == common || ours_is_stricter,
        "only tungstenite reads {:?}; {violation:?}",
        theirs[common]
    );
    // tungstenite reports that a text is not UTF-8 before its last fragment has arrived; our
    // decoder reports it then.
    let theirs_is_earlier = matches!(error, Error::Utf8(_))
        && !ours[common..]
            .iter()
            .any(|message| matches!(message, Decoded::Text(_)));
    assert!(
        ours.len() == common || theirs_is_earlier,
        "only our decoder reads {:?}; {error}",
        ours[common]
    );
    // Our decoder refuses everything that tungstenite refuses. But the end of the stream is not a
    // fault, and bad UTF-8 may only become one later.
    let is_refused = !matches!(
        error,
        Error::ConnectionClosed
            | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
            | Error::Utf8(_)
    );
    assert!(
        violation.is_some() || !is_refused,
        "our decoder accepts: {error}"
    );
}

/// Returns the messages that tungstenite reads, and why it stopped.
fn theirs(stream: &[u8]) -> (Vec<Decoded>, Error) {
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let mut socket = WebSocket::from_raw_socket(Wire(stream), Role::Server, Some(config));
    let mut messages = Vec::new();
    loop {
        messages.push(match socket.read() {
            Ok(tungstenite::Message::Text(text)) => Decoded::Text(text.as_str().into()),
            Ok(tungstenite::Message::Binary(_)) => Decoded::Binary,
            Ok(tungstenite::Message::Ping(payload)) => Decoded::Ping(payload.to_vec()),
            Ok(tungstenite::Message::Pong(_)) => Decoded::Pong,
            Ok(tungstenite::Message::Close(close)) => {
                Decoded::Close(close.map(|close| close.code.into()))
            }
            Ok(tungstenite::Message::Frame(_)) => unreachable!("never read"),
            Err(error) => return (messages, error),
        });
    }
}

/// Reads from the stream; discards what is written.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
