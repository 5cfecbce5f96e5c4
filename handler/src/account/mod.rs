//! Accounts: registering one, logging in, and what proves it.

mod body;
pub mod deleted;
pub mod login;
pub mod password;
pub mod register;
pub mod token;
