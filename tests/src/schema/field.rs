//! The schema of a request's field, from its kind.

use handler::{Field, Kind, Length, Presence, Unit};
use serde_json::{Map, Value, json};

use super::docs::grouped;

/// JSON Schema counts characters only. This keyword, which others ignore, limits the bytes of UTF-8.
pub const BYTES_MAX: &str = "x-max-bytes";

/// The ids of conversations are names of fields in `revs`.
const ID_PATTERN: &str = "^(0|-?[1-9][0-9]{0,18})$";

/// `null` counts as absent, so that it is allowed where the field is not required.
pub fn schema(field: &Field) -> Value {
    let (mut schema, description) = of_kind(field.kind);
    schema["description"] = description.into();
    if field.presence != Presence::Required {
        let kind = schema["type"].take();
        schema["type"] = json!([kind, "null"]);
        if let Some(choices) = schema.get_mut("enum").and_then(Value::as_array_mut) {
            choices.push(Value::Null);
        }
    }
    schema
}

fn of_kind(kind: Kind) -> (Value, String) {
    match kind {
        Kind::Conversation => (integer(), "The id of a conversation.".into()),
        Kind::Message => (integer(), "The id of a message.".into()),
        Kind::Position => (
            integer(),
            "A place in the order of the messages' ids. There need not be a message with this id."
                .into(),
        ),
        Kind::User => (json!({ "type": "string" }), "A username.".into()),
        Kind::Member => (
            json!({ "type": "string" }),
            "The username of a member of the conversation.".into(),
        ),
        Kind::Users => (
            json!({ "type": "array", "items": { "type": "string" } }),
            "Usernames.".into(),
        ),
        Kind::Revs => (
            json!({
                "type": "object",
                "propertyNames": { "pattern": ID_PATTERN, "format": "int64" },
                "additionalProperties": { "type": ["integer", "null"], "format": "int64" },
            }),
            "The rev that the client has of each conversation, by the conversation's id.".into(),
        ),
        Kind::ClientId(length) => {
            let (schema, limits) = text(length);
            let text = format!("The sender's own name for the message, {limits}.");
            (schema, text)
        }
        Kind::Text(length) => {
            let (schema, limits) = text(length);
            (schema, format!("{limits}."))
        }
        Kind::Integer { min, max } => {
            let mut schema = integer();
            schema["minimum"] = min.into();
            schema["maximum"] = max.into();
            (schema, format!("{} to {}.", grouped(min), grouped(max)))
        }
        Kind::Flag => (json!({ "type": "boolean" }), String::new()),
        Kind::Choice(choices) => (json!({ "type": "string", "enum": choices }), String::new()),
    }
}

/// Integers are written without fraction or exponent.
pub fn integer() -> Value {
    json!({ "type": "integer", "format": "int64" })
}

fn text(Length { min, max, unit }: Length) -> (Value, String) {
    let mut schema = json!({ "type": "string", "maxLength": max });
    if min > 0 {
        schema["minLength"] = min.into();
    }
    let limits = match unit {
        Unit::Characters => format!("{min} to {} characters", grouped(max)),
        Unit::Bytes => {
            schema[BYTES_MAX] = max.into();
            format!("{min} to {} bytes of UTF-8", grouped(max))
        }
    };
    (schema, limits)
}

/// Forbids two fields together, of which one stands instead of the other. A flag counts only if it
/// is `true`.
pub fn exclusion(field: &Field, other: &Field) -> Value {
    let given = |field: &Field| {
        let given = match field.kind {
            Kind::Flag => json!({ "const": true }),
            _ => json!({ "not": { "type": "null" } }),
        };
        (field.name.to_owned(), given)
    };
    let properties: Map<_, _> = [given(other), given(field)].into_iter().collect();
    json!({ "not": { "required": [other.name, field.name], "properties": properties } })
}
