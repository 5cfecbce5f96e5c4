//! Functions that the targets share.

use futures_util::FutureExt;

/// Returns the result of a future that never waits, such as one on a database in memory.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("it never waits")
}

/// Whether `Value` refuses JSON that our reader may accept, because `Value` also parses values that
/// nobody uses.
pub fn is_value_limit(error: &serde_json::Error) -> bool {
    let text = error.to_string();
    [
        "recursion limit exceeded",
        "number out of range",
        "lone leading surrogate",
        "unexpected end of hex escape",
    ]
    .iter()
    .any(|limit| text.starts_with(limit))
}
