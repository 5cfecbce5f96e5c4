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
use handler::account::login_id::LoginId;
use once_cell::sync::OnceCell;
use tokio::net::TcpStream;

use crate::metrics::METRICS;
use crate::socket::close_reason::CloseReason;
use crate::socket::outgoing::{FlushTurn, FlushTurns, Outgoing};
use crate::socket::push_memory::{CLIENT_BYTES_MAX, PLACE_BYTES, PushMemory};

/// While more bytes than this wait for a socket, droppable pushes are dropped.
const DROP_BYTES: usize = 64 * 1024;
/// While more bytes of replies than this wait for a socket, its requests are not read, so that
/// replies cannot pile up. Pushes do not count: whoever gets too many can still leave.
pub(super) const PAUSE_READING_BYTES: usize = 16 * 1024;
/// More bytes than this do not wait until it is the socket's turn to be written to.
const WRITE_AT_ONCE_BYTES: usize = 256 * 1024;
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
    pub login: LoginId,
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

    /// Queues a push, and notes in `turn` that the socket waits to be flushed. Returns whether that
    /// is new. A droppable push is left out if more than `DROP_BYTES` wait already. A socket for which
    /// too many pushes wait is closed; if its client reads slowly, `memory` says how many these are.
    pub fn push(
        &self,
        frame: Bytes,
        is_droppable: bool,
        turn: FlushTurn,
        memory: &PushMemory,
    ) -> bool {
        let mut outgoing = self.outgoing();
        if is_droppable && outgoing.bytes() > DROP_BYTES {
            METRICS.drops.inc();
            return false;
        }
        METRICS.deliveries.inc();
        if outgoing.bytes() > WRITE_AT_ONCE_BYTES && !outgoing.is_blocked {
            self.write(&mut outgoing);
        }
        let (bytes_max, place) = match outgoing.is_blocked {
            true => (memory.client_bytes_max(), Some(memory.place())),
            false => (CLIENT_BYTES_MAX, None),
        };
        let bytes = outgoing.push_memory() + PLACE_BYTES + frame.len();
        if !outgoing.is_open() || bytes <= bytes_max {
            outgoing.add_push(frame, place);
            return outgoing.turns.add(turn);
        }
        outgoing.clear();
        close(&mut outgoing, CloseReason::TOO_SLOW);
        drop(outgoing);
        self.wake();
        true
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

    /// Closes a socket whose client does not read an answer. Nothing can follow an answer that is
    /// half written, so such a connection just ends.
    pub(super) fn give_up(&self) {
        let mut outgoing = self.outgoing();
        outgoing.clear();
        match outgoing.is_empty() {
            true => close(&mut outgoing, CloseReason::TOO_SLOW),
            false => {
                count_close(&outgoing, CloseReason::TOO_SLOW.code);
                outgoing.break_off();
            }
        }
        drop(outgoing);
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
        outgoing.turns = FlushTurns::default();
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
        !self.is_behind() && !self.is_finishing.load(Ordering::SeqCst)
    }

    /// Whether too many bytes of replies wait for the client. Those that were not written yet do not
    /// count: they may all be written at once, and then nothing would wake a task that waits for it.
    pub(super) fn is_behind(&self) -> bool {
        let outgoing = self.outgoing();
        outgoing.is_blocked && outgoing.reply_bytes() > PAUSE_READING_BYTES
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

    fn push(socket: &Socket, frame: impl Into<Bytes>, is_droppable: bool) -> bool {
        socket.push(
            frame.into(),
            is_droppable,
            FlushTurn::Soon,
            &PushMemory::default(),
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
    async fn only_replies_that_the_peer_does_not_take_hold_up_reading() {
        let (socket, peer) = connected().await;
        socket
            .outgoing()
            .add(vec![b'x'; PAUSE_READING_BYTES + 1].into());
        assert!(socket.may_read(), "they may be written at once");
        while !socket.outgoing().is_blocked {
            socket
                .outgoing()
                .add(vec![b'x'; PAUSE_READING_BYTES + 1].into());
            socket.flush();
        }
        assert!(!socket.may_read());
        drop(peer);
    }

    #[tokio::test]
    async fn too_many_pushes_are_replaced_by_a_close_frame() {
        let (socket, peer) = connected().await;
        for _ in 0..5 {
            push(&socket, vec![b'x'; 1024 * 1024], false);
        }
        push(&socket, "more", false);
        let bytes = received(socket, peer).await;
        // What has begun to leave is completed.
        let end = CloseReason::TOO_SLOW.frame();
        assert!(bytes.ends_with(&end));
        assert!(bytes.len() <= CLIENT_BYTES_MAX, "{}", bytes.len());
        assert_eq!(bytes.len() % (1024 * 1024), end.len());
    }

    #[tokio::test]
    async fn a_socket_waits_once_for_each_turn() {
        let (socket, _peer) = connected().await;
        let memory = PushMemory::default();
        let push = |turn| socket.push("push".into(), false, turn, &memory);
        for _ in 0..2 {
            assert!(push(FlushTurn::InCrowd));
            assert!(!push(FlushTurn::InCrowd));
            // A push from a small conversation does not wait for the crowd.
            assert!(push(FlushTurn::Soon));
            assert!(!push(FlushTurn::Soon));
            socket.flush();
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_not_read_is_given_up() {
        let (socket, peer) = connected().await;
        socket.outgoing().add(vec![b'x'; 20 * 1024 * 1024].into());
        socket.flush();
        assert!(socket.is_behind());
        socket.give_up();
        assert!(!socket.is_behind() && socket.outgoing().is_broken());
        assert!(received(socket, peer).await.len() < 20 * 1024 * 1024);
        // If nothing has left yet, the client hears why.
        let (socket, peer) = connected().await;
        socket.outgoing().add(vec![b'x'; 1024].into());
        socket.give_up();
        assert_eq!(received(socket, peer).await, CloseReason::TOO_SLOW.frame());
    }

    #[tokio::test]
    async fn who_reads_slowly_may_have_less_waiting() {
        let (socket, peer) = connected().await;
        let memory = PushMemory::default();
        let others = memory.frame(&"x".repeat(64 * 1024 * 1024));
        let push = || {
            let frame = vec![b'x'; 64 * 1024].into();
            socket.push(frame, false, FlushTurn::Soon, &memory)
        };
        while !socket.outgoing().is_blocked {
            push();
            socket.flush();
        }
        assert!(socket.is_open(), "it was closed before it was slow");
        push();
        assert!(!socket.is_open());
        drop((peer, others));
    }

    #[tokio::test]
    async fn small_pushes_count_with_their_places() {
        let (socket, peer) = connected().await;
        let memory = PushMemory::default();
        while !socket.outgoing().is_blocked {
            push(&socket, vec![b'x'; 64 * 1024], false);
            socket.flush();
        }
        let mut pushes = 0;
        while socket.is_open() {
            socket.push("x".into(), false, FlushTurn::Soon, &memory);
            pushes += 1;
        }
        assert!(pushes < CLIENT_BYTES_MAX / PLACE_BYTES, "{pushes}");
        assert_eq!(
            memory.client_bytes_max(),
            CLIENT_BYTES_MAX,
            "all is given back"
        );
        drop(peer);
    }

    #[tokio::test]
    async fn droppable_pushes_are_for_sockets_that_keep_up() {
        let (socket, peer) = connected().await;
        let long = vec![b'x'; DROP_BYTES + 1];
        push(&socket, "first", true);
        push(&socket, long.clone(), false);
        push(&socket, "dropped", true);
        push(&socket, "last", false);
        let bytes = received(socket, peer).await;
        assert!(bytes == [&b"first"[..], &long, b"last"].concat());
    }

    #[tokio::test]
    async fn a_close_frame_is_the_last_and_is_not_lost_to_further_pushes() {
        let (socket, peer) = connected().await;
        let long = vec![b'x'; CLIENT_BYTES_MAX - PLACE_BYTES];
        push(&socket, long.clone(), false);
        socket.close(CloseReason::SHUTTING_DOWN);
        push(&socket, "more", false);
        let bytes = received(socket, peer).await;
        assert!(bytes == [long, CloseReason::SHUTTING_DOWN.frame().to_vec()].concat());
    }
}
