//! WebSockets: a socket as other modules see it, and its life.

pub mod close_reason;
pub mod connection;
pub mod flusher;
pub mod frame;
pub mod handle;
pub mod outgoing;
pub mod presence;
pub mod push_memory;
