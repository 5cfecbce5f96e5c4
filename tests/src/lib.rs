//! What the tests share: a running host and its data file, HTTP requests, WebSocket clients, a
//! proxy that injects faults and one for TLS, the servers for a remote database and several hosts,
//! and for the handlers a small chat and events generated from their declarations.

pub mod client;
pub mod data;
pub mod example;
pub mod gateway;
pub mod host;
pub mod memory;
pub mod proxy;
pub mod reference_client;
pub mod schema;
pub mod sdk_clients;
pub mod servers;
pub mod tls;
pub mod tokens;
pub mod world;

pub use client::Client;
pub use data::Data;
pub use example::Example;
pub use gateway::{Fault, Gateway};
pub use host::{Form, Host, Http, Process};
pub use proxy::Proxy;
pub use reference_client::ReferenceClient;
pub use sdk_clients::SdkClients;
pub use servers::{IdentityProvider, Nats, Sqld};
pub use tls::TlsProxy;
pub use world::{Place, SavedWorld, World, places};

use std::time::Duration;

/// How long a test waits for something that must happen. It is not a measurement.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The time between two checks of a condition.
pub const LOOK: Duration = Duration::from_millis(20);

/// Waits for an event that must happen.
pub async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, event).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {PATIENCE:?}"),
    }
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !holds().await {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
}
