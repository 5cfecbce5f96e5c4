//! Real faults: what each of them loses, and what clients and the operator see. deploy/faults.md
//! lists those of a host on a file.

mod cluster;
mod deletions;
mod disk;
mod erased;
mod files;
mod kills;
mod peers;
mod remote;
mod stored;
mod system;
mod torture;
mod wal;
