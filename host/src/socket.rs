//! One WebSocket: what others may do to it, and the task that reads its requests and answers them in order.
//!
//! Nothing is held for an idle socket but its entry: input is read into a buffer of the thread, and the queue owns
//! memory only while it has frames.

use std::cell::RefCell;
use std::io::{ErrorKind, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use handler::presence::{Connected, Disconnected};
use handler::{Access, Context, Error, Event, Outbox};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::Instrument;

use crate::clock;
use crate::frame::{self, Decoder, Message, Violation};
use crate::queue::Queue;
use crate::registry::Delivery;
use crate::store::Store;

/// Bytes of pushes that may wait for one socket. One that passes it is closed with 1013.
pub const PUSH_BYTES_QUEUED_MAX: usize = 4 * 1024 * 1024;
/// While more bytes than this wait for a socket, droppable pushes are dropped.
const DROP_BYTES: usize = 64 * 1024;
/// While more bytes than this wait for a socket, its requests are not read: replies cannot pile up.
const PAUSE_READING_BYTES: usize = 256 * 1024;
/// Bytes that the system may hold for a socket before they can be sent. The rest waits here, where it is counted, and every
/// piece of this size that a slow peer takes is seen as a sign of life.
const UNSENT_BYTES: u32 = 64 * 1024;
/// Writes of one socket that may be under way at once; its further requests wait.
const UNANSWERED_MAX: u32 = 32;
/// How long a closed socket may take to read its close frame and close its side.
const LINGER: Duration = Duration::from_secs(2);
/// Input is read in pieces of at most this many bytes.
const READ_BYTES: usize = 64 * 1024;
/// Frames handed to the system in one write.
const SLICES_MAX: usize = 64;

/// Code and reason of a close frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseReason {
    pub code: u16,
    pub text: std::borrow::Cow<'static, str>,
}

impl CloseReason {
    const SHUTTING_DOWN: Self = Self::fixed(1001, "server is shutting down");
    const TOO_SLOW: Self = Self::fixed(1013, "too slow");
    const UNAVAILABLE: Self = Self::fixed(1013, "the server is busy, try again later");
    pub const NO_ANSWER_TO_PING: Self = Self::fixed(4000, "no answer to ping");

    fn frame(&self) -> Bytes {
        frame::close_frame(self.code, &self.text)
    }

    const fn fixed(code: u16, text: &'static str) -> Self {
        CloseReason {
            code,
            text: std::borrow::Cow::Borrowed(text),
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
    /// Wakes the task: the peer is slow, the socket was closed, or an answer has come that the task waits for.
    wake: Notify,
    /// Requests handed to the writer whose replies are not queued yet.
    unanswered: AtomicU32,
    /// The task waits for `unanswered` to fall.
    is_waiting: AtomicBool,
    /// Something was received since the last ping.
    is_heard: AtomicBool,
    /// No further requests are read.
    is_finishing: AtomicBool,
    user_id: OnceLock<i64>,
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
            wake: Notify::new(),
            unanswered: AtomicU32::new(0),
            is_waiting: AtomicBool::new(false),
            is_heard: AtomicBool::new(true),
            is_finishing: AtomicBool::new(false),
            user_id: OnceLock::new(),
        }
    }

    /// 0 until it is known.
    pub fn user_id(&self) -> i64 {
        self.user_id.get().copied().unwrap_or_default()
    }

    /// Queues a push. A droppable one is left out where others wait already; a socket for which too many wait is closed.
    pub fn push(&self, frame: Bytes, is_droppable: bool) {
        let mut queue = self.queue();
        if is_droppable && queue.bytes() > DROP_BYTES {
            return;
        }
        if !queue.is_open() || queue.push_bytes() + frame.len() <= PUSH_BYTES_QUEUED_MAX {
            queue.add_push(frame);
            return;
        }
        queue.clear();
        queue.close(CloseReason::TOO_SLOW.frame());
        drop(queue);
        self.wake.notify_one();
    }

