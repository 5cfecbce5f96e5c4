//! Who is connected here and what they listen to; turns the outputs of commits into frames on sockets.
//!
//! One owner with plain maps, fed through one queue in commit order, so that everyone sees a conversation in the order
//! of its commits.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use handler::presence::Session;
use handler::{Audience, Output};
use once_cell::unsync::Lazy;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::cluster::publisher::Publisher;
use crate::cluster::wire::BusOutput;
use crate::delivery::{Change, Delivery};
use crate::metrics::METRICS;
use crate::socket::close_reason::CloseReason;
use crate::socket::frame;
use crate::socket::handle::Socket;
use crate::threads;

/// What the registry is told by others than the store.
pub enum RegistryCommand {
    /// What other hosts have committed.
    Deliver(Vec<BusOutput>),
    /// Asks for the users with open sockets, by id and name.
    ListUsers(oneshot::Sender<Vec<(i64, Arc<str>)>>),
    /// Close the sockets of these users.
    EndSessions(Vec<(i64, Arc<str>)>),
    /// Users with their conversations, as the database has them.
    Members(Vec<(i64, Vec<i64>)>),
    /// Tell the sockets whose turn it is that they may have missed something.
    CatchUp { slot: u64, slots: u64 },
    /// Ping the sockets whose turn it is and close the silent ones. `slot` of `slots` says whose turn.
    Heartbeat { slot: u64, slots: u64 },
    /// Every socket, those still to come included, finishes what it has begun and closes with 1001.
    Shutdown,
}

/// Users with open sockets here, by id and name; none where the registry has ended.
pub async fn list_users(commands: &mpsc::Sender<RegistryCommand>) -> Vec<(i64, Arc<str>)> {
    let (answer, users) = oneshot::channel();
    let _ = commands.send(RegistryCommand::ListUsers(answer)).await;
    users.await.unwrap_or_default()
}

/// The database has forgotten these users of this host, with their numbers of open sockets.
#[derive(Clone, Default)]
pub struct PresenceLost {
    pub lease: i64,
    pub users: Vec<(i64, u32)>,
}

/// What the registry tells the server.
#[derive(Clone)]
pub struct Notices {
    pub presence_lost: watch::Sender<PresenceLost>,
    /// Something may have been missed.
    pub missed: Arc<Notify>,
}

/// Starts the registry's thread. It ends when `deliveries` is closed.
pub fn start(
    deliveries: mpsc::Receiver<Vec<Delivery>>,
    commands: mpsc::Receiver<RegistryCommand>,
    notices: Notices,
    bus: Option<Publisher>,
) -> std::io::Result<JoinHandle<()>> {
    let registry = Registry {
        users: HashMap::new(),
        conversations: HashMap::new(),
        is_shutting_down: false,
        answered: Vec::new(),
        dirty: Vec::new(),
        notices,
        bus,
        outgoing: Vec::new(),
        recent: Recent::default(),
        older: Recent::default(),
    };
    threads::spawn("registry", move || registry.run(deliveries, commands))
}

struct Registry {
    users: HashMap<i64, User>,
    /// The online members of each conversation that has any.
    conversations: HashMap<i64, HashSet<i64>>,
    is_shutting_down: bool,
    /// Sockets with a reply queued since the last flush: who asked need not wait until all others are told.
    answered: Vec<Arc<Socket>>,
    /// Sockets with something else queued since then.
    dirty: Vec<Arc<Socket>>,
    notices: Notices,
    bus: Option<Publisher>,
    /// For the other hosts, since the last flush.
    outgoing: Vec<BusOutput>,
    recent: Recent,
    older: Recent,
}

/// What other hosts have told lately. The database may tell the same later, or have told it before: a user who is just
/// connecting may have read the conversations from before a join, and a message may come before the join of its reader.
struct Recent {
    since: Instant,
    /// By user.
    joins: HashMap<i64, HashSet<i64>>,
    pushes: HashSet<i64>,
}

impl Default for Recent {
    fn default() -> Self {
        Recent {
            since: Instant::now(),
            joins: HashMap::new(),
            pushes: HashSet::new(),
        }
    }
}

/// Longer than an operation takes.
const RECENT: Duration = Duration::from_secs(15);
/// Users with joins, and conversations with pushes, that are remembered.
const RECENT_MAX: usize = 100_000;

