//! The life of one WebSocket, from the handshake to its end: its requests are read, and answered in their order.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use handler::presence::{Connected, Disconnected};
use handler::{Access, Context, Error, Event, Outbox};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use super::{CloseReason, PAUSE_READING_BYTES, Socket};
use crate::clock;
use crate::cluster::Cluster;
use crate::frame::{self, Decoder, Message, Violation};
use crate::registry::Delivery;
use crate::store::Store;

/// Writes of one socket that may be under way at once; its further requests wait.
const UNANSWERED_MAX: u32 = 32;
/// How long a closed socket may take to read its close frame and close its side.
const LINGER: Duration = Duration::from_secs(2);
/// Input is read in pieces of at most this many bytes.
const READ_BYTES: usize = 64 * 1024;

/// Serves a socket from the handshake to its end. `username` is whose login token it came with, or why it is refused;
/// `unread` is what the client sent right behind its handshake.
pub async fn serve(
    socket: Arc<Socket>,
    username: Result<String, String>,
    unread: Bytes,
    cluster: &Cluster,
) {
    let store = &cluster.store;
    let opened = match username {
        Ok(username) => open(&socket, username, store).await,
        Err(refusal) => Err(CloseReason::refused(refusal)),
    };
    let mut decoder = Decoder::default();
    match opened {
        Err(reason) => socket.close(reason),
        Ok(caller) => {
            let task = Task {
                socket: &socket,
                store,
                caller,
            };
            task.run(&mut decoder, unread).await;
            socket.flush();
            let departure = Departure {
                socket: socket.clone(),
                ctx: task.context(),
            };
            tokio::join!(departure.store(cluster), linger(&socket, &mut decoder));
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
        host_id: store.host_id(),
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
        let ctx = self.context();
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

    fn context(&self) -> Context {
        Context::new(
            self.caller.user_id,
            self.caller.username.clone(),
            clock::now(),
        )
    }

    /// Waits until replies may be added again.
    async fn drained(&self) {
        while self.socket.is_open() && self.socket.queue().bytes() > PAUSE_READING_BYTES {
            self.socket.changed().await;
        }
    }
}

/// A socket that is closed, and that the database still counts.
pub struct Departure {
    socket: Arc<Socket>,
    ctx: Context,
}

impl Departure {
    /// Takes the socket out of the registry and out of its user's presence. Where the database cannot now, it is left for
    /// the cluster to try again.
    pub async fn store(self, cluster: &Cluster) {
        let operation = Disconnected {
            host_id: cluster.store.host_id(),
        };
        let closed = self.socket.clone();
        let (done, stored) = oneshot::channel();
        let then = move |outcome: Result<(), Error>, outbox| {
            let is_stored = outcome.is_ok();
            let _ = done.send(is_stored);
            // What is not stored still counts, here as well.
            is_stored.then(|| Delivery::closed(closed, outbox))
        };
        let submitted = cluster.store.submit(self.ctx.clone(), operation, then);
        if submitted.await.is_err() || stored.await != Ok(true) {
            cluster.departed().push(self);
        }
    }
}
