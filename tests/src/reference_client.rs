//! A client that never loses a message and never shows one twice: the loop of PROTOCOL.md, "Writing
//! a client that never loses a message". It is a model for client libraries.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::schema::check_received;

/// How long the client waits to connect. A real client waits longer; a test does not have the time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// After this much silence the client sends a ping; after twice as much it gives the connection up.
const SILENCE: Duration = Duration::from_millis(500);
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// What the device keeps, even if connections end.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The user's own name; empty until the server has told it.
    pub username: String,
    /// The epoch that the conversations belong to.
    pub epoch: String,
    pub conversations: BTreeMap<i64, Conversation>,
    /// Messages, and changes of messages, that are not answered yet, in the order of sending.
    pub outbox: Vec<Pending>,
    /// Counts for the tests' output: what it took to get here.
    pub connections: usize,
    pub gaps: usize,
    /// Messages that were answered as duplicates. For the library: those whose answer was lost.
    pub duplicates: usize,
    pub refused: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Conversation {
    /// The client knows everything up to this rev.
    pub rev: i64,
    pub members: Vec<String>,
    /// By id, which is also the order in which they are shown.
    pub messages: BTreeMap<i64, Value>,
}

impl Conversation {
    /// Takes in a message, unless it belongs to a part of the history that is not loaded: it is older
    /// than `oldest`, the first one that the client held. If the client has a later state of it, that
    /// stays: a push may have arrived before the answer to a `sync` that was read earlier.
    fn take(&mut self, oldest: Option<i64>, message: &Value) {
        let Some(id) = message["id"].as_i64() else {
            return;
        };
        let rev = |message: &Value| message["rev"].as_i64();
        let is_loaded = oldest.is_none_or(|oldest| id >= oldest);
        let is_news = self.messages.get(&id).map(rev) <= Some(rev(message));
        if is_loaded && is_news {
            self.messages.insert(id, message.clone());
        }
    }

    fn oldest(&self) -> Option<i64> {
        self.messages.keys().next().copied()
    }
}

#[derive(Clone, Debug)]
pub struct Pending {
    event: Value,
    /// Its `ref`; for a message also its `client_id`.
    reference: String,
    /// The epoch that its ids belong to.
    epoch: String,
    /// Whether it was sent on the present connection.
    is_sent: bool,
}

/// What a test asks of a client.
pub(crate) enum Command {
    /// An event for the outbox.
    Send(Value),
    /// Answered at once.
    Look(oneshot::Sender<Memory>),
    /// Answered when nothing is pending and everything is known.
    Settle(oneshot::Sender<Memory>),
}

/// A running client.
pub struct ReferenceClient {
    pub(crate) commands: mpsc::UnboundedSender<Command>,
}

impl ReferenceClient {
    /// `cookie` is a login. `seed` makes jitter and client ids repeatable, and must differ between
    /// clients.
    pub fn start(address: SocketAddr, cookie: String, seed: u64) -> Self {
        let (commands, received) = mpsc::unbounded_channel();
        let device = Device {
            address,
            cookie,
            random: fastrand::Rng::with_seed(seed),
            memory: Memory::default(),
            commands: received,
            settling: Vec::new(),
        };
        tokio::spawn(device.run());
        ReferenceClient { commands }
    }

    /// Puts a message into the outbox. It will be stored exactly once, unless a backup is restored.
    pub fn send(&self, conversation_id: i64, content: String) {
        let event = json!({ "type": "send_message", "conversation_id": conversation_id, "content": content });
        self.command(Command::Send(event));
    }

    /// Puts an edit, a deletion or a reaction into the outbox.
    pub fn change(&self, event: Value) {
        self.command(Command::Send(event));
    }

    /// What the device holds now.
    pub async fn look(&self) -> Memory {
        let (done, looked) = oneshot::channel();
        self.command(Command::Look(done));
        looked.await.expect("the client runs")
    }

    fn command(&self, command: Command) {
        assert!(self.commands.send(command).is_ok(), "the client runs");
    }

    /// Waits until every message is answered and everything from others is known; returns what the
    /// device holds.
    pub async fn settle(&self) -> Memory {
        let (done, settled) = oneshot::channel();
        self.command(Command::Settle(done));
        settled.await.expect("the client runs")
    }
}

struct Device {
    address: SocketAddr,
    cookie: String,
    random: fastrand::Rng,
    memory: Memory,
    commands: mpsc::UnboundedReceiver<Command>,
    settling: Vec<oneshot::Sender<Memory>>,
}

impl Device {
    /// Connects again and again, until the test drops its handle.
    async fn run(mut self) {
        let mut backoff = BACKOFF_FIRST;
        loop {
            let connections = self.memory.connections;
            match self.connected().await {
                Ok(()) => return,
                Err(_) if self.memory.connections > connections => backoff = BACKOFF_FIRST,
                Err(_) => backoff = (backoff * 2).min(BACKOFF_MAX),
            }
            // Full jitter: clients that lost the same server do not all come back at the same
            // moment.
            sleep(backoff.mul_f64(self.random.f64())).await;
        }
    }

