//! To a caller, whatever the caller has no part in does not exist. The tests send every event, with
//! every id in every field that takes one, in two worlds, one of which lacks all those things.

use std::collections::BTreeSet;

use handler::{Field, Kind, Outbox, Role, Who};
use serde_json::{Value, json};
use tests::example::value;
use tests::{Example, Place, World, places};

/// Every event as alice may send it, with as many fields as it takes.
fn examples() -> Vec<Example> {
    Example::fullest(Example::all(value))
}

/// Values of a field that exist, and values that do not.
fn values(field: &Field) -> Vec<Value> {
    let nowhere = [99, 0, -1, i64::MAX, i64::MIN];
    let conversations = || (1..=3).chain(nowhere);
    match field.kind {
        Kind::Text(_) | Kind::Integer { .. } | Kind::Flag | Kind::Choice(_) => vec![],
        // Users are public.
        Kind::User | Kind::Member => vec![
            json!("alice"),
            json!("bob"),
            json!("carol"),
            json!("nobody"),
        ],
        Kind::Users => vec![json!([]), json!(["carol"]), json!(["carol", "nobody"])],
        Kind::Conversation => conversations().map(Value::from).collect(),
        Kind::Revs => conversations()
            .flat_map(|id| [0, 1].map(|rev| json!({ id.to_string(): rev })))
            .collect(),
        Kind::Message | Kind::Position => (1..=6).chain(nowhere).map(Value::from).collect(),
        Kind::ClientId(_) => vec![json!("alice's"), json!("bob's"), json!("carol's")],
    }
}

fn conversations_of(caller: &str) -> &[i64] {
    match caller {
        "alice" => &[1, 3],
        "carol" => &[2, 3],
        _ => &[],
    }
}

fn conversation_of(message_id: i64) -> Option<i64> {
    match message_id {
        1 | 2 | 5 => Some(1),
        3 | 6 => Some(2),
        4 => Some(3),
        _ => None,
    }
}

/// The examples with one field changed to each of its values, and the kind of that field.
fn variants() -> Vec<(Kind, Example)> {
    let mut variants = Vec::new();
    for example in examples() {
        for (place, (field, _)) in example.fields.iter().enumerate() {
            for value in values(field) {
                variants.push((field.kind, example.with(place, value)));
            }
        }
    }
    variants
}

/// Whether the example names a conversation that the caller is not in, or a message that is not in
/// the conversation it names or, if it names none, in one of the caller's.
fn is_foreign(example: &Example, caller: &str) -> bool {
    let conversation_id = example.event()["conversation_id"].as_i64();
    example.fields.iter().any(|(field, value)| {
        let id = value.as_i64();
        match field.kind {
            Kind::Conversation => !id.is_some_and(|id| conversations_of(caller).contains(&id)),
            Kind::Message => match (id.and_then(conversation_of), conversation_id) {
                (Some(of), Some(named)) => of != named,
                (Some(of), None) => !conversations_of(caller).contains(&of),
                (None, _) => true,
            },
            _ => false,
        }
    })
}

#[tokio::test]
async fn what_a_caller_has_no_part_in_does_not_exist() {
    for (user_id, caller) in [(1, "alice"), (3, "carol"), (4, "dave")] {
        let theirs = format!("(select conversation_id from members where user_id = {user_id})");
        let deletion = format!(
            "delete from messages where conversation_id < 9 and conversation_id not in {theirs};
             delete from conversations where id < 9 and id not in {theirs};
             delete from members where conversation_id not in {theirs};
             delete from contacts where {user_id} not in (user_id, contact_id);"
        );
        let mut asked = examples();
        asked.extend(variants().into_iter().map(|(_, asked)| asked));
        check(caller, &deletion, asked).await;
    }
}

#[tokio::test]
async fn a_message_of_another_conversation_or_of_another_sender_does_not_exist() {
    type IsChanged = fn(&Kind, &Example) -> bool;
    let changes: [(&str, IsChanged); 2] = [
        ("delete from messages where id = 4;", |kind, example| {
            let is_message = matches!(kind, Kind::Message | Kind::Position);
            // Without a conversation, an event names any message of the caller's.
            is_message && example.event()["conversation_id"].is_i64()
        }),
        ("update messages set client_id = null;", |kind, _| {
            matches!(kind, Kind::ClientId(_))
        }),
    ];
    for (deletion, is_changed) in changes {
        let asked = variants().into_iter();
        let asked = asked.filter(|(kind, example)| is_changed(kind, example));
        check("alice", deletion, asked.map(|(_, asked)| asked).collect()).await;
    }
}

