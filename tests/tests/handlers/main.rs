//! The handlers alone, without a host: scripts, tables, properties, and rules for every operation.

mod accounts;
mod authorization;
mod catching_up;
mod conversations;
mod declarations;
mod deletions;
mod exports;
mod history;
mod messages;
mod names;
mod schema;
mod scripts;
mod structure;
mod sync_pages;
