//! The hosts over one database: their leases, what becomes of their users, the chat's id, and who
//! is in which conversation.

pub mod chat_id;
pub mod gone;
pub mod lease;
pub mod memberships;
pub mod returned;
pub mod sweep;

/// The most users that one operation handles, so that it does not hold up other operations.
pub const USERS_AT_ONCE: usize = 100;
