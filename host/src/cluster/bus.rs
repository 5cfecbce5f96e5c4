//! The bus between the hosts of one database: what one host has committed, the others deliver to
//! their sockets.
//!
//! NATS delivers at most once, and that is enough: `peers` notices what is lost, and has the clients
//! catch up from the database. Each host has a subject of its own, and there is one for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::{Client, ConnectOptions, Event, RequestErrorKind, ServerAddr};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::cluster::peers::{BEAT, Parcel, Parcels, Peers, Shared};
use crate::cluster::wire::{Body, Packet};
use crate::config::BusUrl;
use crate::metrics::METRICS;
use crate::registry::{RegistryCommand, list_logins};

/// Packets handed to the client library before it has written them.
const CLIENT_QUEUE: usize = 16;
/// Received packets that may wait for the registry; further ones are lost, which shows as a gap.
const SUBSCRIPTION_QUEUE: usize = 512;
/// By then, the hosts that are there have heard that this one is, and have greeted it.
const INTRODUCTION: Duration = Duration::from_millis(200);

/// The part of the bus that waits for the network.
pub struct Bus {
    addresses: Vec<ServerAddr>,
    options: ConnectOptions,
    origin: u64,
    parcels: Parcels,
    status: Arc<BusStatus>,
}

/// Whether packets are sent and received.
#[derive(Default)]
pub struct BusStatus {
    is_connected: AtomicBool,
    /// The server has accepted the subscriptions, and the other hosts know this one. The library
    /// renews the subscriptions when it connects again.
    is_subscribed: AtomicBool,
    was_lost: AtomicBool,
}

impl BusStatus {
    pub fn is_ready(&self) -> bool {
        self.is_connected.load(Ordering::Acquire) && self.is_subscribed.load(Ordering::Acquire)
    }
}

impl Bus {
    /// Does not connect yet. Fails if the credentials cannot be used.
    pub async fn new(url: &BusUrl) -> anyhow::Result<(Bus, Peers)> {
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
        let (peers, parcels) = Peers::new(origin, Instant::now());
        let bus = Bus {
            addresses,
            options,
            origin,
            parcels,
            status: Arc::default(),
        };
        Ok((bus, peers))
    }

    pub fn status(&self) -> Arc<BusStatus> {
        self.status.clone()
    }

    /// Sends and receives packets until the registry is gone and its packets are sent. Only hosts
    /// of the same chat hear each other. Fails if the configuration cannot work.
    pub async fn run(
        self,
        chat_id: &str,
        commands: mpsc::Sender<RegistryCommand>,
        missed: Arc<Notify>,
    ) -> anyhow::Result<()> {
        let Bus {
            addresses,
            options,
            origin,
            parcels,
            status,
        } = self;
        let client = connect(addresses, options, status.clone(), missed.clone()).await?;
        let subject = format!("chat.{chat_id}");
        let mut receiving = Vec::new();
        for subject in [subject.clone(), subject_of(&subject, origin)] {
            let packets = client.subscribe(subject).await?;
            let received = receive(packets, commands.clone(), missed.clone());
            receiving.push(AbortOnDropHandle::new(tokio::spawn(received)));
        }
        // Nobody answers this request. When the server says so, it has accepted the subscriptions.
        while let Err(error) = client.request(format!("{subject}.nobody"), "".into()).await {
            if error.kind() == RequestErrorKind::NoResponders {
                break;
            }
            sleep(BEAT / 10).await;
        }
        // Sockets that have opened before may have missed something.
        if !list_logins(&commands).await.is_empty() {
            missed.notify_one();
        }
        let Parcels { queue, shared } = parcels;
        let introduction = introduce(&client, &subject, origin, &commands, &shared, &status);
        tokio::select! {
            () = send(&client, &subject, queue, &shared) => {}
            () = introduction => {}
        }
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
        .name("chatapp")
        .retry_on_initial_connect()
        // This host has already delivered what it publishes.
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
                        tracing::warn!("the bus is lost: nothing arrives from other hosts");
                    }
                    Event::SlowConsumer(_) => {
                        missed.notify_one();
                        tracing::warn!(
                            "the bus delivers faster than this host can process: packets are lost"
                        );
                    }
                    // The library logs other events.
                    _ => {}
                }
            }
        });
    options.connect(addresses).await.context("NATS_URL")
}

/// The subject of what only this host hears.
fn subject_of(subject: &str, origin: u64) -> String {
    format!("{subject}.{origin:016x}")
}

/// Says again and again that this host is there, and has the registry do the same for each host that it
/// knows. Does not end.
async fn introduce(
    client: &Client,
    subject: &str,
    origin: u64,
    commands: &mpsc::Sender<RegistryCommand>,
    shared: &Shared,
    status: &BusStatus,
) {
    let hello = Packet {
        origin,
        number: 0,
        body: Body::Hello,
    };
    let hello = hello.encode();
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        publish(client, subject.to_owned(), hello.clone()).await;
        // The registry may be ending.
        let _ = commands.send(RegistryCommand::Beat).await;
        if !status.is_subscribed.load(Ordering::Acquire) {
            sleep(INTRODUCTION).await;
            shared.is_introduced.store(true, Ordering::Release);
            status.is_subscribed.store(true, Ordering::Release);
        }
    }
}

async fn send(client: &Client, subject: &str, mut queue: mpsc::Receiver<Parcel>, shared: &Shared) {
    while let Some(Parcel { to, packet }) = queue.recv().await {
        let queued = &shared.queued_bytes;
        queued.fetch_sub(packet.len(), Ordering::Relaxed);
        let subject = match to {
            Some(origin) => subject_of(subject, origin),
            None => subject.to_owned(),
        };
        publish(client, subject, packet).await;
    }
    let _ = client.flush().await;
}

/// Waits while the bus is lost or slow. A packet that is too large for the bus is left out, which the
/// others notice.
async fn publish(client: &Client, subject: String, packet: Bytes) {
    let told = METRICS.bus_bytes.with_label_values(&["told"]);
    told.inc_by(packet.len() as u64);
    if let Err(error) = client.publish(subject, packet).await {
        tracing::warn!(%error, "a packet cannot be published on the bus");
    }
}

async fn receive(
    mut packets: async_nats::Subscriber,
    commands: mpsc::Sender<RegistryCommand>,
    missed: Arc<Notify>,
) {
    let heard = METRICS.bus_bytes.with_label_values(&["heard"]);
    while let Some(message) = packets.next().await {
        let payload = message.payload;
        heard.inc_by(payload.len() as u64);
        let Some(packet) = Packet::decode(&payload) else {
            tracing::warn!(
                "a packet on the bus cannot be read: is there a host of another version?"
            );
            missed.notify_one();
            continue;
        };
        if commands.send(RegistryCommand::Hear(packet)).await.is_err() {
            return;
        }
    }
}
