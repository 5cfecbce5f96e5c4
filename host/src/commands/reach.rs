//! How a command reaches the server: over HTTP with a key; over the socket beside the data file, if a
//! server runs on it; and if none does, this process is the server for a moment.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use hyper::{Method, StatusCode, Uri};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::clock;
use crate::config::Config;
use crate::engine::Engine;
use crate::exposure::is_loopback;
use crate::http::operator::serve_one;
use crate::http_client::{Addresses, HttpClient};
use crate::store::single_connection::SingleConnection;

/// Time for a connection, and for an answer: a password waits for its turn.
const TIME: Duration = Duration::from_secs(30);
/// The longest answer: a page of users.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Bytes on their way inside of this process.
const PIPE_BYTES: usize = 64 * 1024;

/// Where the server is: the one of DBPATH, or one at an address, which needs a key.
#[derive(Debug, Clone, Default)]
pub struct Place {
    pub server: Option<String>,
}

pub struct Reach {
    client: HttpClient,
    key: Option<String>,
    /// The server that this process is.
    own: Option<(Engine, JoinHandle<()>)>,
}

impl Reach {
    pub async fn open(config: &Config, place: &Place) -> anyhow::Result<Self> {
        let (client, key, own) = match &place.server {
            Some(server) => {
                let (client, key) = connect(config, server).await?;
                (client, Some(key), None)
            }
            None => match served_at(config).await? {
                Some(stream) => (
                    HttpClient::over(stream, "localhost", TIME).await?,
                    None,
                    None,
                ),
                None => {
                    let (client, own) = serve(config).await?;
                    (client, None, Some(own))
                }
            },
        };
        Ok(Reach { client, key, own })
    }

    /// What the server answers; `None` if it knows no such thing.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Option<Value>> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let key = self.key.as_deref();
        let asked = self.client.ask(method, path, key, body, ANSWER_BYTES_MAX);
        let (status, body) = asked.await?;
        let answer: Value = match body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&body).with_context(|| {
                format!("{status}: the answer is no JSON: is this a chatapp server?")
            })?,
        };
        match status {
            StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT => Ok(Some(answer)),
            StatusCode::NOT_FOUND if answer["code"] == "not_found" => Ok(None),
            _ => bail!("{}", answer["error"].as_str().unwrap_or(status.as_str())),
        }
    }

    /// Waits until what this process has done is in the database, and closed.
    pub async fn close(self) {
        drop(self.client);
        if let Some((engine, serving)) = self.own {
            // It ends with its client.
            let _ = serving.await;
            engine.close().await;
        }
    }
}

/// A connection to the server at an address, and the key for it.
async fn connect(config: &Config, server: &str) -> anyhow::Result<(HttpClient, String)> {
    const EXPECTED: &str = "expected the address of a server, such as https://chat.example";
    let key = config.api_key.clone();
    ensure!(
        !key.is_empty(),
        "API_KEY is not set: --server needs a key with the scope users, from `chatapp key create`"
    );
    let url: Uri = server
        .parse()
        .with_context(|| format!("--server is {server:?}: {EXPECTED}"))?;
    let is_local = url.host().is_some_and(is_loopback);
    ensure!(
        url.scheme_str() == Some("https") || is_local,
        "--server is {server:?}: a key goes over TLS only, so {EXPECTED}"
    );
    let client = HttpClient::connect(&url, Addresses::Any, TIME).await;
    Ok((client.with_context(|| server.to_owned())?, key))
}

/// A connection to the server that runs on the data file; `None` if none does, or if the database is not
/// a file.
async fn served_at(config: &Config) -> anyhow::Result<Option<UnixStream>> {
    let database = &config.database;
    // It says what is wrong with the database, and leaves its schema as it is.
    let is_served = SingleConnection::open_current(database, clock::now())
        .await?
        .is_served;
    let Some(path) = database.operator_socket().filter(|_| is_served) else {
        return Ok(None);
    };
    let stream = UnixStream::connect(&path).await.with_context(|| {
        format!(
            "DBPATH: a server is running on {database}, and its socket {} cannot be opened: run this as root or as the \
             user of the server, or use --server",
            path.display()
        )
    })?;
    Ok(Some(stream))
}

/// Makes this process a server that nobody else can reach.
async fn serve(config: &Config) -> anyhow::Result<(HttpClient, (Engine, JoinHandle<()>))> {
    let mut engine = Engine::open(config).await?;
    engine.join_bus();
    let (own, other) = tokio::io::duplex(PIPE_BYTES);
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned()?;
    let serving = serve_one(other, engine.services.clone(), permit, TIME);
    let serving = tokio::spawn(serving);
    let client = HttpClient::over(own, "localhost", TIME).await?;
    Ok((client, (engine, serving)))
}
