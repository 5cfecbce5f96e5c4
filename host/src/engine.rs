//! A chat without its listeners: the database, the registry, and the other hosts.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::clock;
use crate::cluster::Cluster;
use crate::cluster::bus::Bus;
use crate::config::Config;
use crate::http::services::Services;
use crate::registry::{self, Notices, PresenceLost, RegistryCommand};
use crate::socket::flusher::Flusher;
use crate::socket::presence::Presence;
use crate::store::{Store, StoreThreads};

/// Commits on their way to the registry. If this many wait, the writer slows down to the pace of the sockets.
const DELIVERIES_QUEUED_MAX: usize = 256;
/// Commands for the registry from anything but the store.
pub const COMMANDS_QUEUED_MAX: usize = 64;
/// Time to store that everyone is offline; the same time again to close the database, and again to leave the bus.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Engine {
    pub services: Arc<Services>,
    pub commands: mpsc::Sender<RegistryCommand>,
    cluster: Arc<Cluster>,
    threads: StoreThreads,
    registry: JoinHandle<()>,
    lost: watch::Receiver<PresenceLost>,
    bus: Option<Bus>,
    joined: Option<AbortOnDropHandle<()>>,
}

impl Engine {
    /// Opens the database.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let (deliveries, delivered) = mpsc::channel(DELIVERIES_QUEUED_MAX);
        let (commands, commanded) = mpsc::channel(COMMANDS_QUEUED_MAX);
        let (bus, peers) = match &config.bus {
            Some(url) => Some(Bus::new(url).await?).unzip(),
            None => (None, None),
        };
        let (presence_lost, lost) = watch::channel(PresenceLost::default());
        let notices = Notices {
            presence_lost,
            missed: Arc::default(),
            doubted: Arc::default(),
        };
        let flusher = Flusher::start(config.flushers)?;
        let registry = registry::start(delivered, commanded, notices.clone(), peers, flusher)?;
        let (database, store_timeout) = (config.database.clone(), config.store_timeout);
        let open = move || Store::open(&database, clock::now(), store_timeout, deliveries);
        let (store, threads) = spawn_blocking(open).await??;
        let presence = Arc::new(Presence::new(store));
        let deleted = Arc::new(Notify::new());
        let cluster = Cluster::new(
            config,
            presence.clone(),
            commands.clone(),
            notices,
            deleted.clone(),
        );
        if !config.database.is_shared() {
            let started = cluster.start().await;
            started.context("the database cannot be written")?;
        }
        let services = Services::new(config, presence, bus.as_ref().map(Bus::status), deleted);
        Ok(Engine {
            services: services.into(),
            commands,
            cluster: cluster.into(),
            threads,
            registry,
            lost,
            bus,
            joined: None,
        })
    }

    /// Joins the bus, if there is one.
    pub fn join_bus(&mut self) {
        let cluster = self.cluster.clone();
        let join =
            |bus| AbortOnDropHandle::new(tokio::spawn(async move { cluster.join_bus(bus).await }));
        self.joined = self.bus.take().map(join);
    }

    /// What goes on beside the requests.
    pub fn run_cluster(&self) -> impl Future<Output = ()> + Send + use<> {
        let (cluster, lost) = (self.cluster.clone(), self.lost.clone());
        async move { cluster.run(lost).await }
    }

    /// Commits what is queued, and closes the database. Ends in bounded time.
    pub async fn close(self) {
        let Engine {
            commands,
            cluster,
            threads,
            registry,
            joined,
            ..
        } = self;
        // If this fails (the store logs it) or takes too long, the next start does it.
        let _ = timeout(STOP_TIMEOUT, cluster.stop()).await;
        drop(commands);
        let closed = spawn_blocking(move || {
            threads.stop();
            // A thread that panicked has logged why.
            let _ = registry.join();
        });
        // No acknowledged message depends on it.
        if timeout(STOP_TIMEOUT, closed).await.is_err() {
            tracing::warn!("the database did not close in time");
        }
        if let Some(joined) = joined {
            // It ends after the registry has ended and its last packets have left.
            let _ = timeout(STOP_TIMEOUT, joined).await;
        }
    }
}
