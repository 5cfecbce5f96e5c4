//! The handlers alone, without a host: tables, properties, and what has to hold of every operation.

mod accounts;
mod authorization;
mod catching_up;
mod declarations;
mod events;
mod messages;
