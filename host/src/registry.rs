//! Turns the outputs of commits into frames on the sockets of this host.
//!
//! The registry's thread alone knows who is connected and what they listen to. It takes deliveries
//! from one queue in commit order, so that everyone sees a conversation in the order of its
//! commits.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use handler::account::login_id::EndedLogins;
use handler::account::open_login::OpenLogin;
use handler::cluster::memberships::Memberships;
use handler::presence::Arrival;
use handler::{Audience, MembersChange, Output};
use once_cell::unsync::Lazy;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::cluster::peers::{LOOK_BACK, Peers, Told};
use crate::cluster::wire::Packet;
use crate::delivery::{Arriving, Change, Delivery, Done, Requester};
use crate::limits::spending::Spending;
use crate::listeners::{Listeners, User};
use crate::metrics::METRICS;
use crate::socket::close_reason::CloseReason;
use crate::socket::flusher::Flusher;
use crate::socket::frame;
use crate::socket::handle::{Socket, User as SocketUser};
use crate::socket::outgoing::FlushTurn;
use crate::socket::push_memory::PushMemory;
use crate::threads;

/// Commands to the registry from modules other than the store.
pub enum RegistryCommand {
    /// Take a packet of another host.
    Hear(Packet<'static>),
    /// Tell the other hosts that this one is there.
    Beat,
    /// Answer with the logins that have open sockets.
    ListLogins(oneshot::Sender<Vec<OpenLogin>>),
    /// Close the sockets of these logins.
    CloseLogins(Vec<OpenLogin>),
    /// A read of users' conversations from the database begins: of all users, or of the doubted
    /// ones. Answer with their ids.
    BeginReading {
        is_of_all: bool,
        answer: oneshot::Sender<Vec<i64>>,
    },
    /// The conversations that were read, of some of these users.
    Members(Vec<Memberships>),
    /// The read is complete.
    EndReading,
    /// Tell the sockets whose turn it is that they may have missed something.
    CatchUp { slot: u64, slots: u64 },
    /// Ping the sockets whose turn it is and close the silent ones. `slot` of `slots` says whose
    /// turn.
    Heartbeat {
        slot: u64,
        slots: u64,
        /// Told when the pings are queued.
        done: oneshot::Sender<()>,
    },
    /// Let every socket, later ones included, answer the requests it has read and close with 1001.
    Shutdown,
}

/// The logins with open sockets on this host; none if the registry has ended.
pub async fn list_logins(commands: &mpsc::Sender<RegistryCommand>) -> Vec<OpenLogin> {
    let (answer, logins) = oneshot::channel();
    let _ = commands.send(RegistryCommand::ListLogins(answer)).await;
    logins.await.unwrap_or_default()
}

/// Users of this host whom the database no longer counts, with their numbers of open sockets.
#[derive(Clone, Default)]
pub struct PresenceLost {
    pub lease: i64,
    pub users: Vec<(i64, u32)>,
}

/// Signals from the registry to the server.
#[derive(Clone)]
pub struct Notices {
    pub presence_lost: watch::Sender<PresenceLost>,
    /// Something may have been missed.
    pub missed: Arc<Notify>,
    /// For some users it is uncertain which conversations they are in.
    pub doubted: Arc<Notify>,
}

/// Starts the registry's thread. It ends when `deliveries` is closed and everything is written.
pub fn start(
    deliveries: mpsc::Receiver<Vec<Delivery>>,
    commands: mpsc::Receiver<RegistryCommand>,
    notices: Notices,
    bus: Option<Peers>,
    flusher: Flusher,
) -> std::io::Result<JoinHandle<()>> {
    let registry = Registry {
        listeners: Listeners::new(bus.is_some()),
        is_shutting_down: false,
        flusher,
        memory: PushMemory::default(),
        notices,
        bus,
        outgoing: Vec::new(),
        found: VecDeque::new(),
        recent: Recent::default(),
        older: Recent::default(),
    };
    threads::spawn("registry", move || registry.run(deliveries, commands))
}

struct Registry {
    listeners: Listeners<Arc<Socket>, HeldPush>,
    is_shutting_down: bool,
    flusher: Flusher,
    memory: PushMemory,
    notices: Notices,
    bus: Option<Peers>,
    /// Outputs for the other hosts since the last flush.
    outgoing: Vec<Told>,
    /// Arrivals whose conversations are added in parts.
    found: VecDeque<Found>,
    recent: Recent,
    older: Recent,
}

/// A push that waits until it is certain who should receive it.
#[derive(Clone)]
struct HeldPush {
    frame: Bytes,
    /// This socket gets a reply instead of the push.
    requester: Requester,
}

/// The conversations of an arriving user.
struct Found {
    arriving: Arriving,
    memberships: Memberships,
    /// Those before this one have been added.
    next: usize,
    done: Option<Done>,
}

/// What was delivered lately, for users who connect or join a moment too late to receive it.
struct Recent {
    since: Instant,
    /// By user, the conversations that the user joined through other hosts, each with the
    /// `members_rev` of the join. For a user who connects now, the database may have been read
    /// before the join.
    joined: HashMap<i64, Vec<(i64, i64)>>,
    /// By user, the logins that have ended through other hosts. A socket may have been stored before
    /// that, and open now.
    ended: HashMap<i64, Vec<EndedLogins>>,
    /// The number of all these.
    count: usize,
    /// By conversation, the latest `members_rev` of its pushes. A push from one host may arrive
    /// before the join of its reader, which comes from another host.
    pushes: HashMap<i64, i64>,
    /// Conversations that users have joined, and when that was heard here. See `JOINING`.
    joins: HashMap<i64, Instant>,
}

impl Default for Recent {
    fn default() -> Self {
        Recent {
            since: Instant::now(),
            joined: HashMap::new(),
            ended: HashMap::new(),
            count: 0,
            pushes: HashMap::new(),
            joins: HashMap::new(),
        }
    }
}

/// Receivers of a push that are flushed at once. The others are a crowd.
const AT_ONCE: usize = 100;
/// For this long after a join, all hosts get the pushes of the conversation. By then, the hosts of these
/// users have heard of it and have said that they want them; if not, the users are told to catch up.
const JOINING: Duration = Duration::from_secs(5);
/// Longer than an operation takes.
const RECENT: Duration = LOOK_BACK;
/// Joins, ended logins, and conversations with pushes, that are remembered together.
const RECENT_MAX: usize = 100_000;
/// Batches of deliveries that are applied before sockets are written to. While a crowd waits for its
/// pushes, each round writes a part of them, so others must not need a round each.
const ROUND_MAX: usize = 64;
/// In builds with assertions, the maps are checked once in this many rounds and at the end, because
/// a check visits all entries.
const ROUNDS_PER_CHECK: u32 = 16;

impl Registry {
    fn run(
        mut self,
        mut deliveries: mpsc::Receiver<Vec<Delivery>>,
        mut commands: mpsc::Receiver<RegistryCommand>,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime without drivers needs nothing from the system");
        runtime.block_on(async {
            let mut commands_open = true;
            let mut rounds = 0_u32;
            loop {
                tokio::select! {
                    batch = deliveries.recv() => match batch {
                        Some(first) => {
                            let others = std::iter::from_fn(|| deliveries.try_recv().ok());
                            let batches = std::iter::once(first).chain(others.take(ROUND_MAX - 1));
                            batches.flatten().for_each(|delivery| self.apply(delivery));
                        }
                        None => break,
                    },
                    command = commands.recv(), if commands_open => match command {
                        Some(command) => self.command(command),
                        None => commands_open = false,
                    },
                    () = std::future::ready(()), if self.has_rest() => {
                        if let Some(found) = self.found.pop_front() {
                            self.complete(found);
                        }
                        self.listeners.go_on_departing();
                    }
                }
                self.flush();
                rounds = rounds.wrapping_add(1);
                if cfg!(debug_assertions) && rounds.is_multiple_of(ROUNDS_PER_CHECK) {
                    self.listeners.check_invariants();
                }
            }
        });
        self.flusher.finish();
        if cfg!(debug_assertions) {
            self.listeners.check_invariants();
        }
        if let Some(bus) = &mut self.bus {
            bus.say_goodbye();
        }
    }

