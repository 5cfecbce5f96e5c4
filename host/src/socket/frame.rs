//! WebSocket frames (RFC 6455 section 5): a strict incremental decoder of what clients send, and
//! whole frames to send.
//!
//! The decoder is our own because fastwebsockets' reader accepts unmasked frames, joins fragments
//! without a bound and reports violations without a close code. Frame heads, unmasking and close
//! codes come from that library.

use bytes::Bytes;
use fastwebsockets::{CloseCode, Frame, OpCode, Payload, unmask};

/// Longest message of a client, its fragments together, in bytes. Longer ones close the socket with
/// 1009.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Frames of one message. More close the socket with 1009.
pub const FRAGMENTS_MAX: u32 = 1024;

/// Messages that are decoded at once. They are larger than the bytes they came in, so a socket whose
/// client reads no answers holds no more of them; what came behind them is held as it came.
pub const MESSAGES_AT_ONCE: usize = 32;

/// Longest payload of a control frame (section 5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// A whole message of a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Text(&'a str),
    /// To be answered with a pong of the same payload.
    Ping(&'a [u8]),
    Pong,
    /// The client's code, if it gave one. Nothing after it is decoded.
    Close(Option<u16>),
}

/// Why a connection has to be closed: the code and reason of the close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    pub code: u16,
    pub reason: &'static str,
}

const fn violation(code: u16, reason: &'static str) -> Violation {
    Violation { code, reason }
}

/// Turns the bytes of one connection into messages. Holds no memory between whole messages.
#[derive(Default)]
pub struct Decoder {
    /// The beginning of a frame whose end has not arrived; if there is more, what came behind the
    /// last [`MESSAGES_AT_ONCE`].
    tail: Vec<u8>,
    /// The fragments of an unfinished text message.
    fragments: Option<Vec<u8>>,
    /// The number of these fragments.
    fragment_count: u32,
    has_more: bool,
    closed: bool,
}

impl Decoder {
    /// Takes the next bytes of the connection, in pieces of any size, and calls `receive` for each
    /// message that is complete with them, up to [`MESSAGES_AT_ONCE`]. `input` is used as working
    /// space. After an error or a `Close` the decoder ignores all input.
    pub fn feed(
        &mut self,
        input: &mut [u8],
        mut receive: impl FnMut(Message),
    ) -> Result<(), Violation> {
        if self.closed {
            return Ok(());
        }
        self.has_more = false;
        let result = if self.tail.is_empty() {
            self.decode(input, &mut receive).map(|consumed| {
                self.tail = input[consumed..].to_vec();
            })
        } else {
            let mut buffer = std::mem::take(&mut self.tail);
            buffer.extend_from_slice(input);
            self.decode(&mut buffer, &mut receive).map(|consumed| {
                self.tail = match consumed {
                    0 => buffer,
                    _ => buffer[consumed..].to_vec(),
                };
            })
        };
        if result.is_err() {
            self.closed = true;
        }
        if self.closed {
            self.close();
        }
        result
    }

    /// Whether more messages may be decoded from what has come: feed an empty piece to get them.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// Whether no message or frame is incomplete.
    pub fn is_between_messages(&self) -> bool {
        self.tail.is_empty() && self.fragments.is_none()
    }

    /// Bytes of incomplete messages and frames: never more than the longest message and a control
    /// frame. Does not count those of `behind_bytes`.
    pub fn held_bytes(&self) -> usize {
        let tail = if self.has_more { 0 } else { self.tail.len() };
        tail + self.fragments.as_ref().map_or(0, Vec::len)
    }

    /// If there is more: its bytes, never more than came in one piece.
    pub fn behind_bytes(&self) -> usize {
        if self.has_more { self.tail.len() } else { 0 }
    }

    /// Forgets what has come of incomplete messages and frames, and ignores all further input.
    pub fn close(&mut self) {
        self.closed = true;
        self.has_more = false;
        self.tail = Vec::new();
        self.fragments = None;
    }

    /// Decodes complete frames; returns the number of bytes they took.
    fn decode(
        &mut self,
        buffer: &mut [u8],
        receive: &mut impl FnMut(Message),
    ) -> Result<usize, Violation> {
        let (mut consumed, mut count) = (0, 0);
        while !self.closed {
            if count == MESSAGES_AT_ONCE {
                self.has_more = consumed < buffer.len();
                break;
            }
            let Some((head, payload)) = self.next_frame(&mut buffer[consumed..])? else {
                break;
            };
            consumed += head.bytes + payload.len();
            self.take(&head, payload, &mut |message| {
                count += 1;
                receive(message);
            })?;
        }
        Ok(consumed)
    }

