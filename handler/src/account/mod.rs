//! Accounts: registration, login, passwords, login tokens, export and deletion.

mod body;
pub mod delete;
pub mod deleted;
pub mod erase;
pub mod export;
pub mod login;
pub mod password;
pub mod register;
pub mod skeleton;
pub mod token;
