//! Conversations that are too large for a script, and a repeated creation.

use handler::{Event, Outbox, Output, handle};
use serde_json::{Value, json};
use tests::World;

/// After a lost answer, the members also come in the same order, although bob has the lower id.
#[tokio::test]
async fn a_creation_that_is_repeated_is_told_the_same() {
    let world = World::new().await;
    let event = Event::parse(r#"{"type": "create_conversation", "members": ["bob"]}"#);
    let operation = event.operation.expect("an operation");
    let mut ctx = world.context("dave").await;
    ctx.request_id = Some(*b"a chance");
    let mut told = [Outbox::new(), Outbox::new()];
    for outbox in &mut told {
        let made = handle(&world.db, &ctx, &operation, outbox).await;
        made.expect("a conversation");
        ctx.is_repeat = true;
    }
    assert_eq!(told[1], told[0]);
}

#[tokio::test]
async fn a_name_made_of_many_members_stays_short() {
    let world = World::empty().await;
    let sql = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 9999)
        insert into users (username, fullname, password) select 'user' || i, '', '' from n";
    world.db.execute(sql, ()).await.expect("inserted");
    let members: Vec<_> = (2..=9999).map(|i| format!("user{i}")).collect();
    let event = json!({ "type": "create_conversation", "members": members });
    let (reply, _) = world.event("user1", &event.to_string()).await;
    let name = reply["data"]["name"].as_str().expect("a name");
    assert!(
        name.starts_with("user1, user2, ") && name.ends_with("user11 +9988"),
        "{name}"
    );
    assert_eq!(world.integer("select count(*) from members").await, 9999);
}

/// A world whose conversation 1 has this many members more.
async fn world_with_many(members: usize) -> World {
    let world = World::new().await;
    let sql = format!(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 10000)
         insert into users (id, username, fullname, password) select 100 + i, 'user' || i, '', '' from n;
         insert into members (conversation_id, user_id) select 1, id from users where id between 101 and {members} + 100;
         update conversations set member_count = (select count(*) from members where conversation_id = id);"
    );
    world.db.execute_batch(&sql).await.expect("inserted");
    world
}

#[tokio::test]
async fn a_thousand_members_are_added_at_once() {
    let world = world_with_many(0).await;
    let names: Vec<_> = (1..=1000).map(|i| format!("user{i}")).collect();
    let event = json!({ "type": "add_members", "conversation_id": 1, "members": names });
    let (reply, outbox) = world.answer("alice", &event.to_string()).await;
    let reply: Value = serde_json::from_str(&reply).expect("JSON");
    assert_eq!(reply["data"]["added"], json!(names));
    assert_eq!(reply["data"]["rev"], 4);
    let Output::Join(change) = &outbox[0] else {
        panic!("{outbox:?}");
    };
    assert_eq!(change.user_ids, (101..=1100).collect::<Vec<i64>>());
    assert_eq!((change.before, change.members_rev, outbox.len()), (1, 4, 2));
    let members = world
        .integer("select count(*) from members where conversation_id = 1")
        .await;
    let counted = world
        .integer("select member_count from conversations where id = 1")
        .await;
    assert_eq!((members, counted), (1002, 1002));
}

#[tokio::test]
async fn a_large_conversation_is_changed_without_naming_its_members() {
    let world = world_with_many(9998).await;
    let ask = async |user: &str, event: Value| {
        let reply = world.event(user, &event.to_string()).await.0;
        assert_eq!(reply["success"], true, "{reply}");
        reply
    };
    for (user, kind, field, value) in [
        ("alice", "rename_conversation", "name", json!("large")),
        ("user7", "leave_conversation", "name", json!(null)),
        ("alice", "remove_member", "username", json!("user8")),
        ("alice", "add_members", "members", json!(["user9999"])),
    ] {
        let event = json!({ "type": kind, "conversation_id": 1, field: value });
        let reply = ask(user, event).await.to_string();
        assert!(reply.len() < 300 && !reply.contains("user10"), "{reply}");
    }
    let info = ask("alice", json!({ "type": "get_conversation_info", "id": 1 })).await;
    let info = &info["data"];
    assert_eq!(info["members"].as_array().map(Vec::len), Some(9999));
    assert!(info["profiles"].is_null() && info["read"].is_null());
}

#[tokio::test]
async fn all_conversations_at_once_have_a_bound() {
    let world = World::new().await;
    let ask = async |event: Value| world.event("dave", &event.to_string()).await.0;
    // This is six times as long in JSON.
    let content = "\u{1}".repeat(64 * 1024);
    for count in 1..=43 {
        let made = ask(json!({ "type": "create_conversation", "members": [] })).await;
        let id = &made["data"]["id"];
        let sent =
            ask(json!({ "type": "send_message", "conversation_id": id, "content": content })).await;
        assert_eq!(sent["success"], true);
        if count >= 42 {
            let listed = ask(json!({ "type": "get_conversations" })).await;
            let code = listed["code"].as_str();
            assert_eq!(code, (count > 42).then_some("too_large"), "{count}");
        }
    }
    let page = ask(json!({ "type": "get_conversations", "limit": 1000 })).await;
    assert_eq!(page["data"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_page_of_conversations_with_long_messages_is_shorter() {
    let world = World::new().await;
    // Each message has 64 KiB, and is six times as long in JSON.
    let sql = "with recursive n(i) as (select 3 union all select i + 1 from n where i < 6)
        insert into conversations (id, name, rev, activity) select i, 'long', 9, i + 100 from n;
        insert into members (conversation_id, user_id) select id, 1 from conversations where id > 2;
        insert into messages (id, sender_id, conversation_id, content, rev)
        select activity, 2, id, replace(hex(zeroblob(32768)), '0', char(1)), 9 from conversations where id > 2;";
    world.db.execute_batch(sql).await.expect("inserted");
    let ask = async |event: Value| {
        let (reply, _) = world.event("alice", &event.to_string()).await;
        tests::host::ids(&reply["data"])
    };
    let all = ask(json!({ "type": "get_conversations" })).await;
    assert_eq!(all, [6, 5, 4, 3, 1]);
    let (mut ids, mut before, mut pages) = (Vec::new(), json!(null), 0);
    loop {
        let page = ask(json!({ "type": "get_conversations", "limit": 50, "before": before })).await;
        let Some(last) = page.last() else {
            break;
        };
        before = json!(last);
        ids.extend(page);
        pages += 1;
    }
    assert_eq!((ids, pages), (all, 2));
}