/// A user with at least one open socket.
#[derive(Default)]
struct User {
    sockets: Vec<Arc<Socket>>,
    /// In order.
    conversations: Vec<i64>,
}

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
            loop {
                tokio::select! {
                    batch = deliveries.recv() => match batch {
                        Some(batch) => {
                            batch.into_iter().for_each(|delivery| self.apply(delivery));
                        }
                        None => break,
                    },
                    command = commands.recv(), if commands_open => match command {
                        Some(command) => self.command(command),
                        None => commands_open = false,
                    },
                }
                self.flush();
            }
        });
    }

    fn command(&mut self, command: RegistryCommand) {
        match command {
            RegistryCommand::Heartbeat { slot, slots } => {
                let ping = frame::ping_frame();
                for socket in sockets(&self.users, slot, slots) {
                    if socket.was_heard_since_ping() {
                        socket.ping(ping.clone());
                    } else {
                        socket.close(CloseReason::NO_ANSWER_TO_PING);
                    }
                    self.dirty.push(socket.clone());
                }
            }
            RegistryCommand::CatchUp { slot, slots } => {
                let hint = frame::text_frame(&handler::sync::hint());
                for socket in sockets(&self.users, slot, slots) {
                    socket.push(hint.clone(), false);
                    self.dirty.push(socket.clone());
                }
            }
            RegistryCommand::Deliver(outputs) => {
                outputs.into_iter().for_each(|output| self.deliver(output))
            }
            RegistryCommand::ListUsers(answer) => {
                // Whoever asked may have gone.
                let sockets = self.users.values().flat_map(|user| &user.sockets);
                let users = sockets.filter_map(|socket| socket.user());
                let users: HashSet<_> = users.map(|user| (user.id, user.name.clone())).collect();
                let _ = answer.send(users.into_iter().collect());
            }
            RegistryCommand::EndSessions(gone) => {
                for (id, name) in gone {
                    let sockets = self
                        .users
                        .get(&id)
                        .into_iter()
                        .flat_map(|user| &user.sockets);
                    // The id may have been given to somebody else since.
                    let is_gone =
                        |socket: &&Arc<Socket>| socket.user().is_some_and(|user| user.name == name);
                    for socket in sockets.filter(is_gone) {
                        socket.close(CloseReason::SESSION_ENDED);
                        self.dirty.push(socket.clone());
                    }
                }
            }
            RegistryCommand::Members(members) => {
                for (user_id, conversation_ids) in members {
                    for id in conversation_ids {
                        self.join(id, &[user_id]);
                    }
                }
            }
            RegistryCommand::Shutdown => {
                self.is_shutting_down = true;
                for socket in self.users.values().flat_map(|user| &user.sockets) {
                    socket.finish();
                }
            }
        }
    }

    fn apply(&mut self, delivery: Delivery) {
        match delivery.change {
            Some(Change::Opened(socket, session)) => self.open(socket, session),
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
        let requester = delivery.requester.as_ref();
        for output in delivery.outbox {
            match output {
                Output::Push {
                    to,
                    event,
                    is_droppable,
                } => {
                    // One frame for all, encoded once, and only where somebody is there to receive it.
                    let frame = Lazy::new(|| frame::text_frame(&event));
                    self.push(&to, || frame.clone(), is_droppable, requester);
                    if self.bus.is_some() {
                        self.remember_push(&to, is_droppable);
                        self.outgoing.push(BusOutput::Push {
                            to,
                            frame: frame.clone(),
                            is_droppable,
                        });
                    }
                }
                Output::Join {
                    conversation_id,
                    user_ids,
                } => {
                    self.join_told(conversation_id, &user_ids);
                    if self.bus.is_some() {
                        self.outgoing.push(BusOutput::Join {
                            conversation_id,
                            user_ids,
                        });
                    }
                }
            }
        }
        if let (Some(socket), Some(reply)) = (delivery.requester, delivery.reply) {
            socket.answer(reply);
            self.answered.push(socket);
        }
        if let Some(done) = delivery.done {
            done();
        }
    }

    fn open(&mut self, socket: Arc<Socket>, session: Session) {
        if self.is_shutting_down {
            socket.finish();
        }
        let user_id = session.user_id;
        let user = self.users.entry(user_id).or_insert_with(|| {
            METRICS.users.inc();
            User::default()
        });
        // Most have one, and there are many.
        user.sockets.reserve_exact(1);
        user.sockets.push(socket);
        METRICS.sockets.inc();
        let mut ids = session.conversation_ids;
        user.conversations.reserve_exact(ids.len());
        for recent in [&self.recent, &self.older] {
            ids.extend(recent.joins.get(&user_id).into_iter().flatten());
        }
        for id in ids {
            self.join(id, &[user_id]);
        }
    }

    fn age_recent(&mut self) {
        if self.recent.since.elapsed() > RECENT
            || self.recent.joins.len() + self.recent.pushes.len() > RECENT_MAX
        {
            self.older = std::mem::take(&mut self.recent);
        }
    }

    /// What another host has committed.
    fn deliver(&mut self, output: BusOutput) {
        match output {
            BusOutput::Push {
                to,
                frame,
                is_droppable,
            } => {
                self.push(&to, || frame.clone(), is_droppable, None);
                self.remember_push(&to, is_droppable);
            }
            BusOutput::Join {
                conversation_id,
                user_ids,
            } => {
                self.join_told(conversation_id, &user_ids);
                for user_id in user_ids {
                    let joins = self.recent.joins.entry(user_id).or_default();
                    joins.insert(conversation_id);
                }
            }
        }
    }

    fn remember_push(&mut self, to: &Audience, is_droppable: bool) {
        if let (Audience::Conversation(id), false) = (to, is_droppable) {
            self.recent.pushes.insert(*id);
        }
    }

    /// Members as they are told by a host. Where another host was faster with what came after, they have missed it.
    fn join_told(&mut self, conversation_id: i64, user_ids: &[i64]) {
        self.join(conversation_id, user_ids);
        let is_late = [&self.recent, &self.older]
            .iter()
            .any(|recent| recent.pushes.contains(&conversation_id));
        if is_late {
            let to = Audience::Users(user_ids.to_vec());
            let hint = frame::text_frame(&handler::sync::hint());
            self.push(&to, || hint.clone(), false, None);
        }
    }

    fn presence_lost(&mut self, lease: i64) {
        let users = self.users.iter();
        let users = users.map(|(id, user)| (*id, user.sockets.len() as u32));
        let lost = PresenceLost {
            lease,
            users: users.collect(),
        };
        self.notices.presence_lost.send_replace(lost);
    }

    fn close(&mut self, socket: &Arc<Socket>) {
        let Some(user_id) = socket.user().map(|user| user.id) else {
            return;
        };
        let Some(user) = self.users.get_mut(&user_id) else {
            return;
        };
        let before = user.sockets.len();
        user.sockets.retain(|other| !Arc::ptr_eq(other, socket));
        METRICS.sockets.sub((before - user.sockets.len()) as i64);
        if user.sockets.is_empty() {
            METRICS.users.dec();
            let user = self.users.remove(&user_id).unwrap_or_default();
            for id in user.conversations {
                if let Some(members) = self.conversations.get_mut(&id) {
                    members.remove(&user_id);
                    if members.is_empty() {
                        self.conversations.remove(&id);
                    }
                }
            }
        }
    }

    fn join(&mut self, conversation_id: i64, user_ids: &[i64]) {
        for user_id in user_ids {
            if let Some(user) = self.users.get_mut(user_id)
                && let Err(at) = user.conversations.binary_search(&conversation_id)
            {
                user.conversations.insert(at, conversation_id);
                self.conversations
                    .entry(conversation_id)
                    .or_default()
                    .insert(*user_id);
            }
        }
    }

    fn push(
        &mut self,
        to: &Audience,
        frame: impl Fn() -> Bytes,
        is_droppable: bool,
        requester: Option<&Arc<Socket>>,
    ) {
        let mut send = |user_id: &i64| {
            let Some(user) = self.users.get(user_id) else {
                return;
            };
            for socket in &user.sockets {
                if !requester.is_some_and(|requester| Arc::ptr_eq(requester, socket)) {
                    socket.push(frame(), is_droppable);
                    self.dirty.push(socket.clone());
                }
            }
        };
        match to {
            Audience::Users(user_ids) => user_ids.iter().for_each(&mut send),
            Audience::Conversation(id) => {
                if let Some(members) = self.conversations.get(id) {
                    members.iter().for_each(&mut send);
                }
            }
        }
    }

    /// One write for each socket, whatever a commit has for it: a second flush of the same socket finds nothing.
    fn flush(&mut self) {
        for socket in self.answered.drain(..).chain(self.dirty.drain(..)) {
            socket.flush();
        }
        if let (Some(bus), false) = (&mut self.bus, self.outgoing.is_empty()) {
            bus.publish(&self.outgoing);
            self.outgoing.clear();
        }
        if self.bus.is_some() {
            self.age_recent();
        }
    }
}

/// The sockets of one of so many parts.
fn sockets(
    users: &HashMap<i64, User>,
    slot: u64,
    slots: u64,
) -> impl Iterator<Item = &Arc<Socket>> {
    let sockets = users.values().flat_map(|user| &user.sockets);
    sockets.filter(move |socket| socket.id % slots == slot)
}
