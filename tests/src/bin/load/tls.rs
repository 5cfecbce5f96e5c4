//! TLS 1.3 to a chat behind a proxy. This module encrypts and decrypts; others do the input and
//! output.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore};

/// The name of the server, and the authorities to trust.
#[derive(Debug, Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// Trusts the system's authorities and those in this PEM file.
    pub fn new(host: &str, authorities: Option<&Path>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(file) = authorities {
            let certificates = CertificateDer::pem_file_iter(file);
            let certificates = certificates.with_context(|| format!("--ca {}", file.display()))?;
            for certificate in certificates {
                roots.add(certificate.with_context(|| format!("--ca {}", file.display()))?)?;
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Tls {
            config: Arc::new(config),
            name: ServerName::try_from(host.to_owned())?,
        })
    }

    pub fn session(&self) -> Result<Session> {
        let mut session = ClientConnection::new(self.config.clone(), self.name.clone())?;
        session.set_buffer_limit(None);
        Ok(Session(session))
    }

    pub async fn connect(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(self.config.clone());
        let connecting = connector.connect(self.name.clone(), stream);
        connecting.await.context(UNTRUSTED)
    }
}

const UNTRUSTED: &str = "TLS (--ca names a private authority)";

/// The TLS of one connection.
pub struct Session(ClientConnection);

impl Session {
    /// Encrypts these bytes and appends to `output` what has to be sent: until the handshake is
    /// done, its next part.
    pub fn seal(&mut self, plain: &[u8], output: &mut Vec<u8>) {
        let written = self.0.writer().write_all(plain);
        written.expect("its buffer has no limit");
        while self.0.wants_write() {
            self.0.write_tls(output).expect("a Vec takes everything");
        }
    }

    /// Decrypts the received bytes and appends the result to `plain`.
    pub fn open(&mut self, mut sealed: &[u8], plain: &mut Vec<u8>) -> Result<()> {
        while !sealed.is_empty() {
            ensure!(self.0.read_tls(&mut sealed)? > 0, "the host ended TLS");
            let state = self.0.process_new_packets().context(UNTRUSTED)?;
            let start = plain.len();
            plain.resize(start + state.plaintext_bytes_to_read(), 0);
            self.0.reader().read_exact(&mut plain[start..])?;
        }
        Ok(())
    }
}
