//! HTTP connections, from their acceptance to their end.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit;
use crate::http::dispatch::{Peer, answer};
use crate::http::routes::ROUTES;
use crate::http::services::Services;
use crate::limits::client_address::ClientNetwork;
use crate::limits::places::{ConnectionPlace, Places};
use crate::limits::refusal::Refusal;

/// HTTP connections, WebSocket handshakes included; further ones wait in the system's backlog.
const CONNECTIONS_MAX: usize = 4096;
/// HTTP connections from one address that is not a trusted proxy's; further ones are closed at
/// once.
const CONNECTIONS_PER_ADDRESS: u32 = 256;
/// Longest head of a request.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// How long the peer may take to acknowledge sent data.
const UNSENT_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause after an accept that failed, for example because no file descriptor was free.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// After this time without a failure, the next failure is logged again.
const ACCEPT_CALM: Duration = Duration::from_secs(10);
/// Time for the first request of a connection that was accepted right before the stop.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_millis(500);

/// The open HTTP connections. A connection that becomes a WebSocket leaves them.
pub struct Connections {
    pub tasks: TaskTracker,
    pub stopping: CancellationToken,
    head_timeout: Duration,
    places: Arc<Places<ClientNetwork>>,
}

impl Connections {
    /// `head_timeout`: time for the head of a request.
    pub fn new(head_timeout: Duration) -> Self {
        Connections {
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            head_timeout,
            places: Places::new(CONNECTIONS_PER_ADDRESS).into(),
        }
    }
}

/// Accepts connections until the future is dropped.
pub async fn accept(listener: &TcpListener, services: &Arc<Services>, connections: &Connections) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut failed_at: Option<Instant> = None;
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => serve(stream, peer.ip(), services.clone(), connections, permit),
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
    services: Arc<Services>,
    connections: &Connections,
    permit: OwnedSemaphorePermit,
) {
    // A proxy holds the connections of many clients.
    let is_proxy = services
        .trusted_proxies
        .iter()
        .any(|proxy| proxy.contains(&peer.to_canonical()));
    let place = match is_proxy {
        true => None,
        false => match connections.places.take(peer.into()) {
            Some(place) => Some(place),
            None => return audit::refused(Refusal::ConnectionsOfAddress, peer, None),
        },
    };
    let held = Arc::new(ConnectionPlace::new(permit, place));
    // Replies are written whole; waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    // A peer that acknowledges nothing for this time is gone.
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNSENT_TIMEOUT));
    let asked = Arc::new(Notify::new());
    let (is_asked, place, memory) = (asked.clone(), held.clone(), services.store.memory().clone());
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        is_asked.notify_one();
        let peer = Peer::Address(peer);
        let answer = answer(&ROUTES, services.clone(), request, peer, held.clone());
        async { Ok::<_, Infallible>(answer.await) }
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
        // A graceful shutdown closes a connection from which nothing has come yet, so its first
        // request is awaited before that.
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
            // The rest of its answers is dropped with the connection.
            () = place.pressed(&memory.answers) => {
                return audit::refused(Refusal::UnreadAnswers, peer, None);
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection");
        }
    });
}
