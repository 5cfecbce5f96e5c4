//! The server's life: open the database, accept connections, and stop without losing anything.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use handler::account::token::TokenKey;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use sd_notify::NotifyState;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::bus::Bus;
use crate::clock;
use crate::cluster::{Cluster, Readiness};
use crate::config::{Config, Database};
use crate::http::{self, Host};
use crate::limits::{AccountRates, Origin, Place, Places, SocketPlaces, UserRates};
use crate::metrics::{self, METRICS};
use crate::password::PasswordThreads;
use crate::registry::{self, Command, Notices, PresenceLost};
use crate::security;
use crate::store::{Store, StoreThreads};

/// Connections that speak HTTP, handshakes included; further ones wait in the system's backlog.
const HTTP_CONNECTIONS_MAX: usize = 4096;
/// Those of one address that is no trusted proxy's; further ones are closed at once. Also the requests under way for one
/// address, whoever asks for it.
const HTTP_CONNECTIONS_PER_ADDRESS: u32 = 256;
/// Longest head of a request.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// How long what was sent may wait for the peer to take it.
const UNSENT_TIMEOUT: Duration = Duration::from_secs(60);
/// Commits on their way to the registry. Full, it slows the writer down to what sockets take.
const DELIVERIES_QUEUED_MAX: usize = 256;
/// What others than the store have for the registry.
const COMMANDS_QUEUED_MAX: usize = 64;
/// The sockets are pinged in this many groups, one after the other, so that pings do not come in bursts.
const PING_SLOTS: u32 = 30;
/// After an accept that failed, for want of file descriptors perhaps.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Without a failure for so long, the next one is worth a line in the log again.
const ACCEPT_CALM: Duration = Duration::from_secs(10);
/// Time for the first request of a connection that came right before the stop: it may be on its way.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_millis(500);
/// Time for sockets and requests to end; the same again to store that everyone is offline; and to close the database.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that is ready: its database is open and its address bound.
pub struct Server {
    listener: TcpListener,
    host: Arc<Host>,
    threads: StoreThreads,
    registry: JoinHandle<()>,
    commands: mpsc::Sender<Command>,
    bus: Option<Bus>,
    lost: watch::Receiver<PresenceLost>,
    metrics: Option<TcpListener>,
    ping_interval: Duration,
    head_timeout: Duration,
    stopped: oneshot::Receiver<()>,
}

/// Ends `Server::run`; so does dropping it.
pub struct Stopper(oneshot::Sender<()>);

impl Stopper {
    pub fn stop(self) {
        // A server that has ended already needs no telling.
        let _ = self.0.send(());
    }
}