    fn command(&mut self, command: RegistryCommand) {
        match command {
            RegistryCommand::Heartbeat { slot, slots, done } => {
                let ping = frame::ping_frame();
                for socket in sockets(&self.listeners, slot, slots) {
                    if socket.was_heard_since_ping() {
                        socket.ping(ping.clone());
                    } else {
                        socket.close(CloseReason::NO_ANSWER_TO_PING);
                    }
                    self.flusher.add(socket.clone(), FlushTurn::Soon);
                }
                // The server may be stopping.
                let _ = done.send(());
            }
            RegistryCommand::CatchUp { slot, slots } => {
                let hint = hint();
                for socket in sockets(&self.listeners, slot, slots) {
                    socket.push(hint.clone(), false, FlushTurn::Soon, &self.memory);
                    self.flusher.add(socket.clone(), FlushTurn::Soon);
                }
            }
            RegistryCommand::Hear(packet) => self.hear(packet),
            RegistryCommand::Beat => {
                let now = Instant::now();
                let wanted = self.listeners.wanted();
                wanted.sweep(now);
                let has_missed = self.bus.as_mut().is_some_and(|bus| bus.beat(wanted, now));
                if has_missed {
                    self.notices.missed.notify_one();
                }
            }
            RegistryCommand::ListLogins(answer) => {
                let users = self.listeners.sockets().filter_map(|socket| socket.user());
                let logins: HashSet<_> = users
                    .map(|user| OpenLogin {
                        user_id: user.id,
                        username: user.name.clone(),
                        login: user.login,
                    })
                    .collect();
                // The caller may have gone.
                let _ = answer.send(logins.into_iter().collect());
            }
            RegistryCommand::CloseLogins(ended) => {
                for of in ended {
                    // The id may have been given to another user since.
                    self.end_sockets(of.user_id, |user| {
                        user.name == of.username && user.login == of.login
                    });
                }
            }
            RegistryCommand::BeginReading { is_of_all, answer } => {
                // The caller may have gone.
                let _ = answer.send(self.listeners.begin_reading(is_of_all));
            }
            RegistryCommand::Members(members) => {
                let ids = members.into_iter().map(|read| (read.user_id, read));
                let changed = ids.filter(|(_, read)| self.listeners.replace(read));
                let changed: Vec<_> = changed.map(|(user_id, _)| user_id).collect();
                self.release();
                self.tell_to_catch_up(changed);
            }
            RegistryCommand::EndReading => self.listeners.end_reading(),
            RegistryCommand::Shutdown => {
                self.is_shutting_down = true;
                for socket in self.listeners.sockets() {
                    socket.finish();
                }
            }
        }
    }

