//! The runtime around `handler`: HTTP, sockets, the registry of who listens to what, and the store.

mod clock;
pub mod command;
mod config;
pub mod frame;
mod http;
mod password;
mod queue;
mod registry;
mod server;
mod socket;
mod store;

pub use config::Config;
pub use server::{Server, Stopper};

/// The name of this host in the database's presence. A file has one host.
const HOST_ID: &str = "local";
