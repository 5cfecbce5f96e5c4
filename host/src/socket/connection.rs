//! The life of one WebSocket, from the handshake to its end: reads its requests and answers them in
//! order.

use std::cell::RefCell;
use std::fmt;
use std::future::{pending, poll_fn};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use handler::account::login_id::LoginId;
use handler::{Access, Context, Envelope, Error, Event, EventOperation, Outbox, Reply};
use tokio::task::{coop, yield_now};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use crate::audit;
use crate::awake;
use crate::clock;
use crate::delivery::Delivery;
use crate::limits::answer_room::{self, AnswerRoom};
use crate::limits::large_events;
use crate::limits::places::SocketPlace;
use crate::limits::refusal::Refusal;
use crate::limits::unfinished;
use crate::limits::user_rates::{Flood, Prepared, SocketRates, UserCosts};
use crate::metrics::METRICS;
use crate::socket::close_reason::CloseReason;
use crate::socket::frame::{self, Decoder, Message, Violation};
use crate::socket::handle::{PAUSE_READING_BYTES, Socket, User};
use crate::socket::presence::{Departure, Presence};
use crate::store::failures::busy;
use crate::store::source::Source;
use crate::threads::contain;

/// Writes of one socket that may be under way at once; its further requests wait.
const UNANSWERED_MAX: u32 = 32;
/// How long the peer of a closed socket may take to read the close frame and close its side.
const LINGER: Duration = Duration::from_secs(2);
/// Input is read in pieces of at most this many bytes. If a client sends without a pause, one
/// piece, some thousand tiny frames at most, is decoded before other sockets have their turn.
const READ_BYTES: usize = 16 * 1024;

/// What an admitted socket has: its login token is valid, unless its login has ended, and it has a
/// place.
pub struct Admission {
    pub address: IpAddr,
    pub rates: SocketRates,
    /// The source of its operations.
    pub source: Arc<Source>,
    /// Time for a whole message, from its first byte. Idle sockets hold this too, and a `Duration`
    /// is four times as large.
    pub message_milliseconds: u32,
    pub _place: SocketPlace,
}

/// Closes a socket that is not admitted.
pub async fn refuse(socket: &Socket, reason: CloseReason) {
    socket.close(reason);
    socket.flush();
    linger(socket).await;
}

/// After the close frame: waits a bounded time until the peer has taken it and closed its side, so
/// that a reset does not destroy the frame. Further input is discarded without decoding it, so that
/// a flood costs nothing more.
async fn linger(socket: &Socket) {
    let deadline = Instant::now() + LINGER;
    let (mut is_shut, mut peer_is_done) = (false, false);
    while !socket.outgoing().is_broken() {
        if !is_shut && socket.outgoing().is_empty() {
            is_shut = true;
            if rustix::net::shutdown(&socket.stream, rustix::net::Shutdown::Write).is_err() {
                return;
            }
        }
        if is_shut && peer_is_done {
            return;
        }
        let step = async {
            // During a flood the stream is always readable, so other tasks get their turn here.
            yield_now().await;
            tokio::select! {
                _ = socket.stream.readable(), if !peer_is_done => discard(socket),
                () = socket.changed() => peer_is_done,
            }
        };
        match timeout_at(deadline, step).await {
            Ok(is_done) => peer_is_done = is_done,
            Err(_) => return,
        }
    }
}

/// The result of one read.
enum Received {
    Nothing,
    Messages,
    /// The peer sent a close frame, which `Request::Close` answers.
    Closed,
    /// The peer is gone.
    End,
    Violation(Violation),
    /// Too much has come of messages that are not complete.
    TooMuch,
}

/// A request, independent of the buffer it came in.
enum Request {
    /// With the number of its bytes.
    Event(Event, usize),
    /// An event that is read when it is its turn.
    Large(String),
    Ping(Bytes),
    Pong,
    Close(Option<u16>),
}

thread_local! {
    static INPUT: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// Reads once, without waiting; returns whether the peer is gone.
fn discard(socket: &Socket) -> bool {
    INPUT.with_borrow_mut(|buffer| match socket.stream.try_read(buffer) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    })
}