    /// Takes a packet of another host.
    fn hear(&mut self, packet: Packet<'static>) {
        let Some(bus) = &mut self.bus else {
            return;
        };
        let (origin, number) = (packet.origin, packet.number);
        let heard = bus.hear(packet, self.listeners.wanted(), Instant::now());
        if heard.has_missed {
            self.notices.missed.notify_one();
        }
        let mut delivered = Vec::new();
        for output in heard.outputs {
            let bytes = match &output {
                Output::Push { event, .. } => event.len(),
                Output::Join(_) | Output::Leave(_) | Output::EndLogins(_) => 0,
            };
            delivered.push((self.deliver(&output, &None), bytes));
            self.remember(&output);
        }
        // Nobody pays for a packet to all hosts.
        if let Some(bus) = self.bus.as_mut().filter(|_| number > 0) {
            bus.report(origin, number, delivered.into_iter());
        }
        if !heard.missed_in.is_empty() {
            let users = self.listeners.users_in(&heard.missed_in);
            self.tell_to_catch_up(users);
        }
    }

    fn apply(&mut self, delivery: Delivery) {
        let mut arriving = None;
        match delivery.change {
            Some(Change::Opened(socket, arrival)) => arriving = self.open(socket, arrival),
            Some(Change::Found(arriving, memberships)) => {
                return self.complete(Found {
                    arriving,
                    memberships,
                    next: 0,
                    done: delivery.done,
                });
            }
            Some(Change::Closed(socket)) => self.close(&socket),
            Some(Change::PresenceLost(lease)) => self.presence_lost(lease),
            Some(Change::Missed) => {
                if let Some(bus) = &mut self.bus {
                    bus.skip();
                }
                self.notices.missed.notify_one();
            }
            None => {}
        }
        let payer = delivery.payment.as_ref().map(|payment| &payment.user);
        for output in delivery.outbox {
            if is_left_out(&output, payer) {
                continue;
            }
            let sockets = self.deliver(&output, &delivery.requester);
            if let (Some(payer), Output::Push { event, .. }) = (payer, &output) {
                payer.charge_push(event.len(), sockets);
            }
            if self.bus.is_some() {
                self.outgoing.push(Told {
                    is_for_all: self.is_for_all(&output),
                    payer: payer.cloned(),
                    output,
                });
            }
        }
        if let (Some(socket), Some(reply)) = (delivery.requester, delivery.reply) {
            socket.answer(reply);
            self.flusher.add_answered(socket);
        }
        if let Some(done) = delivery.done {
            done(arriving);
        }
    }

