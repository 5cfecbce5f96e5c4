//! What goes wrong, each produced for real, and what is lost and seen then; deploy/faults.md has those of one host as a table.

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
