//! Accounts: registration, passwords, logins and their tokens, export and deletion.

pub mod api_key;
mod body;
pub mod change_password;
pub mod delete;
pub mod erase;
pub mod export;
pub mod identity;
pub mod login;
pub mod login_id;
pub mod open_login;
pub mod password;
pub mod provision;
pub mod register;
pub mod session;
pub mod skeleton;
pub mod token;
