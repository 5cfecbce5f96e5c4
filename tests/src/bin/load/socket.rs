//! A WebSocket client that does no more than it must: it shares the machine with the host.

use std::net::SocketAddr;

use anyhow::{bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Frames with a mask of zeros, whole text frames back.
pub struct Socket {
    stream: TcpStream,
    input: Vec<u8>,
    /// Bytes at the start of `input` that belong to the frame returned last.
    taken: usize,
}

impl Socket {
    pub async fn connect(address: SocketAddr, cookie: &str) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let handshake = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\nConnection: Upgrade\r\n\
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
        Ok(Socket {
            stream,
            input: Vec::new(),
            taken: 0,
        })
    }

    pub async fn send(&mut self, text: &str) -> anyhow::Result<()> {
        let mut frame = vec![0x81];
        match text.len() {
            length @ ..=125 => frame.push(0x80 | length as u8),
            length @ ..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => bail!("{length} bytes are too many for this client"),
        }
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.stream.write_all(&frame).await?;
        Ok(())
    }

    /// The payload of the next text frame; answers pings.
    pub async fn receive(&mut self) -> anyhow::Result<&[u8]> {
        self.input.drain(..self.taken);
        self.taken = 0;
        loop {
            let (opcode, head, length) = match self.input[..] {
                [first, length @ ..=125, ..] => (first & 15, 2, usize::from(length)),
                [first, 126, high, low, ..] => {
                    (first & 15, 4, usize::from(u16::from_be_bytes([high, low])))
                }
                [_, 127, ..] => bail!("a frame of more than 64 KiB"),
                _ => (0, 0, usize::MAX),
            };
            if length == usize::MAX || self.input.len() < head + length {
                let read = self.stream.read_buf(&mut self.input).await?;
                ensure!(read > 0, "the host closed the socket");
                continue;
            }
            match opcode {
                1 => {
                    self.taken = head + length;
                    return Ok(&self.input[head..head + length]);
                }
                9 => {
                    self.stream.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await?;
                    self.input.drain(..head + length);
                }
                _ => bail!("the host sent {:?}", String::from_utf8_lossy(&self.input)),
            }
        }
    }
}
