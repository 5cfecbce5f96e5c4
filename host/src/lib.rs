//! The runtime around `handler`: HTTP, sockets, the registry of who listens to what, and the store.
//!
//! ```text
//! sockets ──events──▶ writer: group commit ──deliveries, in commit order──▶ registry ──frames──▶ sockets
//!    │                                                                        │
//!    └────reads────▶ readers ──▶ replies                                    bus ◀──▶ other hosts
//! ```
//!
//! - `server` starts and stops everything. `config` holds the settings, `variables` their names; only `main` reads the environment.
//! - `http`: connections that speak HTTP. `routes` is the table of routes, `dispatch` checks what it says of a route, and the
//!   handlers are beside them. `accounts` has what a registration and a login do, on the threads of `hashing`.
//! - `socket`: `handle` is what others hold of a WebSocket, `connection` its life, `presence` how the database counts it.
//! - `store`: operations of `handler` become transactions. It gives others what was committed as deliveries, which it does not
//!   look into: `delivery` is the seam between store and registry, and neither imports the other.
//! - `registry`: a thread that owns who is connected and what they listen to, and turns deliveries into frames.
//! - `cluster`: what a host does for the others over the same database: the bus, leases, catching up.
//! - `limits`: how much one client may take. `audit`, `metrics` and `log` say what happens.
//! - `commands`: what the program does instead of serving.
//!
//! What holds:
//!
//! - Nothing is delivered before its commit has returned.
//! - Only `store` and the commands on a database at rest (`backup`, `restore`, `check`, `copy`) know where the data is. Others
//!   may ask whether it is shared.
//! - A `mod.rs` names its files and exports nothing of them: a path says in which file a thing is. Imports between files have no
//!   circles, which a test checks.

mod accounts;
mod audit;
mod clock;
mod cluster;
pub mod commands;
mod config;
mod delivery;
mod hashing;
mod http;
mod limits;
mod listeners;
pub mod log;
mod metrics;
mod readiness;
mod registry;
mod server;
mod socket;
mod store;
mod threads;
pub mod variables;

pub use config::{BusUrl, Config, LogFormat, SameSite};
pub use limits::Limits;
pub use server::{Server, Stopper};
/// For the tests of the decoder.
pub use socket::frame;
/// For what counts the instructions of a commit: the store itself works on threads of its own.
pub use store::local::LocalDatabase;
pub use store::location::{Database, RemoteUrl};
