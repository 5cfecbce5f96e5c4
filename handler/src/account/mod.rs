//! Accounts: registration, login, passwords and login tokens.

mod body;
pub mod deleted;
pub mod login;
pub mod password;
pub mod register;
pub mod skeleton;
pub mod token;
