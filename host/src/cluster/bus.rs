//! The bus between the hosts of one database: what one host has committed, the others deliver to
//! their sockets.
//!
//! NATS delivers at most once, and that is enough. Every packet carries the number of its host and
//! a sequence number, so a lost packet shows as a gap. The host that sees a gap has its clients
//! catch up from the database. It does the same if another host falls silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use async_nats::{Client, ConnectOptions, Event, RequestErrorKind, ServerAddr};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::cluster::gaps::{BEAT, Others};
use crate::cluster::publisher::{Published, Publisher};
use crate::cluster::wire::{Body, Packet};
use crate::config::BusUrl;
use crate::registry::{RegistryCommand, list_logins};

/// Packets handed to the client library before it has written them.
const CLIENT_QUEUE: usize = 16;
/// Received packets that may wait for the registry; further ones are lost, which shows as a gap.
const SUBSCRIPTION_QUEUE: usize = 512;

/// The part of the bus that waits for the network.
pub struct Bus {
    addresses: Vec<ServerAddr>,
    options: ConnectOptions,
    origin: u64,
    published: Published,
    status: Arc<BusStatus>,
}

/// Whether packets are sent and received.
#[derive(Default)]
pub struct BusStatus {
    is_connected: AtomicBool,
    /// The server has accepted the subscription; the library renews it when it connects again.
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
        let (publisher, published) = Publisher::new(origin);
        let bus = Bus {
            addresses,
            options,
            origin,
            published,
            status: Arc::default(),
        };
        Ok((bus, publisher))
    }

    pub fn status(&self) -> Arc<BusStatus> {
        self.status.clone()
    }

    /// Sends and receives packets until the publisher is gone and its packets are sent. Only hosts
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
            published,
            status,
        } = self;
        let client = connect(addresses, options, status.clone(), missed.clone()).await?;
        let subject = format!("chat.{chat_id}");
        let subscription = client.subscribe(subject.clone()).await?;
        let _receiving = AbortOnDropHandle::new(tokio::spawn(receive(
            subscription,
            origin,
            commands.clone(),
            missed.clone(),
        )));
        // Nobody answers this request. When the server says so, it has accepted the subscription.
        while let Err(error) = client.request(format!("{subject}.nobody"), "".into()).await {
            if error.kind() == RequestErrorKind::NoResponders {
                break;
            }
            sleep(BEAT / 10).await;
        }
        status.is_subscribed.store(true, Ordering::Release);
        // Sockets that have opened before may have missed something.
        if !list_logins(&commands).await.is_empty() {
            missed.notify_one();
        }
        send(&client, subject, origin, published).await;
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

async fn send(client: &Client, subject: String, origin: u64, published: Published) {
    let Published {
        mut packets,
        shared,
    } = published;
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = 0;
    let mut is_open = true;
    while is_open {
        // All packets up to this number are queued, were sent, or were left out.
        let numbered = shared.number.load(Ordering::Acquire);
        let packet = tokio::select! {
            biased;
            packet = packets.recv() => match packet {
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
        // Waits while the bus is lost or slow. A packet that is too large for the bus is left out,
        // which the others notice.
        if let Err(error) = client.publish(subject.clone(), packet).await {
            tracing::warn!(%error, "a packet cannot be published on the bus");
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
    commands: mpsc::Sender<RegistryCommand>,
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
                    tracing::warn!("a packet on the bus cannot be read: is there a host of another version?");
                    missed.notify_one();
                    continue;
                };
                if packet.origin == own {
                    continue;
                }
                if others.hear(&packet, Instant::now()) {
                    missed.notify_one();
                }
                let Body::Outputs(outputs) = packet.body else { continue };
                let deliver = RegistryCommand::Deliver(outputs.into_owned());
                if commands.send(deliver).await.is_err() {
                    return;
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
