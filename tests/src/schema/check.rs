//! Checks frames against the schema. All tests do, in both directions.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use handler::EVENTS;
use jsonschema::{Draft, Keyword, ValidationError, Validator};
use once_cell::sync::Lazy;
use serde_json::{Value, json};

use crate::Http;

use super::field::BYTES_MAX;
use super::routes::{self, Body, ROUTES};
use super::{Definitions, events};

/// The definitions as the server has to follow them: whatever it sends has no other fields. A client
/// may send any.
static DEFINITIONS: Lazy<Definitions> = Lazy::new(|| {
    let mut schema = events::schema();
    let definitions = schema["$defs"].as_object_mut().expect("definitions");
    let mut definitions = std::mem::take(definitions);
    definitions.extend(routes::definitions());
    let is_taken = |name: &str| {
        let mut routes = ROUTES.iter();
        name.ends_with("Request") || routes.any(|route| route.takes == Some(name))
    };
    let sent = definitions.iter_mut().filter(|(name, _)| !is_taken(name));
    sent.for_each(|(_, definition)| close(definition));
    definitions
});

/// One for each definition that was asked for, compiled once.
static VALIDATORS: Lazy<Mutex<HashMap<String, &'static Validator>>> = Lazy::new(Mutex::default);

/// Panics if the server may not send this frame.
pub fn check_received(frame: &Value) {
    let kind = frame["type"].as_str().unwrap_or_default();
    let reply = || vec![events::name(kind, "Reply")];
    let names = match (&frame["success"], frame.get("ref")) {
        (Value::Bool(true), Some(_)) => reply(),
        // Without `ref` it may be either.
        (Value::Bool(true), None) => [reply(), vec![events::name(kind, "Push")]].concat(),
        _ => vec!["Refusal".to_owned()],
    };
    let known = names.iter().filter(|name| DEFINITIONS.contains_key(*name));
    let faults: Vec<_> = known.map(|name| faults(name, frame)).collect();
    assert!(
        faults.iter().any(String::is_empty),
        "the schema does not allow {frame}: {}",
        faults.join("")
    );
}

/// Panics if the server may not answer a frame in this way: what succeeds is valid.
pub fn check_answered(sent: &str, reply: &Value) {
    check_received(reply);
    // Handlers do not look into fields that they do not know; `Value` cannot hold some of them.
    let sent = serde_json::from_str(sent).ok();
    if let Some(sent) = sent.filter(|_| reply["success"] == true) {
        let faults = request_faults(&sent);
        assert!(
            faults.is_empty(),
            "the schema does not allow {sent}, but it was answered {reply}: {faults}"
        );
    }
}

/// What `POST /events` takes.
const EVENT: Option<&str> = Some("Request");

/// Panics if the host may not answer an HTTP request in this way.
pub fn check_http(method: &str, path: &str, sent: &[u8], answer: &Http) {
    let (status, body) = (answer.status, &answer.body);
    let is_text = answer.header("content-type") == Some("text/plain; charset=utf-8");
    let (is_head, method) = match method {
        "HEAD" => (true, "GET"),
        _ => (false, method),
    };
    let Some(route) = ROUTES.iter().find(|route| route.is_for(method, path)) else {
        // No route, no method of the route, or a preflight.
        assert!(
            matches!(status, 204 | 400 | 404 | 405),
            "{method} {path}: {answer:?}"
        );
        return;
    };
    // Where GET changes state, HEAD is not answered.
    if is_head && route.row().changes_state {
        return assert_eq!(status, 405, "{path}");
    }
    let answers = route.all_answers();
    let known = answers.iter().find(|(known, _)| *known == status);
    let (_, expected) = known.unwrap_or_else(|| panic!("{method} {path} answers {status}: {body}"));
    let is_json = answer.header("content-type") == Some("application/json");
    let json = || serde_json::from_str::<Value>(body).expect("JSON");
    let is = |name| faults(name, &json()).is_empty();
    let is_fine = match expected {
        Body::File => true,
        // The answer to HEAD has no body.
        _ if body.is_empty() => true,
        Body::Empty(_) => false,
        Body::Exactly(exact) => is_text && body == exact,
        Body::Text(_) if is_json => {
            route.row().has_json_errors
                && (is("HttpError") || route.takes == EVENT && is("Refusal"))
        }
        Body::Text(_) => is_text,
        Body::Json("Reply") => {
            check_received(&json());
            is_json
        }
        Body::Json(name) => is_json && is(name),
    };
    assert!(
        is_fine,
        "{method} {path}: {answer:?} instead of {expected:?}"
    );
    let sent = serde_json::from_slice(sent).ok();
    if let (Some(name), Some(sent)) = (route.takes.filter(|_| status < 300), sent) {
        let faults = match route.takes {
            EVENT => request_faults(&sent),
            _ => faults(name, &sent),
        };
        assert!(faults.is_empty(), "{method} {path} took {sent}: {faults}");
    }
}

/// What is wrong with the shape of a request; empty if nothing is.
pub fn request_faults(request: &Value) -> String {
    let kind = request["type"].as_str().unwrap_or_default();
    match EVENTS.iter().any(|event| event.kind == kind) {
        true => faults(&events::name(kind, "Request"), request),
        false => format!("no such type: {kind}"),
    }
}

fn faults(name: &str, frame: &Value) -> String {
    let validator = validator(name);
    if validator.is_valid(frame) {
        return String::new();
    }
    let errors = validator.iter_errors(frame);
    let errors = errors.map(|error| format!("\n  {name}{}: {error}", error.instance_path()));
    errors.collect()
}

fn validator(name: &str) -> &'static Validator {
    let mut validators = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner);
    validators
        .entry(name.to_owned())
        .or_insert_with(|| Box::leak(Box::new(compiled(name))))
}

fn compiled(name: &str) -> Validator {
    let schema = json!({ "$ref": events::reference(name), "$defs": *DEFINITIONS });
    let options = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .with_keyword(BYTES_MAX, |_, value, _| {
            let max = value.as_u64().unwrap_or_default();
            Ok(Box::new(BytesMax(max)))
        })
        .with_keyword("format", |_, value, _| {
            assert!(value == "int64" || value == "int32" || value == "uint32");
            Ok(Box::new(Int64))
        });
    options.build(&schema).expect("a schema")
}

struct BytesMax(u64);

impl Keyword<'_> for BytesMax {
    fn validate<'i>(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        match Keyword::is_valid(self, instance) {
            true => Ok(()),
            false => Err(ValidationError::custom("too many bytes")),
        }
    }

    fn is_valid(&self, instance: &Value) -> bool {
        let text = instance.as_str();
        text.is_none_or(|text| text.len() as u64 <= self.0)
    }
}

/// A signed 64-bit integer, written without fraction or exponent; also one in the name of a field.
struct Int64;

impl Keyword<'_> for Int64 {
    fn validate<'i>(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        match Keyword::is_valid(self, instance) {
            true => Ok(()),
            false => Err(ValidationError::custom("not a signed 64-bit integer")),
        }
    }

    fn is_valid(&self, instance: &Value) -> bool {
        match instance {
            Value::Number(number) => number.is_i64(),
            Value::String(text) => text.parse::<i64>().is_ok(),
            _ => true,
        }
    }
}

/// Allows an object no fields but those that are named.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let is_open = fields.get("properties").is_some_and(Value::is_object);
            fields.values_mut().for_each(close);
            if is_open {
                fields.insert("additionalProperties".into(), false.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}
