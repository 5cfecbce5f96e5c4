//! Faults, each produced for real: what is lost and what clients see. deploy/faults.md lists those
//! of one host in a table.

mod cluster;
mod disk;
mod files;
mod kills;
mod peers;
mod remote;
mod stored;
mod system;
mod torture;
mod wal;
