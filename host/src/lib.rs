//! The runtime around `handler`: HTTP, sockets, the registry of who listens to what, and the store.

pub mod backup;
mod bus;
mod clock;
mod cluster;
pub mod command;
mod config;
pub mod copy;
pub mod frame;
pub mod health;
mod http;
mod limits;
#[allow(dead_code)]
mod listeners;
pub mod log;
mod metrics;
mod password;
mod queue;
mod registry;
mod security;
mod server;
mod socket;
mod store;

pub use config::{BusUrl, Config, Database, LogFormat, RemoteUrl, SameSite};
pub use limits::Limits;
pub use server::{Server, Stopper};
/// For what counts the instructions of a commit: the store itself works on threads of its own.
pub use store::LocalDatabase;
