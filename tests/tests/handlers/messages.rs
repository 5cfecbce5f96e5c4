//! Messages with more reactions, mentions and deleted neighbours than fit a script.

use handler::Event;
use serde_json::{Value, json};
use tests::{Place, World, places};

/// A world in which conversation 1 has `count` more messages from bob, with ids and revs from 4.
async fn world(count: usize) -> World {
    let world = World::new().await;
    let last = count + 3;
    let sql = format!(
        "with recursive n(i) as (select 4 union all select i + 1 from n where i < {last})
         insert into messages (id, sender_id, conversation_id, content, rev) select i, 2, 1, 'x', i from n;
         update conversations set rev = {last}, activity = {last} where id = 1;"
    );
    world.db.execute_batch(&sql).await.expect("inserted");
    world
}

async fn ask(world: &World, event: Value) -> Value {
    let (mut reply, _) = world.event("alice", &event.to_string()).await;
    assert_eq!(reply["success"], true, "{reply}");
    reply["data"].take()
}

/// Someone may delete any number of messages that others have not read.
#[tokio::test]
async fn unread_messages_behind_a_thousand_deleted_ones_are_not_counted() {
    let world = world(1010).await;
    // One of them is message 2, which stays.
    for (deleted, unread) in [(0, 100), (950, 50), (999, 1), (1000, 1)] {
        let sql = format!(
            "insert or ignore into changed_messages (message_id, conversation_id, rev, changed_rev, is_deleted)
             select id, 1, rev, rev + 2000, 1 from messages where id between 4 and {deleted} + 3;
             update messages set changed_rev = rev + 2000, content = '' where id between 4 and {deleted} + 3;"
        );
        world.db.execute_batch(&sql).await.expect("deleted");
        let listed = ask(&world, json!({ "type": "get_conversations" })).await;
        assert_eq!(listed[0]["unread"], unread, "{deleted} deleted");
        let synced = ask(&world, json!({ "type": "sync", "revs": { "1": 2000 } })).await;
        assert_eq!(synced["conversations"], json!([]));
        let synced = ask(&world, json!({ "type": "sync", "limit": 1 })).await;
        assert_eq!(synced["conversations"][0]["unread"], unread);
    }
}

/// Otherwise to count the unread would take longer the more messages the caller has sent.
#[tokio::test]
async fn unread_messages_before_four_thousand_changes_are_not_counted() {
    let world = world(4_001).await;
    // Of bob's messages, one that mentions alice stays. The others become hers.
    let sql = "update messages set sender_id = 1 where id > 4;
        insert into mentions (user_id, message_id, conversation_id, rev) values (1, 4, 1, 4);";
    world.db.execute_batch(sql).await.expect("sent");
    for (rev, unread) in [(4_003, 1), (4_004, 0)] {
        let sql = format!("update conversations set rev = {rev} where id = 1");
        world.db.execute_batch(&sql).await.expect("changed");
        let listed = ask(&world, json!({ "type": "get_conversations" })).await;
        assert_eq!(listed[0]["unread"], unread, "at rev {rev}");
        assert_eq!(listed[0]["mentions"], unread, "at rev {rev}");
        let synced = ask(&world, json!({ "type": "sync", "limit": 1 })).await;
        assert_eq!(synced["conversations"][0]["unread"], unread);
    }
}

/// Gives each message from 4 on all reactions that it takes, of users with long names.
async fn react(world: &World) {
    let sql = "with recursive n(i) as (select 10 union all select i + 1 from n where i < 509)
        insert into users (id, username, fullname, password)
        select i, replace(printf('%060d', i), '0', char(1)), '', '' from n;
        insert into reactions (message_id, emoji, user_id)
        select m.id, u.id % 20, u.id from messages m, users u where m.id > 3 and u.id >= 10;
        update messages set changed_rev = rev + 2000 where id > 3;
        insert into changed_messages (message_id, conversation_id, rev, changed_rev, reactions)
        select id, 1, rev, changed_rev, 500 from messages where id > 3;
        update conversations set rev = (select max(changed_rev) from messages) where id = 1;";
    world.db.execute_batch(sql).await.expect("reacted");
}

