//! Login tokens, as the host and as other programs sign them.

use std::time::UNIX_EPOCH;

use handler::account::login_id::{LoginId, SessionId};
use handler::account::token::{LIFETIME_SECONDS, TokenKey};

/// A token of this user that is valid for an hour, as other programs sign it: without a session.
pub fn foreign_token(secret: &str, username: &str) -> String {
    token(secret, username, LoginId::of_token(None))
}

/// A token of a session of this user.
pub fn session_token(secret: &str, username: &str, session: SessionId) -> String {
    token(secret, username, LoginId::of_session(session))
}

fn token(secret: &str, username: &str, login: LoginId) -> String {
    let key = TokenKey::new(secret.as_bytes());
    key.sign(username, login, unix_now() + LIFETIME_SECONDS)
}

/// The time, in Unix seconds.
pub fn unix_now() -> i64 {
    UNIX_EPOCH.elapsed().unwrap_or_default().as_secs() as i64
}
