//! `chatapp health`: asks a running server whether it is ready, for systems without a program that
//! can ask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time for the whole answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer.
const BODY_BYTES_MAX: usize = 1024;

/// Returns what the server at `address` answers if it is ready. Fails if the server is not ready,
/// or does not answer within 5 seconds. If a server listens on all addresses, its loopback address
/// is asked.
pub async fn ask(address: SocketAddr) -> anyhow::Result<String> {
    ensure!(address.port() != 0, "PORT is 0: the system chose another");
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let address = SocketAddr::new(ip, address.port());
    let answer = timeout(TIMEOUT, get_readiness(address)).await;
    answer
        .context("no answer within 5 seconds")
        .flatten()
        .with_context(|| format!("http://{address}/readyz"))
}

async fn get_readiness(address: SocketAddr) -> anyhow::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/readyz")
        .header(HOST, address.to_string())
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), BODY_BYTES_MAX);
    let body = body.collect().await.map_err(anyhow::Error::from_boxed)?;
    connection.abort();
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    if status != StatusCode::OK {
        bail!("{status}: {text}");
    }
    Ok(text)
}
