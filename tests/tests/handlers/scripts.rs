//! Scripts of the events: what is sent and everything that happens then, in a file and on a libSQL
//! server.
//!
//! `scripts/` has a file for each event. Blank lines divide a script into blocks. Each block starts
//! in a new [`World`], where the time is always 1000000.
//!
//! ```text
//! # A comment.
//! alice → typing {"conversation_id": 1, "on": true}
//! alice ← typing {"conversation_id": 1, "username": "alice", "on": true}
//! alice, bob ← the same
//! alice → typing {"conversation_id": 1, "on": 1} ✗ invalid: expected on as boolean
//! ```
//!
//! - `→` sends a frame. The lines after it are everything that happens then, in order: first the
//!   reply, then the pushes.
//! - `typing {…}` is short for `{"type": "typing", …}` in a sent frame, and for
//!   `{"type": "typing", "success": true, "data": {…}}` in a received one. Any other text is the
//!   frame itself.
//! - `alice, bob ← …` is a push to every socket of both, except the one that asked. `the same` is
//!   the reply without its `ref`.
//! - `alice, bob join 3`: from now on, pushes to conversation 3 reach them; `leave`: they no longer
//!   do.
//! - `✗ code: text` after a frame is its reply: the frame is refused, and nothing else happens.
//! - `sql …` changes the database.
//! - `$name = "text" * 3`, or `$name = ` and any part of a line, defines what `$name` stands for in
//!   the lines below.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use handler::{Audience, MembersChange, Output};
use serde_json::{Map, Value, json};
use tests::{World, places};
use tokio::task::JoinSet;

/// Scripts that are not about one event.
const OTHERS: [&str; 1] = ["envelope"];

fn names() -> impl Iterator<Item = &'static str> {
    handler::EVENTS.iter().map(|event| event.kind).chain(OTHERS)
}

