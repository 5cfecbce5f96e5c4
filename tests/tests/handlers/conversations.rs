//! Conversations that are too large for a script, and a repeated creation.

use handler::account::delete::DeleteAccount;
use handler::conversation::leave::LeaveConversation;
use handler::{Event, Outbox, Output, handle, schema};
use serde_json::{Value, json};
use tests::world::NOW;
use tests::{Place, World, places};

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

/// A user is in no more conversations than allowed, and to find that out nobody walks over them.
#[tokio::test]
async fn who_is_in_many_conversations_costs_no_more_to_list() {
    if !places().contains(&Place::Remote) {
        return;
    }
    const LISTED: usize = 10;
    let world = World::new_at(Place::Remote).await;
    let sql = format!(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < {LISTED})
         insert into users (id, username, fullname, password)
         select 100 + i, 'few' || i, '', '' from n union all select 200 + i, 'many' || i, '', '' from n;
         with recursive n(i) as (select 1000 union all select i + 1 from n where i < 10989)
         insert into members (conversation_id, user_id) select n.i, u.id from n cross join users u
         where u.id > 200 or u.id > 100 and n.i < 1010"
    );
    let filled = world.db.execute_transactional_batch(&sql).await;
    drop(filled.expect("filled"));
    let gateway = world.gateway.as_ref().expect("a server");
    let rows_read = async |group: &str, event: Value, is_fine: bool| {
        let mut members: Vec<_> = (1..=LISTED).map(|i| format!("{group}{i}")).collect();
        if !is_fine {
            members.push("nobody".into());
        }
        let mut event = event;
        event["members"] = json!(members);
        let operation = Event::parse(&event.to_string()).operation;
        let operation = operation.expect("an operation");
        // The first request of a connection also asks for what the client needs.
        let ctx = world.context("alice").await;
        let before = gateway.rows_read();
        let (outcome, _) = world.run_as(&ctx, &operation).await;
        assert_eq!(outcome.is_ok(), is_fine, "{event}");
        gateway.rows_read() - before
    };
    let create = json!({ "type": "create_conversation" });
    let add = json!({ "type": "add_members", "conversation_id": 1 });
    for (event, is_fine) in [
        (&create, false),
        (&create, true),
        (&add, false),
        (&add, true),
    ] {
        let few = rows_read("few", event.clone(), is_fine).await;
        let many = rows_read("many", event.clone(), is_fine).await;
        assert!(few > 0, "the server counts: {event}");
        let most = 2 * few + 10 * LISTED as u64;
        assert!(many <= most, "{many} rows instead of {few}: {event}");
    }
}

/// Fails unless each user is in as many conversations as are counted for the user.
async fn check_counts(world: &World, place: Place, when: &str) {
    let wrong = "select count(*) from (
        select * from (select user_id, count(*) from members group by user_id
            union all select user_id, conversations from conversation_counts)
        group by 1, 2 having count(*) <> 2)";
    assert_eq!(world.integer(wrong).await, 0, "{place:?}: {when}");
}

/// How many conversations are counted for a user.
async fn count(world: &World, user_id: i64) -> i64 {
    let sql = format!(
        "select coalesce(max(conversations), 0) from conversation_counts where user_id = {user_id}"
    );
    world.integer(&sql).await
}

/// Who sends what, and how many conversations alice, bob, carol and dave are in afterwards.
const CHANGES: &str = r#"
    alice | {"type": "create_conversation", "members": ["bob", "carol"]} | 2 3 2 0
    alice | {"type": "create_conversation", "members": ["dave"], "direct": true} | 3 3 2 1
    dave | {"type": "create_conversation", "members": ["alice"], "direct": true} | 3 3 2 1
    alice | {"type": "add_members", "conversation_id": 3, "members": ["bob", "dave"]} | 3 3 2 2
    alice | {"type": "remove_member", "conversation_id": 3, "username": "bob"} | 3 2 2 2
    alice | {"type": "leave_conversation", "conversation_id": 3} | 2 2 2 2
    carol | {"type": "leave_conversation", "conversation_id": 3} | 2 2 1 2
    dave | {"type": "leave_conversation", "conversation_id": 3} | 2 2 1 1
"#;

#[tokio::test]
async fn the_conversations_of_a_user_are_counted() {
    for &place in places() {
        let world = World::new_at(place).await;
        check_counts(&world, place, "at the beginning").await;
        for line in CHANGES.trim().lines() {
            let [user, event, counts] = line.split(" | ").collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            let (reply, _) = world.event(user.trim(), event).await;
            assert_eq!(reply["success"], true, "{reply}");
            for (id, expected) in (1..).zip(counts.split(' ')) {
                let counted = count(&world, id).await.to_string();
                assert_eq!(counted, expected, "{place:?}: of user {id}, after {event}");
            }
            check_counts(&world, place, event).await;
        }
        let delete = DeleteAccount {
            password_hash: "none".into(),
        };
        let alice = world.context("alice").await;
        world.run_as(&alice, &delete).await.0.expect("deleted");
        check_counts(&world, place, "after a deletion").await;
        let leave = LeaveConversation::of_deleted(1);
        world.run_as(&alice, &leave).await.0.expect("left");
        check_counts(&world, place, "when it has left").await;
    }
}

/// A program of the previous release, or the first backend, has changed members without counting.
#[tokio::test]
async fn an_upgrade_counts_conversations() {
    let world = World::new().await;
    let undo = concat!(
        "delete from migrations where version > 8;",
        include_str!("../../../handler/migrations/0009_undo.sql"),
        "insert into members (conversation_id, user_id) values (1, 3), (1, 4), (2, 4);"
    );
    world.db.execute_batch(undo).await.expect("undone");
    schema::migrate(&world.db, NOW).await.expect("an upgrade");
    check_counts(&world, Place::File, "from version 8").await;
    assert_eq!(count(&world, 4).await, 2);

    schema::downgrade(&world.db).await.expect("a downgrade");
    let left = "delete from members where user_id = 4 and conversation_id = 2";
    world.db.execute(left, ()).await.expect("left");
    schema::migrate(&world.db, NOW).await.expect("an upgrade");
    check_counts(&world, Place::File, "from version 5").await;
    assert_eq!(count(&world, 4).await, 1);
}