impl Server {
    /// Binds the address before it touches the database, so that a second start on the same port changes nothing.
    pub async fn bind(config: &Config) -> anyhow::Result<(Server, Stopper)> {
        let address = config.address;
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("HOST and PORT: cannot listen on {address}"))?;
        Self::open(config, listener).await
    }

    /// Listens on a socket that was bound by someone else, whatever HOST and PORT are.
    pub async fn adopt(
        config: &Config,
        listener: std::net::TcpListener,
    ) -> anyhow::Result<(Server, Stopper)> {
        config.check_address(listener.local_addr()?.ip())?;
        listener.set_nonblocking(true)?;
        Self::open(config, TcpListener::from_std(listener)?).await
    }

    async fn open(config: &Config, listener: TcpListener) -> anyhow::Result<(Server, Stopper)> {
        let metrics = match config.metrics_address {
            Some(address) => Some(metrics::bind(address).await?),
            None => None,
        };
        let (deliveries, delivered) = mpsc::channel(DELIVERIES_QUEUED_MAX);
        let (commands, commanded) = mpsc::channel(COMMANDS_QUEUED_MAX);
        let (bus, publisher) = match &config.bus {
            Some(url) => Some(Bus::new(url).await?).unzip(),
            None => (None, None),
        };
        let (presence_lost, lost) = watch::channel(PresenceLost::default());
        let notices = Notices {
            presence_lost,
            missed: Arc::default(),
        };
        let missed = notices.missed.clone();
        let registry = registry::start(delivered, commanded, notices, publisher)?;
        let (database, store_timeout) = (config.database.clone(), config.store_timeout);
        let open = move || Store::open(&database, clock::now(), store_timeout, deliveries);
        let (store, threads) = spawn_blocking(open).await??;
        let cluster = Cluster {
            store: store.clone(),
            commands: commands.clone(),
            lease: config.lease,
            missed,
            has_bus: bus.is_some(),
            account_interval: config.account_interval,
            departed: Mutex::default(),
        };
        if let Database::File(_) = config.database {
            cluster
                .start()
                .await
                .context("the database cannot be written")?;
        }
        let cluster = Arc::new(cluster);
        let host = Arc::new(Host {
            readiness: Readiness::new(cluster.clone(), bus.as_ref().map(Bus::status)),
            cluster,
            store,
            passwords: PasswordThreads::start(),
            token_key: TokenKey::new(config.jwt_secret.as_bytes()),
            origins: config.origins.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            same_site: config.same_site,
            account_rates: AccountRates::new(&config.limits),
            socket_places: SocketPlaces::new(&config.limits).into(),
            user_rates: UserRates::new(&config.limits),
            request_places: Places::new(HTTP_CONNECTIONS_PER_ADDRESS).into(),
            body_timeout: config.body_timeout,
            message_timeout: config.message_timeout,
            sockets: TaskTracker::new(),
            next_socket_id: AtomicU64::new(1),
            next_request_id: AtomicU64::new(random_id()?),
        });
        let (stop, stopped) = oneshot::channel();
        let server = Server {
            listener,
            host,
            threads,
            registry,
            commands,
            bus,
            lost,
            metrics,
            ping_interval: config.ping_interval,
            head_timeout: config.head_timeout,
            stopped,
        };
        Ok((server, Stopper(stop)))
    }

    /// The address it listens on: with the port that the system chose where PORT is 0.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where it shows its metrics.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }

    /// Serves until the `Stopper` is used, then stops: accepts no more, answers what has been asked, closes the sockets
    /// with 1001, commits what is queued. Bounded, whatever clients do.
    pub async fn run(self) -> anyhow::Result<()> {
        let Server {
            listener,
            host,
            threads,
            registry,
            commands,
            bus,
            lost,
            metrics,
            ping_interval,
            head_timeout,
            stopped,
        } = self;
        let _metrics = metrics.map(|listener| {
            AbortOnDropHandle::new(tokio::spawn(metrics::serve(listener, host.clone())))
        });
        let bus = bus.map(|bus| {
            let cluster = host.cluster.clone();
            AbortOnDropHandle::new(tokio::spawn(async move { cluster.carry(bus).await }))
        });
        let connections = Connections {
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            head_timeout,
            places: Places::new(HTTP_CONNECTIONS_PER_ADDRESS).into(),
        };
        {
            let _heartbeats =
                AbortOnDropHandle::new(tokio::spawn(heartbeats(commands.clone(), ping_interval)));
            let cluster = host.cluster.clone();
            let _cluster =
                AbortOnDropHandle::new(tokio::spawn(async move { cluster.run(lost).await }));
            tokio::select! {
                () = accept(&listener, &host, &connections) => {}
                _ = stopped => {}
            }
        }
        drop(listener);
        tracing::info!("stopping");
        host.sockets.close();
        connections.tasks.close();
        connections.stopping.cancel();
        let ended = async {
            // The registry lives as long as the store.
            let _ = commands.send(Command::Shutdown).await;
            connections.tasks.wait().await;
            host.sockets.wait().await;
        };
        if timeout(STOP_TIMEOUT, ended).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
        // Where this fails, which the store has logged, or takes too long, the next start does it.
        let _ = timeout(STOP_TIMEOUT, host.cluster.stop()).await;
        drop(commands);
        let closed = spawn_blocking(move || {
            threads.stop();
            // A thread that panicked has printed why.
            let _ = registry.join();
        });
        match timeout(STOP_TIMEOUT, closed).await {
            Ok(closed) => closed?,
            // Nothing that was acknowledged depends on it.
            Err(_) => tracing::warn!("the database did not close in time"),
        }
        if let Some(bus) = bus {
            // It ends when the registry has, and its last packets have left.
            let _ = timeout(STOP_TIMEOUT, bus).await;
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// Where the ids of requests begin: those of two hosts, or of two starts, are not to be the same.
fn random_id() -> anyhow::Result<u64> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)?;
    Ok(u64::from_be_bytes(random))
}

