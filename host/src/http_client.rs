//! A client of HTTP that waits and reads within bounds, for requests of this program to others.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::task::AbortOnDropHandle;

/// The addresses that a name may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    Any,
    /// None of this machine or of a private network.
    Public,
}

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
    pub async fn connect(url: &Uri, addresses: Addresses, time: Duration) -> anyhow::Result<Self> {
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
            // What was looked at is what is connected to: a name may lead elsewhere the next time.
            let found: Vec<SocketAddr> = lookup_host((name, port)).await?.collect();
            let is_allowed =
                |address: &SocketAddr| addresses == Addresses::Any || is_public(address.ip());
            let allowed: Vec<_> = found.into_iter().filter(is_allowed).collect();
            ensure!(!allowed.is_empty(), "{name} has no public address");
            let stream = TcpStream::connect(&allowed[..]).await?;
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

/// Whether an address is of the public internet.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_broadcast()
                || v4.is_documentation()
                || v4.is_multicast()
                || is_shared
                || a == 0
                || a >= 240)
        }
        // Of what is given out (2000::/3), without the parts for documentation and for tunnels to IPv4.
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.segments();
            let is_tunnel = first == 0x2002 || first == 0x2001 && second < 0x200;
            first & 0xe000 == 0x2000 && !is_tunnel && !(first == 0x2001 && second == 0xdb8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_not_public() {
        for (address, expected) in [
            ("93.184.215.14", true),
            ("2606:2800:220:1::1", true),
            ("127.0.0.1", false),
            ("10.1.2.3", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::1", false),
            ("::", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:93.184.215.14", true),
            ("fe80::1", false),
            ("fd00::1", false),
            ("64:ff9b::7f00:1", false),
            ("2002:7f00:1::", false),
            ("2001:db8::1", false),
        ] {
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(is_public(address), expected, "{address}");
        }
    }
}