/// The longest message fits an answer, and pages of such messages are shorter.
#[tokio::test]
async fn messages_with_all_reactions_come_in_pages() {
    let world = world(60).await;
    react(&world).await;
    let (mut rev, mut ids, mut pages) = (3, Vec::new(), 0);
    loop {
        let event = json!({ "type": "sync", "revs": { "1": rev }, "limit": 1000 });
        let answer = ask(&world, event).await;
        let bytes = answer.to_string().len();
        assert!(bytes < 2 * 1024 * 1024, "an answer of {bytes} bytes");
        let conversation = &answer["conversations"][0];
        ids.extend(tests::host::ids(&conversation["messages"]));
        rev = conversation["rev"].as_i64().expect("a rev");
        pages += 1;
        if answer["more"] == false {
            break;
        }
    }
    assert_eq!((ids, rev), ((4..=63).collect(), 2063));
    assert!(pages > 10, "{pages} pages");
    let event = json!({ "type": "get_messages", "conversation_id": 1 });
    let page = ask(&world, event).await;
    assert!(page.to_string().len() < 2 * 1024 * 1024);
    let newest = &page["messages"][0];
    let emojis = newest["reactions"].as_object().expect("reactions");
    assert_eq!(emojis.len(), 20);
    let of_one = |users: &Value| users.as_array().map(Vec::len) == Some(25);
    assert!(emojis.values().all(of_one));
}