/// Connections that speak HTTP; one that becomes a socket leaves them.
struct Connections {
    tasks: TaskTracker,
    stopping: CancellationToken,
    head_timeout: Duration,
    places: Arc<Places<Origin>>,
}

/// Held for as long as a connection is HTTP: a socket that opens has a place of its own.
struct HttpPlace {
    _permit: OwnedSemaphorePermit,
    _place: Option<Place<Origin>>,
}

impl HttpPlace {
    fn new(permit: OwnedSemaphorePermit, place: Option<Place<Origin>>) -> Self {
        METRICS.http_connections.inc();
        HttpPlace {
            _permit: permit,
            _place: place,
        }
    }
}

impl Drop for HttpPlace {
    fn drop(&mut self) {
        METRICS.http_connections.dec();
    }
}

async fn accept(listener: &TcpListener, host: &Arc<Host>, connections: &Connections) {
    let permits = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
    let mut failed_at: Option<Instant> = None;
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => serve(stream, peer.ip(), host.clone(), connections, permit),
            Err(error) => {
                if failed_at.is_none_or(|at| at.elapsed() > ACCEPT_CALM) {
                    tracing::warn!(%error, "accept: connections wait");
                }
                failed_at = Some(Instant::now());
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

fn serve(
    stream: TcpStream,
    peer: IpAddr,
    host: Arc<Host>,
    connections: &Connections,
    permit: OwnedSemaphorePermit,
) {
    // A proxy has the connections of many.
    let is_proxy = host
        .trusted_proxies
        .iter()
        .any(|proxy| proxy.contains(&peer.to_canonical()));
    let place = match is_proxy {
        true => None,
        false => match connections.places.take(peer.into()) {
            Some(place) => Some(place),
            None => return security::refused("connections_of_address", peer, None),
        },
    };
    let held = Arc::new(HttpPlace::new(permit, place));
    // Replies are written whole; waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    // A peer that takes nothing of an answer for so long is gone.
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNSENT_TIMEOUT));
    let asked = Arc::new(Notify::new());
    let is_asked = asked.clone();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        is_asked.notify_one();
        let answer = http::answer(host.clone(), request, peer, held.clone());
        async { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(connections.head_timeout)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let stopping = connections.stopping.clone();
    connections.tasks.spawn(async move {
        let mut connection = pin!(connection);
        // hyper would close a connection from which nothing has come yet.
        let stopped = async {
            stopping.cancelled().await;
            let _ = timeout(FIRST_REQUEST_TIMEOUT, asked.notified()).await;
        };
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopped => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection");
        }
    });
}

/// Pings to sockets. The service manager, where there is one that watches, hears as often that all goes on: a registry that
/// hangs fills its queue, and these stop.
async fn heartbeats(commands: mpsc::Sender<Command>, ping_interval: Duration) {
    let mut ticks = interval(ping_interval / PING_SLOTS);
    let slots = u64::from(PING_SLOTS);
    for slot in (0..slots).cycle() {
        ticks.tick().await;
        if commands
            .send(Command::Heartbeat { slot, slots })
            .await
            .is_err()
        {
            return;
        }
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    }
}
