//! The runtime around `handler`: HTTP, sockets, the registry of who listens to what, and the store.
//!
//! ```text
//! sockets ──events──▶ writer: group commit ──deliveries, in commit order──▶ registry ──frames──▶ sockets
//!    │                                                                        │
//!    └────reads────▶ readers ──▶ replies                                    bus ◀──▶ other hosts
//! ```
//!
//! - `server` starts and stops everything: the listeners, and the `engine` behind them. `config` holds the settings, `variables` their names;
//!   only `main` reads the environment.
//! - `http`: HTTP connections. `routes` is the table of routes, `dispatch` enforces what the table
//!   says about a route, and the handlers are files beside them; `page` has the page to chat in.
//!   `accounts` has registration and the check of passwords, which are hashed on the threads of
//!   `background`. `logins` has sessions and tokens. `issuers` are identity
//!   providers, whose tokens log users in. `provisioning` is what the operator's programs do
//!   with accounts, and `api_keys` lets them in.
//! - `socket`: `handle` is a WebSocket as other modules see it, `connection` is its life,
//!   `presence` counts it in the database, and `flusher` writes to many.
//! - `store`: turns operations of `handler` into transactions, and hands on what was committed as
//!   deliveries, which it does not inspect. `delivery` is the interface between store and registry;
//!   neither imports the other.
//! - `registry`: a thread that owns who is connected and what they listen to, and turns deliveries
//!   into frames.
//! - `cluster`: how a host works together with the other hosts on its database: the bus, leases,
//!   catching up.
//! - `awake`: time-outs that do not count a pause of the process.
//! - `limits`: how much one client may use. `audit`, `metrics` and `log` report what happens.
//! - `commands`: what the program can do instead of serving.
//!
//! Invariants:
//!
//! - Nothing is delivered before its commit has returned.
//! - Only `store` and the commands that need no server (`backup`, `restore`, `check`, `copy`,
//!   `demo`) know where the data is. Other modules may only ask whether it is shared.
//! - A `mod.rs` declares its files and re-exports nothing, so a path names the file of an item.
//!   Imports between files have no circles; a test checks this.

mod accounts;
mod api_keys;
mod audit;
mod awake;
mod background;
mod clock;
mod cluster;
pub mod commands;
mod config;
mod delivery;
mod engine;
mod exposure;
mod http;
mod http_client;
mod issuers;
mod limits;
mod listeners;
pub mod log;
mod logins;
mod metrics;
mod password_policy;
mod provisioning;
mod random;
mod readiness;
mod registry;
mod server;
mod socket;
mod store;
mod threads;
pub mod variables;

pub use config::{AuthConfig, BusUrl, Config, LogFormat, SameSite};
/// For the schema of the protocol, and the tests of what every route does.
pub use http::routes::{ListedRoute, listed_routes};
pub use limits::Limits;
pub use server::{Server, Stopper};
/// For the tests of the decoder.
pub use socket::frame;
/// For the program that counts the instructions of a commit, which the store runs on threads of its
/// own.
pub use store::local::LocalDatabase;
pub use store::location::{Database, RemoteUrl};
