//! The runtime around `handler`: HTTP, sockets, the registry of who listens to what, and the store.

mod bus;
mod clock;
mod cluster;
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

pub use config::{BusUrl, Config, Database, RemoteUrl};
pub use server::{Server, Stopper};