/// An open socket, from its registration to its end.
pub struct Connection {
    socket: Arc<Socket>,
    presence: Arc<Presence>,
    admission: Box<Admission>,
    decoder: Decoder,
    /// Bytes of large events until they are answered or handed to the writer. They count as unfinished.
    large_bytes: AtomicU32,
    /// The number of its events so far.
    count: AtomicU32,
}

/// Ends when a message has taken too long, or has to make room.
type Deadline = Pin<Box<dyn Future<Output = Wake> + Send>>;

/// Why a waiting connection wakes up.
enum Wake {
    Readable,
    Changed,
    /// A message was not complete in time.
    Late,
    /// There is no room for the unfinished messages of others, and this one has waited longest.
    Pressed,
}

impl Connection {
    /// Registers the socket. If that fails, returns the reason to close it.
    pub async fn open(
        socket: Arc<Socket>,
        (username, login): (Arc<str>, LoginId),
        admission: Box<Admission>,
        presence: Arc<Presence>,
    ) -> Result<Self, CloseReason> {
        let opened = presence.open(&socket, username.clone(), login, &admission.source);
        match opened.await {
            Ok(_) => {
                METRICS.sockets_opened.inc();
                Ok(Connection {
                    socket,
                    presence,
                    admission,
                    decoder: Decoder::default(),
                    large_bytes: AtomicU32::new(0),
                    count: AtomicU32::new(0),
                })
            }
            Err(reason) => {
                if reason.is_refusal() {
                    audit::refused(Refusal::Token, admission.address, Some(&username));
                }
                Err(reason)
            }
        }
    }

    /// Serves the socket to its end. `unread` is what the client sent right behind its handshake.
    ///
    /// This future is most of what an idle socket costs, so everything else is boxed, and only
    /// while it is needed.
    pub async fn serve(&mut self, unread: Option<Box<Bytes>>) {
        // Even after a panic the user must not stay online.
        let run = AssertUnwindSafe(self.run(unread));
        if run.catch_unwind().await.is_err() {
            self.socket.close(CloseReason::INTERNAL);
        }
        Box::pin(self.close()).await;
    }

    async fn close(&self) {
        let socket = &self.socket;
        socket.flush();
        let departure = Departure {
            socket: socket.clone(),
            source: self.admission.source.clone(),
            ctx: self.context(),
        };
        // The socket's place is given back at the very end.
        tokio::join!(self.presence.close(departure), linger(socket));
    }

    async fn run(&mut self, unread: Option<Box<Bytes>>) {
        if let Some(unread) = unread {
            let (requests, received) = self.decode(&mut Vec::from(*unread));
            Box::pin(self.handle(requests, received)).await;
        }
        let mut deadline: Option<Deadline> = None;
        while self.socket.is_open() {
            if self.decoder.is_between_messages() {
                deadline = None;
            } else if deadline.is_none() {
                let time = Duration::from_millis(self.admission.message_milliseconds.into());
                let source = self.admission.source.clone();
                deadline = Some(Box::pin(async move {
                    tokio::select! {
                        () = awake::sleep(time) => Wake::Late,
                        () = source.all.unfinished.pressed() => Wake::Pressed,
                    }
                }));
            }
            if self.socket.is_finishing.load(Ordering::SeqCst) {
                Box::pin(self.finish(CloseReason::SHUTTING_DOWN)).await;
                return;
            }
            if self.socket.is_behind() {
                Box::pin(self.drained()).await;
                continue;
            }
            match poll_fn(|cx| self.poll_wake(cx, &mut deadline)).await {
                Wake::Readable => {
                    let (requests, received) = self.receive();
                    if !requests.is_empty() {
                        // A message that is incomplete now has just begun.
                        deadline = None;
                    }
                    let is_more_likely = requests.len() > 1 || !self.decoder.is_between_messages();
                    Box::pin(self.handle(requests, received)).await;
                    if is_more_likely {
                        yield_now().await;
                    }
                }
                Wake::Changed => {}
                Wake::Late => Box::pin(self.finish(CloseReason::MESSAGE_TOO_SLOW)).await,
                Wake::Pressed => {
                    self.forget_unfinished();
                    Box::pin(self.give_room()).await;
                }
            }
        }
    }

