//! Two ways to find out what happened agree: applying every push, and one `sync` from nothing.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use tests::World;

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
const CONTENTS: [&str; 4] = ["x", "@bob", "@alice and @carol", "@all"];
const EMOJIS: [&str; 2] = ["👍", "👎"];

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
        content: usize,
    },
    Edit {
        message: usize,
        content: usize,
    },
    Delete {
        message: usize,
    },
    React {
        message: usize,
        emoji: usize,
        on: bool,
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
}

fn action() -> impl Strategy<Value = Action> {
    let create =
        prop::collection::vec(0..USERS.len(), 0..4).prop_map(|members| Action::Create { members });
    let contents = || 0..CONTENTS.len();
    let send = (
        0..6usize,
        prop::option::of(0..4u8),
        any::<bool>(),
        contents(),
    )
        .prop_map(|(conversation, client_id, reply, content)| Action::Send {
            conversation,
            client_id,
            reply,
            content,
        });
    // Messages 1 to 3 are there from the start, so that most changes find their message.
    let message = || prop_oneof![1..4usize, 0..30usize];
    let edit =
        (message(), contents()).prop_map(|(message, content)| Action::Edit { message, content });
    let react = (message(), 0..EMOJIS.len(), any::<bool>())
        .prop_map(|(message, emoji, on)| Action::React { message, emoji, on });
    prop_oneof![
        1 => create,
        6 => send,
        1 => (0..30usize).prop_map(|message| Action::MarkRead { message }),
        1 => (0..6usize).prop_map(|conversation| Action::Typing { conversation }),
        1 => (0..USERS.len()).prop_map(|user| Action::AddContact { user }),
        3 => edit,
        1 => message().prop_map(|message| Action::Delete { message }),
        3 => react,
    ]
}

impl Action {
    fn event(&self) -> Value {
        match self {
            Action::Create { members } => {
                let members: Vec<_> = members.iter().map(|index| USERS[*index]).collect();
                json!({ "type": "create_conversation", "members": members })
            }
            Action::Send {
                conversation,
                client_id,
                reply,
                content,
            } => json!({
                "type": "send_message", "conversation_id": conversation, "content": CONTENTS[*content],
                "client_id": client_id.map(|id| id.to_string()), "reply_id": reply.then_some(1),
            }),
            Action::Edit { message, content } => {
                json!({ "type": "edit_message", "message_id": message, "content": CONTENTS[*content] })
            }
            Action::Delete { message } => {
                json!({ "type": "delete_message", "message_id": message })
            }
            Action::React { message, emoji, on } => {
                json!({ "type": "react", "message_id": message, "emoji": EMOJIS[*emoji], "on": on })
            }
            Action::MarkRead { message } => {
                json!({ "type": "mark_read", "conversation_id": 1, "message_id": message })
            }
            Action::Typing { conversation } => {
                json!({ "type": "typing", "conversation_id": conversation, "on": true })
            }
            Action::AddContact { user } => {
                json!({ "type": "add_contact", "contact_username": USERS[*user] })
            }
        }
    }
}

/// What a user knows about each conversation: its rev, and its messages by id.
type Knowledge = BTreeMap<i64, (i64, BTreeMap<i64, Value>)>;

/// Applies a push or a reply, which must come next. A reply to a request that changed nothing tells
/// what is known already.
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
    if rev <= *known {
        let mut message = data.clone();
        message
            .as_object_mut()
            .expect("a message")
            .remove("duplicate");
        let id = data["id"].as_i64().expect("an id");
        assert_eq!(messages.get(&id), Some(&message), "the present state");
        return;
    }
    assert_eq!(rev, *known + 1, "revs have no gaps: {event}");
    *known = rev;
    if event["type"] != "create_conversation" {
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

/// `unread` and `mentions` are what the user can count, and `get_mentions` has those messages.
async fn check_counts(world: &World, user: &str, knowledge: &Knowledge) {
    let listed = world.event(user, r#"{"type": "get_conversations"}"#).await;
    let mentions = world.event(user, r#"{"type": "get_mentions"}"#).await;
    let mut mentioning = BTreeMap::new();
    for conversation in listed.0["data"].as_array().expect("conversations") {
        let (_, messages) = &knowledge[&conversation["id"].as_i64().expect("an id")];
        let of_others = messages
            .iter()
            .filter(|(_, m)| m["sender_username"] != user);
        let is_mention = |message: &Value| {
            let mentions = message["mentions"].as_array();
            mentions.is_some_and(|names| names.contains(&json!(user)))
        };
        let of_others = of_others.filter(|(_, message)| message["deleted"] != true);
        let all: Vec<_> = of_others.clone().filter(|(_, m)| is_mention(m)).collect();
        mentioning.extend(all.into_iter().map(|(id, message)| (*id, message.clone())));
        let read_id = conversation["read_id"].as_i64().expect("an id");
        let unread = of_others.filter(|(id, _)| **id > read_id);
        let mentions = unread.clone().filter(|(_, message)| is_mention(message));
        assert_eq!(
            conversation["unread"],
            unread.count(),
            "{user} has read up to {read_id}"
        );
        assert_eq!(
            conversation["mentions"],
            mentions.count(),
            "{user} has read up to {read_id}"
        );
    }
    let newest_first: Vec<_> = mentioning.into_values().rev().collect();
    assert_eq!(mentions.0["data"]["messages"], json!(newest_first));
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
                let (reply, pushes) = world.event(caller, &action.event().to_string()).await;
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
                check_counts(&world, user, &from_nothing).await;
            }
            assert_eq!(synced(&world, "bob", away, limit).await, online["bob"], "bob was away");
        });
    }
}
