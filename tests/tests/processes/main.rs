//! The real programs, run as an operator runs them: the host with its commands, the load program,
//! and the contents of deploy/.

mod backup;
mod compose;
mod copy;
mod dashboards;
mod load;
mod metrics;
mod process;
mod smoke;
