//! Who came in and who was refused: counted, and logged under the target `security`.

use std::net::IpAddr;
use std::sync::LazyLock;

use handler::account::register::USERNAME_CHARS_MAX;

use crate::limits::Rate;
use crate::metrics::METRICS;

/// Refusals that are logged a second, and at once after a pause: whoever floods the server does not flood its log. All are
/// counted.
const LINES_PER_SECOND: u32 = 10;
const LINES_AT_ONCE: u32 = 100;

/// Something was refused to this client for security or a limit. `username` is whom it says it is.
pub fn refused(reason: &'static str, address: IpAddr, username: Option<&str>) {
    static LINES: LazyLock<Rate> =
        LazyLock::new(|| Rate::per_second(LINES_PER_SECOND, LINES_AT_ONCE));
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

/// A login or a registration has come to an end: `result` is `ok` or the error's code.
pub fn account(what: &'static str, result: &'static str, address: IpAddr, username: &str) {
    if result == "rate_limited" {
        return refused(what, address, Some(username));
    }
    tracing::info!(target: "security", result, %address, username = short(username), "{what}");
}
