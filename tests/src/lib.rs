//! What the tests share: a running host and its data file, HTTP requests, WebSocket clients, a
//! proxy that harms connections and one for TLS, the servers that a remote database and several
//! hosts need, and a world for tables over the handlers.

pub mod client;
pub mod data;
pub mod gateway;
pub mod host;
pub mod proxy;
pub mod reference_client;
pub mod servers;
pub mod table;
pub mod tls;
pub mod world;

pub use client::Client;
pub use data::Data;
pub use gateway::{Fault, Gateway};
pub use host::{Form, Host, Http, Process};
pub use proxy::Proxy;
pub use reference_client::ReferenceClient;
pub use servers::{Nats, Sqld};
pub use tls::TlsProxy;
pub use world::{Place, World};

use std::time::Duration;

/// How long a test waits for something that must happen. Nothing is measured by it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks at something that is awaited.
pub const LOOK: Duration = Duration::from_millis(20);

/// Waits for what must happen.
pub async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, event).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {PATIENCE:?}"),
    }
}

/// Waits until this holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !holds().await {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
}
