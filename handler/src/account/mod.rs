//! Accounts: registration, passwords, logins and their tokens.

mod body;
pub mod change_password;
pub mod login;
pub mod login_id;
pub mod open_login;
pub mod password;
pub mod register;
pub mod session;
pub mod skeleton;
pub mod token;
