//! The JSON Schema of everything that passes through the socket.

use handler::{Declaration, EVENTS, Error, PUSHES, Presence, REF_CHARS_MAX};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{Definitions, field};

/// Each frame is a `Request`, a `Reply`, a `Refusal` or a `Push`.
pub fn schema() -> Value {
    let mut generator = generator();
    let mut frames = Definitions::new();
    for event in EVENTS {
        let data = (event.data.schema)(&mut generator).to_value();
        frames.insert(name(event.kind, "Request"), request(event));
        frames.insert(name(event.kind, "Reply"), reply(event.kind, data));
    }
    for event in PUSHES {
        let data = (event.data.schema)(&mut generator).to_value();
        frames.insert(name(event.kind, "Push"), push(event.kind, data));
    }
    let mut definitions = generator.take_definitions(true);
    definitions.values_mut().for_each(tidy);
    definitions.extend(frames);
    let all = |kinds: &mut dyn Iterator<Item = &'static str>, what: &str| {
        let refs = kinds.map(|kind| json!({ "$ref": reference(&name(kind, what)) }));
        json!({ "oneOf": refs.collect::<Vec<_>>() })
    };
    let events = || EVENTS.iter().map(|event| event.kind);
    definitions.extend([
        ("ErrorCode".into(), json!({ "enum": Error::CODES })),
        ("Ref".into(), ref_schema()),
        ("Refusal".into(), refusal()),
        ("Request".into(), all(&mut events(), "Request")),
        ("Reply".into(), all(&mut events(), "Reply")),
        (
            "Push".into(),
            all(&mut PUSHES.iter().map(|push| push.kind), "Push"),
        ),
    ]);
    for (name, text) in [
        ("ErrorCode", "The codes of errors, for programs."),
        ("Request", "What a client sends."),
        ("Reply", "The answer to a request that succeeded."),
        ("Push", "What a client hears without having asked."),
    ] {
        definitions[name]["description"] = text.into();
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "chatapp events",
        "description": "The frames of the socket. Clients send a Request. The server sends a Reply \
            or a Refusal for each, and a Push for what happens elsewhere. New fields may come in all \
            of them; ignore those that you do not know. Integers are signed 64-bit, written without \
            fraction or exponent. `x-max-bytes` is the longest text, in bytes of UTF-8. \
            PROTOCOL.md says what it all means.",
        "oneOf": [
            { "$ref": reference("Request") },
            { "$ref": reference("Reply") },
            { "$ref": reference("Refusal") },
            { "$ref": reference("Push") },
        ],
        "$defs": definitions,
    })
}

/// Describes types as they are serialised.
pub fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
}

/// The name of a frame's definition: `SendMessageRequest`.
pub fn name(kind: &str, what: &str) -> String {
    let words = kind.split('_').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    });
    words.collect::<String>() + what
}

pub fn reference(name: &str) -> String {
    format!("#/$defs/{name}")
}

fn ref_schema() -> Value {
    json!({
        "anyOf": [{ "type": "string", "maxLength": REF_CHARS_MAX }, field::integer()],
        "description": "Comes back in the reply, and in nothing else.",
    })
}

fn request(event: &Declaration) -> Value {
    let mut properties = Map::new();
    properties.insert("type".into(), json!({ "const": event.kind }));
    let reference = json!({ "anyOf": [{ "$ref": reference("Ref") }, { "type": "null" }] });
    properties.insert("ref".into(), reference);
    let mut required = vec!["type"];
    let mut exclusions = Vec::new();
    for field in event.fields {
        properties.insert(field.name.into(), field::schema(field));
        match field.presence {
            Presence::Required => required.push(field.name),
            Presence::Optional => {}
            Presence::InsteadOf(other) => {
                let mut fields = event.fields.iter();
                let other = fields.find(|field| field.name == other);
                let other = other.expect("the event has the other field");
                exclusions.push(field::exclusion(field, other));
            }
        }
    }
    let mut schema = json!({
        "type": "object",
        "properties": properties,
        "required": required,
    });
    if !exclusions.is_empty() {
        schema["allOf"] = exclusions.into();
    }
    schema
}

fn reply(kind: &str, data: Value) -> Value {
    json!({
        "description": format!("The answer to `{kind}`."),
        "type": "object",
        "properties": {
            "type": { "const": kind },
            "success": { "const": true },
            "data": data,
            "ref": { "$ref": reference("Ref") },
        },
        "required": ["type", "success", "data"],
    })
}

fn push(kind: &str, data: Value) -> Value {
    let has_event = EVENTS.iter().any(|event| event.kind == kind);
    let description = match has_event {
        true => format!("Somebody else, or another socket of the same user, has sent `{kind}`."),
        false => String::new(),
    };
    let mut schema = json!({
        "type": "object",
        "properties": {
            "type": { "const": kind },
            "success": { "const": true },
            "data": data,
        },
        "required": ["type", "success", "data"],
    });
    if kind == "sync" {
        schema["description"] = "The client may have missed something and should ask.".into();
    } else if !description.is_empty() {
        schema["description"] = description.into();
    }
    schema
}

fn refusal() -> Value {
    let kinds = EVENTS.iter().map(|event| event.kind);
    let kinds: Vec<_> = kinds.chain(["root"]).collect();
    json!({
        "description": "The answer to a request that failed. Nothing has changed.",
        "type": "object",
        "properties": {
            "type": {
                "enum": kinds,
                "description": "The request's, or `root` if that has none or an unknown one.",
            },
            "success": { "const": false },
            "error": { "type": "string", "description": "A text for people." },
            "code": { "$ref": reference("ErrorCode") },
            "retry_after": {
                "type": "integer",
                "minimum": 0,
                "description": "The same request may succeed after this many seconds.",
            },
            "ref": { "$ref": reference("Ref") },
        },
        "required": ["type", "success", "error", "code"],
    })
}

/// What is left out when it has no value is never `null`.
pub fn tidy(schema: &mut Value) {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    let properties = properties.into_iter().flatten();
    let optional = properties.filter(|(name, _)| !required.iter().any(|known| known == *name));
    for fields in optional.filter_map(|(_, property)| property.as_object_mut()) {
        if let Some(Value::Array(kinds)) = fields.get_mut("type") {
            kinds.retain(|kind| kind != "null");
            if let [kind] = &kinds[..] {
                let kind = kind.clone();
                fields.insert("type".into(), kind);
            }
        }
        if let Some(Value::Array(mut choices)) = fields.remove("anyOf") {
            choices.retain(|choice| choice["type"] != "null");
            match &choices[..] {
                [Value::Object(choice)] => fields.extend(choice.clone()),
                _ => drop(fields.insert("anyOf".into(), choices.into())),
            }
        }
    }
}
