//! What the program does instead of serving.

pub mod backup;
pub mod ban;
pub mod check;
pub mod copy;
mod data_file;
pub mod demo;
pub mod downgrade;
pub mod event;
pub mod health;
mod progress;
pub mod reindex;
pub mod report;
pub mod restore;
