//! The schema of the protocol: its documents are up to date, and the handlers do what it says.

use std::collections::BTreeSet;
use std::fs;

use fastrand::Rng;
use handler::{Declaration, EVENTS, Field, Kind, Length, Presence, Unit};
use serde_json::{Map, Value, json};
use tests::World;
use tests::schema::{ROUTES, documents, request_faults};

#[test]
fn documents_are_up_to_date() {
    for document in documents() {
        let text = fs::read_to_string(document.file()).unwrap_or_default();
        assert!(
            text == document.text,
            "{} is not: cargo run -p tests --bin schema -- write",
            document.path
        );
    }
}

#[test]
fn every_route_is_described() {
    let rows = host::listed_routes();
    let rows = rows.iter().map(|row| (&*row.method, row.path));
    let described = ROUTES.iter().map(|route| (route.method, route.path));
    assert_eq!(
        described.collect::<BTreeSet<_>>(),
        rows.collect::<BTreeSet<_>>()
    );
}

const LETTERS: [&str; 4] = ["x", "é", "👍", "\0"];

/// Refusals of requests whose shape is right, but which make no sense: they contradict themselves or
/// the caller, or look for nothing.
const CONTRADICTIONS: [&str; 5] = [
    "query should have a letter or a digit",
    "you cannot block yourself",
    "cannot add itself as a contact",
    "a direct conversation has one other member",
    "leave_conversation is for leaving",
];

/// For each event, requests that are right or nearly so. The handler finds the shape of exactly those
/// right that the schema allows.
#[tokio::test]
async fn the_schema_allows_what_the_handlers_take() {
    const REQUESTS: usize = 150;
    let seed = fastrand::u64(..);
    let mut random = Rng::with_seed(seed);
    for event in EVENTS {
        let world = World::new().await;
        let (mut right, mut wrong) = (0, 0);
        for _ in 0..REQUESTS {
            let request = request(event, &mut random);
            let faults = request_faults(&request);
            let (reply, _) = world.answer("alice", &request.to_string()).await;
            let reply: Value = serde_json::from_str(&reply).expect("JSON");
            let code = reply["code"].as_str().unwrap_or("success");
            let error = reply["error"].as_str().unwrap_or_default();
            match faults.is_empty() {
                true => {
                    right += 1;
                    let is_fine = code != "invalid" || CONTRADICTIONS.contains(&error);
                    assert!(is_fine, "seed {seed}: allowed, but {reply}: {request}");
                }
                false => {
                    wrong += 1;
                    let is_fine = matches!(code, "invalid" | "too_large");
                    assert!(is_fine, "seed {seed}: {faults}, but {reply}: {request}");
                }
            }
        }
        assert!(right > 0 && wrong > 0, "{}: {right}, {wrong}", event.kind);
    }
}

/// A right request, or one of which one field is changed.
fn request(event: &Declaration, random: &mut Rng) -> Value {
    let mut request = Map::new();
    request.insert("type".into(), event.kind.into());
    for field in event.fields {
        let is_excluded = match field.presence {
            Presence::InsteadOf(other) => request.contains_key(other),
            Presence::Required | Presence::Optional => false,
        };
        let is_optional = field.presence != Presence::Required;
        if !is_optional || !is_excluded && random.bool() {
            request.insert(field.name.into(), right(field, random));
        }
    }
    let names: Vec<_> = event.fields.iter().map(|field| field.name).collect();
    let names = [&names[..], &["ref", "unknown"]].concat();
    match random.u8(0..8) {
        0..4 => {}
        4 => drop(request.remove(names[random.usize(..names.len())])),
        _ => {
            let field = event.fields.get(random.usize(..names.len()));
            let name = field.map_or_else(
                || names[names.len() - 1 - random.usize(..2)],
                |field| field.name,
            );
            request.insert(name.into(), any(field, random));
        }
    }
    request.into()
}

/// A value that alice may send in a `World`.
fn right(field: &Field, random: &mut Rng) -> Value {
    let choose = |random: &mut Rng, names: &[&str]| json!(names[random.usize(..names.len())]);
    match field.kind {
        Kind::Conversation | Kind::Message => json!(1),
        Kind::Position => json!(random.i64(..)),
        Kind::User => choose(random, &["alice", "dave", "nobody"]),
        Kind::Member => choose(random, &["bob", "nobody"]),
        Kind::Users => json!([choose(random, &["alice", "bob", "carol", "dave", "nobody"])]),
        Kind::Revs => {
            let id = random.i64(-5..5).to_string();
            json!({ id: if random.bool() { json!(random.i64(..)) } else { Value::Null } })
        }
        Kind::ClientId(length) | Kind::Text(length) => text(length, random),
        Kind::Integer { min, max } => json!(random.i64(min..=max)),
        Kind::Flag => json!(random.bool()),
        Kind::Choice(choices) => choose(random, choices),
    }
}

/// Any value; often one at a limit of the field.
fn any(field: Option<&Field>, random: &mut Rng) -> Value {
    let length = field.and_then(|field| match field.kind {
        Kind::ClientId(length) | Kind::Text(length) => Some(length),
        _ => None,
    });
    match (random.u8(0..12), field.map(|field| field.kind)) {
        (0, _) => Value::Null,
        (1, _) => json!(random.bool()),
        (2, Some(Kind::Integer { min, max })) => {
            let near = [min - 1, min, max, max + 1];
            json!(near[random.usize(..near.len())])
        }
        (2 | 3, _) => json!(random.i64(..)),
        (4, _) => json!(random.f64()),
        (5, _) => json!(1.0),
        (6, _) => json!(u64::MAX - random.u64(..5)),
        (7, _) => json!([any(None, random)]),
        (8, _) => json!({ random.i64(-3..1_000).to_string(): any(None, random) }),
        (9, _) => {
            let names = [
                "",
                "x",
                "01",
                "-0",
                "1.0",
                "+1",
                "-7",
                " 1",
                "9223372036854775807",
                "9223372036854775808",
            ];
            json!({ names[random.usize(..names.len())]: 1 })
        }
        _ => any_text(length, random),
    }
}

/// A text as short or as long as allowed, of characters of one or more bytes.
fn text(Length { min, max, unit }: Length, random: &mut Rng) -> Value {
    let letter = LETTERS[random.usize(..LETTERS.len())];
    let max = match unit {
        Unit::Characters => max,
        Unit::Bytes => max / letter.len(),
    };
    let lengths = [min, min + 1, max];
    json!(letter.repeat(lengths[random.usize(..lengths.len())]))
}

/// A text of about these lengths.
fn any_text(length: Option<Length>, random: &mut Rng) -> Value {
    let letter = LETTERS[random.usize(..LETTERS.len())];
    let (min, max) = length.map_or((1, 64), |length| (length.min, length.max));
    let lengths = [
        min.saturating_sub(1),
        min,
        max,
        max + 1,
        max / letter.len(),
        max / letter.len() + 1,
    ];
    json!(letter.repeat(lengths[random.usize(..lengths.len())]))
}
