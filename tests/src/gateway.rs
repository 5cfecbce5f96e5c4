//! A proxy in front of one database of a libSQL server. It gives the database a URL, counts
//! requests and injects faults.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::sleep;

use crate::servers::Sqld;

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request never reaches the server, and the connection breaks.
    LoseRequest,
    /// The server handles the request, but the answer never arrives.
    LoseAnswer,
    /// The answer never arrives, but the connection stays open.
    Stall,
    /// The request is refused with this status.
    Status(u16),
}

#[derive(Clone)]
pub struct Gateway {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    /// The host name that selects the database.
    name: String,
    requests: AtomicUsize,
    connections: AtomicUsize,
    /// Rows of tables and indexes that the server has read for its answers.
    rows_read: AtomicU64,
    /// Added to each request's round trip.
    delay_ms: AtomicU64,
    /// Faults of the next requests, each with the text that the request's body must contain.
    faults: Mutex<VecDeque<(String, Fault)>>,
}

impl Gateway {
    /// Starts a gateway in front of a new, empty database.
    pub async fn start(sqld: &Sqld) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            server: sqld.address,
            name: format!("{}.localhost", sqld.create().await),
            requests: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            rows_read: AtomicU64::new(0),
            delay_ms: AtomicU64::new(0),
            faults: Mutex::default(),
        });
        let accepting = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let shared = accepting.clone();
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let upstream = Arc::new(AsyncMutex::new(None));
                let service = service_fn(move |request| {
                    let (shared, upstream) = (shared.clone(), upstream.clone());
                    async move { shared.pass(request, &upstream).await }
                });
                // Errors are ignored: connections are meant to break.
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(serving);
            }
        });
        Gateway { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Rows of tables and indexes that the server has read so far, found or not.
    pub fn rows_read(&self) -> u64 {
        self.shared.rows_read.load(Ordering::SeqCst)
    }

    /// From now on, each request takes this much longer.
    pub fn delay(&self, delay: Duration) {
        let delay_ms = delay.as_millis() as u64;
        self.shared.delay_ms.store(delay_ms, Ordering::SeqCst);
    }

    /// The next request whose body contains this text meets this fault. Several faults for the same
    /// text take effect one after the other.
    pub fn fault(&self, text: &str, fault: Fault) {
        let mut faults = self.shared.faults.lock().expect("no panic");
        faults.push_back((text.to_owned(), fault));
    }

    pub fn clear_faults(&self) {
        self.shared.faults.lock().expect("no panic").clear();
    }

    /// Faults that no request has met yet.
    pub fn faults_left(&self) -> usize {
        self.shared.faults.lock().expect("no panic").len()
    }
}

type Upstream = AsyncMutex<Option<SendRequest<Full<Bytes>>>>;

impl Shared {
    /// An error breaks the connection.
    async fn pass(
        &self,
        request: Request<Incoming>,
        upstream: &Upstream,
    ) -> Result<Response<Full<Bytes>>, String> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
        let fault = {
            let text = String::from_utf8_lossy(&body);
            let mut faults = self.faults.lock().expect("no panic");
            let found = faults.iter().position(|(part, _)| text.contains(part));
            found.and_then(|index| faults.remove(index))
        };
        let fault = fault.map(|(_, fault)| fault);
        match fault {
            Some(Fault::LoseRequest) => return Err("a lost request".into()),
            Some(Fault::Stall) => std::future::pending().await,
            Some(Fault::Status(status)) => {
                // The body of a 502 is not UTF-8, as with some proxies.
                let body: &[u8] = if status == 502 { b"\xff" } else { b"refused" };
                let refused = Response::builder().status(status);
                return refused.body(body.into()).map_err(|e| e.to_string());
            }
            Some(Fault::LoseAnswer) | None => {}
        };
        let delay = Duration::from_millis(self.delay_ms.load(Ordering::SeqCst));
        if !delay.is_zero() {
            sleep(delay).await;
        }
        let host = self.name.parse().map_err(|_| "a name that is no host")?;
        parts.headers.insert("host", host);
        let mut upstream = upstream.lock().await;
        let sender = match &mut *upstream {
            Some(sender) if !sender.is_closed() => sender,
            closed => closed.insert(self.connect().await?),
        };
        sender.ready().await.map_err(|e| e.to_string())?;
        let answer = sender
            .send_request(Request::from_parts(parts, Full::new(body)))
            .await
            .map_err(|e| e.to_string())?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
        let rows_read = rows_read(&String::from_utf8_lossy(&body));
        self.rows_read.fetch_add(rows_read, Ordering::SeqCst);
        match fault {
            Some(Fault::LoseAnswer) => Err("a lost answer".into()),
            _ => Ok(Response::from_parts(parts, Full::new(body))),
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let stream = TcpStream::connect(self.server)
            .await
            .map_err(|e| e.to_string())?;
        let _ = stream.set_nodelay(true);
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| e.to_string())?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// What an answer of the server says of each of its statements, added up.
fn rows_read(answer: &str) -> u64 {
    let numbers = answer.split(r#""rows_read":"#).skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit());
        rest[..end.unwrap_or(rest.len())].parse().unwrap_or(0)
    });
    numbers.sum()
}
