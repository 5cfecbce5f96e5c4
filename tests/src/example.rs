//! Events generated from their declarations, for everything that must hold for all of them.

use handler::{Declaration, EVENTS, Field, Kind, Length, Presence, Unit};
use serde_json::{Value, json};

/// An event with some of its fields.
#[derive(Clone)]
pub struct Example {
    pub declaration: &'static Declaration,
    pub fields: Vec<(&'static Field, Value)>,
}

impl Example {
    /// Every event with every sensible choice of fields: always the required ones, each optional
    /// one or not, and at most one of those that exclude each other. `value` supplies a field's
    /// value.
    pub fn all(value: impl Fn(&Field) -> Value) -> Vec<Example> {
        EVENTS
            .iter()
            .flat_map(|event| Self::of(event, &value))
            .collect()
    }

    /// Like `all`, for one event; the example with the fewest fields comes first.
    pub fn of(declaration: &'static Declaration, value: impl Fn(&Field) -> Value) -> Vec<Example> {
        let (required, optional): (Vec<&Field>, Vec<&Field>) = declaration
            .fields
            .iter()
            .partition(|field| field.presence == Presence::Required);
        let choices = 0..1_usize << optional.len();
        let examples = choices.map(|choice| {
            let chosen = |index: &usize| choice & (1 << index) != 0;
            let chosen = (0..optional.len()).filter(chosen);
            let chosen: Vec<&Field> = chosen.map(|index| optional[index]).collect();
            let fields = required.iter().chain(&chosen);
            Example {
                declaration,
                fields: fields.map(|field| (*field, value(field))).collect(),
            }
        });
        examples.filter(Example::is_sensible).collect()
    }

    /// The examples to which no further field can be added.
    pub fn fullest(examples: Vec<Example>) -> Vec<Example> {
        let is_part = |one: &Example, other: &Example| {
            let has = |example: &Example, name| example.fields.iter().any(|(f, _)| f.name == name);
            one.declaration.kind == other.declaration.kind
                && one.fields.len() < other.fields.len()
                && one.fields.iter().all(|(field, _)| has(other, field.name))
        };
        let is_full = |one: &&Example| !examples.iter().any(|other| is_part(one, other));
        examples.iter().filter(is_full).cloned().collect()
    }

    fn is_sensible(&self) -> bool {
        let has = |name: &str| self.fields.iter().any(|(field, _)| field.name == name);
        self.fields.iter().all(|(field, _)| match field.presence {
            Presence::InsteadOf(other) => !has(other),
            Presence::Required | Presence::Optional => true,
        })
    }

    pub fn event(&self) -> Value {
        let mut event = json!({ "type": self.declaration.kind });
        for (field, value) in &self.fields {
            event[field.name] = value.clone();
        }
        event
    }

    /// The names of the fields that are not required.
    pub fn optional_names(&self) -> Vec<&'static str> {
        let fields = self.fields.iter().map(|(field, _)| field);
        let optional = fields.filter(|field| field.presence != Presence::Required);
        optional.map(|field| field.name).collect()
    }

    /// The same example with another value for the field at this index.
    pub fn with(&self, place: usize, value: Value) -> Example {
        let mut example = self.clone();
        example.fields[place].1 = value;
        example
    }
}

/// A valid value of the field for alice in a `World`.
pub fn value(field: &Field) -> Value {
    match field.kind {
        Kind::Conversation | Kind::Message => json!(1),
        Kind::Position => json!(2),
        Kind::User => json!("dave"),
        Kind::Member => json!("bob"),
        Kind::Users => json!(["dave"]),
        Kind::Revs => json!({ "1": 1 }),
        // What the messages "more" have.
        Kind::Text(_) if field.name == "query" => json!("m"),
        Kind::ClientId(length) | Kind::Text(length) => text(length.min.max(3)),
        Kind::Integer { max, .. } => json!(max.min(10)),
        Kind::Flag => json!(true),
        Kind::Choice(choices) => json!(choices.last()),
    }
}

/// Values that a field of this kind refuses.
pub fn wrong_values(field: &Field) -> Vec<Value> {
    let mut wrong = vec![json!([{}])];
    if !matches!(field.kind, Kind::Revs) {
        wrong.push(json!({ "a": 1 }));
    }
    match field.kind {
        Kind::Conversation | Kind::Message | Kind::Position => {
            wrong.extend([json!("1"), json!(1.5), json!(true)]);
        }
        Kind::Integer { min, max } => wrong.extend([
            json!("1"),
            json!(min.saturating_sub(1)),
            json!(max.saturating_add(1)),
        ]),
        Kind::ClientId(length) | Kind::Text(length) => {
            wrong.push(json!(1));
            wrong.push(text(length.max + 1));
            if length.min > 0 {
                wrong.push(text(length.min - 1));
            }
            if length.unit == Unit::Bytes {
                let wide = "é".repeat(length.max / 2 + 1);
                wrong.push(json!(wide));
            }
        }
        Kind::User | Kind::Member => wrong.push(json!(1)),
        Kind::Choice(_) => wrong.extend([json!(1), json!(""), json!("nonsense")]),
        Kind::Users => wrong.extend([json!("bob"), json!([1])]),
        Kind::Revs => wrong.extend([json!("{}"), json!({ "x": 1 }), json!({ "1": "1" })]),
        Kind::Flag => wrong.extend([json!(0), json!("true")]),
    }
    wrong
}

/// The longest and the shortest text allowed.
pub fn bounds(length: Length) -> [Value; 2] {
    [text(length.max), text(length.min)]
}

fn text(length: usize) -> Value {
    json!("x".repeat(length))
}
