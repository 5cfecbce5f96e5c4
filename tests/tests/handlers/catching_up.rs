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
            Action::Change { .. } => return None,
        })
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
        "send_message" => {
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
            }
            assert_eq!(synced(&world, "bob", away, limit).await, online["bob"], "bob was away");
        });
    }
}
