//! A WebSocket client that does no more than it must, because it shares the machine with the host.

use std::net::SocketAddr;

use anyhow::{bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::frame::{PING, PONG, TEXT, frame, head};

/// Sends frames with a mask of zeros, and returns whole frames.
pub struct Socket {
    pub source: Source,
    pub sink: OwnedWriteHalf,
}

impl Socket {
    pub async fn connect(address: SocketAddr, cookie: &str) -> anyhow::Result<Self> {
        Self::connect_with(address, &format!("Cookie: {cookie}\r\n")).await
    }

    /// Connects with these lines of headers in the handshake.
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

    /// The payload of the next text frame. Pings are answered meanwhile.
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

/// The host's side of the connection.
pub struct Source {
    stream: OwnedReadHalf,
    input: Vec<u8>,
    /// `taken`: bytes at the start of `input` that belong to the frame returned last. `head`: those
    /// of them before its payload.
    taken: usize,
    head: usize,
}

impl Source {
    /// Reads the next frame; returns its first byte. `payload` has the rest.
    pub async fn next(&mut self) -> anyhow::Result<u8> {
        self.input.drain(..self.taken);
        self.taken = 0;
        loop {
            match head(&self.input) {
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

    /// Reads and forgets at most this many bytes, whatever they are.
    pub async fn discard(&mut self, bytes: usize) -> anyhow::Result<()> {
        let mut input = vec![0; bytes];
        if bytes > 0 {
            ensure!(
                self.stream.read(&mut input).await? > 0,
                "the host closed the connection"
            );
        }
        Ok(())
    }

    pub fn payload(&self) -> &[u8] {
        &self.input[self.head..self.taken]
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(self.payload()).into_owned()
    }
}