/// For each event, each role of the caller, and each way that the members can have roles.
#[tokio::test]
async fn each_event_is_for_those_whose_role_is_high_enough() {
    for &place in places() {
        for asked in examples() {
            let Who::Member(least) = asked.declaration.who else {
                continue;
            };
            for (number, role) in (0..).zip([Role::Member, Role::Admin, Role::Owner]) {
                for has_owner in [true, false] {
                    let world = World::new_at(place).await;
                    // carol joins as an owner, or as an admin.
                    let carol = 1 + i64::from(has_owner);
                    let script = format!(
                        "insert into members (conversation_id, user_id, role) values (1, 3, {carol});
                         update conversations set member_count = 3 where id = 1;
                         update members set role = {number} where conversation_id = 1 and user_id = 1;"
                    );
                    world.db.execute_batch(&script).await.expect("changed");
                    let mut state = State::new(world).await;
                    let event = asked.event().to_string();
                    let (reply, outbox, changes) = state.outcome("alice", &event).await;
                    let has_owner = has_owner || role == Role::Owner;
                    let may = role >= least || !has_owner;
                    let context = format!("{place:?}: {role:?}, has owner: {has_owner}: {event}");
                    assert_eq!(
                        reply.contains(r#""success":true"#),
                        may,
                        "{context}: {reply}"
                    );
                    if !may {
                        assert!(
                            reply.contains(r#""code":"forbidden""#),
                            "{context}: {reply}"
                        );
                        assert!(outbox.is_empty() && changes.is_empty(), "{context}");
                    }
                }
            }
        }
    }
}

/// Each event has the same outcome whether or not the deleted things exist, in a file and on a
/// server. A foreign event is refused; a refused event changes nothing and tells nobody.
async fn check(caller: &str, deletion: &str, mut asked: Vec<Example>) {
    // Events that may change something run after those that must not, and those that end a
    // membership come last.
    let ends = |asked: &Example| {
        let kind = asked.declaration.kind;
        ["remove_member", "leave_conversation"].contains(&kind)
    };
    asked.sort_by_key(|asked| (!is_foreign(asked, caller), ends(asked)));
    for &place in places() {
        let mut with = State::new(world(place, "").await).await;
        let mut without = State::new(world(place, deletion).await).await;
        for asked in &asked {
            let event = asked.event().to_string();
            let context = format!("{place:?}: {caller}'s {event}");
            let found @ (reply, outbox, changes) = &with.outcome(caller, &event).await;
            assert_eq!(found, &without.outcome(caller, &event).await, "{context}");
            if is_foreign(asked, caller) {
                let is_not_found = reply.contains(r#""code":"not_found""#);
                assert!(is_not_found, "{context}: {reply}");
            }
            if reply.contains(r#""success":false"#) {
                assert!(outbox.is_empty() && changes.is_empty(), "{context}");
            }
        }
    }
}

struct State {
    world: World,
    rows: BTreeSet<String>,
}

impl State {
    async fn new(world: World) -> Self {
        let rows = world.dump().await;
        State { world, rows }
    }

    /// The reply to an event, its outputs, and the rows that were added or removed.
    async fn outcome(&mut self, caller: &str, event: &str) -> (String, Outbox, BTreeSet<String>) {
        let (reply, outbox) = self.world.answer(caller, event).await;
        let before = std::mem::replace(&mut self.rows, self.world.dump().await);
        let changes = (&before ^ &self.rows).into_iter().map(without_count);
        (reply, outbox, changes.collect())
    }
}

/// A user may be in other conversations that the caller has no part in, so of a row of
/// `conversation_counts` only the user counts.
fn without_count(row: String) -> String {
    match row.rsplit_once(',') {
        Some((user, _)) if row.starts_with("conversation_counts ") => user.into(),
        _ => row,
    }
}

/// Like `World`, with conversation 3 of alice and carol with message 4 from alice, message 5 from
/// bob in conversation 1, and message 6 from carol in conversation 2, each with a `client_id`. Then
/// some of it is deleted.
async fn world(place: Place, deletion: &str) -> World {
    let world = World::new_at(place).await;
    let send = |conversation_id: i64, client_id: &str| {
        json!({
            "type": "send_message", "conversation_id": conversation_id, "content": "more", "client_id": client_id,
        })
    };
    for (user, event) in [
        (
            "alice",
            json!({ "type": "create_conversation", "members": ["carol"] }),
        ),
        ("alice", send(3, "alice's")),
        ("bob", send(1, "bob's")),
        ("carol", send(2, "carol's")),
    ] {
        let (reply, _) = world.event(user, &event.to_string()).await;
        assert_eq!(reply["success"], true, "{reply}");
    }
    // New rows get the same ids whatever was deleted, and the epoch is the same.
    let last = "update community set id = 'the same'; insert into conversations (id, name) values (9, 'last');
        insert into messages (id, sender_id, conversation_id, content) values (9, 2, 9, 'last');";
    let script = format!("{last}{deletion}");
    world.db.execute_batch(&script).await.expect("deleted");
    world
}