    /// Runs one connection, from the first sync to its end.
    async fn connected(&mut self) -> anyhow::Result<()> {
        let mut request = format!("ws://{}/ws", self.address).into_client_request()?;
        request.headers_mut().insert("cookie", self.cookie.parse()?);
        let socket = timeout(CONNECT_TIMEOUT, async {
            let stream = TcpStream::connect(self.address).await?;
            let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
            anyhow::Ok(socket)
        });
        let mut connection = Connection {
            socket: socket.await??,
            is_syncing: false,
            sync_again: true,
        };
        self.memory.connections += 1;
        connection
            .send(json!({ "type": "self", "ref": "self" }))
            .await?;
        for pending in &mut self.memory.outbox {
            pending.is_sent = false;
        }
        // Events that were written while away belong to the epoch that was known then.
        while let Ok(command) = self.commands.try_recv() {
            self.obey(&mut connection, command);
        }
        let mut heard_at = Instant::now();
        loop {
            self.advance(&mut connection).await?;
            tokio::select! {
                frame = connection.socket.next() => {
                    heard_at = Instant::now();
                    let frame = frame.context("the server closed")??;
                    if let Message::Text(text) = frame {
                        let event = serde_json::from_str(&text)?;
                        check_received(&event);
                        self.take(&mut connection, event)?;
                    }
                }
                command = self.commands.recv() => match command {
                    None => return Ok(()),
                    Some(command) => self.obey(&mut connection, command),
                },
                () = sleep(SILENCE) => {
                    ensure!(heard_at.elapsed() < 2 * SILENCE, "the connection is stalled");
                    connection.send(json!({ "type": "ping", "ref": "ping" })).await?;
                }
            }
        }
    }

    fn obey(&mut self, connection: &mut Connection, command: Command) {
        match command {
            Command::Send(mut event) => {
                let reference = format!("{:016x}", self.random.u64(..));
                event["ref"] = json!(reference);
                if event["type"] == "send_message" {
                    event["client_id"] = json!(reference);
                }
                self.memory.outbox.push(Pending {
                    event,
                    reference,
                    epoch: self.memory.epoch.clone(),
                    is_sent: false,
                });
            }
            Command::Look(done) => {
                let _ = done.send(self.memory.clone());
            }
            Command::Settle(done) => {
                self.settling.push(done);
                connection.sync_again = true;
            }
        }
    }

    /// Sends what is due: first a sync, then the outbox.
    async fn advance(&mut self, connection: &mut Connection) -> anyhow::Result<()> {
        if connection.is_syncing {
            return Ok(());
        }
        if connection.sync_again {
            connection.sync_again = false;
            connection.is_syncing = true;
            let revs: BTreeMap<_, _> = self
                .memory
                .conversations
                .iter()
                .map(|(id, c)| (id.to_string(), c.rev))
                .collect();
            return connection
                .send(json!({ "type": "sync", "ref": "sync", "revs": revs, "epoch": self.memory.epoch }))
                .await;
        }
        self.give_up_old();
        for pending in self
            .memory
            .outbox
            .iter_mut()
            .filter(|pending| !pending.is_sent)
        {
            pending.is_sent = true;
            connection.send(pending.event.clone()).await?;
        }
        if self.memory.outbox.is_empty() {
            for done in self.settling.drain(..) {
                let _ = done.send(self.memory.clone());
            }
        }
        Ok(())
    }

    /// After a restored backup, the ids in what was written before may be those of other
    /// conversations and messages. So it is not sent. A real client tells its user, who may send
    /// it again where it belongs.
    fn give_up_old(&mut self) {
        let Memory {
            epoch,
            conversations,
            outbox,
            refused,
            ..
        } = &mut self.memory;
        outbox.retain_mut(|pending| {
            // Events that were written before any epoch was known belong to the first one.
            if pending.epoch.is_empty() {
                pending.epoch.clone_from(epoch);
            }
            let is_old = pending.epoch != *epoch;
            let is_stored = || {
                let mut messages = conversations.values().flat_map(|c| c.messages.values());
                messages.any(|message| message["client_id"] == pending.reference.as_str())
            };
            // The backup may have a message whose answer was lost.
            *refused += usize::from(is_old && !is_stored());
            !is_old
        });
    }

