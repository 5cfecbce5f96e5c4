//! The frame decoder against every rule of RFC 6455 section 5, and against random input.

use host::frame::{
    Decoder, FRAGMENTS_MAX, MESSAGE_BYTES_MAX, MESSAGES_AT_ONCE, Message, close_frame, pong_frame,
    text_frame,
};
use proptest::collection::vec;
use proptest::prelude::*;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;

/// A client's frame. `first` is the first byte; the length is encoded in its shortest form.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = match payload.len() {
        n @ ..126 => vec![n as u8],
        n @ ..0x1_0000 => [&[126][..], &(n as u16).to_be_bytes()].concat(),
        n => [&[127][..], &(n as u64).to_be_bytes()].concat(),
    };
    masked(first, &length, payload)
}

fn masked(first: u8, length: &[u8], payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut bytes = vec![first, 0x80 | length[0]];
    bytes.extend(&length[1..]);
    bytes.extend(mask);
    bytes.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

/// The result of decoding a stream: each message as text, and the code of the violation that ended
/// it.
#[derive(Debug, PartialEq, Clone)]
struct Decoded {
    messages: Vec<String>,
    violation: Option<u16>,
}

fn decode(stream: &[u8], pieces: impl Iterator<Item = usize>) -> Decoded {
    let mut decoder = Decoder::default();
    let mut decoded = Decoded {
        messages: vec![],
        violation: None,
    };
    let mut rest = stream;
    for piece in pieces {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at(piece.clamp(1, rest.len()));
        rest = later;
        let mut now = now.to_vec();
        loop {
            let mut count = 0;
            let result = decoder.feed(&mut now, |message| {
                count += 1;
                decoded.messages.push(match message {
                    Message::Text(text) => format!("text {text}"),
                    Message::Ping(payload) => format!("ping {payload:?}"),
                    Message::Pong => "pong".into(),
                    Message::Close(code) => format!("close {code:?}"),
                });
            });
            assert!(count <= MESSAGES_AT_ONCE);
            if let Err(violation) = result {
                assert_eq!(decoded.violation, None, "a second violation");
                decoded.violation = Some(violation.code);
            }
            if !decoder.has_more() {
                break;
            }
            now.clear();
        }
    }
    decoded
}

/// Checks that the stream decodes to this result in one piece, byte by byte, and in pieces of
/// three.
fn check(stream: &[u8], messages: &[&str], violation: Option<u16>) {
    let expected = Decoded {
        messages: messages.iter().map(|m| m.to_string()).collect(),
        violation,
    };
    for size in [usize::MAX, 1, 3] {
        let actual = decode(stream, std::iter::repeat(size));
        assert_eq!(
            actual,
            expected,
            "{} bytes in pieces of {size}",
            stream.len()
        );
    }
}

#[test]
fn whole_messages() {
    check(&frame(FIN | TEXT, b"hi"), &["text hi"], None);
    check(&frame(FIN | TEXT, b""), &["text "], None);
    check(
        &frame(FIN | TEXT, "é😀\0".as_bytes()),
        &["text é😀\0"],
        None,
    );
    let two = [frame(FIN | TEXT, b"a"), frame(FIN | TEXT, b"b")].concat();
    check(&two, &["text a", "text b"], None);
    for length in [125, 126, 127, 65_535, 65_536] {
        let text = "x".repeat(length);
        check(
            &frame(FIN | TEXT, text.as_bytes()),
            &[&format!("text {text}")],
            None,
        );
    }
}

#[test]
fn messages_beyond_those_of_one_turn_wait_as_they_came() {
    let pings = frame(FIN | PING, b"").repeat(MESSAGES_AT_ONCE);
    check(&pings, &["ping []"; MESSAGES_AT_ONCE], None);
    let more = [&*pings, &pings, &frame(FIN | TEXT, b"a"), &[FIN | BINARY]].concat();
    let mut decoder = Decoder::default();
    decoder
        .feed(&mut more.clone(), |_| {})
        .expect("no violation");
    assert!(decoder.has_more());
    assert_eq!(decoder.behind_bytes(), more.len() - pings.len());
    assert_eq!(decoder.held_bytes(), 0);
    decoder.feed(&mut [], |_| {}).expect("no violation");
    assert!(decoder.has_more());
    decoder.feed(&mut [], |_| {}).expect("no violation");
    assert!(!decoder.has_more());
    assert_eq!((decoder.behind_bytes(), decoder.held_bytes()), (0, 1));
    let mut messages = vec!["ping []"; 2 * MESSAGES_AT_ONCE];
    messages.push("text a");
    let unmasked = [FIN | BINARY, 0];
    check(&[&*more, &unmasked[1..]].concat(), &messages, Some(1002));
}

#[test]
fn fragments() {
    let parts = |parts: &[(u8, &[u8])]| -> Vec<u8> {
        parts
            .iter()
            .flat_map(|(first, payload)| frame(*first, payload))
            .collect()
    };
    check(
        &parts(&[(TEXT, b"a"), (0, b"b"), (FIN, b"c")]),
        &["text abc"],
        None,
    );
    check(
        &parts(&[(TEXT, b""), (0, b""), (FIN, b"")]),
        &["text "],
        None,
    );
    // 5.4: control frames may come between fragments; 8.1: a character may be split between
    // fragments.
    let stream = parts(&[
        (TEXT, b"\xf0\x9f"),
        (FIN | PING, b"p"),
        (FIN, b"\x98\x80"),
        (FIN | TEXT, b"z"),
    ]);
    check(&stream, &["ping [112]", "text 😀", "text z"], None);
    check(&parts(&[(0, b"a")]), &[], Some(1002));
    check(&parts(&[(FIN, b"a")]), &[], Some(1002));
    check(
        &parts(&[(FIN | TEXT, b"a"), (FIN, b"b")]),
        &["text a"],
        Some(1002),
    );
    check(&parts(&[(TEXT, b"a"), (TEXT, b"b")]), &[], Some(1002));
    check(&parts(&[(TEXT, b"a"), (FIN | TEXT, b"b")]), &[], Some(1002));
    check(&parts(&[(TEXT, b"a"), (FIN, b"\xff")]), &[], Some(1007));
}

#[test]
fn control_frames() {
    check(&frame(FIN | PING, b""), &["ping []"], None);
    check(&frame(FIN | PONG, b"x"), &["pong"], None);
    check(&frame(FIN | PONG, &[1; 125]), &["pong"], None);
    for opcode in [CLOSE, PING, PONG] {
        check(&frame(FIN | opcode, &[0; 126]), &[], Some(1002));
        check(&frame(opcode, b""), &[], Some(1002));
    }
}

#[test]
fn heads_that_break_a_rule() {
    for bit in [0x40, 0x20, 0x10] {
        check(&frame(FIN | bit | TEXT, b"x"), &[], Some(1002));
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        check(&frame(FIN | opcode, b"x"), &[], Some(1002));
    }
    check(&[FIN | TEXT, 1, b'x'], &[], Some(1002)); // 5.1: not masked.
    check(&frame(FIN | BINARY, b"x"), &[], Some(1003));
    check(&frame(BINARY, b"x"), &[], Some(1003));
    // 5.2: the length uses more bytes than it needs, or its highest bit is set.
    check(
        &masked(FIN | TEXT, &[126, 0, 125], &[0; 125]),
        &[],
        Some(1002),
    );
    check(
        &masked(FIN | TEXT, &[127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], b""),
        &[],
        Some(1002),
    );
    check(
        &masked(FIN | TEXT, &[127, 0x80, 0, 0, 0, 0, 0, 0, 0], b""),
        &[],
        Some(1002),
    );
}

#[test]
fn close_frames() {
    check(&frame(FIN | CLOSE, b""), &["close None"], None);
    let coded =
        |code: u16, reason: &[u8]| frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat());
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999,
    ] {
        check(
            &coded(code, "bye é".as_bytes()),
            &[&format!("close Some({code})")],
            None,
        );
    }
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        check(&coded(code, b""), &[], Some(1002));
    }
    check(&frame(FIN | CLOSE, b"\x03"), &[], Some(1002));
    check(&coded(1000, b"\xff"), &[], Some(1007));
    // 5.5.1: everything after a close frame is ignored.
    let stream = [coded(1000, b""), frame(FIN | TEXT, b"late"), vec![0xff; 20]].concat();
    check(&stream, &["close Some(1000)"], None);
}

