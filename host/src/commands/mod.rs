//! What the program does instead of serving.

pub mod backup;
pub mod check;
pub mod copy;
mod data_file;
pub mod demo;
pub mod downgrade;
pub mod event;
pub mod health;
pub mod key;
mod progress;
pub mod reach;
pub mod reindex;
pub mod report;
pub mod restore;
mod shown;
pub mod user;
