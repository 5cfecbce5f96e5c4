//! Two ways to find out what happened agree: applying every push, and one `sync` from nothing.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use tests::World;

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// Something a user does; the numbers select conversations, messages and users.
#[derive(Debug, Clone)]
enum Action {
    Create {
        members: Vec<usize>,
    },
    Send {
        conversation: usize,
        client_id: Option<u8>,
        reply: bool,
    },
    MarkRead {
        message: usize,
    },
    Typing {
        conversation: usize,
    },
    AddContact {
        user: usize,
    },
    /// A message is changed directly in the database; no event does this yet.
    Change {
        message: usize,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let create =
        prop::collection::vec(0..USERS.len(), 0..4).prop_map(|members| Action::Create { members });
    let send = (0..6usize, prop::option::of(0..4u8), any::<bool>()).prop_map(
        |(conversation, client_id, reply)| Action::Send {
            conversation,
            client_id,
            reply,
        },
    );
    prop_oneof![
        1 => create,
        6 => send,
        1 => (0..30usize).prop_map(|message| Action::MarkRead { message }),
        1 => (0..6usize).prop_map(|conversation| Action::Typing { conversation }),
        1 => (0..USERS.len()).prop_map(|user| Action::AddContact { user }),
        3 => (0..30usize).prop_map(|message| Action::Change { message }),
    ]
}

impl Action {
    fn event(&self) -> Option<Value> {
        Some(match self {
            Action::Create { members } => {
                let members: Vec<_> = members.iter().map(|index| USERS[*index]).collect();
                json!({ "type": "create_conversation", "members": members })
            }
            Action::Send {
                conversation,
                client_id,
                reply,
            } => json!({
                "type": "send_message", "conversation_id": conversation, "content": "x",
                "client_id": client_id.map(|id| id.to_string()), "reply_id": reply.then_some(1),
            }),
            Action::MarkRead { message } => {
                json!({ "type": "mark_read", "conversation_id": 1, "message_id": message })
            }
            Action::Typing { conversation } => {
                json!({ "type": "typing", "conversation_id": conversation, "on": true })
            }
            Action::AddContact { user } => {
                json!({ "type": "add_contact", "contact_username": USERS[*user] })
            }
            Action::Change { .. } => return None,
        })
    }
}

/// What a user knows about each conversation: its rev, and its messages by id.
type Knowledge = BTreeMap<i64, (i64, BTreeMap<i64, Value>)>;

/// Applies a push or a reply, which must either come next or be known already.
fn take_in(knowledge: &mut Knowledge, event: &Value) {
    let data = &event["data"];
    let Some(rev) = data["rev"].as_i64() else {
        return;
    };
    let id = data["conversation_id"]
        .as_i64()
        .or(data["id"].as_i64())
        .expect("an id");
    let (known, messages) = knowledge.entry(id).or_default();
    if data["duplicate"] == true {
        assert!(rev <= *known, "a duplicate is known");
        return;
    }
    assert_eq!(rev, *known + 1, "revs have no gaps: {event}");
    *known = rev;
    if event["type"] == "send_message" {
        messages.insert(data["id"].as_i64().expect("an id"), data.clone());
    }
}

/// Everything that `sync` alone finds, in pages of `limit`, starting from what is known.
async fn synced(world: &World, user: &str, mut knowledge: Knowledge, limit: i64) -> Knowledge {
    loop {
        let revs: BTreeMap<_, _> = knowledge
            .iter()
            .map(|(id, (rev, _))| (id.to_string(), rev))
            .collect();
        let event = json!({ "type": "sync", "revs": revs, "limit": limit });
        let (reply, pushes) = world.event(user, &event.to_string()).await;
        assert_eq!(pushes, [] as [Value; 0]);
        let data = &reply["data"];
        assert_eq!(data["left"], json!([]));
        let conversations = data["conversations"].as_array().expect("conversations");
        let count: usize = conversations
            .iter()
            .map(|c| c["messages"].as_array().map_or(0, Vec::len))
            .sum();
        assert!(
            count as i64 <= limit,
            "{count} messages, but the limit was {limit}"
        );
        for conversation in conversations {
            let id = conversation["id"].as_i64().expect("an id");
            let rev = conversation["rev"].as_i64().expect("a rev");
            let (known, messages) = knowledge.entry(id).or_default();
            assert!(rev > *known, "every page brings news");
            *known = rev;
            for message in conversation["messages"].as_array().expect("messages") {
                messages.insert(message["id"].as_i64().expect("an id"), message.clone());
            }
        }
        if data["more"] == false {
            return knowledge;
        }
        assert!(!conversations.is_empty(), "`more` with an empty page");
    }
}

/// Changes the message with this id, if it exists.
async fn change(world: &World, id: usize) {
    let conversation = format!("(select conversation_id from messages where id = {id})");
    let sql = format!(
        "update conversations set rev = rev + 1 where id = {conversation};
         update messages set content = content || '!',
             changed_rev = (select rev from conversations where id = {conversation})
         where id = {id};
         insert into changed_messages (message_id, conversation_id, changed_rev)
             select id, conversation_id, changed_rev from messages where id = {id}
             on conflict do update set changed_rev = excluded.changed_rev;"
    );
    world.db.execute_batch(&sql).await.expect("changed");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn pushes_and_sync_agree(
        history in prop::collection::vec((0..USERS.len(), action()), 1..60),
        limit in 1..12i64,
        pause in 0..60usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let world = World::new().await;
            // At the start, everyone knows everything. From then on, everyone sees every push, but
            // bob also keeps what he knew at one point, as if he had been away since.
            let mut online = BTreeMap::new();
            for user in USERS {
                online.insert(user, synced(&world, user, Knowledge::new(), 1000).await);
            }
            let mut away = online["bob"].clone();
            for (step, (index, action)) in history.iter().enumerate() {
                let caller = USERS[*index];
                if let Action::Change { message } = action {
                    change(&world, *message).await;
                    for user in USERS {
                        // Nobody is told of this change, so they sync.
                        let known = online.remove(user).expect("a user");
                        online.insert(user, synced(&world, user, known, limit).await);
                    }
                }
                let Some(event) = action.event() else { continue };
                let (reply, pushes) = world.event(caller, &event.to_string()).await;
                for push in &pushes {
                    for user in push[0].as_array().expect("an audience") {
                        let user = user.as_str().expect("a name");
                        // The caller's own copy is the reply.
                        if user != caller {
                            take_in(online.get_mut(user).expect("a user"), &push[1]);
                        }
                    }
                }
                take_in(online.get_mut(caller).expect("a user"), &reply);
                if step == pause {
                    away = online["bob"].clone();
                }
            }
            for user in USERS {
                let from_nothing = synced(&world, user, Knowledge::new(), limit).await;
                assert_eq!(from_nothing, online[user], "{user}, in pages of {limit}");
            }
            assert_eq!(synced(&world, "bob", away, limit).await, online["bob"], "bob was away");
        });
    }
}
