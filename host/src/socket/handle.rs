//! One WebSocket as other modules see it: they queue frames for it and close it.
//!
//! An idle socket owns no buffers: input is read into a buffer of the thread, and the queue of
//! outgoing frames owns memory only while it has some.

use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{self, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use once_cell::sync::OnceCell;
use tokio::net::TcpStream;

use crate::metrics::METRICS;
use crate::socket::close_reason::CloseReason;
use crate::socket::outgoing::Outgoing;

/// Bytes of pushes that may wait for one socket. A socket with more is closed with 1013.
pub const PUSH_BYTES_QUEUED_MAX: usize = 4 * 1024 * 1024;
/// While more bytes than this wait for a socket, droppable pushes are dropped.
const DROP_BYTES: usize = 64 * 1024;
/// While more bytes than this wait for a socket, its requests are not read, so that replies cannot
/// pile up.
pub(super) const PAUSE_READING_BYTES: usize = 256 * 1024;
/// Unsent bytes that the system may hold for a socket. The rest waits here, where it is counted,
/// and each piece of this size that a slow peer takes counts as a sign of life.
const UNSENT_BYTES: u32 = 64 * 1024;
/// Frames handed to the system in one write.
const SLICES_MAX: usize = 64;

/// A connection after the handshake, shared by its own task and the registry.
pub struct Socket {
    pub id: u64,
    pub(super) stream: TcpStream,
    outgoing: Mutex<Outgoing>,
    /// Wakes the socket's task if the peer is slow, the socket was closed, or a reply has come that
    /// the task waits for.
    task: AtomicWaker,
    is_woken: AtomicBool,
    /// Requests handed to the writer whose replies are not queued yet.
    pub(super) unanswered: AtomicU32,
    /// The task waits for `unanswered` to fall.
    is_waiting: AtomicBool,
    /// Something was received since the last ping.
    pub(super) is_heard: AtomicBool,
    /// No further requests are read.
    pub(super) is_finishing: AtomicBool,
    pub(super) user: OnceCell<User>,
}

/// The user of a socket.
#[derive(Clone)]
pub struct User {
    pub id: i64,
    pub name: Arc<str>,
}

impl Socket {
    pub fn new(id: u64, stream: TcpStream) -> Self {
        let options = socket2::SockRef::from(&stream);
        if let Err(error) = options.set_tcp_notsent_lowat(UNSENT_BYTES) {
            tracing::debug!(%error, "TCP_NOTSENT_LOWAT");
        }
        Socket {
            id,
            stream,
            outgoing: Mutex::default(),
            task: AtomicWaker::new(),
            is_woken: AtomicBool::new(false),
            unanswered: AtomicU32::new(0),
            is_waiting: AtomicBool::new(false),
            is_heard: AtomicBool::new(true),
            is_finishing: AtomicBool::new(false),
            user: OnceCell::new(),
        }
    }

    /// `None` until it is known.
    pub fn user(&self) -> Option<&User> {
        self.user.get()
    }

    /// Queues a push. A droppable push is left out if more than `DROP_BYTES` wait already. A socket
    /// for which too many pushes wait is closed.
    pub fn push(&self, frame: Bytes, is_droppable: bool) {
        let mut outgoing = self.outgoing();
        if is_droppable && outgoing.bytes() > DROP_BYTES {
            METRICS.drops.inc();
            return;
        }
        METRICS.deliveries.inc();
        if !outgoing.is_open() || outgoing.push_bytes() + frame.len() <= PUSH_BYTES_QUEUED_MAX {
            outgoing.add_push(frame);
            return;
        }
        outgoing.clear();
        close(&mut outgoing, CloseReason::TOO_SLOW);
        drop(outgoing);
        self.wake();
    }

    /// Queues the reply to a request that was handed to the writer.
    pub fn answer(&self, frame: Bytes) {
        self.outgoing().add(frame);
        self.unanswered.fetch_sub(1, Ordering::SeqCst);
        if self.is_waiting.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Queues a close frame behind the queued frames.
    pub fn close(&self, reason: CloseReason) {
        close(&mut self.outgoing(), reason);
        self.wake();
    }

    /// The peer has closed its side without a close frame: what is queued is still written.
    pub(super) fn end(&self) {
        let mut outgoing = self.outgoing();
        count_close(&outgoing, LOST);
        outgoing.end();
    }

    /// Lets the task answer what it has read, and close.
    pub fn finish(&self) {
        self.is_finishing.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Queues a ping; from now on `was_heard_since_ping` is about this ping.
    pub fn ping(&self, frame: Bytes) {
        self.is_heard.store(false, Ordering::Relaxed);
        self.outgoing().add(frame);
    }

    pub fn was_heard_since_ping(&self) -> bool {
        self.is_heard.load(Ordering::Relaxed)
    }

    /// Writes what is queued, as far as the system accepts it without waiting; the task writes the
    /// rest.
    pub fn flush(&self) {
        let mut outgoing = self.outgoing();
        if !outgoing.is_blocked {
            self.write(&mut outgoing);
        }
    }

    fn write(&self, outgoing: &mut Outgoing) {
        outgoing.is_blocked = false;
        while !outgoing.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = outgoing.slices(&mut slices);
            let written = match &slices[..count] {
                [slice] => self.stream.try_write(slice),
                slices => self.stream.try_write_vectored(slices),
            };
            match written {
                Ok(bytes) => outgoing.advance(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    outgoing.is_blocked = true;
                    self.wake();
                    return;
                }
                Err(_) => {
                    // The peer is gone; the task sees the same and ends.
                    count_close(outgoing, LOST);
                    outgoing.break_off();
                    self.wake();
                }
            }
        }
    }

    pub(super) fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        // A panic under this lock can have damaged only this socket's own frames.
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_open(&self) -> bool {
        self.outgoing().is_open()
    }

    pub(super) fn may_read(&self) -> bool {
        self.outgoing().bytes() <= PAUSE_READING_BYTES && !self.is_finishing.load(Ordering::SeqCst)
    }

    fn wake(&self) {
        self.is_woken.store(true, Ordering::SeqCst);
        self.task.wake();
    }

    /// Waits until the task is woken or the system accepts what was blocked. Only the socket's own
    /// task waits.
    pub(super) async fn changed(&self) {
        poll_fn(|cx| self.poll_changed(cx)).await;
    }

    pub(super) fn poll_changed(&self, cx: &mut task::Context) -> Poll<()> {
        self.task.register(cx.waker());
        if self.is_woken.swap(false, Ordering::SeqCst) {
            return Poll::Ready(());
        }
        let is_blocked = self.outgoing().is_blocked;
        if is_blocked && self.stream.poll_write_ready(cx).is_ready() {
            // The system has room again, so the peer reads, however slowly it answers pings.
            self.is_heard.store(true, Ordering::Relaxed);
            self.write(&mut self.outgoing());
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Waits until at most `max` requests are unanswered.
    pub(super) async fn answered_down_to(&self, max: u32) {
        self.is_waiting.store(true, Ordering::SeqCst);
        while self.unanswered.load(Ordering::SeqCst) > max && self.is_open() {
            self.changed().await;
        }
        self.is_waiting.store(false, Ordering::SeqCst);
    }
}

/// RFC 6455 section 7.4.1: the connection ended without a close frame.
const LOST: u16 = 1006;

fn close(outgoing: &mut Outgoing, reason: CloseReason) {
    count_close(outgoing, reason.code);
    outgoing.close(reason.frame());
}

/// Only the first of several reasons counts. A client may choose any code above 2999.
fn count_close(outgoing: &Outgoing, code: u16) {
    if outgoing.is_open() {
        let code = match code {
            ..3000 | 4000 => code.to_string(),
            _ => "other".to_owned(),
        };
        METRICS.socket_closes.with_label_values(&[&code]).inc();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    /// A socket whose peer reads nothing until it is told to.
    async fn connected() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (peer, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (
            Socket::new(1, accepted.expect("accepted").0),
            peer.expect("connected"),
        )
    }

    /// What the peer gets if it reads to the end.
    async fn received(socket: Socket, mut peer: TcpStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        let written = async {
            socket.flush();
            while !socket.outgoing().is_empty() {
                socket.changed().await;
            }
            drop(socket);
        };
        let (_, read) = tokio::join!(written, peer.read_to_end(&mut bytes));
        read.expect("read");
        bytes
    }

    #[tokio::test]
    async fn too_many_pushes_are_replaced_by_a_close_frame() {
        let (socket, peer) = connected().await;
        for _ in 0..5 {
            socket.push(vec![b'x'; 1024 * 1024].into(), false);
        }
        socket.push("more".into(), false);
        let bytes = received(socket, peer).await;
        assert_eq!(bytes, CloseReason::TOO_SLOW.frame());
    }

    #[tokio::test]
    async fn droppable_pushes_are_for_sockets_that_keep_up() {
        let (socket, peer) = connected().await;
        let long = vec![b'x'; DROP_BYTES + 1];
        socket.push("first".into(), true);
        socket.push(long.clone().into(), false);
        socket.push("dropped".into(), true);
        socket.push("last".into(), false);
        let bytes = received(socket, peer).await;
        assert!(bytes == [&b"first"[..], &long, b"last"].concat());
    }

    #[tokio::test]
    async fn a_close_frame_is_the_last_and_is_not_lost_to_further_pushes() {
        let (socket, peer) = connected().await;
        let push = vec![b'x'; PUSH_BYTES_QUEUED_MAX];
        socket.push(push.clone().into(), false);
        socket.close(CloseReason::SHUTTING_DOWN);
        socket.push("more".into(), false);
        let bytes = received(socket, peer).await;
        assert!(bytes == [push, CloseReason::SHUTTING_DOWN.frame().to_vec()].concat());
    }
}