/// Room for an answer is found before the event runs, so the answer must not be larger. But writes
/// that answer little must not take the room of many.
#[tokio::test]
async fn an_answer_to_a_change_needs_no_more_room_than_was_found_for_it() {
    let world = world(1).await;
    react(&world).await;
    for (event, least) in [
        (
            r#"{"type": "edit_message", "message_id": 4, "content": "y"}"#,
            100_000,
        ),
        (
            r#"{"type": "react", "message_id": 4, "emoji": "0", "on": false}"#,
            100_000,
        ),
        (r#"{"type": "delete_message", "message_id": 4}"#, 100),
    ] {
        let operation = Event::parse(event).operation.expect("an operation");
        let (reply, _) = world.answer("bob", event).await;
        let max = event.len() + operation.answer_bytes_max();
        let bytes = reply.len();
        assert!(
            (least..=max).contains(&bytes),
            "{event}: {bytes} of {max} bytes"
        );
    }
}

/// Conversations whose last messages have many reactions are too large for one answer.
#[tokio::test]
async fn reactions_count_in_the_size_of_a_list_of_conversations() {
    let world = world(50).await;
    react(&world).await;
    let sql = "insert into conversations (id, name, activity) select id + 100, '', id from messages where id > 3;
        update messages set conversation_id = id + 100 where id > 3;
        insert into members (conversation_id, user_id) select id + 100, 1 from messages where id > 3;";
    world.db.execute_batch(sql).await.expect("spread");
    let event = r#"{"type": "get_conversations", "limit": 100}"#;
    let (reply, _) = world.event("alice", event).await;
    assert!(reply.to_string().len() < 2 * 1024 * 1024);
    let listed = reply["data"].as_array().map(Vec::len);
    assert!(
        listed.is_some_and(|count| (2..30).contains(&count)),
        "{listed:?}"
    );
}

/// Names in JSON are whole, whatever is in them.
#[tokio::test]
async fn any_username_reacts_and_is_mentioned() {
    for &place in places() {
        let world = World::new_at(place).await;
        for name in ["\"\\", "é\u{1}😀", " ", "{\"a\": ["] {
            let sql = format!("update users set username = '{name}' where id = 2");
            world.db.execute_batch(&sql).await.expect("renamed");
            let react = json!({ "type": "react", "message_id": 1, "emoji": name, "on": true });
            let (reply, _) = world.event(name, &react.to_string()).await;
            assert_eq!(reply["data"]["reactions"][name], json!([name]), "{reply}");
            let undo = json!({ "type": "react", "message_id": 1, "emoji": name, "on": false });
            world.event(name, &undo.to_string()).await;
            let content = format!("@{name}");
            let send = json!({ "type": "send_message", "conversation_id": 1, "content": content });
            let (reply, _) = world.event("alice", &send.to_string()).await;
            assert_eq!(reply["data"]["mentions"], json!([name]), "{reply}");
        }
    }
}

/// Mentions in conversations that the caller has left are not looked at, however many they are.
#[tokio::test]
async fn mentions_in_former_conversations_cost_nothing() {
    if !places().contains(&Place::Remote) {
        return;
    }
    let world = World::new_at(Place::Remote).await;
    let sql = "with recursive n(i) as (select 10 union all select i + 1 from n where i < 20000)
        insert into messages (id, sender_id, conversation_id, content, rev)
        select i, 2, iif(i < 13, 1, 1000 + i % 500), '', i from n;
        insert into mentions (user_id, message_id, conversation_id, rev)
        select 1, id, conversation_id, rev from messages where id >= 10";
    let filled = world.db.execute_transactional_batch(sql).await;
    drop(filled.expect("filled"));
    let gateway = world.gateway.as_ref().expect("a server");
    let event = Event::parse(r#"{"type": "get_mentions", "limit": 2}"#);
    let operation = event.operation.expect("an operation");
    let ctx = world.context("alice").await;
    let before = gateway.rows_read();
    let (found, _) = world.run_as(&ctx, &operation).await;
    let rows = gateway.rows_read() - before;
    let found: Value = serde_json::from_str(&found.expect("found").0).expect("JSON");
    assert_eq!(
        (ids(&found), &found["has_more"]),
        (vec![12, 11], &true.into())
    );
    assert!((1..100).contains(&rows), "{rows} rows");
}

/// The ids of the messages in an answer.
fn ids(found: &Value) -> Vec<i64> {
    let messages = found["messages"].as_array().expect("messages").iter();
    messages
        .map(|message| message["id"].as_i64().expect("an id"))
        .collect()
}

/// Some of alice's conversations have many mentions of her, others few; she has left every third.
#[tokio::test]
async fn mentions_come_in_pages_from_all_conversations() {
    let world = World::new().await;
    let sql = "with recursive n(i) as (select 10 union all select i + 1 from n where i < 999)
        insert into messages (id, sender_id, conversation_id, content, rev)
        select i, 2, 10 + i * i % 307 % (i / 100 * 20 + 1), '', i from n;
        insert into mentions (user_id, message_id, conversation_id, rev)
        select 1, id, conversation_id, rev from messages where id >= 10;
        insert into members (conversation_id, user_id)
        select distinct conversation_id, 1 from mentions where conversation_id % 3 > 0;";
    world.db.execute_batch(sql).await.expect("filled");
    let number = "select count(distinct conversation_id) from mentions";
    assert!(world.integer(number).await > 100);
    let expected = "select json_group_array(message_id) from (
        select message_id from mentions where conversation_id % 3 > 0 order by message_id desc)";
    let mut rows = world.db.query(expected, ()).await.expect("rows");
    let row = rows.next().await.expect("a row").expect("a row");
    let expected: String = row.get(0).expect("a text");
    let expected: Vec<i64> = serde_json::from_str(&expected).expect("JSON");
    for limit in [1, 7, 99, 100] {
        let (mut found, mut before) = (Vec::new(), Value::Null);
        loop {
            let event = json!({ "type": "get_mentions", "limit": limit, "before": before });
            let page = ask(&world, event).await;
            found.extend(ids(&page));
            if page["has_more"] == false {
                break;
            }
            assert_eq!(ids(&page).len(), limit);
            before = json!(found.last());
        }
        assert_eq!(found, expected, "{limit} at once");
    }
}

/// Members see the whole history, so who joins again also sees the mentions from before.
#[tokio::test]
async fn who_is_added_again_has_the_old_mentions() {
    for &place in places() {
        let world = World::new_at(place).await;
        let send = json!({ "type": "send_message", "conversation_id": 1, "content": "@bob" });
        let ok = async |user: &str, event: Value| {
            let (reply, _) = world.event(user, &event.to_string()).await;
            assert_eq!(reply["success"], true, "{place:?}: {reply}");
            reply
        };
        ok("alice", send).await;
        let remove = json!({ "type": "remove_member", "conversation_id": 1, "username": "bob" });
        let add = json!({ "type": "add_members", "conversation_id": 1, "members": ["bob"] });
        for (change, expected) in [
            (None, vec![4]),
            (Some(remove), vec![]),
            (Some(add), vec![4]),
        ] {
            if let Some(change) = change {
                ok("alice", change).await;
            }
            let found = ok("bob", json!({ "type": "get_mentions" })).await;
            assert_eq!(ids(&found["data"]), expected, "{place:?}");
        }
    }
}

/// A server sends what fits into an answer, and one message more. Pages lack nothing.
#[tokio::test]
async fn long_messages_come_in_pages() {
    for place in places() {
        let world = World::new_at(*place).await;
        let sql = "delete from messages where id < 10;
            with recursive n(i) as (select 10 union all select i + 1 from n where i < 109)
            insert into messages (id, sender_id, conversation_id, content, rev)
            select i, 2, 1, replace(hex(zeroblob(32768)), '0', 'x'), i from n;
            update conversations set rev = 109 where id = 1;
            insert into mentions (user_id, message_id, conversation_id, rev)
            select 1, id, conversation_id, rev from messages where id >= 10";
        let filled = world.db.execute_transactional_batch(sql).await;
        drop(filled.expect("filled"));
        let ctx = world.context("alice").await;
        for kind in ["get_messages", "get_mentions"] {
            let (mut before, mut found) = (110, Vec::new());
            while before > 10 {
                let event = json!({ "type": kind, "conversation_id": 1, "before": before });
                let operation = Event::parse(&event.to_string()).operation.expect("valid");
                let (page, _) = world.run_as(&ctx, &operation).await;
                let page: Value = serde_json::from_str(&page.expect("a page").0).expect("JSON");
                found.extend(ids(&page));
                before = *found.last().expect("a message");
                assert_eq!(page["has_more"] == true, before > 10, "{kind}");
            }
            assert_eq!(found, (10..110).rev().collect::<Vec<_>>(), "{kind}");
        }
    }
}