    /// Whether something is left for when nothing else is to be done, or every other time.
    fn has_rest(&self) -> bool {
        self.flusher.has_rest() || !self.found.is_empty() || self.listeners.has_departing()
    }

    /// Adds the next conversations of an arriving user. If they are not the last, others have their
    /// turn first.
    fn complete(&mut self, mut found: Found) {
        let Found {
            arriving,
            memberships,
            next,
            ..
        } = &found;
        match self.listeners.complete(*arriving, memberships, *next) {
            Some(next) => {
                found.next = next;
                self.found.push_back(found);
            }
            None => {
                if let Some(done) = found.done {
                    done(None);
                }
            }
        }
    }

    /// Whether all hosts have to hear this output.
    fn is_for_all(&self, output: &Output) -> bool {
        match output {
            Output::Push { to, .. } => match to {
                Audience::Users(_) => false,
                Audience::Conversation { id, .. } | Audience::MembersExcept { id, .. } => {
                    let recent = [&self.recent, &self.older].into_iter();
                    let mut joins = recent.filter_map(|recent| recent.joins.get(id));
                    joins.any(|at| at.elapsed() < JOINING)
                }
            },
            Output::Join(_) | Output::Leave(_) | Output::EndLogins(_) => true,
        }
    }

    /// Delivers an output that this host or another one has committed. Returns the number of sockets
    /// that a push was queued for.
    fn deliver(&mut self, output: &Output, requester: &Requester) -> usize {
        match output {
            Output::Push {
                to,
                event,
                is_droppable,
            } => return self.push(to, event, *is_droppable, requester),
            Output::Join(change) => {
                self.listeners.join(change);
                if self.bus.is_some() {
                    let joins = &mut self.recent.joins;
                    joins.insert(change.conversation_id, Instant::now());
                }
                self.release();
                self.tell_late(change);
            }
            Output::Leave(change) => {
                self.listeners.leave(change);
                self.release();
            }
            Output::EndLogins(ended) => {
                self.end_sockets(ended.user_id, |user| ended.has(user.login));
            }
        }
        0
    }