#[test]
fn every_event_has_a_script() {
    let files = std::fs::read_dir(folder()).expect("a folder");
    let files = files.map(|file| file.expect("a file").file_name().into_string());
    let files: BTreeSet<_> = files.map(|name| name.expect("UTF-8")).collect();
    assert_eq!(files, names().map(|name| format!("{name}.chat")).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_comes_as_the_scripts_say() {
    let scripts: JoinSet<_> = names().map(failures).collect();
    let failures = scripts.join_all().await.concat();
    assert!(failures.is_empty(), "{failures}");
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/handlers/scripts")
}

/// Runs a script in a file and on a server; returns every difference.
async fn failures(name: &'static str) -> String {
    let script = Script::read(name);
    let mut failures = String::new();
    for &place in places() {
        for block in script.blocks.iter().filter(|block| !block.is_empty()) {
            let world = World::new_at(place).await;
            for Step { line, action } in block {
                let differences = action.run(&world).await;
                if !differences.is_empty() {
                    let differences = differences.join("\n   ");
                    failures +=
                        &format!("\nscripts/{name}.chat:{line}, {place:?}\n   {differences}\n");
                }
            }
        }
    }
    failures
}

#[derive(Default)]
struct Script {
    /// The text of each `$name`.
    texts: BTreeMap<String, String>,
    blocks: Vec<Vec<Step>>,
}

struct Step {
    line: usize,
    action: Action,
}

enum Action {
    Sql(String),
    Send {
        user: String,
        frame: String,
        expected: Outcomes,
    },
}

/// The outcomes of a frame, in order. The names say who gets a frame (`1: alice ←`) or joins a
/// conversation (`2: alice, bob join`).
#[derive(Default)]
struct Outcomes(Map<String, Value>);

impl Outcomes {
    fn push(&mut self, users: &str, verb: &str, what: Value) {
        let name = format!("{}: {users} {verb}", self.0.len() + 1);
        self.0.insert(name, what);
    }

    async fn change(&mut self, world: &World, verb: &str, change: MembersChange) {
        let users = world.usernames(&Audience::Users(change.user_ids)).await;
        self.push(&users.join(", "), verb, json!(change.conversation_id));
    }

    /// The first outcome, as others receive it.
    fn reply_without_ref(&self) -> Option<Value> {
        let mut reply = self.0.values().next()?.clone();
        reply.as_object_mut()?.remove("ref");
        Some(reply)
    }
}

impl Script {
    fn read(name: &str) -> Self {
        let text = std::fs::read_to_string(folder().join(format!("{name}.chat")));
        let mut script = Script::default();
        script.blocks.push(Vec::new());
        for (line, text) in (1..).zip(text.expect("a script").lines()) {
            let is_read = script.read_line(line, text).is_some();
            assert!(is_read, "{name}.chat:{line} makes no sense: {text}");
        }
        script
    }

    /// Returns `None` if the line makes no sense.
    fn read_line(&mut self, line: usize, text: &str) -> Option<()> {
        if text.is_empty() {
            self.blocks.push(Vec::new());
        } else if let Some(definition) = text.strip_prefix('$') {
            let (name, text) = definition.split_once(" = ")?;
            self.texts.insert(name.to_owned(), self.defined(text)?);
        } else if !text.starts_with('#') {
            let text = self.expanded(text)?;
            let steps = self.blocks.last_mut()?;
            if let Some(action) = Action::read(&text) {
                steps.push(Step { line, action });
            } else {
                let Action::Send { expected, .. } = &mut steps.last_mut()?.action else {
                    return None;
                };
                read_outcome(&text, expected)?;
            }
        }
        Some(())
    }

    /// The value of a definition.
    fn defined(&self, text: &str) -> Option<String> {
        if !text.starts_with('"') {
            return self.expanded(text);
        }
        let (text, times) = text.rsplit_once(" * ").unwrap_or((text, "1"));
        let text: String = serde_json::from_str(text).ok()?;
        Some(text.repeat(times.parse().ok()?))
    }

    /// Replaces each `$name` by its text.
    fn expanded(&self, text: &str) -> Option<String> {
        let mut pieces = text.split('$');
        let mut expanded = pieces.next()?.to_owned();
        for piece in pieces {
            let end = piece.find(|c: char| !c.is_ascii_alphanumeric());
            let (name, rest) = piece.split_at(end.unwrap_or(piece.len()));
            expanded += self.texts.get(name)?;
            expanded += rest;
        }
        Some(expanded)
    }
}

impl Action {
    /// Returns `None` if the line is not an action.
    fn read(text: &str) -> Option<Self> {
        if let Some(sql) = text.strip_prefix("sql ") {
            return Some(Action::Sql(sql.to_owned()));
        }
        let (user, sent) = split(text, " → ")?;
        let (sent, refusal) = match sent.rsplit_once(" ✗ ") {
            Some((sent, refusal)) => (sent, Some(refusal)),
            None => (sent, None),
        };
        let (kind, frame) = sent_frame(sent)?;
        let mut expected = Outcomes::default();
        if let Some(refusal) = refusal {
            let (code, error) = refusal.split_once(": ")?;
            let reply = json!({ "type": kind, "success": false, "error": error, "code": code });
            expected.push(user, "←", reply);
        }
        Some(Action::Send {
            user: user.to_owned(),
            frame,
            expected,
        })
    }

    /// Runs the action; returns how the result differs from the expected one.
    async fn run(&self, world: &World) -> Vec<String> {
        match self {
            Action::Sql(sql) => {
                let done = world.db.execute_batch(sql).await;
                Vec::from_iter(done.err().map(|error| error.to_string()))
            }
            Action::Send {
                user,
                frame,
                expected,
            } => {
                let came = outcomes(world, user, frame).await;
                let expected = Value::Object(expected.0.clone());
                differences("", Some(&expected), Some(&Value::Object(came.0)))
            }
        }
    }
}

/// The names before the mark, and the text after it.
fn split<'a>(text: &'a str, mark: &str) -> Option<(&'a str, &'a str)> {
    let (users, rest) = text.split_once(mark)?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == ',' || c == ' ';
    users.chars().all(is_name).then_some((users, rest))
}

/// The type of the reply to a frame, and the frame itself.
fn sent_frame(text: &str) -> Option<(&str, String)> {
    let (kind, fields) = text.split_once(' ').unwrap_or((text, "{}"));
    if !handler::EVENTS.iter().any(|event| event.kind == kind) {
        return Some(("root", text.to_owned()));
    }
    let frame = match fields.strip_prefix('{')? {
        "}" => format!(r#"{{"type": "{kind}"}}"#),
        fields => format!(r#"{{"type": "{kind}", {fields}"#),
    };
    Some((kind, frame))
}

/// Adds the outcome that a line expects. Returns `None` if the line makes no sense.
fn read_outcome(text: &str, outcomes: &mut Outcomes) -> Option<()> {
    for verb in ["join", "leave"] {
        if let Some((users, id)) = split(text, &format!(" {verb} ")) {
            outcomes.push(users, verb, serde_json::from_str(id).ok()?);
            return Some(());
        }
    }
    let (users, received) = split(text, " ← ")?;
    let is_kind = |kind: &str| kind.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let frame = match received.split_once(' ') {
        Some(("the", "same")) => outcomes.reply_without_ref()?,
        Some((kind, data)) if is_kind(kind) => {
            let data: Value = serde_json::from_str(data).ok()?;
            json!({ "type": kind, "success": true, "data": data })
        }
        _ => serde_json::from_str(received).ok()?,
    };
    outcomes.push(users, "←", frame);
    Some(())
}

/// All outcomes of a frame.
async fn outcomes(world: &World, user: &str, frame: &str) -> Outcomes {
    let json = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let (reply, outbox) = world.answer(user, frame).await;
    let mut outcomes = Outcomes::default();
    outcomes.push(user, "←", json(&reply));
    for output in outbox {
        match output {
            Output::Push { to, event, .. } => {
                let users = world.usernames(&to).await.join(", ");
                outcomes.push(&users, "←", json(&event));
            }
            Output::Join(change) => outcomes.change(world, "join", change).await,
            Output::Leave(change) => outcomes.change(world, "leave", change).await,
            Output::EndLogins(ended) => panic!("no event ends logins: {ended:?}"),
        }
    }
    outcomes
}

/// One line for each value that differs, with the path to it.
fn differences(path: &str, expected: Option<&Value>, came: Option<&Value>) -> Vec<String> {
    match (expected, came) {
        _ if expected == came => Vec::new(),
        (Some(Value::Object(expected)), Some(Value::Object(came))) => {
            let names: BTreeSet<_> = expected.keys().chain(came.keys()).collect();
            let differences = names.into_iter().flat_map(|name| {
                let path = format!("{path} {name}");
                differences(&path, expected.get(name), came.get(name))
            });
            differences.collect()
        }
        (Some(Value::Array(expected)), Some(Value::Array(came))) => {
            let differences = (0..expected.len().max(came.len())).flat_map(|index| {
                let path = format!("{path} {index}");
                differences(&path, expected.get(index), came.get(index))
            });
            differences.collect()
        }
        _ => {
            let shown = |value: Option<&Value>| {
                value.map_or("nothing".to_owned(), |value| {
                    format!("{:.500}", value.to_string())
                })
            };
            vec![format!(
                "{path}: expected {}, got {}",
                shown(expected),
                shown(came)
            )]
        }
    }
}
