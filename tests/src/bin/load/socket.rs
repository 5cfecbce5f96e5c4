//! A WebSocket client that does no more than it must: it shares the machine with the host.

use std::net::SocketAddr;

use anyhow::{bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Frames with a mask of zeros, whole frames back.
pub struct Socket {
    pub source: Source,
    pub sink: OwnedWriteHalf,
}

impl Socket {
    pub async fn connect(address: SocketAddr, cookie: &str) -> anyhow::Result<Self> {
        Self::connect_with(address, &format!("Cookie: {cookie}\r\n")).await
    }

    /// `headers`: lines of the handshake.
    pub async fn connect_with(address: SocketAddr, headers: &str) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let handshake = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\n{headers}Connection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(handshake.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await?);
        }
        ensure!(
            answer.starts_with(b"HTTP/1.1 101"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        let (stream, sink) = stream.into_split();
        let source = Source {
            stream,
            input: Vec::new(),
            head: 0,
            taken: 0,
        };
        Ok(Socket { source, sink })
    }

    pub async fn send(&mut self, text: &str) -> anyhow::Result<()> {
        self.sink.write_all(&frame(TEXT, text.as_bytes())).await?;
        Ok(())
    }

    /// The payload of the next text frame; answers pings.
    pub async fn receive(&mut self) -> anyhow::Result<&[u8]> {
        loop {
            match self.source.next().await? {
                TEXT => return Ok(self.source.payload()),
                PING => self.sink.write_all(&frame(PONG, b"")).await?,
                _ => bail!("the host sent {:?}", self.source.text()),
            }
        }
    }
}

/// Opcodes, with the bit of the last fragment.
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

/// What comes from the host.
pub struct Source {
    stream: OwnedReadHalf,
    input: Vec<u8>,
    /// Bytes at the start of `input` that belong to the frame returned last, and those of them before its payload.
    taken: usize,
    head: usize,
}

impl Source {
    /// The first byte of the next frame, which `payload` has.
    pub async fn next(&mut self) -> anyhow::Result<u8> {
        self.input.drain(..self.taken);
        self.taken = 0;
        loop {
            let found = match self.input[..] {
                [first, length @ ..=125, ..] => Some((first, 2, usize::from(length))),
                [first, 126, a, b, ..] => Some((first, 4, usize::from(u16::from_be_bytes([a, b])))),
                [first, 127, _, _, _, _, a, b, c, d, ..] => {
                    Some((first, 10, u32::from_be_bytes([a, b, c, d]) as usize))
                }
                _ => None,
            };
            match found {
                Some((first, head, length)) if self.input.len() >= head + length => {
                    (self.head, self.taken) = (head, head + length);
                    return Ok(first);
                }
                _ => {
                    let read = self.stream.read_buf(&mut self.input).await?;
                    ensure!(read > 0, "the host closed the connection");
                }
            }
        }
    }

    pub fn payload(&self) -> &[u8] {
        &self.input[self.head..self.taken]
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(self.payload()).into_owned()
    }
}
