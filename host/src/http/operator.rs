//! The operator's socket: a Unix socket beside the data file that only the file's owner can open. What
//! programs may do with an API key over HTTP, the owner may do here without one.

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::geteuid;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::http::dispatch::{Peer, answer};
use crate::http::routes::ROUTES;
use crate::http::services::Services;
use crate::limits::places::ConnectionPlace;
use crate::store::location::Database;

/// Connections at once, of root and the server's user; more wait.
const CONNECTIONS_MAX: usize = 16;
/// The pause after an accept that failed.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

/// It is removed when this is dropped.
pub struct OperatorSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for OperatorSocket {
    fn drop(&mut self) {
        // If it stays, the next server removes it.
        let _ = fs::remove_file(&self.path);
    }
}

impl OperatorSocket {
    /// The socket beside a data file, which this process has locked. Without it (some file systems have no
    /// sockets) the server does all the rest.
    pub fn beside(database: &Database) -> Option<Self> {
        let path = database.operator_socket()?;
        let bound = Self::bind(&path);
        let warn = |error: &io::Error| {
            let path = path.display();
            tracing::warn!(%error, "no socket {path}: `chatapp user` needs --server and a key while this server runs");
        };
        bound.inspect_err(warn).ok()
    }

    fn bind(path: &Path) -> io::Result<Self> {
        // One that a killed server has left: nobody else serves this file.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        let socket = OperatorSocket {
            listener,
            path: path.to_owned(),
        };
        // Whoever connects before this is asked who it is, as everybody is.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(socket)
    }

    /// Answers requests until the future is dropped.
    pub async fn serve(self, services: Arc<Services>, head_timeout: Duration) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        while let Ok(permit) = permits.clone().acquire_owned().await {
            match self.listener.accept().await {
                Ok((stream, _)) => match peer(&stream) {
                    Some(uid) if uid == 0 || uid == geteuid().as_raw() => {
                        let serving = serve_one(stream, services.clone(), permit, head_timeout);
                        connections.spawn(serving);
                    }
                    uid => {
                        tracing::warn!(target: "security", uid, "the operator's socket was opened by another user of this machine")
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "the operator's socket: accept failed");
                    sleep(ACCEPT_RETRY).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }
}

/// The user of this machine who has connected.
fn peer(stream: &UnixStream) -> Option<u32> {
    Some(stream.peer_cred().ok()?.uid())
}

/// Serves a connection of the operator.
pub async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    services: Arc<Services>,
    permit: OwnedSemaphorePermit,
    head_timeout: Duration,
) {
    let place = Arc::new(ConnectionPlace::new(permit, None));
    let service = service_fn(move |request| {
        let answer = answer(
            &ROUTES,
            services.clone(),
            request,
            Peer::Operator,
            place.clone(),
        );
        async { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .serve_connection(TokioIo::new(stream), service);
    // It fails only if the client has gone, or sends nonsense.
    let _ = connection.await;
}