#[test]
fn text_that_is_not_utf8() {
    for bytes in [
        &b"\xff"[..],
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xf0\x9f\x98",
        b"ok\x80",
    ] {
        check(&frame(FIN | TEXT, bytes), &[], Some(1007));
    }
}

#[test]
fn what_is_too_large_is_said_before_it_arrives() {
    let head =
        |first: u8, length: u64| masked(first, &[&[127][..], &length.to_be_bytes()].concat(), b"");
    let max = MESSAGE_BYTES_MAX as u64;
    check(&head(FIN | TEXT, max), &[], None);
    check(&head(FIN | TEXT, max + 1), &[], Some(1009));
    check(&head(FIN | TEXT, u64::MAX >> 1), &[], Some(1009));
    let half = vec![b'x'; MESSAGE_BYTES_MAX / 2];
    let whole = [frame(TEXT, &half), frame(FIN, &half)].concat();
    let decoded = decode(&whole, std::iter::repeat(9999));
    assert_eq!((decoded.messages.len(), decoded.violation), (1, None));
    let fragments = [frame(TEXT, &half), frame(0, &half), frame(FIN, b"x")].concat();
    assert_eq!(
        decode(&fragments, std::iter::repeat(9999)).violation,
        Some(1009)
    );
}

#[test]
fn a_message_has_a_bounded_number_of_fragments() {
    for (count, messages, violation) in
        [(FRAGMENTS_MAX, 1, None), (FRAGMENTS_MAX + 1, 0, Some(1009))]
    {
        let mut bytes = frame(TEXT, b"x");
        for _ in 2..count {
            bytes.extend(frame(0, b""));
            bytes.extend(frame(FIN | PING, b""));
        }
        bytes.extend(frame(FIN, b""));
        let decoded = decode(&bytes, std::iter::repeat(9999));
        let texts = decoded.messages.iter().filter(|m| m.starts_with("text"));
        assert_eq!((texts.count(), decoded.violation), (messages, violation));
    }
}

