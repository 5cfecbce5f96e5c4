//! The real programs, run as an operator runs them: the host and its commands, the load program,
//! and the scripts and configuration of deploy/.

mod backup;
mod chat;
mod compose;
mod copy;
mod dashboards;
mod demo;
mod exports;
mod load;
mod metrics;
mod process;
mod schemathesis;
mod search;
mod smoke;
mod users;
