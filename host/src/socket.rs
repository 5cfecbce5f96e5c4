//! One WebSocket, as others see it: frames are queued for it, and it is closed.
//!
//! Nothing is held for an idle socket but its entry: input is read into a buffer of the thread, and the queue owns
//! memory only while it has frames.

mod session;

use std::borrow::Cow;
use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{self, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio::net::TcpStream;

use crate::frame::{self, Violation};
use crate::metrics::METRICS;
use crate::queue::Queue;
pub use session::{Departure, Session, Visitor, refuse};

/// Bytes of pushes that may wait for one socket. One that passes it is closed with 1013.
pub const PUSH_BYTES_QUEUED_MAX: usize = 4 * 1024 * 1024;
/// While more bytes than this wait for a socket, droppable pushes are dropped.
const DROP_BYTES: usize = 64 * 1024;
/// While more bytes than this wait for a socket, its requests are not read: replies cannot pile up.
const PAUSE_READING_BYTES: usize = 256 * 1024;
/// Bytes that the system may hold for a socket before they can be sent. The rest waits here, where it is counted, and every
/// piece of this size that a slow peer takes is seen as a sign of life.
const UNSENT_BYTES: u32 = 64 * 1024;
/// Frames handed to the system in one write.
const SLICES_MAX: usize = 64;

/// Code and reason of a close frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseReason {
    pub code: u16,
    pub text: Cow<'static, str>,
}

impl CloseReason {
    const SHUTTING_DOWN: Self = Self::fixed(1001, "server is shutting down");
    const TOO_SLOW: Self = Self::fixed(1013, "too slow");
    pub const FLOOD: Self = Self::fixed(1008, "rate limit");
    const MESSAGE_TOO_SLOW: Self = Self::fixed(1008, "message took too long");
    const INTERNAL: Self = Self::fixed(1011, "internal error");
    pub const UNAVAILABLE: Self = Self::fixed(1013, "the server is busy, try again later");
    pub const TOO_MANY_OF_USER: Self = Self::fixed(1008, "too many sockets of this user");
    pub const TOO_MANY_OF_ADDRESS: Self = Self::fixed(1013, "too many sockets from this address");
    pub const SESSION_ENDED: Self = Self::fixed(1008, "session ended");
    pub const NO_ANSWER_TO_PING: Self = Self::fixed(4000, "no answer to ping");

    fn frame(&self) -> Bytes {
        frame::close_frame(self.code, &self.text)
    }

    const fn fixed(code: u16, text: &'static str) -> Self {
        CloseReason {
            code,
            text: Cow::Borrowed(text),
        }
    }

    /// As the first backend closes a socket whose login does not hold.
    pub fn refused(text: String) -> Self {
        CloseReason {
            code: 1000,
            text: text.into(),
        }
    }
}

impl From<Violation> for CloseReason {
    fn from(violation: Violation) -> Self {
        Self::fixed(violation.code, violation.reason)
    }
}

/// A connection after the handshake, shared by its own task and the registry.
pub struct Socket {
    pub id: u64,
    stream: TcpStream,
    queue: Mutex<Queue>,
    /// The socket's task; it has something to look at: the peer is slow, the socket was closed, or an answer has come that
    /// it waits for.
    task: AtomicWaker,
    is_woken: AtomicBool,
    /// Requests handed to the writer whose replies are not queued yet.
    unanswered: AtomicU32,
    /// The task waits for `unanswered` to fall.
    is_waiting: AtomicBool,
    /// Something was received since the last ping.
    is_heard: AtomicBool,
    /// No further requests are read.
    is_finishing: AtomicBool,
    user: OnceLock<User>,
}

