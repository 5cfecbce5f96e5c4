//! A TLS proxy in front of a host. Its certificate is trusted only by clients that are told to
//! trust it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::servers::installed;

pub struct TlsProxy {
    pub address: SocketAddr,
    folder: TempDir,
}

impl TlsProxy {
    pub async fn start(target: SocketAddr) -> Self {
        let folder = TempDir::new().expect("a folder");
        let made = Command::new(installed("openssl"))
            .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes".split(' '))
            .args("-keyout key.pem -out certificate.pem -subj /CN=localhost".split(' '))
            .args("-addext subjectAltName=DNS:localhost,IP:127.0.0.1".split(' '))
            // The certificate signs no other certificates.
            .args("-addext basicConstraints=critical,CA:FALSE".split(' '))
            .current_dir(folder.path())
            .output()
            .await
            .expect("openssl starts");
        let errors = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "openssl: {errors}");
        let key = PrivateKeyDer::from_pem_file(folder.path().join("key.pem"));
        let certificate = CertificateDer::from_pem_file(folder.path().join("certificate.pem"));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.expect("a certificate")],
                key.expect("a key"),
            )
            .expect("a key of this certificate");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    client.set_nodelay(true)?;
                    let mut client = acceptor.accept(client).await?;
                    let mut server = TcpStream::connect(target).await?;
                    server.set_nodelay(true)?;
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        TlsProxy { address, folder }
    }

    /// The PEM file of the certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }
}
