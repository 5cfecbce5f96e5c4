//! Who is connected here and what they listen to; turns the outputs of commits into frames on sockets.
//!
//! One owner with plain maps, fed through one queue in commit order, so that everyone sees a conversation in the order
//! of its commits.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use handler::presence::Session;
use handler::{Audience, Outbox, Output};
use tokio::sync::mpsc;

use crate::frame;
use crate::socket::{CloseReason, Socket};

/// What one committed operation means for the sockets of this host. Applied in this order: `change`, `outbox`,
/// `reply`, `done`.
#[derive(Default)]
pub struct Delivery {
    change: Option<Change>,
    /// The socket that asked, which gets the reply and none of the outbox's pushes.
    origin: Option<Arc<Socket>>,
    reply: Option<Bytes>,
    outbox: Outbox,
    done: Option<Box<dyn FnOnce() + Send>>,
}

enum Change {
    Opened(Arc<Socket>, Session),
    Closed(Arc<Socket>),
}

impl Delivery {
    /// What others than this socket are told, and what to do when they have been.
    pub fn pushes(
        origin: Option<Arc<Socket>>,
        outbox: Outbox,
        done: impl FnOnce() + Send + 'static,
    ) -> Self {
        Delivery {
            origin,
            outbox,
            done: Some(Box::new(done)),
            ..Self::default()
        }
    }

    /// The answer to a socket's request, and what others are told.
    pub fn reply(origin: Arc<Socket>, reply: Bytes, outbox: Outbox) -> Self {
        Delivery {
            origin: Some(origin),
            reply: Some(reply),
            outbox,
            ..Self::default()
        }
    }

    /// From here on the socket receives what its user is to hear.
    pub fn opened(socket: Arc<Socket>, session: Session, outbox: Outbox) -> Self {
        Delivery {
            change: Some(Change::Opened(socket, session)),
            outbox,
            ..Self::default()
        }
    }

    /// From here on it receives nothing.
    pub fn closed(socket: Arc<Socket>, outbox: Outbox) -> Self {
        Delivery {
            change: Some(Change::Closed(socket)),
            outbox,
            ..Self::default()
        }
    }
}

/// What the registry is told by others than the store.
pub enum Command {
    /// Ping the sockets whose turn it is and close the silent ones. `slot` of `slots` says whose turn.
    Heartbeat { slot: u64, slots: u64 },
    /// Every socket, those still to come included, finishes what it has begun and closes with 1001.
    Shutdown,
}

/// Starts the registry's thread. It ends when both queues are closed.
pub fn start(
    deliveries: mpsc::Receiver<Vec<Delivery>>,
    commands: mpsc::Receiver<Command>,
) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name("registry".into())
        .spawn(move || Registry::default().run(deliveries, commands))
}

#[derive(Default)]
struct Registry {
    users: HashMap<i64, User>,
    /// The online members of each conversation that has any.
    conversations: HashMap<i64, HashSet<i64>>,
    is_shutting_down: bool,
    /// Sockets with something queued since the last flush.
    dirty: Vec<Arc<Socket>>,
}

/// A user with at least one open socket.
#[derive(Default)]
struct User {
    sockets: Vec<Arc<Socket>>,
    conversations: HashSet<i64>,
}

impl Registry {
    fn run(
        mut self,
        mut deliveries: mpsc::Receiver<Vec<Delivery>>,
        mut commands: mpsc::Receiver<Command>,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime without drivers needs nothing from the system");
        runtime.block_on(async {
            let mut commands_open = true;
            loop {
                tokio::select! {
                    batch = deliveries.recv() => match batch {
                        Some(batch) => batch.into_iter().for_each(|delivery| self.apply(delivery)),
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

    fn command(&mut self, command: Command) {
        match command {
            Command::Heartbeat { slot, slots } => {
                let ping = frame::ping_frame();
                let mut touched = Vec::new();
                for socket in self.users.values().flat_map(|user| &user.sockets) {
                    if socket.id % slots == slot {
                        if socket.was_heard_since_ping() {
                            socket.ping(ping.clone());
                        } else {
                            socket.close(CloseReason::NO_ANSWER_TO_PING);
                        }
                        touched.push(socket.clone());
                    }
                }
                self.dirty.extend(touched);
            }
            Command::Shutdown => {
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
            None => {}
        }
        let origin = delivery.origin.as_ref();
        for output in delivery.outbox {
            match output {
                Output::Push {
                    to,
                    event,
                    is_droppable,
                } => self.push(&to, &event, is_droppable, origin),
                Output::Join {
                    conversation_id,
                    user_ids,
                } => self.join(conversation_id, &user_ids),
            }
        }
        if let (Some(socket), Some(reply)) = (delivery.origin, delivery.reply) {
            socket.answer(reply);
            self.dirty.push(socket);
        }
        if let Some(done) = delivery.done {
            done();
        }
    }

    fn open(&mut self, socket: Arc<Socket>, session: Session) {
        if self.is_shutting_down {
            socket.finish();
        }
        let user = self.users.entry(session.user_id).or_default();
        user.sockets.push(socket);
        for id in session.conversation_ids {
            if user.conversations.insert(id) {
                self.conversations
                    .entry(id)
                    .or_default()
                    .insert(session.user_id);
            }
        }
    }

    fn close(&mut self, socket: &Arc<Socket>) {
        let user_id = socket.user_id();
        let Some(user) = self.users.get_mut(&user_id) else {
            return;
        };
        user.sockets.retain(|other| !Arc::ptr_eq(other, socket));
        if user.sockets.is_empty() {
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
                && user.conversations.insert(conversation_id)
            {
                self.conversations
                    .entry(conversation_id)
                    .or_default()
                    .insert(*user_id);
            }
        }
    }

    /// One frame for all, encoded once, and only where somebody is there to receive it.
    fn push(
        &mut self,
        to: &Audience,
        event: &str,
        is_droppable: bool,
        origin: Option<&Arc<Socket>>,
    ) {
        let mut frame = None;
        let mut send = |user_id: &i64| {
            let Some(user) = self.users.get(user_id) else {
                return;
            };
            for socket in &user.sockets {
                if !origin.is_some_and(|origin| Arc::ptr_eq(origin, socket)) {
                    let frame = frame.get_or_insert_with(|| frame::text_frame(event));
                    socket.push(frame.clone(), is_droppable);
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
        for socket in self.dirty.drain(..) {
            socket.flush();
        }
    }
}
