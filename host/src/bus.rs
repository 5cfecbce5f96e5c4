//! The bus between hosts over one database: what one has committed, the others deliver to their sockets.
//!
//! NATS delivers at most once, and that is enough: every packet carries its host's name and a number, so whatever is lost
//! on the way, for whatever reason, shows as a gap, and the host that sees one has its clients catch up from the
//! database. The same holds for a host that falls silent.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use async_nats::{Client, ConnectOptions, Event, RequestErrorKind, ServerAddr};
use bytes::Bytes;
use futures_util::StreamExt;
use handler::Audience;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::config::BusUrl;
use crate::registry::Command;

/// The first byte of every packet; a host of another version is not understood, and its packets count as lost.
const VERSION: u8 = 1;
/// Outputs of one commit that pass this many bytes travel in several packets.
const PACKET_BYTES: usize = 256 * 1024;
/// Packets, and their bytes, that wait for a slow bus; further ones are left out, which the other hosts notice.
const QUEUED_MAX: usize = 4096;
const QUEUED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Packets handed to the client library before it has written them.
const CLIENT_QUEUE: usize = 16;
/// Packets received that wait for the registry; further ones are lost, which is noticed.
const SUBSCRIPTION_QUEUE: usize = 512;
/// An idle host says this often which packet was its last.
const BEAT: Duration = Duration::from_secs(1);
/// A host that was silent for so long may have died with something unsaid.
const SILENCE: Duration = Duration::from_secs(5);

/// A consequence of a commit, for the sockets of other hosts. `frame` is the whole WebSocket frame.
#[derive(Debug, Clone)]
pub enum BusOutput {
    Push {
        to: Audience,
        frame: Bytes,
        is_droppable: bool,
    },
    Join {
        conversation_id: i64,
        user_ids: Vec<i64>,
    },
}

/// After the version.
#[derive(Serialize, Deserialize)]
struct Packet<'a> {
    /// The host, by a random number.
    origin: u64,
    /// Of a `Beat` and a `Goodbye`: the number of the packet before.
    number: u64,
    #[serde(borrow)]
    body: Body<'a>,
}

#[derive(Serialize, Deserialize)]
enum Body<'a> {
    #[serde(borrow)]
    Outputs(Vec<WireOutput<'a>>),
    Beat,
    Goodbye,
}

#[derive(Serialize, Deserialize)]
enum WireOutput<'a> {
    Push {
        to: Audience,
        #[serde(borrow)]
        frame: &'a [u8],
        is_droppable: bool,
    },
    Join {
        conversation_id: i64,
        user_ids: Vec<i64>,
    },
}

impl Packet<'_> {
    fn encode(&self) -> Bytes {
        let packet = postcard::to_extend(self, vec![VERSION]);
        packet
            .expect("numbers, bytes and lists always serialise")
            .into()
    }

    fn decode(payload: &[u8]) -> Option<Packet<'_>> {
        let (version, packet) = payload.split_first()?;
        (*version == VERSION)
            .then(|| postcard::from_bytes(packet).ok())
            .flatten()
    }
}

impl WireOutput<'_> {
    fn into_output(self) -> BusOutput {
        match self {
            WireOutput::Push {
                to,
                frame,
                is_droppable,
            } => BusOutput::Push {
                to,
                // A small frame that waits for a slow socket must not keep the packet it came in.
                frame: Bytes::copy_from_slice(frame),
                is_droppable,
            },
            WireOutput::Join {
                conversation_id,
                user_ids,
            } => BusOutput::Join {
                conversation_id,
                user_ids,
            },
        }
    }
}

impl BusOutput {
    fn wire(&self) -> WireOutput<'_> {
        match self {
            BusOutput::Push {
                to,
                frame,
                is_droppable,
            } => WireOutput::Push {
                to: to.clone(),
                frame,
                is_droppable: *is_droppable,
            },
            BusOutput::Join {
                conversation_id,
                user_ids,
            } => WireOutput::Join {
                conversation_id: *conversation_id,
                user_ids: user_ids.clone(),
            },
        }
    }

    /// About.
    fn bytes(&self) -> usize {
        match self {
            BusOutput::Push { to, frame, .. } => {
                frame.len()
                    + match to {
                        Audience::Users(ids) => ids.len() * 4,
                        Audience::Conversation { .. } => 8,
                    }
            }
            BusOutput::Join { user_ids, .. } => user_ids.len() * 4,
        }
    }
}

/// The registry's end: hands packets on without ever waiting.
pub struct Publisher {
    origin: u64,
    number: u64,
    queue: mpsc::Sender<(u64, Bytes)>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queued_bytes: AtomicUsize,
    /// The number of the last packet, queued or left out.
    number: AtomicU64,
}

