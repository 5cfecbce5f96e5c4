//! Counts logins, registrations and refusals, and logs them under the target `security`.

use std::net::IpAddr;

use handler::Error;
use handler::account::register::USERNAME_CHARS_MAX;
use once_cell::sync::Lazy;

use crate::limits::account_guesses::Attempt;
use crate::limits::rates::Rate;
use crate::limits::refusal::Refusal;
use crate::metrics::METRICS;

/// Refusals that are logged a second, and at once after a pause: whoever floods the server does not flood its log. All are
/// counted.
const LINES_PER_SECOND: u32 = 10;
const LINES_AT_ONCE: u32 = 100;

/// Something was refused to this client. `username` is whom it says it is.
pub fn refused(refusal: Refusal, address: IpAddr, username: Option<&str>) {
    static LINES: Lazy<Rate> = Lazy::new(|| Rate::per_second(LINES_PER_SECOND, LINES_AT_ONCE));
    let reason = refusal.name();
    METRICS.refusals.with_label_values(&[reason]).inc();
    if LINES.check().is_ok() {
        tracing::warn!(target: "security", reason, %address, username = username.map(short), "refused");
    }
}

/// A name that is no user's may be as long as a request.
fn short(username: &str) -> &str {
    let chars = username.char_indices();
    let end = chars.map(|(index, _)| index).nth(USERNAME_CHARS_MAX);
    &username[..end.unwrap_or(username.len())]
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
    let username = username.map(short);
    tracing::info!(target: "security", result, %address, username, "{}", refusal.name());
}