/// Checks the bytes of sent frames, with heads as RFC 6455 defines them.
#[test]
fn frames_to_send() {
    assert_eq!(&text_frame("hi")[..], b"\x81\x02hi");
    assert_eq!(&pong_frame(b"x")[..], b"\x8a\x01x");
    assert_eq!(&close_frame(1000, "bye")[..], b"\x88\x05\x03\xe8bye");
    assert_eq!(&close_frame(1005, "")[..], b"\x88\x00");
    assert_eq!(&text_frame(&"x".repeat(126))[..4], [0x81, 126, 0, 126]);
    assert_eq!(
        &text_frame(&"x".repeat(65_536))[..10],
        [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]
    );
    // A reason that is too long is cut between characters: it takes 2 + 122 bytes, because the
    // 123rd byte would be half an "é".
    let long = close_frame(1000, &format!("x{}", "é".repeat(100)));
    assert_eq!((long[1], long.len()), (125, 127));
    let longer = close_frame(1000, &"é".repeat(100));
    assert_eq!((longer[1], longer.len()), (124, 126));
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        Just(FIN | TEXT),
        Just(TEXT),
        Just(0),
        Just(FIN),
        Just(FIN | PING),
        Just(FIN | CLOSE),
        any::<u8>()
    ];
    let payload = prop_oneof![
        "[a-zé😀]{0,40}".prop_map(String::into_bytes),
        vec(any::<u8>(), 0..200)
    ];
    (first, payload).prop_map(|(first, payload)| frame(first, &payload))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A stream decodes to the same result however it is cut, without a panic.
    #[test]
    fn pieces_do_not_matter(frames in vec(any_frame(), 0..8), sizes in vec(1usize..50, 1..20)) {
        let stream = frames.concat();
        let whole = decode(&stream, std::iter::repeat(usize::MAX));
        prop_assert_eq!(decode(&stream, sizes.into_iter().cycle()), whole);
    }

    #[test]
    fn random_bytes_never_panic(stream in vec(any::<u8>(), 0..300), size in 1usize..40) {
        let whole = decode(&stream, std::iter::repeat(usize::MAX));
        prop_assert_eq!(decode(&stream, std::iter::repeat(size)), whole);
    }
}