impl Publisher {
    /// In one packet, or several that each hold at least one output.
    pub fn publish(&mut self, outputs: &[BusOutput]) {
        let mut rest = outputs;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |output: &&BusOutput| {
                bytes += output.bytes();
                bytes <= PACKET_BYTES
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (now, later) = rest.split_at(count);
            rest = later;
            self.number += 1;
            let packet = Packet {
                origin: self.origin,
                number: self.number,
                body: Body::Outputs(now.iter().map(BusOutput::wire).collect()),
            };
            self.send(packet.encode());
        }
        self.shared.number.store(self.number, Ordering::Release);
    }

    /// Other hosts may have to be told something that is not known here: they notice that a packet is missing.
    pub fn skip(&mut self) {
        self.number += 1;
        self.shared.number.store(self.number, Ordering::Release);
    }

    fn send(&self, packet: Bytes) {
        let queued = &self.shared.queued_bytes;
        let bytes = packet.len();
        if queued.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUED_BYTES_MAX
            || self.queue.try_send((self.number, packet)).is_err()
        {
            queued.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// The part of the bus that waits for the network.
pub struct Bus {
    addresses: Vec<ServerAddr>,
    options: ConnectOptions,
    origin: u64,
    queue: mpsc::Receiver<(u64, Bytes)>,
    shared: Arc<Shared>,
    status: Arc<BusStatus>,
}

/// Whether packets go out and come in.
#[derive(Default)]
pub struct BusStatus {
    is_connected: AtomicBool,
    /// The server has taken the subscription; the library renews it when it connects again.
    is_subscribed: AtomicBool,
    was_lost: AtomicBool,
}

impl BusStatus {
    pub fn is_ready(&self) -> bool {
        self.is_connected.load(Ordering::Acquire) && self.is_subscribed.load(Ordering::Acquire)
    }
}

impl Bus {
    /// Does not connect yet. An error: the credentials cannot be used.
    pub async fn new(url: &BusUrl) -> anyhow::Result<(Bus, Publisher)> {
        let options = match &url.credentials_file {
            Some(path) => ConnectOptions::with_credentials_file(path)
                .await
                .with_context(|| format!("NATS_CREDS: cannot use {}", path.display()))?,
            None => ConnectOptions::new(),
        };
        let options = match &url.login {
            Some((user, Some(password))) => {
                options.user_and_password(user.clone(), password.clone())
            }
            Some((token, None)) => options.token(token.clone()),
            None => options,
        };
        let addresses = url.addresses.iter().map(|address| address.parse());
        let addresses = addresses.collect::<Result<_, _>>().context("NATS_URL")?;
        let mut origin = [0; 8];
        getrandom::fill(&mut origin)?;
        let origin = u64::from_be_bytes(origin);
        let (sender, queue) = mpsc::channel(QUEUED_MAX);
        let shared = Arc::new(Shared::default());
        let publisher = Publisher {
            origin,
            number: 0,
            queue: sender,
            shared: shared.clone(),
        };
        let bus = Bus {
            addresses,
            options,
            origin,
            queue,
            shared,
            status: Arc::default(),
        };
        Ok((bus, publisher))
    }

    pub fn status(&self) -> Arc<BusStatus> {
        self.status.clone()
    }

    /// Carries packets both ways until the publisher is gone, and what it has published has left. Hosts of the same `community` hear each other. An error:
    /// the configuration cannot work.
    pub async fn run(
        self,
        community: &str,
        commands: mpsc::Sender<Command>,
        missed: Arc<Notify>,
    ) -> anyhow::Result<()> {
        let Bus {
            addresses,
            options,
            origin,
            queue,
            shared,
            status,
        } = self;
        let client = connect(addresses, options, status.clone(), missed.clone()).await?;
        let subject = format!("chat.{community}");
        let subscription = client.subscribe(subject.clone()).await?;
        let _receiving = AbortOnDropHandle::new(tokio::spawn(receive(
            subscription,
            origin,
            commands.clone(),
            missed.clone(),
        )));
        // Nobody answers, and the server says so, which it does when it has taken the subscription.
        while let Err(error) = client.request(format!("{subject}.nobody"), "".into()).await {
            if error.kind() == RequestErrorKind::NoResponders {
                break;
            }
            sleep(BEAT / 10).await;
        }
        status.is_subscribed.store(true, Ordering::Release);
        // Sockets that have opened before may have missed something.
        let (answer, users) = oneshot::channel();
        let asked = commands.send(Command::ListUsers(answer)).await;
        if asked.is_ok() && users.await.is_ok_and(|users| !users.is_empty()) {
            missed.notify_one();
        }
        send(&client, subject, origin, queue, &shared).await;
        Ok(())
    }
}

async fn connect(
    addresses: Vec<ServerAddr>,
    options: ConnectOptions,
    status: Arc<BusStatus>,
    missed: Arc<Notify>,
) -> anyhow::Result<Client> {
    let options = options
        .name("chat")
        .retry_on_initial_connect()
        // What this host publishes it has delivered already.
        .no_echo()
        .client_capacity(CLIENT_QUEUE)
        .subscription_capacity(SUBSCRIPTION_QUEUE)
        .reconnect_delay_callback(|attempts| {
            Duration::from_millis(100 * (attempts as u64).clamp(1, 20))
        })
        .ping_interval(Duration::from_secs(10))
        .event_callback(move |event| {
            let (status, missed) = (status.clone(), missed.clone());
            async move {
                match event {
                    Event::Connected => {
                        status.is_connected.store(true, Ordering::Release);
                        tracing::info!("the bus is connected");
                        if status.was_lost.swap(false, Ordering::AcqRel) {
                            missed.notify_one();
                        }
                    }
                    Event::Disconnected => {
                        status.is_connected.store(false, Ordering::Release);
                        status.was_lost.store(true, Ordering::Release);
                        tracing::warn!("the bus is lost: other hosts are not heard");
                    }
                    Event::SlowConsumer(_) => {
                        tracing::warn!("the bus brings more than is taken: packets are lost");
                    }
                    // The library logs it.
                    _ => {}
                }
            }
        });
    options.connect(addresses).await.context("NATS_URL")
}

async fn send(
    client: &Client,
    subject: String,
    origin: u64,
    mut queue: mpsc::Receiver<(u64, Bytes)>,
    shared: &Shared,
) {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = 0;
    let mut is_open = true;
    while is_open {
        // Everything up to this number is in the queue, has been, or was left out.
        let numbered = shared.number.load(Ordering::Acquire);
        let packet = tokio::select! {
            biased;
            packet = queue.recv() => match packet {
                Some((number, packet)) => {
                    shared.queued_bytes.fetch_sub(packet.len(), Ordering::Relaxed);
                    last = number;
                    packet
                }
                None => {
                    is_open = false;
                    last = last.max(numbered);
                    status(origin, last, Body::Goodbye)
                }
            },
            _ = beats.tick() => {
                last = last.max(numbered);
                status(origin, last, Body::Beat)
            }
        };
        // Waits for a bus that is lost or slow; a packet that is too large for it is left out, which the others notice.
        if let Err(error) = client.publish(subject.clone(), packet).await {
            tracing::warn!(%error, "bus");
        }
    }
    let _ = client.flush().await;
}

fn status(origin: u64, number: u64, body: Body<'static>) -> Bytes {
    Packet {
        origin,
        number,
        body,
    }
    .encode()
}

async fn receive(
    mut subscription: async_nats::Subscriber,
    own: u64,
    commands: mpsc::Sender<Command>,
    missed: Arc<Notify>,
) {
    let mut others = Others::new(Instant::now());
    let mut ticks = interval(BEAT);
    loop {
        tokio::select! {
            message = subscription.next() => {
                let Some(message) = message else { return };
                let payload = message.payload;
                let Some(packet) = Packet::decode(&payload) else {
                    tracing::warn!("a packet on the bus is not understood: a host of another version?");
                    missed.notify_one();
                    continue;
                };
                if packet.origin == own {
                    continue;
                }
                if others.hear(&packet, Instant::now()) {
                    missed.notify_one();
                }
                if let Body::Outputs(outputs) = packet.body {
                    let outputs = outputs.into_iter().map(WireOutput::into_output);
                    if commands.send(Command::Deliver(outputs.collect())).await.is_err() {
                        return;
                    }
                }
            }
            _ = ticks.tick() => {
                if others.has_silent(Instant::now()) {
                    missed.notify_one();
                }
            }
        }
    }
}

/// What the other hosts have last said.
struct Others {
    since: Instant,
    /// By origin: the number of the last packet, and when it came.
    last: HashMap<u64, (u64, Instant)>,
}

impl Others {
    fn new(since: Instant) -> Self {
        Others {
            since,
            last: HashMap::new(),
        }
    }

    /// Takes note of a packet. Whether something has been missed before it.
    fn hear(&mut self, packet: &Packet, now: Instant) -> bool {
        let (number, is_numbered) = match packet.body {
            Body::Outputs(_) => (packet.number, 1),
            Body::Beat | Body::Goodbye => (packet.number, 0),
        };
        let known = self.last.insert(packet.origin, (number, now));
        if matches!(packet.body, Body::Goodbye) {
            self.last.remove(&packet.origin);
        }
        match known {
            Some((known, _)) => number != known + is_numbered,
            // A host that was here before this one began has said more, which nobody here has missed; one that came
            // since has begun at nought.
            None => number > is_numbered && now - self.since > 3 * BEAT,
        }
    }

    /// Whether a host has fallen silent. It is forgotten then.
    fn has_silent(&mut self, now: Instant) -> bool {
        let before = self.last.len();
        self.last
            .retain(|_, (_, heard_at)| now - *heard_at < SILENCE);
        self.last.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(number: u64, body: Body) -> Packet {
        Packet {
            origin: 1,
            number,
            body,
        }
    }

    fn outputs(number: u64) -> Packet<'static> {
        packet(number, Body::Outputs(Vec::new()))
    }

    #[test]
    fn a_packet_arrives_as_it_was_sent() {
        let frame = Bytes::from_static(b"\x81\x02{}");
        let sent = [
            BusOutput::Push {
                to: Audience::Conversation {
                    id: 7,
                    members_rev: 3,
                },
                frame: frame.clone(),
                is_droppable: true,
            },
            BusOutput::Push {
                to: Audience::Users(vec![1, i64::MAX]),
                frame,
                is_droppable: false,
            },
            BusOutput::Join {
                conversation_id: -1,
                user_ids: vec![],
            },
        ];
        let payload = packet(3, Body::Outputs(sent.iter().map(BusOutput::wire).collect())).encode();
        let received = Packet::decode(&payload).expect("a packet");
        assert_eq!((received.origin, received.number), (1, 3));
        let Body::Outputs(outputs) = received.body else {
            panic!("not outputs");
        };
        let outputs = outputs.into_iter().map(WireOutput::into_output);
        let received: Vec<_> = outputs.collect();
        assert_eq!(format!("{received:?}"), format!("{sent:?}"));
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        let good = outputs(1).encode();
        assert!(Packet::decode(&good).is_some());
        let mut other_version = good.to_vec();
        other_version[0] = VERSION + 1;
        for bad in [&[][..], &[VERSION], &good[..good.len() - 1], &other_version] {
            assert!(Packet::decode(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn gaps_and_silence_are_noticed() {
        let start = Instant::now();
        let mut others = Others::new(start);
        assert!(!others.hear(&outputs(5), start), "it was there before");
        assert!(!others.hear(&outputs(6), start));
        assert!(!others.hear(&packet(6, Body::Beat), start));
        assert!(others.hear(&outputs(8), start), "7 is missing");
        assert!(others.hear(&packet(9, Body::Beat), start), "9 is missing");
        assert!(!others.has_silent(start + SILENCE / 2));
        assert!(others.has_silent(start + SILENCE), "it may have died");
        assert!(!others.has_silent(start + SILENCE), "which is told once");
        let later = start + SILENCE;
        assert!(
            others.hear(&outputs(10), later),
            "it was not heard for a while"
        );
        assert!(!others.hear(&packet(10, Body::Goodbye), later));
        assert!(!others.has_silent(later + SILENCE), "it has said goodbye");
    }

    #[test]
    fn a_new_host_begins_at_nought() {
        let start = Instant::now();
        let mut others = Others::new(start);
        let later = start + 10 * BEAT;
        assert!(!others.hear(&packet(0, Body::Beat), later));
        assert!(!others.hear(&outputs(1), later));
        let mut others = Others::new(start);
        assert!(others.hear(&outputs(2), later), "1 is missing");
    }

    #[tokio::test]
    async fn a_slow_bus_is_given_no_more_than_it_can_hold() {
        let (mut bus, mut publisher) = Bus::new(&BusUrl {
            addresses: Vec::new(),
            login: None,
            credentials_file: None,
        })
        .await
        .expect("a bus");
        let output = BusOutput::Push {
            to: Audience::Conversation {
                id: 1,
                members_rev: 1,
            },
            frame: vec![0; 60 * 1024].into(),
            is_droppable: false,
        };
        let outputs = vec![output; 10];
        for _ in 0..100 {
            publisher.publish(&outputs);
        }
        let mut bytes = 0;
        let mut packets = 0;
        while let Ok(packet) = bus.queue.try_recv() {
            assert!(packet.1.len() <= PACKET_BYTES + 1024);
            bytes += packet.1.len();
            packets += 1;
        }
        assert!(bytes <= QUEUED_BYTES_MAX);
        assert_eq!(
            bus.shared.number.load(Ordering::Relaxed),
            300,
            "all are numbered"
        );
        assert!(packets > 10 && packets < 300, "{packets}");
    }
}
