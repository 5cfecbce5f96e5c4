//! What a caller has no part in does not exist for them: every event, with every id in every field that takes one, in two
//! worlds of which one lacks all that.

use std::collections::{BTreeMap, BTreeSet};

use handler::Outbox;
use serde_json::{Value, json};
use tests::{Place, World};

/// What the value of a field names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Nothing,
    /// Users are public.
    User,
    Users,
    Conversation,
    /// Conversations, each with a rev.
    Revs,
    /// A message of the conversation that the event names.
    Message,
    /// A place in the order of message ids, whatever is there.
    Bound,
    /// A message, by what its sender calls it.
    ClientId,
}

#[derive(Clone)]
struct Field {
    name: &'static str,
    names: Names,
    value: Value,
}

#[derive(Clone)]
struct Asked {
    kind: &'static str,
    fields: Vec<Field>,
}

/// Every event with all of its fields, as alice may ask for it. Fields that exclude each other are in examples of their own.
fn examples() -> Vec<Asked> {
    use Names::*;
    let asked = |kind, fields: &[(&'static str, Names, Value)]| Asked {
        kind,
        fields: fields
            .iter()
            .map(|(name, names, value)| Field {
                name,
                names: *names,
                value: value.clone(),
            })
            .collect(),
    };
    vec![
        asked("ping", &[]),
        asked("self", &[]),
        asked("add_contact", &[("contact_username", User, json!("dave"))]),
        asked("get_contacts", &[]),
        asked(
            "create_conversation",
            &[
                ("members", Users, json!(["bob"])),
                ("name", Nothing, json!("name")),
            ],
        ),
        asked(
            "get_conversations",
            &[
                ("limit", Nothing, json!(1)),
                ("before", Conversation, json!(1)),
            ],
        ),
        asked("get_conversation_info", &[("id", Conversation, json!(1))]),
        asked(
            "send_message",
            &[
                ("conversation_id", Conversation, json!(1)),
                ("content", Nothing, json!("content")),
                ("reply_id", Message, json!(1)),
                ("client_id", ClientId, json!("new")),
            ],
        ),
        asked(
            "get_messages",
            &[
                ("conversation_id", Conversation, json!(1)),
                ("before", Bound, json!(2)),
                ("limit", Nothing, json!(1)),
            ],
        ),
        asked(
            "get_messages",
            &[
                ("conversation_id", Conversation, json!(1)),
                ("after", Bound, json!(1)),
            ],
        ),
        asked(
            "typing",
            &[
                ("conversation_id", Conversation, json!(1)),
                ("on", Nothing, json!(true)),
            ],
        ),
        asked(
            "mark_read",
            &[
                ("conversation_id", Conversation, json!(1)),
                ("message_id", Message, json!(2)),
            ],
        ),
        asked(
            "sync",
            &[
                ("revs", Revs, json!({ "1": 1 })),
                ("limit", Nothing, json!(10)),
                ("epoch", Nothing, json!("")),
            ],
        ),
    ]
}

/// What there is of a kind, and what there is not.
fn values(names: Names) -> Vec<Value> {
    let nowhere = [99, 0, -1, i64::MAX, i64::MIN];
    let conversations = || (1..=3).chain(nowhere);
    match names {
        Names::Nothing => vec![],
        Names::User => vec![
            json!("alice"),
            json!("bob"),
            json!("carol"),
            json!("nobody"),
        ],
        Names::Users => vec![json!([]), json!(["carol"]), json!(["carol", "nobody"])],
        Names::Conversation => conversations().map(Value::from).collect(),
        Names::Revs => conversations()
            .flat_map(|id| [0, 1].map(|rev| json!({ id.to_string(): rev })))
            .collect(),
        Names::Message | Names::Bound => (1..=6).chain(nowhere).map(Value::from).collect(),
        Names::ClientId => vec![json!("alice's"), json!("bob's"), json!("carol's")],
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

/// The examples with one field changed, to each value that it can have, and what that names.
fn variants() -> Vec<(Names, Asked)> {
    let mut variants = Vec::new();
    for example in examples() {
        for (index, field) in example.fields.iter().enumerate() {
            for value in values(field.names) {
                let mut variant = example.clone();
                variant.fields[index].value = value;
                variants.push((field.names, variant));
            }
        }
    }
    variants
}

impl Asked {
    fn event(&self) -> Value {
        let mut event = json!({ "type": self.kind });
        for field in &self.fields {
            event[field.name] = field.value.clone();
        }
        event
    }

    /// Whether it names a conversation that the caller is not in, or a message that is not in the conversation it names.
    fn is_foreign(&self, caller: &str) -> bool {
        let conversation_id = self.event()["conversation_id"].as_i64();
        self.fields.iter().any(|field| {
            let id = field.value.as_i64();
            match field.names {
                Names::Conversation => !id.is_some_and(|id| conversations_of(caller).contains(&id)),
                Names::Message => id.and_then(conversation_of) != conversation_id,
                _ => false,
            }
        })
    }
}

#[tokio::test]
async fn every_event_has_an_example_with_all_of_its_fields() {
    let mut fields: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for example in examples() {
        for field in &example.fields {
            let is_id = field.value.is_i64() && field.name != "limit";
            assert!(!is_id || field.names != Names::Nothing, "{}", field.name);
        }
        let names = example.fields.iter().map(|field| field.name);
        fields.entry(example.kind).or_default().extend(names);
        let event = example.event().to_string();
        let (reply, _) = world(Place::Memory, "").await.event("alice", &event).await;
        assert_eq!(reply["success"], true, "{event}: {reply}");
    }
    let events = handler::events().map(|(kind, names)| (kind, names.iter().copied().collect()));
    assert_eq!(fields, events.collect());
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
    for (deletion, changed) in [
        (
            "delete from messages where id = 4;",
            &[Names::Message, Names::Bound][..],
        ),
        ("update messages set client_id = null;", &[Names::ClientId]),
    ] {
        let mut asked = variants();
        asked.retain(|(names, _)| changed.contains(names));
        let asked = asked.into_iter().map(|(_, asked)| asked).collect();
        check("alice", deletion, asked).await;
    }
}

/// The same comes of each event whether or not there is what is deleted, wherever the database is. One that is foreign to the
/// caller is refused; one that is refused changes nothing and tells nobody.
async fn check(caller: &str, deletion: &str, mut asked: Vec<Asked>) {
    // Those that change something come after those that must not.
    asked.sort_by_key(|asked| !asked.is_foreign(caller));
    for place in [Place::Memory, Place::Remote] {
        let mut with = State::new(world(place, "").await).await;
        let mut without = State::new(world(place, deletion).await).await;
        for asked in &asked {
            let event = asked.event().to_string();
            let context = format!("{place:?}: {caller}'s {event}");
            let found @ (reply, outbox, changes) = &with.outcome(caller, &event).await;
            assert_eq!(found, &without.outcome(caller, &event).await, "{context}");
            if asked.is_foreign(caller) {
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

    /// The reply to an event, who is told, and the rows that come and go.
    async fn outcome(&mut self, caller: &str, event: &str) -> (String, Outbox, BTreeSet<String>) {
        let (reply, outbox) = self.world.answer(caller, event).await;
        let before = std::mem::replace(&mut self.rows, self.world.dump().await);
        (reply, outbox, &before ^ &self.rows)
    }
}

/// As `World`, and: conversation 3 of alice and carol has message 4 from alice, conversation 1 has message 5 from bob,
/// conversation 2 has message 6 from carol, each with a `client_id`. Then some of it is deleted.
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
    // What comes next gets the same id whatever is deleted, and the epoch is no other.
    let last = "update community set id = 'the same'; insert into conversations (id, name) values (9, 'last');
        insert into messages (id, sender_id, conversation_id, content) values (9, 2, 9, 'last');";
    let script = format!("{last}{deletion}");
    world.db.execute_batch(&script).await.expect("deleted");
    world
}
