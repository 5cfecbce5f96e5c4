//! All sockets of this program, on one thread. A message costs little more than its system calls
//! here, because the program shares the machine with the host.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use crate::frame::{CLOSE, PING, PONG, TEXT, frame, head, text};
use crate::tls::{Session, Tls};

/// What has not arrived after this time is lost.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// The most handshakes under way at once.
const HANDSHAKES: usize = 64;
const READ_BYTES: usize = 256 * 1024;

/// A running chat.
#[derive(Debug, Clone)]
pub struct Target {
    pub address: SocketAddr,
    /// The value of the `host` header.
    pub host: String,
    pub tls: Option<Tls>,
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Target {
            address,
            host: address.to_string(),
            tls: None,
        }
    }
}

/// Sockets by number. They are read and written only while `run` runs.
pub struct Swarm {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    /// Numbers of closed sockets, to be used again.
    free: Vec<usize>,
    closing: Vec<usize>,
    /// Sockets with something to send.
    unsent: Vec<usize>,
    ready: Vec<epoll::Event>,
    buffer: Vec<u8>,
    sources: Vec<Ipv4Addr>,
    opened: usize,
    now: Instant,
}

struct Connection {
    stream: Option<TcpStream>,
    tls: Option<Box<Session>>,
    /// Frames to send when the handshake is done; `None` afterwards.
    greeting: Option<Vec<u8>>,
    /// The beginning of a frame.
    input: Vec<u8>,
    output: Vec<u8>,
    is_listed: bool,
    is_waiting: bool,
    is_closing: bool,
}

