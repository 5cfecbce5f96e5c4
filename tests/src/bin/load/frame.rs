//! The parts of WebSocket frames that this program needs.

/// Opcodes, with the bit of a final fragment.
pub const TEXT: u8 = 0x81;
pub const PING: u8 = 0x89;
pub const CLOSE: u8 = 0x88;
pub const PONG: u8 = 0x8a;

/// A frame as clients send them.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![opcode];
    match payload.len() {
        length @ ..=125 => frame.push(0x80 | length as u8),
        length @ ..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// A text frame as clients send it.
pub fn text(event: &str) -> Vec<u8> {
    frame(TEXT, event.as_bytes())
}

/// A text frame as hosts send it.
pub fn host_frame(payload_bytes: usize) -> Vec<u8> {
    let mut bytes = vec![TEXT];
    match payload_bytes {
        ..=125 => bytes.push(payload_bytes as u8),
        126..=0xffff => {
            bytes.push(126);
            bytes.extend((payload_bytes as u16).to_be_bytes());
        }
        _ => {
            bytes.push(127);
            bytes.extend((payload_bytes as u64).to_be_bytes());
        }
    }
    bytes.resize(bytes.len() + payload_bytes, b'x');
    bytes
}

/// The first byte of a frame, the length of its head, and that of its payload.
pub fn head(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    match *bytes {
        [first, length @ ..=125, ..] => Some((first, 2, usize::from(length))),
        [first, 126, a, b, ..] => Some((first, 4, usize::from(u16::from_be_bytes([a, b])))),
        [first, 127, _, _, _, _, a, b, c, d, ..] => {
            Some((first, 10, u32::from_be_bytes([a, b, c, d]) as usize))
        }
        _ => None,
    }
}