    /// Returns the number of sockets that it was queued for.
    fn push(
        &mut self,
        to: &Audience,
        event: &str,
        is_droppable: bool,
        requester: &Requester,
    ) -> usize {
        // One frame for all receivers, encoded once, and only if there is a receiver.
        let frame = Lazy::new(|| self.memory.frame(event));
        let flusher = &mut self.flusher;
        let mut receivers = 0;
        let mut tell = |user: &User<Arc<Socket>>| {
            for socket in &user.sockets {
                if is_same(requester, socket) {
                    continue;
                }
                receivers += 1;
                let turn = match receivers {
                    ..=AT_ONCE => FlushTurn::Soon,
                    _ => FlushTurn::InCrowd,
                };
                if socket.push(frame.clone(), is_droppable, turn, &self.memory) {
                    flusher.add(socket.clone(), turn);
                }
            }
        };
        match to {
            Audience::Users(user_ids) => {
                let users = user_ids.iter().filter_map(|id| self.listeners.user(*id));
                users.for_each(tell);
            }
            Audience::Conversation { id, members_rev }
            | Audience::MembersExcept {
                id, members_rev, ..
            } => {
                let except = match to {
                    Audience::MembersExcept { except, .. } => except.as_slice(),
                    _ => &[],
                };
                let mut doubtful = self.listeners.tell(*id, *members_rev, |user| {
                    if except.is_empty() || !is_one_of(user, except) {
                        tell(user);
                    }
                });
                doubtful.retain(|user_id| !except.contains(user_id));
                // A droppable push is worthless later, so it is not held.
                if is_droppable {
                    return receivers;
                }
                if !doubtful.is_empty() {
                    let push = HeldPush {
                        frame: frame.clone(),
                        requester: requester.clone(),
                    };
                    let lost = self.listeners.hold(*id, *members_rev, doubtful, push);
                    self.tell_to_catch_up(lost);
                }
                if self.bus.is_some() {
                    let latest = self.recent.pushes.entry(*id).or_default();
                    *latest = (*latest).max(*members_rev);
                }
            }
        }
        receivers
    }

    /// Sends the held pushes whose receivers are certain now.
    fn release(&mut self) {
        for (user_id, push) in self.listeners.release() {
            let user = self.listeners.user(user_id);
            let sockets = user.into_iter().flat_map(|user| &user.sockets);
            for socket in sockets.filter(|socket| !is_same(&push.requester, socket)) {
                socket.push(push.frame.clone(), false, FlushTurn::Soon, &self.memory);
                self.flusher.add(socket.clone(), FlushTurn::Soon);
            }
        }
    }

    /// Users who joined may have missed pushes that another host delivered before their join
    /// arrived. If so, tells them to catch up.
    fn tell_late(&mut self, change: &MembersChange) {
        let is_late = [&self.recent, &self.older].iter().any(|recent| {
            let pushed = recent.pushes.get(&change.conversation_id);
            pushed.is_some_and(|members_rev| *members_rev >= change.members_rev)
        });
        if is_late {
            self.tell_to_catch_up(change.user_ids.iter().copied());
        }
    }

    fn tell_to_catch_up(&mut self, user_ids: impl IntoIterator<Item = i64>) {
        let hint = Lazy::new(hint);
        let users = user_ids.into_iter();
        for user in users.filter_map(|id| self.listeners.user(id)) {
            for socket in &user.sockets {
                socket.push(hint.clone(), false, FlushTurn::Soon, &self.memory);
                self.flusher.add(socket.clone(), FlushTurn::Soon);
            }
        }
    }

    /// Closes those of a user's sockets whose login has ended.
    fn end_sockets(&mut self, user_id: i64, has_ended: impl Fn(&SocketUser) -> bool) {
        let user = self.listeners.user(user_id);
        let sockets = user.into_iter().flat_map(|user| &user.sockets);
        for socket in sockets.filter(|socket| socket.user().is_some_and(&has_ended)) {
            socket.close(CloseReason::SESSION_ENDED);
            self.flusher.add(socket.clone(), FlushTurn::Soon);
        }
    }

    /// Remembers users who joined, and logins that ended, through another host. Also those who have a
    /// socket here: it may be closing, and the next one may have been opened before the join.
    fn remember(&mut self, output: &Output) {
        match output {
            Output::Join(change) => {
                let join = (change.conversation_id, change.members_rev);
                for user_id in &change.user_ids {
                    self.recent.joined.entry(*user_id).or_default().push(join);
                }
                self.recent.count += change.user_ids.len();
            }
            Output::EndLogins(ended) => {
                let of_user = self.recent.ended.entry(ended.user_id).or_default();
                of_user.push(ended.clone());
                self.recent.count += 1 + ended.sessions.len();
            }
            Output::Push { .. } | Output::Leave(_) => {}
        }
    }