    /// Handles a frame from the server: the answer to a sync, a message or a ping, or a push.
    fn take(&mut self, connection: &mut Connection, event: Value) -> anyhow::Result<()> {
        let data = &event["data"];
        let kind = event["type"].as_str().context("an event has a type")?;
        let reference = event["ref"].as_str();
        if let (Some(reference), Some(code)) = (reference, event["code"].as_str()) {
            // Give up the connection; the next one sends the message again after a while.
            ensure!(!matches!(code, "unavailable" | "rate_limited"), "{code}");
            // Sending the message again cannot help with any other error. A real client tells its
            // user.
            self.memory
                .outbox
                .retain(|pending| pending.reference != reference);
            // Somebody else may have deleted the message that this client wants to change.
            self.memory.refused += usize::from(code != "conflict");
            return Ok(());
        }
        match (kind, reference) {
            ("ping", _) => {}
            ("self", _) => {
                let username = data["username"].as_str().context("a username")?;
                self.memory.username = username.to_owned();
            }
            // The server says that the client may have missed something.
            ("sync", None) => connection.sync_again |= data["more"] == true,
            ("sync", Some(_)) => {
                connection.is_syncing = false;
                connection.sync_again |= data["more"] == true;
                self.take_sync(data)?;
            }
            ("send_message" | "edit_message" | "delete_message" | "react", reference) => {
                let is_answered = |pending: &Pending| Some(&*pending.reference) == reference;
                self.memory.outbox.retain(|pending| !is_answered(pending));
                self.memory.duplicates += usize::from(data["duplicate"] == true);
                self.take_change(connection, data["conversation_id"].as_i64(), data);
            }
            ("remove_member" | "leave_conversation", None) => {
                self.take_change(connection, data["conversation_id"].as_i64(), data)
            }
            ("create_conversation" | "rename_conversation" | "add_members" | "set_role", None) => {
                self.take_change(connection, data["id"].as_i64(), data)
            }
            // A lasting change that this client does not know.
            (_, None) if data["rev"].is_i64() => connection.sync_again = true,
            // Pushes that change nothing lasting.
            (_, None) => {}
            (_, Some(_)) => bail!("a reply without a request: {event}"),
        }
        Ok(())
    }

    fn take_sync(&mut self, data: &Value) -> anyhow::Result<()> {
        let epoch = data["epoch"].as_str().context("an epoch")?;
        if epoch != self.memory.epoch {
            self.memory.epoch = epoch.to_owned();
            self.memory.conversations.clear();
        }
        for conversation in data["conversations"].as_array().context("conversations")? {
            let id = conversation["id"].as_i64().context("an id")?;
            let known = self.memory.conversations.entry(id).or_default();
            let oldest = known.oldest();
            for message in conversation["messages"].as_array().context("messages")? {
                known.take(oldest, message);
            }
            // Pushes may have arrived before the answer.
            let rev = conversation["rev"].as_i64().context("a rev")?;
            if rev >= known.rev {
                known.rev = rev;
                known.members = usernames(&conversation["members"]);
            }
        }
        for id in data["left"].as_array().context("left")? {
            self.memory
                .conversations
                .remove(&id.as_i64().context("an id")?);
        }
        Ok(())
    }

    /// Handles a lasting change: the next rev is applied, a known one ignored, and a later one
    /// shows that the client has missed some.
    fn take_change(
        &mut self,
        connection: &mut Connection,
        conversation_id: Option<i64>,
        data: &Value,
    ) {
        let (Some(conversation_id), Some(rev)) = (conversation_id, data["rev"].as_i64()) else {
            return;
        };
        let known = self
            .memory
            .conversations
            .get(&conversation_id)
            .map_or(0, |c| c.rev);
        let is_departure = data["username"].is_string();
        let is_own = is_departure && data["username"] == self.memory.username.as_str();
        // Nobody knows yet whose departure it is.
        let is_unclear = is_departure && self.memory.username.is_empty();
        if rev == known + 1 && is_own {
            self.memory.conversations.remove(&conversation_id);
        } else if rev == known + 1 && !is_unclear {
            let conversation = self
                .memory
                .conversations
                .entry(conversation_id)
                .or_default();
            conversation.rev = rev;
            if data["content"].is_string() {
                let mut message = data.clone();
                if let Some(fields) = message.as_object_mut() {
                    fields.remove("duplicate");
                }
                conversation.take(conversation.oldest(), &message);
            }
            if is_departure {
                let members = &mut conversation.members;
                members.retain(|member| data["username"] != member.as_str());
            }
            if data["members"].is_array() {
                conversation.members = usernames(&data["members"]);
            }
        } else if rev > known {
            self.memory.gaps += 1;
            connection.sync_again = true;
        }
    }
}

fn usernames(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|name| name.as_str().map(str::to_owned))
        .collect()
}

struct Connection {
    socket: WebSocketStream<TcpStream>,
    is_syncing: bool,
    sync_again: bool,
}

impl Connection {
    async fn send(&mut self, event: Value) -> anyhow::Result<()> {
        let sending = self.socket.send(Message::text(event.to_string()));
        timeout(2 * SILENCE, sending).await??;
        Ok(())
    }
}
