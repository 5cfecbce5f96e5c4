//! What the targets share.

use futures_util::FutureExt;

/// What comes of a future that never waits, as those on a database in memory.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("it never waits")
}

/// Whether `Value` refuses JSON that our reader may take: it looks into what nobody asks for, too.
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
