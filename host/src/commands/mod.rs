//! What the program does instead of serving.

pub mod backup;
pub mod check;
pub mod copy;
mod data_file;
pub mod downgrade;
pub mod event;
pub mod health;
mod progress;
pub mod reindex;
pub mod restore;