    /// The next frame, unmasked, or `None` while it is incomplete. An error in a head is reported
    /// as soon as the bytes that show it have arrived.
    fn next_frame<'a>(
        &self,
        buffer: &'a mut [u8],
    ) -> Result<Option<(Head, &'a mut [u8])>, Violation> {
        let [first, second, ..] = *buffer else {
            return Ok(None);
        };
        let fin = first & 0x80 != 0;
        if first & 0x70 != 0 {
            return Err(violation(1002, "reserved bits set"));
        }
        let opcode =
            OpCode::try_from(first & 0x0f).map_err(|_| violation(1002, "unknown opcode"))?;
        if second & 0x80 == 0 {
            return Err(violation(1002, "frame not masked"));
        }
        let short_length = usize::from(second & 0x7f);
        let is_control = matches!(opcode, OpCode::Close | OpCode::Ping | OpCode::Pong);
        match opcode {
            _ if is_control && !fin => return Err(violation(1002, "fragmented control frame")),
            _ if is_control && short_length > CONTROL_BYTES_MAX => {
                return Err(violation(1002, "control frame too long"));
            }
            OpCode::Binary => return Err(violation(1003, "binary frames are not supported")),
            OpCode::Text if self.fragments.is_some() => {
                return Err(violation(1002, "message inside an unfinished message"));
            }
            OpCode::Continuation if self.fragments.is_none() => {
                return Err(violation(1002, "continuation of nothing"));
            }
            _ => {}
        }
        let (length, length_bytes) = match (short_length, &buffer[2..]) {
            (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 2),
            (127, [a, b, c, d, e, f, g, h, ..]) => {
                let length = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
                (length, 8)
            }
            (126 | 127, _) => return Ok(None),
            (length, _) => (length as u64, 0),
        };
        let is_minimal = match length_bytes {
            0 => true,
            2 => length > 125,
            _ => length > 0xffff && length >> 63 == 0,
        };
        if !is_minimal {
            return Err(violation(1002, "length not in its shortest form"));
        }
        let so_far = self.fragments.as_ref().map_or(0, Vec::len);
        if !is_control && length > (MESSAGE_BYTES_MAX - so_far) as u64 {
            return Err(violation(1009, "message too large"));
        }
        let bytes = 2 + length_bytes + 4;
        let Some(payload) = buffer.get_mut(bytes - 4..bytes + length as usize) else {
            return Ok(None);
        };
        let (mask, payload) = payload.split_at_mut(4);
        unmask(payload, [mask[0], mask[1], mask[2], mask[3]]);
        Ok(Some((Head { fin, opcode, bytes }, payload)))
    }

    fn take(
        &mut self,
        head: &Head,
        payload: &mut [u8],
        receive: &mut impl FnMut(Message),
    ) -> Result<(), Violation> {
        match head.opcode {
            OpCode::Ping => receive(Message::Ping(payload)),
            OpCode::Pong => receive(Message::Pong),
            OpCode::Close => {
                let code = close_code(payload)?;
                self.closed = true;
                receive(Message::Close(code));
            }
            OpCode::Text if head.fin => receive(Message::Text(text(payload)?)),
            _ => {
                if self.fragments.is_none() {
                    self.fragment_count = 0;
                }
                self.fragment_count += 1;
                if self.fragment_count > FRAGMENTS_MAX {
                    return Err(violation(1009, "too many fragments"));
                }
                let fragments = self.fragments.get_or_insert_default();
                fragments.extend_from_slice(payload);
                if head.fin {
                    let whole = self.fragments.take().unwrap_or_default();
                    receive(Message::Text(text(&whole)?));
                }
            }
        }
        Ok(())
    }
}

struct Head {
    fin: bool,
    opcode: OpCode,
    /// The head's own length, mask included.
    bytes: usize,
}

fn text(payload: &[u8]) -> Result<&str, Violation> {
    std::str::from_utf8(payload).map_err(|_| violation(1007, "text is not UTF-8"))
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let [high, low, reason @ ..] = payload else {
        return match payload {
            [] => Ok(None),
            _ => Err(violation(1002, "close code cut short")),
        };
    };
    let code = u16::from_be_bytes([*high, *low]);
    if !CloseCode::from(code).is_allowed() {
        return Err(violation(1002, "invalid close code"));
    }
    text(reason)?;
    Ok(Some(code))
}

/// A whole text frame, shared by all its receivers.
pub fn text_frame(text: &str) -> Bytes {
    encode(OpCode::Text, text.as_bytes())
}

pub fn ping_frame() -> Bytes {
    Bytes::from_static(&[0x80 | OpCode::Ping as u8, 0])
}

pub fn pong_frame(payload: &[u8]) -> Bytes {
    encode(OpCode::Pong, payload)
}

/// `code` 1005 stands for a close frame without a code. A reason that does not fit the frame is cut
/// at a character.
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    if code == u16::from(CloseCode::Status) {
        return encode(OpCode::Close, &[]);
    }
    let reason = &reason[..reason.floor_char_boundary(CONTROL_BYTES_MAX - 2)];
    encode(
        OpCode::Close,
        &[&code.to_be_bytes(), reason.as_bytes()].concat(),
    )
}

fn encode(opcode: OpCode, payload: &[u8]) -> Bytes {
    let mut head = [0; 16];
    let mut frame = Frame::new(true, opcode, None, Payload::Borrowed(payload));
    let size = frame.fmt_head(&mut head);
    let mut bytes = Vec::with_capacity(size + payload.len());
    bytes.extend_from_slice(&head[..size]);
    bytes.extend_from_slice(payload);
    bytes.into()
}
