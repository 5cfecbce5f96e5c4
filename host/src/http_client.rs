//! A client of HTTP that waits and reads within bounds, for requests of this program to others.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::task::AbortOnDropHandle;

/// An open connection.
pub struct HttpClient {
    sender: SendRequest<Full<Bytes>>,
    /// The server's name, for `Host`.
    authority: String,
    time: Duration,
    _connection: AbortOnDropHandle<()>,
}

impl HttpClient {
    /// Speaks HTTP over a stream. Each request, and its answer, may take `time`.
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        authority: &str,
        time: Duration,
    ) -> anyhow::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(async move {
            // The request that it fails has the error.
            let _ = connection.await;
        });
        Ok(HttpClient {
            sender,
            authority: authority.to_owned(),
            time,
            _connection: AbortOnDropHandle::new(connection),
        })
    }

    /// Connects to the server of an `http` or `https` URL.
    pub async fn connect(url: &Uri, time: Duration) -> anyhow::Result<Self> {
        let connecting = async {
            let host = url.host().context("a URL without a host")?;
            let (is_tls, default_port) = match url.scheme_str() {
                Some("https") => (true, 443),
                Some("http") => (false, 80),
                _ => bail!("expected http://… or https://…"),
            };
            let port = url.port_u16().unwrap_or(default_port);
            let authority = url.authority().map_or(host, |authority| authority.as_str());
            // An IPv6 address is in brackets there.
            let name = host.trim_start_matches('[').trim_end_matches(']');
            let stream = TcpStream::connect((name, port)).await?;
            if !is_tls {
                return HttpClient::over(stream, authority, time).await;
            }
            let server = ServerName::try_from(name.to_owned())?;
            let stream = TlsConnector::from(trusted()?)
                .connect(server, stream)
                .await?;
            HttpClient::over(stream, authority, time).await
        };
        timeout(time, connecting)
            .await
            .map_err(|_| anyhow!("no connection within {time:?}"))?
    }

    /// The status and the body of an answer of at most `bytes_max`.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        body: impl Into<Bytes>,
        bytes_max: usize,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("host", &self.authority);
        if let Some(bearer) = bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        let request = request.body(Full::new(body.into()))?;
        let asking = async {
            self.sender.ready().await?;
            let answer = self.sender.send_request(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), bytes_max).collect().await;
            let body = body.map_err(|error| anyhow!("the answer cannot be read: {error}"))?;
            anyhow::Ok((status, body.to_bytes()))
        };
        let time = self.time;
        timeout(time, asking)
            .await
            .map_err(|_| anyhow!("no answer within {time:?}"))?
    }
}

/// Trusts the certificate authorities that the system trusts.
fn trusted() -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    ensure!(
        !roots.is_empty(),
        "the system trusts no certificate authority: install ca-certificates"
    );
    let provider = Arc::new(ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config
        .with_root_certificates(roots)
        .with_no_client_auth()
        .into())
}
