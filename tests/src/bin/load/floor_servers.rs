//! What sockets are measured against: servers, in processes of their own, that only read and write.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use crate::frame::host_frame;

/// This program, started again as one of the floors. It ends when this value is dropped.
pub struct FloorServer {
    pub address: SocketAddr,
    child: Child,
}

impl FloorServer {
    pub fn start(arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().context("piped")?;
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().parse();
        Ok(FloorServer {
            address: address.with_context(|| format!("no address of a floor: {line:?}"))?,
            child,
        })
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for FloorServer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Args)]
pub struct FloorWrites {
    sockets: usize,
    /// Sockets of a group.
    members: usize,
    payload_bytes: usize,
}

#[derive(Args)]
pub struct FloorEcho {
    sockets: usize,
    request_bytes: usize,
    payload_bytes: usize,
}

fn listen() -> Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    // All sockets connect at once.
    socket.listen(4096)?;
    let listener = TcpListener::from(socket);
    println!("{}", listener.local_addr()?);
    Ok(listener)
}

/// Uses one thread. For each group named on the control connection, it writes a frame to each of
/// the group's sockets, in a write of its own.
pub fn floor_writes(arguments: &FloorWrites) -> Result<()> {
    let FloorWrites {
        sockets,
        members,
        payload_bytes,
    } = *arguments;
    let listener = listen()?;
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    streams.resize_with(sockets, || None);
    let mut control = None;
    for _ in 0..=sockets {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut index = [0; 4];
        stream.read_exact(&mut index)?;
        match u32::from_le_bytes(index) {
            u32::MAX => control = Some(stream),
            index => streams[index as usize] = Some(stream),
        }
    }
    let mut control = control.context("no control connection")?;
    let streams: Option<Vec<_>> = streams.into_iter().collect();
    let streams = streams.context("a socket connected twice")?;
    let frame = host_frame(payload_bytes);
    let (mut buffer, mut held) = (vec![0; 4096], 0);
    loop {
        let count = control.read(&mut buffer[held..])?;
        if count == 0 {
            return Ok(());
        }
        held += count;
        for group in buffer[..held - held % 2].chunks_exact(2) {
            let group = usize::from(u16::from_le_bytes([group[0], group[1]]));
            for mut stream in &streams[group * members..(group + 1) * members] {
                stream.write_all(&frame)?;
            }
        }
        buffer.copy_within(held - held % 2..held, 0);
        held %= 2;
    }
}

/// Uses one thread for each core. It answers each request, recognised by its length, with a frame;
/// all requests that have arrived at once are answered in one write.
pub fn floor_echo(arguments: &FloorEcho) -> Result<()> {
    let listener = listen()?;
    let threads = std::thread::available_parallelism()?.get();
    let mut shares: Vec<Vec<TcpStream>> = Vec::new();
    shares.resize_with(threads, Vec::new);
    for index in 0..arguments.sockets {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        shares[index % threads].push(stream);
    }
    let (request_bytes, frame) = (arguments.request_bytes, host_frame(arguments.payload_bytes));
    let frame = &frame;
    std::thread::scope(|scope| {
        let running: Vec<_> = shares
            .into_iter()
            .map(|share| scope.spawn(move || echo(share, request_bytes, frame)))
            .collect();
        let mut ended = running.into_iter().map(|thread| thread.join());
        ended.try_for_each(|ended| ended.unwrap_or_else(|_| anyhow::bail!("a thread panicked")))
    })
}

fn echo(streams: Vec<TcpStream>, request_bytes: usize, frame: &[u8]) -> Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    for (index, stream) in streams.iter().enumerate() {
        epoll::add(
            &epoll,
            stream,
            EventData::new_u64(index as u64),
            EventFlags::IN,
        )?;
    }
    let mut held = vec![0; streams.len()];
    let mut buffer = vec![0; 64 * 1024];
    let mut ready = Vec::with_capacity(1024);
    while !streams.is_empty() {
        ready.clear();
        match epoll::wait(&epoll, spare_capacity(&mut ready), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &ready {
            let data = event.data;
            let index = data.u64() as usize;
            let mut stream = &streams[index];
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => held[index] += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            let frames = frame.repeat(held[index] / request_bytes);
            held[index] %= request_bytes;
            // One write is enough: there are few frames, and the other side reads.
            let sent = stream.write(&frames)?;
            ensure!(sent == frames.len(), "the other side does not read");
        }
    }
    Ok(())
}
