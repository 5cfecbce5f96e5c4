//! Nothing but what PROTOCOL.md says tells the blocked one of a block. The tests send every event in
//! two worlds that differ only in that alice has blocked bob, and compare what bob receives.

use std::collections::BTreeSet;

use handler::account::login_id::LoginId;
use handler::cluster::gone::{Gone, HostGone};
use handler::presence::{Connected, Disconnected};
use handler::{Access, Audience, Event, Field, Kind, Operation, Outbox, Output};
use serde_json::{Value, json};
use tests::example::value;
use tests::{Example, Place, World, places};

const ALICE: i64 = 1;
const BOB: i64 = 2;

/// Conversation 1 is a group of alice and bob, 2 of bob and carol, 3 the direct one of alice and bob,
/// 4 of alice and carol, and 5 of all three. Bob has sent message 4 in 3, and alice 5 in 3, 6 in 5 and
/// 7 in 4. They are contacts.
async fn world(place: Place, is_blocked: bool) -> World {
    let world = World::new_at(place).await;
    let send = |conversation_id: i64, content: &str| {
        json!({
            "type": "send_message", "conversation_id": conversation_id, "content": content, "client_id": content,
        })
    };
    let create = |members: Value| json!({ "type": "create_conversation", "members": members });
    for (user, event) in [
        (
            "alice",
            json!({ "type": "create_conversation", "members": ["bob"], "direct": true }),
        ),
        ("alice", create(json!(["carol"]))),
        ("carol", create(json!(["alice", "bob"]))),
        ("bob", send(3, "bob's")),
        ("alice", send(3, "alice's")),
        ("alice", send(5, "to all")),
        ("alice", send(4, "to carol")),
    ] {
        let (reply, _) = world.event(user, &event.to_string()).await;
        assert_eq!(reply["success"], true, "{reply}");
    }
    // In both worlds, so that the ids of rows are the same.
    let others = "insert into blocks (user_id, blocked_id) values (3, 4);
        update users set is_online = 1 where id < 4; update community set id = 'the same';";
    world.db.execute_batch(others).await.expect("stored");
    if is_blocked {
        let block = r#"{"type": "block_user", "username": "bob"}"#;
        let (reply, _) = world.event("alice", block).await;
        assert_eq!(reply["success"], true, "{reply}");
    }
    world
}

/// Values of a field that matter to bob and alice.
fn values(field: &Field) -> Vec<Value> {
    match field.kind {
        Kind::User | Kind::Member => vec![json!("alice"), json!("bob"), json!("carol")],
        Kind::Users => vec![
            json!(["alice"]),
            json!(["bob"]),
            json!(["carol"]),
            json!(["dave", "alice", "bob"]),
        ],
        Kind::Conversation => (1..=5).map(Value::from).collect(),
        Kind::Message | Kind::Position => (1..=7).map(Value::from).collect(),
        Kind::Revs => vec![json!({}), json!({ "3": 1, "5": 1 })],
        Kind::ClientId(_) => vec![json!("bob's"), json!("new")],
        Kind::Text(_) => vec![json!("alice"), json!("@alice"), json!("@bob @all")],
        Kind::Flag => vec![json!(true), json!(false)],
        Kind::Choice(choices) => choices.iter().map(|choice| json!(choice)).collect(),
        Kind::Integer { .. } => vec![],
    }
}

/// Every event with every choice of fields, and each field changed to each of its values, in each
/// conversation and about each message.
fn asked() -> Vec<Example> {
    let mut asked: Vec<Example> = Vec::new();
    for example in Example::all(value) {
        // Of the first field, which most often says what the event is about, each value; with it,
        // each value of one other field.
        let firsts = match example.fields.first() {
            None => vec![example.clone()],
            Some((field, _)) => {
                let values = values(field).into_iter();
                values.map(|value| example.with(0, value)).collect()
            }
        };
        for first in firsts {
            for place in 1..first.fields.len() {
                let values = values(first.fields[place].0).into_iter();
                asked.extend(values.map(|value| first.with(place, value)));
            }
            asked.push(first);
        }
    }
    asked
}

/// What bob receives of an event: the reply, if it is bob's, and the pushes. And whether the event
/// was refused, so that it has changed nothing.
async fn received(world: &World, caller: &str, event: &str) -> (Vec<String>, bool) {
    let (reply, outbox) = world.answer(caller, event).await;
    let is_refused = reply.contains(r#""success":false"#);
    let mut received = pushes_to_bob(world, &outbox).await;
    if caller == "bob" {
        received.insert(0, reply);
    }
    (received, is_refused)
}

async fn pushes_to_bob(world: &World, outbox: &Outbox) -> Vec<String> {
    let mut received = Vec::new();
    for output in outbox {
        match output {
            Output::Push { to, event, .. } => {
                let users = world.usernames(to).await;
                if users.iter().any(|user| user == "bob") {
                    received.push(event.clone());
                }
            }
            Output::Join(change) | Output::Leave(change) => {
                if change.user_ids.contains(&BOB) {
                    received.push(format!("{output:?}"));
                }
            }
            Output::EndLogins(_) => received.push(format!("{output:?}")),
        }
    }
    received
}

/// The text with alice's presence as bob sees it after the block.
fn hidden(text: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(text) else {
        return text.to_owned();
    };
    fn hide(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                if fields.get("username") == Some(&json!("alice"))
                    && fields.contains_key("last_online")
                {
                    fields.insert("is_online".into(), json!(false));
                    fields.insert("last_online".into(), json!(null));
                }
                fields.values_mut().for_each(hide);
            }
            Value::Array(items) => items.iter_mut().for_each(hide),
            _ => {}
        }
    }
    hide(&mut value);
    value.to_string()
}

