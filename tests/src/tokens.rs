//! Login tokens as other programs sign them: without a session.

use std::time::UNIX_EPOCH;

use handler::account::login_id::LoginId;
use handler::account::token::{LIFETIME_SECONDS, TokenKey};

/// A token of this user that is valid for an hour.
pub fn foreign_token(secret: &str, username: &str) -> String {
    let login = LoginId::of_token(None);
    let key = TokenKey::new(secret.as_bytes());
    key.sign(username, login, unix_now() + LIFETIME_SECONDS)
}

/// The time, in Unix seconds.
pub fn unix_now() -> i64 {
    UNIX_EPOCH.elapsed().unwrap_or_default().as_secs() as i64
}
