//! The handlers alone, without a host: scripts, tables, properties, and rules for every operation.

mod accounts;
mod authorization;
mod blocks;
mod catching_up;
mod conversations;
mod declarations;
mod deletions;
mod exports;
mod history;
mod keys;
mod messages;
mod moderation;
mod names;
mod people;
mod schema;
mod scripts;
mod search;
mod sessions;
mod sets;
mod structure;
mod sync_pages;