/// What PROTOCOL.md says that a block refuses: the code and the text.
fn refusal(caller: &str, event: &Value) -> Option<(&'static str, &'static str)> {
    let kind = event["type"].as_str().unwrap_or_default();
    let names = |name: &str| {
        event["contact_username"] == name
            || event["members"]
                .as_array()
                .is_some_and(|of| of.contains(&json!(name)))
    };
    let is_direct = event["conversation_id"] == 3
        || (kind != "send_message" && [json!(4), json!(5)].contains(&event["message_id"]));
    let is_said = match kind {
        "send_message" | "edit_message" => true,
        "react" => event["on"] == true,
        _ => false,
    };
    match (caller, kind) {
        _ if is_said && is_direct => Some((
            "forbidden",
            "no messages can be sent in this conversation now",
        )),
        ("bob", "add_contact" | "create_conversation" | "add_members") if names("alice") => {
            Some(("forbidden", "'alice' does not allow this"))
        }
        ("alice", "add_contact" | "create_conversation" | "add_members") if names("bob") => {
            Some(("forbidden", "you have blocked 'bob'"))
        }
        _ => None,
    }
}

#[tokio::test]
async fn nothing_else_tells_the_blocked_one() {
    let (mut refused, mut hid) = (BTreeSet::new(), BTreeSet::new());
    let mut worlds = None;
    let blocked = world(Place::File, true).await.save();
    let stranger = world(Place::File, false).await.save();
    for asked in asked() {
        let event = asked.event();
        let text = event.to_string();
        let operation = Event::parse(&text).operation.expect("an operation");
        let is_write = operation.access() == Access::Write;
        for caller in ["bob", "alice", "carol"] {
            let kind = event["type"].as_str().unwrap_or_default();
            // These are about blocks themselves; their scripts say what comes of them.
            let is_of_alice = caller == "alice" && ["block_user", "unblock_user"].contains(&kind);
            if is_of_alice || (caller == "alice" && kind == "typing") {
                continue;
            }
            // New worlds after each event that may have changed them.
            let [blocked, stranger] = match worlds.take() {
                Some(unchanged) => unchanged,
                None => [World::of(&blocked).await, World::of(&stranger).await],
            };
            let (found, is_refused) = received(&blocked, caller, &text).await;
            let (mut expected, is_refused_too) = received(&stranger, caller, &text).await;
            let is_unchanged = !is_write || (is_refused && is_refused_too);
            let context = format!("{caller}'s {text}");
            if found == expected {
                worlds = is_unchanged.then_some([blocked, stranger]);
                continue;
            }
            if let Some((code, error)) = refusal(caller, &event) {
                let (reply, outbox) = blocked.answer(caller, &text).await;
                let reply: Value = serde_json::from_str(&reply).expect("JSON");
                assert_eq!(
                    (&reply["code"], &reply["error"]),
                    (&json!(code), &json!(error)),
                    "{context}"
                );
                assert!(outbox.is_empty(), "{context}");
                refused.insert(format!("{caller}: {kind}"));
                continue;
            }
            let found: Vec<_> = found.iter().map(|text| hidden(text)).collect();
            expected = expected.iter().map(|text| hidden(text)).collect();
            assert_eq!(found, expected, "{context}");
            hid.insert(format!("{caller}: {kind}"));
        }
    }
    let set = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| text.to_string())
            .collect::<BTreeSet<_>>()
    };
    let expected = [
        "alice: create_conversation",
        "alice: edit_message",
        "alice: react",
        "alice: send_message",
        "bob: create_conversation",
        "bob: edit_message",
        "bob: react",
        "bob: send_message",
    ];
    assert!(refused.is_superset(&set(&expected)), "{refused:?}");
    let expected = [
        "alice: update_profile",
        "bob: get_contacts",
        "bob: get_conversation_info",
        "bob: get_conversations",
        "bob: get_user",
        "bob: search_users",
    ];
    assert_eq!(hid, set(&expected));
}

/// The blocked one hears nothing of the blocker's coming and going, also if a host dies.
#[tokio::test]
async fn presence_is_hidden_from_the_blocked_one() {
    for &place in places() {
        let world = world(place, true).await;
        let offline = "update users set is_online = 0; insert into contacts values (1, 3), (3, 1);";
        world.db.execute_batch(offline).await.expect("stored");
        let host_id = || "local".into();
        let connected = Connected {
            username: "alice".into(),
            login: LoginId::of_token(None),
            host_id: host_id(),
        };
        check(&world, "", &connected, &["carol"]).await;
        let disconnected = Disconnected { host_id: host_id() };
        check(&world, "alice", &disconnected, &["carol"]).await;
        // bob has blocked nobody.
        let connected = Connected {
            username: "bob".into(),
            ..connected
        };
        check(&world, "", &connected, &["alice"]).await;
        world
            .run(
                "",
                &Connected {
                    username: "alice".into(),
                    ..connected
                },
            )
            .await
            .0
            .expect("connected");
        let gone = HostGone {
            host_id: host_id(),
            why: Gone::Stopped,
            user_ids: vec![ALICE],
        };
        check(&world, "", &gone, &["carol"]).await;
    }
}

/// Runs an operation of alice's or bob's presence; checks who hears of it.
async fn check<O: Operation<Output: std::fmt::Debug>>(
    world: &World,
    caller: &str,
    operation: &O,
    expected: &[&str],
) {
    let (outcome, outbox) = world.run(caller, operation).await;
    outcome.expect("done");
    let mut heard = Vec::new();
    for output in &outbox {
        if let Output::Push { to, .. } = output {
            assert!(matches!(to, Audience::Users(_)), "{to:?}");
            heard.extend(world.usernames(to).await);
        }
    }
    assert_eq!(heard, expected, "{}", std::any::type_name::<O>());
}