    /// Returns the name of the arrival if the user's conversations still have to be found.
    fn open(&mut self, socket: Arc<Socket>, arrival: Arrival) -> Option<Arriving> {
        if self.is_shutting_down {
            socket.finish();
        }
        let Arrival {
            user_id,
            mut conversations,
            is_complete,
        } = arrival;
        // A user who has left since hears nothing: pushes are meant for a later `members_rev` then.
        for recent in [&self.recent, &self.older] {
            conversations.extend(recent.joined.get(&user_id).into_iter().flatten());
        }
        let has_ended = [&self.recent, &self.older].iter().any(|recent| {
            let mut ended = recent.ended.get(&user_id).into_iter().flatten();
            ended.any(|ended| socket.user().is_some_and(|user| ended.has(user.login)))
        });
        if has_ended {
            socket.close(CloseReason::SESSION_ENDED);
            self.flusher.add(socket.clone(), FlushTurn::Soon);
        }
        METRICS.sockets.inc();
        if self.listeners.user(user_id).is_none() {
            METRICS.users.inc();
        }
        self.listeners
            .arrive(user_id, socket, conversations, is_complete)
    }

    fn close(&mut self, socket: &Arc<Socket>) {
        let Some(user_id) = socket.user().map(|user| user.id) else {
            return;
        };
        let is_closed = |other: &Arc<Socket>| Arc::ptr_eq(other, socket);
        let (sockets, is_last) = self.listeners.depart(user_id, is_closed);
        METRICS.sockets.sub(sockets as i64);
        if is_last {
            METRICS.users.dec();
        }
    }

    fn presence_lost(&mut self, lease: i64) {
        let users = self.listeners.users();
        let users = users.map(|(id, user)| (id, user.sockets.len() as u32));
        let lost = PresenceLost {
            lease,
            users: users.collect(),
        };
        self.notices.presence_lost.send_replace(lost);
    }

    /// Ends a round of deliveries: has the sockets written to, and tells the other hosts.
    fn flush(&mut self) {
        self.flusher.flush();
        let Some(bus) = &mut self.bus else {
            return;
        };
        let now = Instant::now();
        bus.tell(&self.outgoing, self.listeners.wanted(), now);
        self.outgoing.clear();
        if self.listeners.is_doubted() {
            self.notices.doubted.notify_one();
        }
        let recent = self.recent.count + self.recent.pushes.len() + self.recent.joins.len();
        if now - self.recent.since > RECENT || recent > RECENT_MAX {
            self.older = std::mem::take(&mut self.recent);
        }
    }
}

/// Whether this is a push that may be left out, of a user who has spent much.
fn is_left_out(output: &Output, payer: Option<&Arc<Spending>>) -> bool {
    let is_droppable = matches!(
        output,
        Output::Push {
            is_droppable: true,
            ..
        }
    );
    is_droppable && payer.is_some_and(|user| user.has_spent_much())
}

fn is_same(requester: &Requester, socket: &Arc<Socket>) -> bool {
    requester
        .as_ref()
        .is_some_and(|requester| Arc::ptr_eq(requester, socket))
}

fn is_one_of(user: &User<Arc<Socket>>, ids: &[i64]) -> bool {
    let named = user.sockets.first().and_then(|socket| socket.user());
    named.is_some_and(|user| ids.contains(&user.id))
}

fn hint() -> Bytes {
    frame::text_frame(&handler::sync::hint())
}

/// The sockets whose turn it is: part `slot` of `slots`.
fn sockets(
    listeners: &Listeners<Arc<Socket>, HeldPush>,
    slot: u64,
    slots: u64,
) -> impl Iterator<Item = &Arc<Socket>> {
    let sockets = listeners.sockets();
    sockets.filter(move |socket| socket.id % slots == slot)
}
