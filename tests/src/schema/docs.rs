//! Descriptions of events, from the doc comments of the handlers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use handler::EVENTS;
use serde_json::Value;

use super::{events, root};

/// What the source files say.
#[derive(Default)]
struct Sources {
    /// The doc comment of each event, by its type. It begins with `` `type {fields}` → ``.
    events: BTreeMap<String, String>,
    /// The constants whose names end in `_MAX`, as a text for people.
    limits: BTreeMap<String, String>,
}

/// Adds the descriptions of the events, and makes all descriptions readable without the source.
pub fn explain(schema: &mut Value) {
    let sources = Sources::read_all();
    for event in EVENTS {
        let text = sources.events.get(event.kind);
        let text = text.unwrap_or_else(|| panic!("`{}` has no doc comment", event.kind));
        let name = events::name(event.kind, "Request");
        schema["$defs"][name]["description"] = text.as_str().into();
    }
    sources.clarify_all(schema);
}

/// Makes all descriptions readable without the source.
pub fn clarify(document: &mut Value) {
    Sources::read_all().clarify_all(document);
}

impl Sources {
    fn read_all() -> Self {
        let mut sources = Sources::default();
        sources.read_folder(&root().join("handler/src"));
        sources
    }

    fn read_folder(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => self.read_folder(&path),
                false => self.read(&fs::read_to_string(path).expect("a source file")),
            }
        }
    }

    fn read(&mut self, text: &str) {
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        let blocks = lines.chunk_by(|line, next| is_doc(line) == is_doc(next));
        for block in blocks.filter(|block| is_doc(block[0])) {
            let text: Vec<_> = block.iter().map(|line| line[3..].trim()).collect();
            let text = text.join("\n");
            if let Some(kind) = described_kind(&text) {
                self.events.insert(kind.to_owned(), text);
            }
        }
        for line in lines {
            if let Some((name, value)) = limit(line, text) {
                let before = self.limits.insert(name.to_owned(), value.clone());
                let is_same = before.is_none_or(|before| before == value);
                assert!(is_same, "two constants are called {name}");
            }
        }
    }

    fn clarify_all(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    match field {
                        Value::String(text) if name == "description" => *text = self.clear(text),
                        _ => self.clarify_all(field),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.clarify_all(item)),
            _ => {}
        }
    }

    /// Without links and line breaks, and with numbers in place of the names of constants.
    fn clear(&self, text: &str) -> String {
        let text = text.replace("[`", "`").replace("`]", "`");
        let paragraphs = text.split("\n\n").map(|text| text.replace('\n', " "));
        let text = paragraphs.collect::<Vec<_>>().join("\n\n");
        let pieces = text.split('`').enumerate();
        let pieces = pieces.map(|(index, piece)| match index % 2 == 1 {
            false => piece.to_owned(),
            true if piece.ends_with("_MAX") => {
                let limit = self.limits.get(piece);
                limit
                    .unwrap_or_else(|| panic!("no constant {piece}: {text}"))
                    .clone()
            }
            true => format!("`{piece}`"),
        });
        pieces.collect()
    }
}

fn is_doc(line: &str) -> bool {
    line.starts_with("///")
}

/// The type of the event that a doc comment describes.
fn described_kind(text: &str) -> Option<&str> {
    let (kind, rest) = text.strip_prefix('`')?.split_once(['`', ' '])?;
    let is_event = EVENTS.iter().any(|event| event.kind == kind);
    let is_described = rest.starts_with('{') || rest.trim_start().starts_with('→');
    (is_event && is_described).then_some(kind)
}

/// The name and the value of a constant, from the line of its declaration.
fn limit<'a>(line: &'a str, file: &str) -> Option<(&'a str, String)> {
    let (_, declaration) = line.split_once("const ")?;
    let (name, rest) = declaration.split_once(": ")?;
    let (_, value) = rest.strip_suffix(';')?.split_once(" = ")?;
    let value = match value.strip_suffix("!()") {
        // The constant stands in SQL too.
        Some(name) => {
            let (_, rest) = file.split_once(&format!("macro_rules! {name} {{"))?;
            rest.split(['{', '}']).nth(1)?.trim()
        }
        None => value,
    };
    let factors = value.split(" * ").map(|factor| factor.replace('_', ""));
    let value: Option<u64> = factors.map(|factor| factor.parse::<u64>().ok()).product();
    let value = value?;
    const KIB: u64 = 1024;
    let text = match value {
        value if name.contains("BYTES") && value.is_multiple_of(KIB * KIB) => {
            format!("{} MiB", value / (KIB * KIB))
        }
        value if name.contains("BYTES") && value.is_multiple_of(KIB) => {
            format!("{} KiB", value / KIB)
        }
        value if name.contains("BYTES") => format!("{} bytes", grouped(value)),
        value => grouped(value),
    };
    name.ends_with("_MAX").then_some((name, text))
}

/// `10,000`.
pub fn grouped(number: impl ToString) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
