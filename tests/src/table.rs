//! Rows of tables over the handlers: a request in a fresh world, and all that comes of it.

use serde_json::{Value, json};

use crate::World;
use crate::world::{NOW, Place};

/// In a fresh world, `user` sends `event`; `reply` and `pushes` are all that comes of it, wherever the database is.
pub async fn check(user: &str, event: &str, reply: Value, pushes: &[Value]) {
    for place in [Place::Memory, Place::Remote] {
        let world = World::new_at(place).await;
        let (actual_reply, actual_pushes) = world.event(user, event).await;
        assert_eq!(
            actual_reply, reply,
            "{place:?}: the reply to {user}'s {event}"
        );
        assert_eq!(
            actual_pushes, pushes,
            "{place:?}: the pushes of {user}'s {event}"
        );
    }
}

/// As `check`, for a refusal.
pub async fn refuse(user: &str, kind: &str, event: &str, code: &str, error: &str) {
    let reply = json!({ "type": kind, "success": false, "error": error, "code": code });
    check(user, event, reply, &[]).await;
}

pub fn success(kind: &str, data: Value) -> Value {
    json!({ "type": kind, "success": true, "data": data })
}

pub fn profile(username: &str) -> Value {
    json!({
        "username": username, "fullname": format!("{username} example"),
        "is_online": false, "last_online": NOW, "created_at": NOW,
    })
}

pub fn message(id: i64, conversation_id: i64, rev: i64, sender: &str, content: &str) -> Value {
    json!({
        "id": id, "conversation_id": conversation_id, "rev": rev, "sender_username": sender,
        "content": content, "reply_id": null, "sent_at": NOW,
    })
}