    /// Queues the reply to a request that was handed to the writer.
    pub fn answer(&self, frame: Bytes) {
        self.queue().add(frame);
        self.unanswered.fetch_sub(1, Ordering::SeqCst);
        if self.is_waiting.load(Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    /// Queues a close frame behind what is queued.
    pub fn close(&self, reason: CloseReason) {
        self.queue().close(reason.frame());
        self.wake.notify_one();
    }

    /// Lets the task answer what it has read, and close.
    pub fn finish(&self) {
        self.is_finishing.store(true, Ordering::SeqCst);
        self.wake.notify_one();
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
            match self.stream.try_write_vectored(&slices[..count]) {
                Ok(bytes) => queue.advance(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    queue.is_blocked = true;
                    self.wake.notify_one();
                    return;
                }
                Err(_) => {
                    // The peer is gone; the task sees the same and ends.
                    queue.break_off();
                    self.wake.notify_one();
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

    /// Waits until something has changed: it was woken, or the system took what was blocked.
    async fn changed(&self) {
        let is_blocked = self.queue().is_blocked;
        tokio::select! {
            () = self.wake.notified() => {}
            _ = self.stream.writable(), if is_blocked => {
                // The system had no room and has again: the peer reads, however slowly it answers pings.
                self.is_heard.store(true, Ordering::Relaxed);
                self.write(&mut self.queue());
            }
        }
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

/// Serves a socket from the handshake to its end. `username` is whose login token it came with, or why it is refused;
/// `unread` is what the client sent right behind its handshake.
pub async fn serve(
    socket: Arc<Socket>,
    username: Result<String, String>,
    unread: Bytes,
    store: Store,
) {
    let opened = match username {
        Ok(username) => open(&socket, username, &store).await,
        Err(refusal) => Err(CloseReason::refused(refusal)),
    };
    let mut decoder = Decoder::default();
    match opened {
        Err(reason) => socket.close(reason),
        Ok(caller) => {
            let task = Task {
                socket: &socket,
                store: &store,
                caller,
            };
            task.run(&mut decoder, unread).await;
            socket.flush();
            tokio::join!(task.disconnected(), linger(&socket, &mut decoder));
            return;
        }
    }
    socket.flush();
    linger(&socket, &mut decoder).await;
}

struct Caller {
    user_id: i64,
    username: Arc<str>,
}

/// Registers the socket, in commit order, under the user's id.
async fn open(
    socket: &Arc<Socket>,
    username: String,
    store: &Store,
) -> Result<Caller, CloseReason> {
    let ctx = Context::anonymous(clock::now());
    let operation = Connected {
        username: username.clone(),
        host_id: crate::HOST_ID,
    };
    let (done, opened) = oneshot::channel();
    let registered = socket.clone();
    let submitted = store.submit(ctx, operation, move |outcome, outbox| match outcome {
        Ok(session) => {
            let user_id = session.user_id;
            registered.user_id.get_or_init(|| user_id);
            let _ = done.send(Ok(user_id));
            Some(Delivery::opened(registered, session, outbox))
        }
        Err(error) => {
            let _ = done.send(Err(error));
            None
        }
    });
    let outcome = match submitted.await {
        Ok(()) => opened
            .await
            .unwrap_or(Err(Error::Internal("dropped".into()))),
        Err(error) => Err(error),
    };
    match outcome {
        Ok(user_id) => Ok(Caller {
            user_id,
            username: username.into(),
        }),
        Err(Error::NotFound(text)) => Err(CloseReason::refused(text)),
        Err(_) => Err(CloseReason::UNAVAILABLE),
    }
}

/// After the close frame: waits a bounded time for the peer to take it and to close its side, so that the frame is not
/// lost to a reset.
async fn linger(socket: &Socket, decoder: &mut Decoder) {
    let deadline = Instant::now() + LINGER;
    let (mut is_shut, mut peer_is_done) = (false, false);
    while !socket.queue().is_broken() {
        if !is_shut && socket.queue().is_empty() {
            is_shut = true;
            if rustix::net::shutdown(&socket.stream, rustix::net::Shutdown::Write).is_err() {
                return;
            }
        }
        if is_shut && peer_is_done {
            return;
        }
        let step = async {
            tokio::select! {
                _ = socket.stream.readable(), if !peer_is_done => {
                    matches!(receive(socket, decoder, |_| {}), Received::End)
                }
                () = socket.changed() => peer_is_done,
            }
        };
        match timeout_at(deadline, step).await {
            Ok(is_done) => peer_is_done = is_done,
            Err(_) => return,
        }
    }
}

/// What one read brought.
enum Received {
    Nothing,
    Messages,
    /// The peer sent a close frame: this one answers it.
    Closed,
    /// The peer is gone.
    End,
    Violation(Violation),
}

/// What a client asks for, free of the buffer it came in.
enum Request {
    Event(Event),
    Ping(Bytes),
    Close(Option<u16>),
}

thread_local! {
    static INPUT: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// Reads once, without waiting, and decodes in place.
fn receive(socket: &Socket, decoder: &mut Decoder, mut take: impl FnMut(Request)) -> Received {
    INPUT.with_borrow_mut(|buffer| match socket.stream.try_read(buffer) {
        Ok(0) => Received::End,
        Ok(bytes) => decode(socket, decoder, &mut buffer[..bytes], &mut take),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Received::Nothing,
        Err(_) => Received::End,
    })
}

fn decode(
    socket: &Socket,
    decoder: &mut Decoder,
    input: &mut [u8],
    take: &mut impl FnMut(Request),
) -> Received {
    socket.is_heard.store(true, Ordering::Relaxed);
    let mut is_closed = false;
    let decoded = decoder.feed(input, |message| match message {
        Message::Text(text) => take(Request::Event(Event::parse(text))),
        Message::Ping(payload) => take(Request::Ping(frame::pong_frame(payload))),
        Message::Pong => {}
        Message::Close(code) => {
            is_closed = true;
            take(Request::Close(code));
        }
    });
    match decoded {
        Err(violation) => Received::Violation(violation),
        Ok(()) if is_closed => Received::Closed,
        Ok(()) => Received::Messages,
    }
}

/// An open socket, from its registration to its close frame.
struct Task<'a> {
    socket: &'a Arc<Socket>,
    store: &'a Store,
    caller: Caller,
}

impl Task<'_> {
    async fn run(&self, decoder: &mut Decoder, unread: Bytes) {
        let socket = self.socket;
        if !unread.is_empty() {
            let mut requests = Vec::new();
            let received = decode(socket, decoder, &mut Vec::from(unread), &mut |request| {
                requests.push(request);
            });
            self.handle(requests, received).await;
        }
        while socket.is_open() {
            if socket.is_finishing.load(Ordering::SeqCst) {
                socket.answered_down_to(0).await;
                socket.close(CloseReason::SHUTTING_DOWN);
                return;
            }
            let may_read = socket.may_read();
            tokio::select! {
                _ = socket.stream.readable(), if may_read => {
                    let mut requests = Vec::new();
                    let received = receive(socket, decoder, |request| requests.push(request));
                    self.handle(requests, received).await;
                }
                () = socket.changed() => {}
            }
        }
    }

    /// Answers requests in their order, then what else the read has shown.
    async fn handle(&self, requests: Vec<Request>, received: Received) {
        let socket = self.socket;
        for request in requests {
            if !socket.is_open() {
                return;
            }
            match request {
                Request::Event(event) => {
                    let span = tracing::debug_span!(
                        "event",
                        socket = socket.id,
                        user = self.caller.user_id,
                        kind = event.envelope.kind
                    );
                    self.answer(event).instrument(span).await;
                }
                Request::Ping(pong) => socket.queue().add(pong),
                Request::Close(code) => {
                    socket.answered_down_to(0).await;
                    socket.close(CloseReason::fixed(code.unwrap_or(1005), ""));
                }
            }
        }
        match received {
            Received::Violation(violation) => {
                socket.answered_down_to(0).await;
                socket.close(violation.into());
            }
            Received::End => {
                // It may still read: what it has asked is answered.
                socket.answered_down_to(0).await;
                socket.queue().end();
            }
            Received::Nothing | Received::Messages | Received::Closed => {}
        }
        socket.flush();
    }

    /// Replies leave in the order of the requests: writes follow each other through the writer, and anything else
    /// waits for the writes before it.
    async fn answer(&self, event: Event) {
        let socket = self.socket;
        let ctx = Context {
            user_id: self.caller.user_id,
            username: self.caller.username.clone(),
            now: clock::now(),
        };
        let Event {
            envelope,
            operation,
        } = event;
        let access = operation.as_ref().map_or(Access::None, |o| o.access());
        let outcome = match operation {
            Ok(operation) if access == Access::Write => {
                socket.answered_down_to(UNANSWERED_MAX - 1).await;
                socket.unanswered.fetch_add(1, Ordering::SeqCst);
                let origin = socket.clone();
                let reply_to = envelope.clone();
                let submitted = self.store.submit(ctx, operation, move |outcome, outbox| {
                    let reply = frame::text_frame(&reply_to.reply(&outcome));
                    Some(Delivery::reply(origin, reply, outbox))
                });
                match submitted.await {
                    Ok(()) => return,
                    Err(error) => {
                        socket.unanswered.fetch_sub(1, Ordering::SeqCst);
                        socket.answered_down_to(0).await;
                        Err(error)
                    }
                }
            }
            Ok(operation) => {
                socket.answered_down_to(0).await;
                match access {
                    Access::None => operation.conclude(&ctx, &[], &mut Outbox::new()),
                    _ => {
                        let origin = Some(socket.clone());
                        self.store.run_for(origin, ctx, operation).await
                    }
                }
            }
            Err(error) => {
                socket.answered_down_to(0).await;
                Err(error)
            }
        };
        let reply = frame::text_frame(&envelope.reply(&outcome));
        // It may be large, and the wait for the peer long.
        drop(outcome);
        socket.queue().add(reply);
        if socket.queue().bytes() > PAUSE_READING_BYTES {
            socket.flush();
            self.drained().await;
        }
    }

    /// Waits until replies may be added again.
    async fn drained(&self) {
        while self.socket.is_open() && self.socket.queue().bytes() > PAUSE_READING_BYTES {
            self.socket.changed().await;
        }
    }

    /// Takes the socket out of the registry and its user's presence, whatever the database says.
    async fn disconnected(&self) {
        /// Between two tries; a database that is full or locked may recover.
        const RETRY: Duration = Duration::from_secs(1);
        const TRIES: usize = 10;
        for _ in 0..TRIES {
            let ctx = Context {
                user_id: self.caller.user_id,
                username: self.caller.username.clone(),
                now: clock::now(),
            };
            let operation = Disconnected {
                host_id: crate::HOST_ID,
            };
            let closed = self.socket.clone();
            let (done, stored) = oneshot::channel();
            let submitted = self.store.submit(ctx, operation, move |outcome, outbox| {
                let _ = done.send(outcome.is_ok());
                Some(Delivery::closed(closed, outbox))
            });
            if submitted.await.is_ok() && stored.await == Ok(true) {
                return;
            }
            sleep(RETRY).await;
        }
        tracing::error!(user = self.caller.user_id, "presence could not be stored");
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