    fn poll_wake(&self, cx: &mut task::Context, deadline: &mut Option<Deadline>) -> Poll<Wake> {
        if self.socket.poll_changed(cx).is_ready() {
            return Poll::Ready(Wake::Changed);
        }
        if self.socket.may_read() {
            if self.decoder.has_more() || self.socket.stream.poll_read_ready(cx).is_ready() {
                return Poll::Ready(Wake::Readable);
            }
            if let Some(deadline) = deadline
                && let Poll::Ready(wake) = deadline.as_mut().poll(cx)
            {
                return Poll::Ready(wake);
            }
        }
        Poll::Pending
    }

    /// Waits until all requests are answered, and closes.
    async fn finish(&self, reason: CloseReason) {
        self.socket.answered_down_to(0).await;
        self.socket.close(reason);
    }

    /// Decodes what is left of the last read; otherwise reads once, without waiting, and decodes in
    /// place.
    fn receive(&mut self) -> (Vec<Request>, Received) {
        if self.decoder.has_more() {
            return self.decode(&mut []);
        }
        INPUT.with_borrow_mut(|buffer| match self.socket.stream.try_read(buffer) {
            Ok(0) => (Vec::new(), Received::End),
            Ok(bytes) => self.decode(&mut buffer[..bytes]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => (Vec::new(), Received::Nothing),
            Err(_) => (Vec::new(), Received::End),
        })
    }

    fn decode(&mut self, input: &mut [u8]) -> (Vec<Request>, Received) {
        self.socket.is_heard.store(true, Ordering::Relaxed);
        let mut requests = Vec::new();
        let mut is_closed = false;
        let held_before = self.held_bytes();
        let large_bytes = &self.large_bytes;
        let decoded = self.decoder.feed(input, |message| {
            requests.push(match message {
                Message::Text(text) if large_events::is_large(text) => {
                    large_bytes.fetch_add(text.len() as u32, Ordering::Relaxed);
                    Request::Large(text.to_owned())
                }
                Message::Text(text) => Request::Event(large_events::read(text), text.len()),
                Message::Ping(payload) => Request::Ping(frame::pong_frame(payload)),
                Message::Pong => Request::Pong,
                Message::Close(code) => {
                    is_closed = true;
                    Request::Close(code)
                }
            });
        });
        let has_room = self.note_unfinished(held_before);
        let received = match decoded {
            Ok(()) if !has_room => {
                self.forget_unfinished();
                Received::TooMuch
            }
            Err(violation) => Received::Violation(violation),
            Ok(()) if is_closed => Received::Closed,
            Ok(()) => Received::Messages,
        };
        (requests, received)
    }

    /// Ignores all further input, and gives back the room of what has come of a message.
    fn forget_unfinished(&mut self) {
        let held = self.held_bytes();
        self.decoder.close();
        let _ = self.note_unfinished(held);
    }

    fn held_bytes(&self) -> usize {
        self.decoder.held_bytes() + self.large_bytes.load(Ordering::Relaxed) as usize
    }

    /// Reads a large event when it is its turn.
    async fn read_large(&self, text: &str) -> Event {
        let source = &self.admission.source;
        let (of_address, of_all) = (&source.large_events, &source.all.large_events);
        large_events::read_in_turn(text, of_address, of_all).await
    }

    /// A large event of this many bytes waits no longer.
    fn note_answered(&self, bytes: usize) {
        let held = self.held_bytes();
        self.large_bytes.fetch_sub(bytes as u32, Ordering::Relaxed);
        // There is more room now.
        let _ = self.note_unfinished(held);
    }

    /// Counts what is held of unfinished messages, after it has changed. Returns whether its user and its
    /// address have room for it. If there is none in all, somebody else makes room.
    #[must_use]
    fn note_unfinished(&self, before: usize) -> bool {
        self.note(before, self.held_bytes())
    }

    /// See `note_unfinished`.
    fn note(&self, before: usize, after: usize) -> bool {
        if unfinished::is_free(before.max(after)) {
            return true;
        }
        let Admission { rates, source, .. } = &*self.admission;
        if !unfinished::note([&source.all.unfinished], before, after) {
            source.all.unfinished.press();
        }
        let shares = [&rates.costs().unfinished, &source.unfinished];
        unfinished::note(shares, before, after)
    }

    /// Answers requests in order, then handles the end of the connection or a violation.
    async fn handle(&self, requests: Vec<Request>, received: Received) {
        let socket = &self.socket;
        for request in requests {
            if !socket.is_open() {
                return;
            }
            coop::consume_budget().await;
            match request {
                Request::Event(event, bytes) => {
                    if self.answer_within_rates(event, bytes).await.is_err() {
                        return self.close_flood().await;
                    }
                }
                Request::Large(text) => {
                    let (event, bytes) = (self.read_large(&text).await, text.len());
                    drop(text);
                    let answered = self.answer_within_rates(event, bytes).await;
                    self.note_answered(bytes);
                    if answered.is_err() {
                        return self.close_flood().await;
                    }
                }
                Request::Ping(_) | Request::Pong
                    if self.admission.rates.control_frame().is_err() =>
                {
                    return self.close_flood().await;
                }
                Request::Ping(pong) => socket.outgoing().add(pong),
                Request::Pong => {}
                Request::Close(code) => {
                    self.finish(CloseReason::fixed(code.unwrap_or(1005), ""))
                        .await;
                }
            }
        }
        match received {
            Received::Violation(violation) => self.finish(violation.into()).await,
            Received::TooMuch => self.give_room().await,
            Received::End => {
                // The peer may still read: its requests are answered.
                socket.answered_down_to(0).await;
                socket.end();
            }
            Received::Nothing | Received::Messages | Received::Closed => {}
        }
        socket.flush();
    }

    /// Refuses the event if it comes too early.
    async fn answer_within_rates(&self, mut event: Event, bytes: usize) -> Result<(), Flood> {
        if let Err(refusal) = self.admission.rates.event(event.users)? {
            event.operation = Err(refusal);
        }
        let id = self.event_id(&event.envelope);
        let span = tracing::debug_span!("event", id = %id);
        self.answer(event, bytes, id).instrument(span).await;
        Ok(())
    }

    /// Closes the socket because of the messages that it has not finished.
    async fn give_room(&self) {
        let (address, user) = (self.admission.address, &self.caller().name);
        audit::refused(Refusal::Unfinished, address, Some(user));
        self.finish(CloseReason::TOO_MUCH_UNFINISHED).await;
    }

    async fn close_flood(&self) {
        let (address, user) = (self.admission.address, &self.caller().name);
        audit::refused(Refusal::Flood, address, Some(user));
        self.finish(CloseReason::FLOOD).await;
        self.socket.flush();
    }

    fn event_id(&self, envelope: &Envelope) -> EventId {
        EventId {
            socket_id: self.socket.id,
            number: self.count.fetch_add(1, Ordering::Relaxed),
            user_id: self.caller().id,
            kind: envelope.kind,
        }
    }

    /// Replies leave in the order of the requests: writes follow each other through the writer, and
    /// everything else waits for the writes before it.
    async fn answer(&self, event: Event, bytes: usize, id: EventId) {
        let started = Instant::now();
        let (socket, store) = (&self.socket, &self.presence.store);
        let ctx = self.context();
        let Event {
            envelope,
            operation,
            ..
        } = event;
        let source = &self.admission.source;
        let access = operation.as_ref().map_or(Access::None, |o| o.access());
        let (mut room, mut turn) = (None, None);
        let outcome = match operation {
            Ok(operation) if access == Access::Write => {
                socket.answered_down_to(UNANSWERED_MAX - 1).await;
                match self.prepare(&operation, bytes).await {
                    Ok((room, Prepared { payment, turn })) => {
                        socket.unanswered.fetch_add(1, Ordering::SeqCst);
                        let requester = socket.clone();
                        let reply_to = envelope.clone();
                        let then = move |outcome: Result<Reply, Error>, outbox| {
                            note(&id, &outcome, started);
                            let reply = answer_frame(&reply_to, outcome, room);
                            Some(Delivery::reply(requester, reply, outbox, payment))
                        };
                        match store.submit(source, ctx, operation, then).await {
                            Ok(()) => {
                                if turn.is_some() {
                                    // By then it is known what the write cost.
                                    socket.answered_down_to(0).await;
                                }
                                return;
                            }
                            Err(error) => {
                                socket.unanswered.fetch_sub(1, Ordering::SeqCst);
                                socket.answered_down_to(0).await;
                                Err(error)
                            }
                        }
                    }
                    Err(error) => {
                        socket.answered_down_to(0).await;
                        Err(error)
                    }
                }
            }
            Ok(operation) => {
                socket.answered_down_to(0).await;
                match access {
                    Access::None => contain(|| operation.conclude(&ctx, &[], &mut Outbox::new())),
                    _ => match self.prepare(&operation, bytes).await {
                        Ok(prepared) => {
                            room = prepared.0;
                            turn = prepared.1.turn;
                            let caller = (Some(socket.clone()), Some(prepared.1.payment));
                            store.run_from(source, caller, ctx, operation).await
                        }
                        Err(error) => Err(error),
                    },
                }
            }
            Err(error) => {
                socket.answered_down_to(0).await;
                Err(error)
            }
        };
        note(&id, &outcome, started);
        // The wait for the peer may be long.
        let frame = answer_frame(&envelope, outcome, room);
        if access == Access::Read {
            self.costs().reading.charge_answer(frame.len());
        }
        drop(turn);
        socket.outgoing().add(frame);
        if socket.outgoing().reply_bytes() > PAUSE_READING_BYTES {
            socket.flush();
            self.drained().await;
        }
    }

    /// Waits until an event may run, and then for room for its answer. Whoever is in debt takes no room
    /// from others meanwhile.
    async fn prepare(
        &self,
        operation: &EventOperation,
        bytes: usize,
    ) -> Result<(Option<AnswerRoom>, Prepared<'_>), Error> {
        if self.socket.outgoing().reply_bytes() > PAUSE_READING_BYTES {
            // Of writes that were under way.
            self.socket.flush();
            self.drained().await;
        }
        // The server reads nothing while it waits, not even the pongs of the client.
        self.socket.is_heard.store(true, Ordering::Relaxed);
        let prepared = async {
            let prepared = self.costs().prepare(operation, bytes).await?;
            Ok((self.answer_room(operation, bytes).await?, prepared))
        };
        tokio::select! {
            biased;
            prepared = prepared => prepared,
            () = self.finishing() => Err(busy()),
        }
    }

    /// Room for the answer to an event of this many bytes, which the answer may repeat.
    async fn answer_room(
        &self,
        operation: &EventOperation,
        bytes: usize,
    ) -> Result<Option<AnswerRoom>, Error> {
        let Admission { rates, source, .. } = &*self.admission;
        let bytes = bytes + operation.answer_bytes_max();
        if answer_room::is_free(bytes) {
            return Ok(None);
        }
        let (user, all) = (&rates.costs().answers, &source.all.answers);
        all.room(user, &source.answers, bytes).await.map(Some)
    }

    fn costs(&self) -> &UserCosts {
        self.admission.rates.costs()
    }

    /// Waits until the socket is closed, or has to be.
    async fn finishing(&self) {
        self.until(|socket| socket.is_finishing.load(Ordering::SeqCst))
            .await;
    }

    fn caller(&self) -> &User {
        let user = self.socket.user();
        user.expect("a socket is opened with its user")
    }

    fn context(&self) -> Context {
        Context::new(self.caller().id, self.caller().name.clone(), clock::now())
    }

    /// Waits until replies may be added again. Meanwhile the messages that came behind count as
    /// unfinished.
    async fn drained(&self) {
        let behind = self.decoder.behind_bytes();
        match self.note(0, behind) {
            true => self.until(|socket| !socket.is_behind()).await,
            false => {
                let (address, user) = (self.admission.address, &self.caller().name);
                audit::refused(Refusal::Unfinished, address, Some(user));
                self.socket.give_up();
            }
        }
        let _ = self.note(behind, 0);
    }

    /// Waits for this, or for the end of the socket. If there is no more room for answers, sockets whose
    /// clients do not read theirs are closed, the one that has waited longest first; the same for large
    /// events that wait.
    async fn until(&self, is_over: impl Fn(&Socket) -> bool) {
        let all = &self.admission.source.all;
        let large_bytes = self.large_bytes.load(Ordering::Relaxed) as usize;
        let mut unread = pin!(None);
        let mut unfinished = pin!(match unfinished::is_free(large_bytes) {
            true => None,
            false => Some(all.unfinished.pressed()),
        });
        while self.socket.is_open() && !is_over(&self.socket) {
            match (self.socket.is_behind(), unread.is_some()) {
                (true, false) => unread
                    .set(Some(all.answers.pressed(
                        self.costs().answers.holder(&self.admission.source.answers),
                    ))),
                (false, true) => unread.set(None),
                _ => {}
            }
            tokio::select! {
                () = self.socket.changed() => {}
                () = or_never(unread.as_mut()) => {
                    let name = &self.caller().name;
                    audit::refused(Refusal::UnreadAnswers, self.admission.address, Some(name));
                    self.socket.give_up();
                }
                () = or_never(unfinished.as_mut()) => {
                    let name = &self.caller().name;
                    audit::refused(Refusal::Unfinished, self.admission.address, Some(name));
                    self.socket.close(CloseReason::TOO_MUCH_UNFINISHED);
                }
            }
        }
    }
}

async fn or_never(future: Pin<&mut Option<impl Future<Output = ()>>>) {
    match future.as_pin_mut() {
        Some(future) => future.await,
        None => pending().await,
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let held = self.held_bytes();
        self.decoder.close();
        self.large_bytes.store(0, Ordering::Relaxed);
        let _ = self.note_unfinished(held);
    }
}

/// The frame of an answer, with its room if it needed some. An answer that is larger than was expected
/// may find no room: then the event is refused. No write that changes something has such an answer.
fn answer_frame(
    envelope: &Envelope,
    outcome: Result<Reply, Error>,
    room: Option<AnswerRoom>,
) -> Bytes {
    let frame = frame::text_frame(&envelope.reply(&outcome));
    // It may be large.
    drop(outcome);
    let Some(room) = room else {
        return frame;
    };
    let refused = |error| frame::text_frame(&envelope.reply(&Err(error)));
    room.hold(frame).unwrap_or_else(refused)
}

/// Names an event in the log.
#[derive(Clone, Copy)]
struct EventId {
    socket_id: u64,
    /// The number among the socket's events.
    number: u32,
    user_id: i64,
    kind: &'static str,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EventId {
            socket_id,
            number,
            user_id,
            kind,
        } = self;
        write!(f, "{socket_id}-{number} {kind} of user {user_id}")
    }
}

/// Counts an event that is about to be answered, and logs why it failed if that is the server's
/// fault.
fn note(id: &EventId, outcome: &Result<Reply, Error>, started: Instant) {
    let result = outcome.as_ref().map_or_else(Error::code, |_| "ok");
    METRICS.count_event(id.kind, result);
    let elapsed = started.elapsed();
    METRICS.event_seconds.observe(elapsed.as_secs_f64());
    match outcome {
        Err(Error::Internal(detail)) => tracing::error!(event = %id, detail, "an event failed"),
        _ => tracing::debug!(event = %id, result, ?elapsed, "answered"),
    }
}
