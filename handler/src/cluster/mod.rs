//! The hosts over one database: their leases, and what becomes of their users; the chat's own name; who is in which conversation.

pub mod chat_id;
pub mod gone;
pub mod lease;
pub mod memberships;
pub mod returned;
pub mod sweep;

/// Users whom one operation takes, so that it does not hold up others.
pub const USERS_AT_ONCE: usize = 100;
