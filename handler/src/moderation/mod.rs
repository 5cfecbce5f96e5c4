//! What the operator does about messages and users: reads and settles reports, deletes a message,
//! bans a user. None of it is an event.

pub mod ban;
pub mod erase;
pub mod reports;
