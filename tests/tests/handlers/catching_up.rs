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
    Direct {
        user: usize,
    },
    Rename {
        conversation: usize,
        name: u8,
    },
    AddMembers {
        conversation: usize,
        members: Vec<usize>,
    },
    RemoveMember {
        conversation: usize,
        user: usize,
    },
    Leave {
        conversation: usize,
    },
    SetRole {
        conversation: usize,
        user: usize,
        role: &'static str,
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
    let conversation = || 0..6usize;
    let user = || 0..USERS.len();
    let add = (conversation(), prop::collection::vec(user(), 0..3)).prop_map(
        |(conversation, members)| Action::AddMembers {
            conversation,
            members,
        },
    );
    let role = prop::sample::select(vec!["member", "admin", "owner"]);
    let set_role =
        (conversation(), user(), role).prop_map(|(conversation, user, role)| Action::SetRole {
            conversation,
            user,
            role,
        });
    prop_oneof![
        1 => create,
        1 => user().prop_map(|user| Action::Direct { user }),
        2 => (conversation(), 0..3u8).prop_map(|(conversation, name)| Action::Rename { conversation, name }),
        3 => add,
        2 => (conversation(), user()).prop_map(|(conversation, user)| Action::RemoveMember { conversation, user }),
        2 => conversation().prop_map(|conversation| Action::Leave { conversation }),
        2 => set_role,
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
            Action::Direct { user } => {
                json!({ "type": "create_conversation", "members": [USERS[*user]], "direct": true })
            }
            Action::Rename { conversation, name } => {
                json!({ "type": "rename_conversation", "conversation_id": conversation, "name": name.to_string() })
            }
            Action::AddMembers {
                conversation,
                members,
            } => {
                let members: Vec<_> = members.iter().map(|index| USERS[*index]).collect();
                json!({ "type": "add_members", "conversation_id": conversation, "members": members })
            }
            Action::RemoveMember { conversation, user } => {
                json!({ "type": "remove_member", "conversation_id": conversation, "username": USERS[*user] })
            }
            Action::Leave { conversation } => {
                json!({ "type": "leave_conversation", "conversation_id": conversation })
            }
            Action::SetRole {
                conversation,
                user,
                role,
            } => {
                json!({ "type": "set_role", "conversation_id": conversation, "username": USERS[*user], "role": role })
            }
        }
    }
}

/// What a user knows about each conversation that the user is in.
type Knowledge = BTreeMap<i64, Known>;

#[derive(Debug, Clone, Default, PartialEq)]
struct Known {
    rev: i64,
    /// What the conversation says of itself, without its rev.
    conversation: BTreeMap<&'static str, Value>,
    /// By id.
    messages: BTreeMap<i64, Value>,
}

impl Known {
    fn describe(&mut self, data: &Value) {
        let names = ["name", "direct", "created_at", "members", "roles"];
        let fields = names.map(|name| (name, data[name].clone()));
        self.conversation.extend(fields);
    }
}

/// Applies a push or a reply that `user` received. It must come next or be known already, except
/// for the news of having been added. Returns whether the user has to sync.
fn take_in(knowledge: &mut Knowledge, user: &str, event: &Value) -> bool {
    let data = &event["data"];
    let Some(rev) = data["rev"].as_i64() else {
        return false;
    };
    let id = data["conversation_id"].as_i64().or(data["id"].as_i64());
    let id = id.expect("an id");
    let known_rev = knowledge.get(&id).map_or(0, |known| known.rev);
    if rev <= known_rev {
        // The reply to a request that changed nothing.
        if let Some(message_id) = data["content"].as_str().and(data["id"].as_i64()) {
            let mut message = data.clone();
            let message_fields = message.as_object_mut().expect("a message");
            message_fields.remove("duplicate");
            let known = &knowledge[&id].messages;
            assert_eq!(known.get(&message_id), Some(&message), "the present state");
        }
        return false;
    }
    assert!(data["duplicate"].is_null(), "a duplicate is known");
    if known_rev == 0 && rev > 1 {
        let added = data["added"].as_array().expect("an addition");
        assert!(added.contains(&json!(user)), "{user} was added: {event}");
        return true;
    }
    assert_eq!(rev, known_rev + 1, "revs have no gaps: {event}");
    let known = knowledge.entry(id).or_default();
    known.rev = rev;
    match event["type"].as_str().expect("a type") {
        "send_message" | "edit_message" | "delete_message" | "react" => {
            let message_id = data["id"].as_i64().expect("an id");
            known.messages.insert(message_id, data.clone());
        }
        "remove_member" | "leave_conversation" if data["username"] == user => {
            knowledge.remove(&id);
        }
        "remove_member" | "leave_conversation" => {
            let members = known.conversation.get_mut("members");
            let members = members.and_then(Value::as_array_mut).expect("members");
            members.retain(|member| *member != data["username"]);
            known.conversation.insert("roles", data["roles"].clone());
        }
        _ => known.describe(data),
    }
    false
}

/// Everything that `sync` alone finds, in pages of `limit`, starting from what is known.
async fn synced(world: &World, user: &str, mut knowledge: Knowledge, limit: i64) -> Knowledge {
    loop {
        let revs: BTreeMap<_, _> = knowledge
            .iter()
            .map(|(id, known)| (id.to_string(), known.rev))
            .collect();
        let event = json!({ "type": "sync", "revs": revs, "limit": limit });
        let (reply, pushes) = world.event(user, &event.to_string()).await;
        assert_eq!(pushes, [] as [Value; 0]);
        let data = &reply["data"];
        for left in data["left"].as_array().expect("ids") {
            knowledge.remove(&left.as_i64().expect("an id"));
        }
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
            let known = knowledge.entry(id).or_default();
            assert!(rev > known.rev, "every page brings news");
            known.rev = rev;
            known.describe(conversation);
            for message in conversation["messages"].as_array().expect("messages") {
                let message_id = message["id"].as_i64().expect("an id");
                known.messages.insert(message_id, message.clone());
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
        let messages = &knowledge[&conversation["id"].as_i64().expect("an id")].messages;
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
                let mut told = vec![(caller, &reply)];
                for push in &pushes {
                    let users = push[0].as_array().expect("an audience").iter();
                    let users = users.map(|user| user.as_str().expect("a name"));
                    // The caller's own copy is the reply.
                    told.extend(users.filter(|user| *user != caller).map(|user| (user, &push[1])));
                }
                for (user, event) in told {
                    if take_in(online.get_mut(user).expect("a user"), user, event) {
                        let known = online.remove(user).expect("a user");
                        let user = USERS.into_iter().find(|name| *name == user).expect("a user");
                        online.insert(user, synced(&world, user, known, limit).await);
                    }
                }
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
