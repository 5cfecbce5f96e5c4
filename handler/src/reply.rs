//! What is sent to clients: the reply to a request and the pushes to others, as JSON text.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::Error;

/// The `data` of a successful reply, as JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply(pub String);

impl Reply {
    pub fn of(data: &impl Serialize) -> Self {
        Reply(json(data))
    }
}

/// The parts of a request that its reply repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The event's `type`; `root` if the type is missing or unknown.
    pub kind: &'static str,
    /// The JSON text of `ref`.
    pub(crate) reference: Option<String>,
}

impl Envelope {
    /// The whole reply, as JSON text.
    pub fn reply(&self, outcome: &Result<Reply, Error>) -> String {
        let reference = self.reference.as_deref();
        match outcome {
            Ok(Reply(data)) => success(self.kind, data, reference),
            Err(error) => json(&Refused {
                kind: self.kind,
                success: false,
                error: error.to_string(),
                code: error.code(),
                retry_after: error.retry_after_seconds(),
                reference: reference.map(raw),
            }),
        }
    }
}

/// The JSON text of anything that this crate sends.
pub(crate) fn json(data: &impl Serialize) -> String {
    serde_json::to_string(data).expect("strings, integers, lists and structs always serialise")
}

/// The JSON text of a push of type `kind` with this `data` (JSON text).
pub(crate) fn push(kind: &'static str, data: &str) -> String {
    success(kind, data, None)
}

/// Writes `kind`, `data` and `reference` unchanged: `data` and `reference` are JSON text, and
/// `kind` needs no escapes.
fn success(kind: &'static str, data: &str, reference: Option<&str>) -> String {
    let mut text =
        String::with_capacity(kind.len() + data.len() + reference.map_or(0, str::len) + 64);
    for piece in [r#"{"type":""#, kind, r#"","success":true,"data":"#, data] {
        text.push_str(piece);
    }
    if let Some(reference) = reference {
        text.push_str(r#","ref":"#);
        text.push_str(reference);
    }
    text.push('}');
    text
}

/// The reply to an event that failed.
#[derive(Serialize)]
struct Refused<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    success: bool,
    error: String,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u32>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<&'a RawValue>,
}

fn raw(text: &str) -> &RawValue {
    serde_json::from_str(text).expect("text that this crate serialised is JSON")
}
