//! Runs every example of PROTOCOL.md against a running host.

use std::collections::BTreeMap;

use handler::{Declaration, EVENTS};
use serde_json::{Value, json};
use tests::host::login;
use tests::{Client, Host};

const PAGE: &str = include_str!("../../../handler/PROTOCOL.md");

const TIMES: [&str; 5] = [
    "sent_at",
    "edited_at",
    "last_online",
    "created_at",
    "exported_at",
];

/// Times differ from run to run, so they are only checked to be integers.
fn without_times(mut event: Value) -> Value {
    match &mut event {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                let is_time = TIMES.contains(&name.as_str());
                *value = match is_time && value.is_i64() {
                    true => json!("a time"),
                    false => without_times(value.take()),
                };
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = without_times(item.take());
            }
        }
        _ => {}
    }
    event
}

#[tokio::test]
async fn every_example_is_real() {
    let host = Host::start().await;
    let mut clients: BTreeMap<&str, Client> = BTreeMap::new();
    host.register("carol").await;
    for name in ["alice", "bob"] {
        clients.insert(name, host.join(name).await);
    }
    let mut count = 0;
    let blocks = PAGE.split("```chat\n").skip(1);
    for line in blocks.flat_map(|block| block.split("```").next().unwrap_or_default().lines()) {
        let (name, rest) = line.split_once(' ').expect("a name and what happens");
        count += 1;
        if rest == "leaves" {
            clients
                .remove(name)
                .expect("someone who is here")
                .close()
                .await;
            continue;
        }
        if rest == "joins" {
            clients.insert(name, host.connect(name).await);
            continue;
        }
        let client = clients.get_mut(name).expect("someone who is here");
        match rest.split_once(' ').expect("an arrow and a frame") {
            ("→", frame) => client.text(frame).await,
            ("←", frame) => {
                let expected =
                    serde_json::from_str(frame).unwrap_or_else(|error| panic!("{error}: {line}"));
                let received = without_times(client.receive().await);
                assert_eq!(received, without_times(expected), "{line}");
            }
            _ => panic!("{line}"),
        }
    }
    assert!(count > 50, "the examples were found");
    for (name, client) in &mut clients {
        assert_eq!(
            client.pushes_so_far().await,
            [] as [Value; 0],
            "{name} received more than the page says"
        );
    }
}

#[test]
fn the_hint_to_catch_up_is_as_shown() {
    let hint: Value = serde_json::from_str(&handler::sync::hint()).expect("JSON");
    let mut events = PAGE.lines().map(|line| serde_json::from_str(line.trim()));
    assert!(events.any(|event: Result<Value, _>| event.is_ok_and(|event| event == hint)));
}

#[test]
fn every_event_is_described_with_all_of_its_fields() {
    // The page writes `kind {a, b?, c? | d?}` at the beginning of a line.
    let described = PAGE.lines().filter_map(|line| {
        let (described, _) = line.strip_prefix('`')?.split_once('`')?;
        let (kind, fields) = described.strip_suffix('}')?.split_once(" {")?;
        let names = fields
            .split([',', '|'])
            .map(|field| field.trim().trim_end_matches('?'));
        Some((kind, names.collect()))
    });
    let names = |event: &Declaration| event.fields.iter().map(|field| field.name).collect();
    let with_fields = EVENTS.iter().filter(|event| !event.fields.is_empty());
    let with_fields = with_fields.map(|event| (event.kind, names(event)));
    assert_eq!(
        described.collect::<BTreeMap<&str, Vec<&str>>>(),
        with_fields.collect()
    );
    for kind in EVENTS.iter().map(|event| event.kind) {
        let example = format!(r#" → {{"type": "{kind}""#);
        assert!(PAGE.contains(&example), "{kind} has an example");
    }
}

#[tokio::test]
async fn an_export_is_as_shown() {
    let host = Host::start().await;
    let [mut alice, mut bob] = [host.join("alice").await, host.join("bob").await];
    alice.add_contact("bob").await;
    alice.converse(&["bob"]).await;
    let hello = json!({
        "type": "send_message", "conversation_id": 1, "content": "hello bob", "client_id": "7f3a",
    });
    alice.ok(hello).await;
    bob.send(1, "hello @alice").await;
    let react = json!({ "type": "react", "message_id": 2, "emoji": "👍", "on": true });
    alice.ok(react).await;
    let read = json!({ "type": "mark_read", "conversation_id": 1, "message_id": 2 });
    alice.ok(read).await;
    let cookie = login(host.address, "alice").await;
    let headers = [("cookie", cookie.as_str())];
    let answer = host.http("GET", "/account/export", &headers, "").await;
    let mut document: Value = serde_json::from_str(&answer.body).expect("JSON");
    let shown = PAGE
        .split("```json\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let mut shown: Value = serde_json::from_str(shown.expect("an example")).expect("JSON");
    // Their ids are random.
    for sessions in [&mut document["sessions"], &mut shown["sessions"]] {
        let session = sessions[0].as_object().expect("a session");
        *sessions = session.keys().map(String::as_str).collect();
    }
    assert_eq!(without_times(document), without_times(shown));
}