impl Swarm {
    /// `sources` is the number of loopback addresses to connect from, in turn, if the target is
    /// this machine. Each has some 28,000 ports, and limits by address count each on its own.
    pub fn new(sources: usize) -> Result<Self> {
        Ok(Swarm {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            connections: Vec::new(),
            free: Vec::new(),
            closing: Vec::new(),
            unsent: Vec::new(),
            ready: Vec::with_capacity(1024),
            buffer: vec![0; READ_BYTES],
            sources: (0..sources as u32)
                .map(|index| Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 1 + index))
                .collect(),
            opened: 0,
            now: Instant::now(),
        })
    }

    /// The time when this program last checked for input.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Starts a WebSocket's handshake. `greeting` (frames) is sent when it is done.
    pub fn open(&mut self, target: &Target, cookie: &str, greeting: &[u8]) -> Result<usize> {
        let handshake = format!(
            "GET /ws HTTP/1.1\r\nHost: {}\r\nCookie: {cookie}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            target.host
        );
        let tls = target.tls.as_ref().map(Tls::session).transpose()?;
        self.connect(
            target.address,
            tls,
            Some(greeting.to_vec()),
            handshake.as_bytes(),
        )
    }

    /// Connects to a floor, which sends frames without a handshake.
    pub fn open_bare(&mut self, address: SocketAddr, first: &[u8]) -> Result<usize> {
        self.connect(address, None, None, first)
    }

    fn connect(
        &mut self,
        address: SocketAddr,
        tls: Option<Session>,
        greeting: Option<Vec<u8>>,
        first: &[u8],
    ) -> Result<usize> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::STREAM,
            None,
        )
        .context("no socket; is the limit of open files (ulimit -n) too low?")?;
        if let (IpAddr::V4(Ipv4Addr::LOCALHOST), false) = (address.ip(), self.sources.is_empty()) {
            let source = self.sources[self.opened % self.sources.len()];
            let bound = socket.bind(&SocketAddr::from((source, 0)).into());
            bound.with_context(|| format!("no port of {source} is free: try more --sources"))?;
        }
        self.opened += 1;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error).with_context(|| format!("connecting to {address}")),
        }
        let connection = Connection {
            stream: Some(socket.into()),
            tls: tls.map(Box::new),
            greeting,
            input: Vec::new(),
            output: Vec::new(),
            is_listed: false,
            is_waiting: false,
            is_closing: false,
        };
        let index = self.free.pop().unwrap_or(self.connections.len());
        epoll::add(
            &self.epoll,
            connection.stream.as_ref().context("just made")?,
            EventData::new_u64(index as u64),
            EventFlags::IN,
        )?;
        match index < self.connections.len() {
            true => self.connections[index] = connection,
            false => self.connections.push(connection),
        }
        self.send(index, first);
        Ok(index)
    }

    /// Opens a socket for each cookie, in their order, and waits until the host knows all of them.
    pub fn join<'a>(
        &mut self,
        sockets: impl IntoIterator<Item = (&'a Target, &'a str)>,
    ) -> Result<()> {
        ensure!(self.free.is_empty(), "sockets are numbered in their order");
        let ping = text(r#"{"type":"ping"}"#);
        let mut sockets = sockets.into_iter();
        let (mut opened, mut answered) = (0, 0);
        for (target, cookie) in sockets.by_ref().take(HANDSHAKES) {
            self.open(target, cookie, &ping)?;
            opened += 1;
        }
        while answered < opened {
            let before = answered;
            self.run(Instant::now() + PATIENCE, |swarm, _, payload| {
                ensure_pong(payload)?;
                answered += 1;
                if let Some((target, cookie)) = sockets.next() {
                    swarm.open(target, cookie, &ping)?;
                    opened += 1;
                }
                Ok(answered == opened)
            })?;
            ensure!(
                answered > before,
                "{} handshakes are not answered",
                opened - answered
            );
        }
        Ok(())
    }

    /// Queues frames for this socket. They are sent in one write when the present input of a socket
    /// has been handled.
    pub fn send(&mut self, index: usize, frames: &[u8]) {
        let connection = &mut self.connections[index];
        match &mut connection.tls {
            None => connection.output.extend_from_slice(frames),
            Some(tls) => tls.seal(frames, &mut connection.output),
        }
        if !connection.is_listed {
            connection.is_listed = true;
            self.unsent.push(index);
        }
    }

    /// Closes the socket. Nothing more is received from it.
    pub fn close(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !connection.is_closing {
            connection.is_closing = true;
            self.closing.push(index);
        }
    }

    /// Passes each received text frame (and frame of a floor) to `receive`, until that returns true
    /// because it has everything, or until the time is over. Returns whether `receive` has
    /// everything. Fails if the other side closes a socket.
    pub fn run(
        &mut self,
        until: Instant,
        mut receive: impl FnMut(&mut Swarm, usize, &[u8]) -> Result<bool>,
    ) -> Result<bool> {
        self.flush()?;
        loop {
            self.now = Instant::now();
            let left = until.saturating_duration_since(self.now);
            let mut ready = std::mem::take(&mut self.ready);
            ready.clear();
            let timeout = left.try_into().context("a time to wait")?;
            match epoll::wait(&self.epoll, spare_capacity(&mut ready), Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.now = Instant::now();
            let mut is_done = false;
            for event in &ready {
                let (flags, data) = (event.flags, event.data);
                let index = data.u64() as usize;
                if flags.contains(EventFlags::OUT) {
                    self.write(index)?;
                }
                if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                    is_done = self.read(index, &mut receive)?;
                    self.flush()?;
                }
                // Other events remain ready.
                if is_done {
                    break;
                }
            }
            self.ready = ready;
            if is_done || self.now >= until {
                return Ok(is_done);
            }
        }
    }

    /// Sends what is queued.
    pub fn flush(&mut self) -> Result<()> {
        for index in std::mem::take(&mut self.closing) {
            let connection = &mut self.connections[index];
            // A closed socket leaves the epoll by itself.
            connection.stream = None;
            connection.output.clear();
            self.free.push(index);
        }
        while let Some(index) = self.unsent.pop() {
            self.connections[index].is_listed = false;
            if !self.connections[index].is_waiting {
                self.write(index)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, index: usize) -> Result<()> {
        let connection = &mut self.connections[index];
        let Some(mut stream) = connection.stream.as_ref() else {
            return Ok(());
        };
        let mut sent = 0;
        while sent < connection.output.len() {
            match stream.write(&connection.output[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::NotConnected
                    ) =>
                {
                    break;
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("writing to socket {index}"));
                }
            }
        }
        connection.output.drain(..sent);
        let is_waiting = !connection.output.is_empty();
        if is_waiting != connection.is_waiting {
            connection.is_waiting = is_waiting;
            let flags = match is_waiting {
                true => EventFlags::IN | EventFlags::OUT,
                false => EventFlags::IN,
            };
            let data = EventData::new_u64(index as u64);
            epoll::modify(&self.epoll, stream, data, flags)?;
        }
        Ok(())
    }

    fn read(
        &mut self,
        index: usize,
        receive: &mut impl FnMut(&mut Swarm, usize, &[u8]) -> Result<bool>,
    ) -> Result<bool> {
        let connection = &mut self.connections[index];
        let Some(mut stream) = connection.stream.as_ref() else {
            return Ok(false);
        };
        let count = match stream.read(&mut self.buffer) {
            Ok(0) => bail!("the host closed socket {index}"),
            Ok(count) => count,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                return Ok(false);
            }
            Err(error) => {
                return Err(error).with_context(|| format!("reading from socket {index}"));
            }
        };
        let buffer = std::mem::take(&mut self.buffer);
        let mut opened = Vec::new();
        let bytes = match &mut connection.tls {
            None => &buffer[..count],
            Some(tls) => {
                tls.open(&buffer[..count], &mut opened)?;
                // Continue the handshake.
                self.send(index, b"");
                &opened
            }
        };
        let mut input = std::mem::take(&mut self.connections[index].input);
        let is_done;
        // A frame that arrives whole, as nearly all do, is not copied.
        match input.is_empty() {
            true => {
                let taken;
                (taken, is_done) = self.take(index, bytes, receive)?;
                input.extend_from_slice(&bytes[taken..]);
            }
            false => {
                input.extend_from_slice(bytes);
                let taken;
                (taken, is_done) = self.take(index, &input, receive)?;
                input.drain(..taken);
            }
        }
        self.buffer = buffer;
        self.connections[index].input = input;
        Ok(is_done)
    }

    /// Returns the number of bytes in whole frames, and whether `receive` has everything.
    fn take(
        &mut self,
        index: usize,
        bytes: &[u8],
        receive: &mut impl FnMut(&mut Swarm, usize, &[u8]) -> Result<bool>,
    ) -> Result<(usize, bool)> {
        let (mut taken, mut is_done) = (0, false);
        if self.connections[index].greeting.is_some() {
            let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else {
                return Ok((0, false));
            };
            taken = end + 4;
            let answer = String::from_utf8_lossy(&bytes[..taken]);
            ensure!(answer.starts_with("HTTP/1.1 101"), "no WebSocket: {answer}");
            if let Some(greeting) = self.connections[index].greeting.take() {
                self.send(index, &greeting);
            }
        }
        while let Some((first, head, length)) = head(&bytes[taken..]) {
            let Some(payload) = bytes.get(taken + head..taken + head + length) else {
                break;
            };
            taken += head + length;
            match first {
                _ if self.connections[index].is_closing => {}
                TEXT => is_done |= receive(self, index, payload)?,
                CLOSE => bail!(
                    "the host closed socket {index}: {}",
                    String::from_utf8_lossy(payload.get(2..).unwrap_or_default())
                ),
                PING => self.send(index, &frame(PONG, payload)),
                _ => bail!(
                    "the host sent socket {index} a frame {first:#x}: {}",
                    String::from_utf8_lossy(payload)
                ),
            }
        }
        Ok((taken, is_done))
    }
}

/// Fails unless this is the answer to a ping.
pub fn ensure_pong(payload: &[u8]) -> Result<()> {
    ensure!(
        payload == br#"{"type":"ping","success":true,"data":"pong"}"#,
        "not a pong: {}",
        String::from_utf8_lossy(payload)
    );
    Ok(())
}
