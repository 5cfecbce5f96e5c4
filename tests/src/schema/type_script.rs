//! TypeScript types from the JSON Schema, for the client library.

use handler::{EVENTS, PUSHES};
use serde_json::{Map, Value};

use super::events;

const HEAD: &str = "\
// The types of the protocol. This file is written by `cargo run -p tests --bin schema -- write`,
// from the types that the server sends: do not edit it.

";

const LINE_CHARS_MAX: usize = 100;
const CHOICES_IN_LINE_MAX: usize = 5;

/// The definitions that are interfaces or types of their own: the types of data.
fn data_types(definitions: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let is_frame = |name: &str| {
        let frames = EVENTS.iter().map(|event| event.kind);
        let mut frames = frames.chain(PUSHES.iter().map(|push| push.kind));
        let whats = ["Request", "Reply", "Push"];
        ["Ref", "Refusal"].contains(&name)
            || whats.contains(&name)
            || frames.any(|kind| whats.iter().any(|what| events::name(kind, what) == name))
    };
    definitions.iter().filter(move |(name, _)| !is_frame(name))
}

pub fn types(schema: &Value) -> String {
    let definitions = schema["$defs"].as_object().expect("definitions");
    let mut text = HEAD.to_owned();
    for (name, definition) in data_types(definitions) {
        text += &comment(definition, 0);
        text += &match base(definition, definitions) {
            _ if !definition["properties"].is_object() => {
                let text = format!("export type {name} = {};\n\n", kind(definition, 0));
                text.replace(" \n", "\n")
            }
            Some((base, rest)) => {
                format!(
                    "export interface {name} extends {base} {}\n\n",
                    kind(&rest, 0)
                )
            }
            None => format!("export interface {name} {}\n\n", kind(definition, 0)),
        };
    }
    text += "/** What a client may send, without `type` and `ref`, and the `data` of the reply. */\n\
        export interface Events {\n";
    for event in EVENTS {
        let mut request = definitions[&events::name(event.kind, "Request")].clone();
        let reply = &definitions[&events::name(event.kind, "Reply")];
        text += &comment(&request, 1);
        let fields = request["properties"].as_object_mut().expect("properties");
        fields.retain(|name, _| name != "type" && name != "ref");
        let (request, data) = (kind(&request, 2), kind(&reply["properties"]["data"], 2));
        text += &format!(
            "  {}: {{\n    request: {request};\n    data: {data};\n  }};\n",
            event.kind
        );
    }
    text += "}\n\n/** The `data` of what a client hears without having asked. */\nexport interface Pushes {\n";
    for push in PUSHES {
        let definition = &definitions[&events::name(push.kind, "Push")];
        text += &comment(definition, 1);
        let data = kind(&definition["properties"]["data"], 1);
        text += &format!("  {}: {data};\n", push.kind);
    }
    text + "}\n"
}

/// The type whose fields are all among those of this one, and the definition without them. Types of
/// few fields may have the same ones by chance.
fn base<'a>(definition: &Value, definitions: &'a Map<String, Value>) -> Option<(&'a str, Value)> {
    const FIELDS_MIN: usize = 5;
    let properties = definition["properties"].as_object()?;
    let required = |definition: &Value, name: &str| {
        let required = definition["required"].as_array();
        required.is_some_and(|names| names.iter().any(|known| known == name))
    };
    let is_base = |other: &Value| {
        let fields = other["properties"].as_object();
        fields.is_some_and(|fields| {
            (FIELDS_MIN..properties.len()).contains(&fields.len())
                && fields.iter().all(|(name, field)| {
                    properties.get(name) == Some(field)
                        && required(definition, name) == required(other, name)
                })
        })
    };
    let (name, found) = definitions.iter().find(|(_, other)| is_base(other))?;
    let mut rest = definition.clone();
    let fields = rest["properties"].as_object_mut()?;
    fields.retain(|name, _| found["properties"].get(name).is_none());
    Some((name, rest))
}

/// The description as a comment, if there is one.
fn comment(schema: &Value, depth: usize) -> String {
    let Some(text) = schema["description"]
        .as_str()
        .filter(|text| !text.is_empty())
    else {
        return String::new();
    };
    let indent = "  ".repeat(depth);
    if !text.contains('\n') && indent.len() + text.chars().count() + 7 <= LINE_CHARS_MAX {
        return format!("{indent}/** {text} */\n");
    }
    let width = LINE_CHARS_MAX - indent.len() - " * ".len();
    let lines = wrapped(text, width);
    let lines = lines.iter().map(|line| format!("{indent} * {line}"));
    let lines = lines.map(|line| line.trim_end().to_owned() + "\n");
    format!("{indent}/**\n{}{indent} */\n", lines.collect::<String>())
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line += word;
        }
        lines.push(line);
    }
    lines
}

/// The type that a schema stands for.
fn kind(schema: &Value, depth: usize) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        return reference.rsplit('/').next().unwrap_or_default().to_owned();
    }
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<_> = values.iter().map(Value::to_string).collect();
        let separator = format!("\n{}  | ", "  ".repeat(depth));
        return match values.len() {
            ..=CHOICES_IN_LINE_MAX => union(values),
            _ => separator.clone() + &values.join(&separator),
        };
    }
    for name in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[name].as_array() {
            return union(choices.iter().map(|choice| kind(choice, depth)).collect());
        }
    }
    match &schema["type"] {
        Value::Array(kinds) => {
            let kinds = kinds.iter().map(|one| {
                let mut schema = schema.clone();
                schema["type"] = one.clone();
                kind(&schema, depth)
            });
            union(kinds.collect())
        }
        Value::String(name) => match name.as_str() {
            "string" | "boolean" | "null" => name.clone(),
            "integer" => "number".into(),
            "array" => match kind(&schema["items"], depth) {
                items if items.contains(' ') => format!("Array<{items}>"),
                items => format!("{items}[]"),
            },
            "object" => object(schema, depth),
            other => panic!("no TypeScript for {other}"),
        },
        _ => panic!("no TypeScript for {schema}"),
    }
}

fn union(choices: Vec<String>) -> String {
    choices.join(" | ")
}

fn object(schema: &Value, depth: usize) -> String {
    let Some(properties) = schema["properties"].as_object() else {
        return match &schema["additionalProperties"] {
            items if items.is_object() => format!("Record<string, {}>", kind(items, depth)),
            _ => "Record<string, unknown>".into(),
        };
    };
    if properties.is_empty() {
        return "Record<string, never>".into();
    }
    let indent = "  ".repeat(depth);
    let required = schema["required"].as_array();
    let required = required.into_iter().flatten().filter_map(Value::as_str);
    let required: Vec<_> = required
        .filter(|name| properties.contains_key(*name))
        .collect();
    // The required ones are in the order of their declaration.
    let optional = properties.keys().map(String::as_str);
    let optional = optional.filter(|name| !required.contains(name));
    let mut text = "{\n".to_owned();
    for name in required.iter().copied().chain(optional) {
        let property = &properties[name];
        let mark = if required.contains(&name) { "" } else { "?" };
        text += &comment(property, depth + 1);
        text += &format!("{indent}  {name}{mark}: {};\n", kind(property, depth + 1));
    }
    text + &indent + "}"
}