/// Whose socket it is.
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
            queue: Mutex::default(),
            task: AtomicWaker::new(),
            is_woken: AtomicBool::new(false),
            unanswered: AtomicU32::new(0),
            is_waiting: AtomicBool::new(false),
            is_heard: AtomicBool::new(true),
            is_finishing: AtomicBool::new(false),
            user: OnceLock::new(),
        }
    }

    /// `None` until it is known.
    pub fn user(&self) -> Option<&User> {
        self.user.get()
    }

    /// Queues a push. A droppable one is left out where others wait already; a socket for which too many wait is closed.
    pub fn push(&self, frame: Bytes, is_droppable: bool) {
        let mut queue = self.queue();
        if is_droppable && queue.bytes() > DROP_BYTES {
            METRICS.drops.inc();
            return;
        }
        METRICS.deliveries.inc();
        if !queue.is_open() || queue.push_bytes() + frame.len() <= PUSH_BYTES_QUEUED_MAX {
            queue.add_push(frame);
            return;
        }
        queue.clear();
        close(&mut queue, CloseReason::TOO_SLOW);
        drop(queue);
        self.wake();
    }

    /// Queues the reply to a request that was handed to the writer.
    pub fn answer(&self, frame: Bytes) {
        self.queue().add(frame);
        self.unanswered.fetch_sub(1, Ordering::SeqCst);
        if self.is_waiting.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Queues a close frame behind what is queued.
    pub fn close(&self, reason: CloseReason) {
        close(&mut self.queue(), reason);
        self.wake();
    }

    /// The peer has closed its side without a frame: what waits is still written.
    fn end(&self) {
        let mut queue = self.queue();
        count_close(&queue, LOST);
        queue.end();
    }

    /// Lets the task answer what it has read, and close.
    pub fn finish(&self) {
        self.is_finishing.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Queues a ping; `was_heard_since_ping` is about the time from now on.
    pub fn ping(&self, frame: Bytes) {
        self.is_heard.store(false, Ordering::Relaxed);
        self.queue().add(frame);
    }

    pub fn was_heard_since_ping(&self) -> bool {
        self.is_heard.load(Ordering::Relaxed)
    }

    /// Writes what is queued, as far as the system takes it without waiting; the task writes the rest.
    pub fn flush(&self) {
        let mut queue = self.queue();
        if !queue.is_blocked {
            self.write(&mut queue);
        }
    }

    fn write(&self, queue: &mut Queue) {
        queue.is_blocked = false;
        while !queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = queue.slices(&mut slices);
            let written = match &slices[..count] {
                [slice] => self.stream.try_write(slice),
                slices => self.stream.try_write_vectored(slices),
            };
            match written {
                Ok(bytes) => queue.advance(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    queue.is_blocked = true;
                    self.wake();
                    return;
                }
                Err(_) => {
                    // The peer is gone; the task sees the same and ends.
                    count_close(queue, LOST);
                    queue.break_off();
                    self.wake();
                }
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // A panic while it was held cannot have broken more than this socket's own frames.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_open(&self) -> bool {
        self.queue().is_open()
    }

    fn may_read(&self) -> bool {
        self.queue().bytes() <= PAUSE_READING_BYTES && !self.is_finishing.load(Ordering::SeqCst)
    }

    fn wake(&self) {
        self.is_woken.store(true, Ordering::SeqCst);
        self.task.wake();
    }

    /// Waits until something has changed: it was woken, or the system took what was blocked. Only the socket's own task waits.
    async fn changed(&self) {
        poll_fn(|cx| self.poll_changed(cx)).await;
    }

    fn poll_changed(&self, cx: &mut task::Context) -> Poll<()> {
        self.task.register(cx.waker());
        if self.is_woken.swap(false, Ordering::SeqCst) {
            return Poll::Ready(());
        }
        let is_blocked = self.queue().is_blocked;
        if is_blocked && self.stream.poll_write_ready(cx).is_ready() {
            // The system had no room and has again: the peer reads, however slowly it answers pings.
            self.is_heard.store(true, Ordering::Relaxed);
            self.write(&mut self.queue());
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Waits until at most `max` requests are unanswered.
    async fn answered_down_to(&self, max: u32) {
        self.is_waiting.store(true, Ordering::SeqCst);
        while self.unanswered.load(Ordering::SeqCst) > max && self.is_open() {
            self.changed().await;
        }
        self.is_waiting.store(false, Ordering::SeqCst);
    }
}

/// RFC 6455 section 7.4.1: the connection ended without a close frame.
const LOST: u16 = 1006;

fn close(queue: &mut Queue, reason: CloseReason) {
    count_close(queue, reason.code);
    queue.close(reason.frame());
}

/// Of several reasons the first one counts. A client may choose any code above 2999.
fn count_close(queue: &Queue, code: u16) {
    if queue.is_open() {
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
            while !socket.queue().is_empty() {
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
