//! Counts logins, registrations and refusals, and logs them under the target `security`.

use std::net::IpAddr;

use handler::Error;
use handler::account::register::USERNAME_CHARS_MAX;
use hyper::header::HeaderValue;

use crate::limits::account_guesses::Attempt;
use crate::limits::refusal::Refusal;
use crate::metrics::METRICS;

/// Of an origin in the log: the client chooses it.
const ORIGIN_CHARS_MAX: usize = 100;

/// Counts and logs a refusal. `username` is what the client claims.
pub fn refused(refusal: Refusal, address: IpAddr, username: Option<&str>) {
    let reason = refusal.name();
    METRICS.refusals.with_label_values(&[reason]).inc();
    let username = username.map(short_username);
    tracing::warn!(target: "security", reason, %address, username, "refused");
}

/// A page of this origin was refused: only those of `allowed` may use the server.
pub fn refused_origin(address: IpAddr, origin: &HeaderValue, allowed: &[HeaderValue]) {
    let reason = Refusal::Origin.name();
    METRICS.refusals.with_label_values(&[reason]).inc();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let allowed: Vec<_> = allowed.iter().map(text).collect();
    let allowed = match allowed.is_empty() {
        true => "no other origin".to_owned(),
        false => allowed.join(", "),
    };
    // As a string it is escaped, whatever is in it.
    let origin = &*text(origin);
    let origin = short(origin, ORIGIN_CHARS_MAX);
    tracing::warn!(target: "security", reason, %address, origin, "refused: CORS_ALLOW_ORIGIN allows {allowed}; add this origin if it is your front end");
}

/// The name that a request gives need not be a user's, and may be as long as the request.
fn short_username(username: &str) -> &str {
    short(username, USERNAME_CHARS_MAX)
}

fn short(text: &str, chars_max: usize) -> &str {
    let chars = text.char_indices();
    let end = chars.map(|(index, _)| index).nth(chars_max);
    &text[..end.unwrap_or(text.len())]
}

/// Logs the outcome of the deletion of an account.
pub fn deleted(outcome: &Result<(), Error>, address: IpAddr, username: &str) {
    of_account("account deletion", outcome, address, username);
}

/// Logs that a user takes all data of the account, or may not do so now.
pub fn exported<T>(outcome: &Result<T, Error>, address: IpAddr, username: &str) {
    of_account("account export", outcome, address, username);
}

fn of_account<T>(what: &str, outcome: &Result<T, Error>, address: IpAddr, username: &str) {
    if let Err(Error::RateLimited { .. }) = outcome {
        return refused(Refusal::Account, address, Some(username));
    }
    let result = outcome.as_ref().map_or_else(Error::code, |_| "ok");
    let username = short_username(username);
    tracing::info!(target: "security", result, %address, username, "{what}");
}

/// Counts and logs the outcome of a login or a registration.
pub fn attempted<T>(
    attempt: Attempt,
    outcome: &Result<T, Error>,
    address: IpAddr,
    username: Option<&str>,
) {
    let result = outcome.as_ref().map_or_else(Error::code, |_| "ok");
    let counters = match attempt {
        Attempt::Login => &METRICS.logins,
        Attempt::Registration => &METRICS.registrations,
    };
    counters.with_label_values(&[result]).inc();
    let refusal = attempt.refusal();
    if let Err(Error::RateLimited { .. }) = outcome {
        return refused(refusal, address, username);
    }
    let username = username.map(short_username);
    tracing::info!(target: "security", result, %address, username, "{}", refusal.name());
}
