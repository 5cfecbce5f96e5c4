//! The real programs, run as an operator runs them: the host with its commands, the load program, and what is in deploy/.

mod backup;
mod chat;
mod compose;
mod copy;
mod dashboards;
mod load;
mod metrics;
mod process;
mod smoke;
