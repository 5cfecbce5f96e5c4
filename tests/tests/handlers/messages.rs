//! Messages: sending, history, reading, typing and catching up, as tables over the handlers.

use handler::sync::{EPOCH_CHARS_MAX, SYNC_REVS_MAX};
use serde_json::{Value, json};
use tests::World;
use tests::table::{check, message, refuse, success};

#[tokio::test]
async fn send_message() {
    let send = |fields: &str| format!(r#"{{"type": "send_message", {fields}}}"#);
    for (fields, content, reply_id) in [
        (
            r#""conversation_id": 1, "content": "hi""#,
            "hi",
            json!(null),
        ),
        (
            r#""conversation_id": 1, "content": "hi", "reply_id": null"#,
            "hi",
            json!(null),
        ),
        (
            r#""conversation_id": 1, "content": "hi", "reply_id": 2"#,
            "hi",
            json!(2),
        ),
        (
            r#""conversation_id": 1, "content": "a\u0000b\ud83d\ude00é'--""#,
            "a\0b😀é'--",
            json!(null),
        ),
        (
            r#""conversation_id": 1, "content": "x", "content": "y""#,
            "y",
            json!(null),
        ),
        (r#""conversation_id": 1, "content": " ""#, " ", json!(null)),
    ] {
        let mut sent = message(4, 1, 4, "alice", content);
        sent["reply_id"] = reply_id;
        let reply = success("send_message", sent);
        let push = json!([["alice", "bob"], reply]);
        check("alice", &send(fields), reply, &[push]).await;
    }
    let no_id = "expected conversation_id as integer";
    let stranger = "alice not part of conversation with 2 id";
    let no_text = "expected content as string";
    let no_reply = "if reply_id is provided then expected integer";
    for (fields, code, error) in [
        (r#""content": "hi""#, "invalid", no_id),
        (
            r#""conversation_id": "1", "content": "hi""#,
            "invalid",
            no_id,
        ),
        (
            r#""conversation_id": 1.0, "content": "hi""#,
            "invalid",
            no_id,
        ),
        (
            r#""conversation_id": null, "content": "hi""#,
            "invalid",
            no_id,
        ),
        (
            r#""conversation_id": 18446744073709551616, "content": "hi""#,
            "invalid",
            no_id,
        ),
        (
            r#""conversation_id": 2, "content": "hi""#,
            "not_found",
            stranger,
        ),
        (
            r#""conversation_id": 2, "content": 1"#,
            "not_found",
            stranger,
        ),
        (
            r#""conversation_id": 2, "content": "hi", "reply_id": 3"#,
            "not_found",
            stranger,
        ),
        (
            r#""conversation_id": -9223372036854775808, "content": "hi""#,
            "not_found",
            "alice not part of conversation with -9223372036854775808 id",
        ),
        (r#""conversation_id": 1"#, "invalid", no_text),
        (
            r#""conversation_id": 1, "content": null"#,
            "invalid",
            no_text,
        ),
        (r#""conversation_id": 1, "content": 5"#, "invalid", no_text),
        (
            r#""conversation_id": 1, "content": ["hi"]"#,
            "invalid",
            no_text,
        ),
        (
            r#""conversation_id": 1, "content": "\ud800""#,
            "invalid",
            no_text,
        ),
        (
            r#""conversation_id": 1, "content": "\ude00\ud83d""#,
            "invalid",
            no_text,
        ),
        (
            r#""conversation_id": 1, "content": """#,
            "invalid",
            "message content should be non empty string",
        ),
        (
            r#""conversation_id": 1, "content": "", "reply_id": "x""#,
            "invalid",
            "message content should be non empty string",
        ),
        (
            r#""conversation_id": 1, "content": "hi", "reply_id": "2""#,
            "invalid",
            no_reply,
        ),
        (
            r#""conversation_id": 1, "content": "hi", "reply_id": 2.5"#,
            "invalid",
            no_reply,
        ),
        (
            r#""conversation_id": 1, "content": "hi", "reply_id": false"#,
            "invalid",
            no_reply,
        ),
        (
            r#""conversation_id": 1, "content": "hi", "reply_id": 3"#,
            "not_found",
            "No such 3 message id found in 1 conversation_id",
        ),
        (
            r#""conversation_id": 1, "content": "hi", "reply_id": 99"#,
            "not_found",
            "No such 99 message id found in 1 conversation_id",
        ),
    ] {
        refuse("alice", "send_message", &send(fields), code, error).await;
    }
    for (bytes, outcome) in [
        (65_536, None),
        (
            65_537,
            Some("message content should be at most 65536 bytes"),
        ),
    ] {
        let content = "x".repeat(bytes);
        let event = json!({ "type": "send_message", "conversation_id": 1, "content": content });
        let (reply, _) = World::new().await.event("alice", &event.to_string()).await;
        assert_eq!(reply["error"].as_str(), outcome, "{bytes} bytes");
    }
}

#[tokio::test]
async fn get_messages() {
    let get = |fields: &str| format!(r#"{{"type": "get_messages", {fields}}}"#);
    let one = message(1, 1, 2, "alice", "one");
    let two = message(2, 1, 3, "bob", "two");
    for (fields, messages, has_more) in [
        (r#""conversation_id": 1"#, json!([two, one]), false),
        (
            r#""conversation_id": 1, "before": null, "after": null, "limit": null"#,
            json!([two, one]),
            false,
        ),
        (
            r#""conversation_id": 1, "before": 3"#,
            json!([two, one]),
            false,
        ),
        (r#""conversation_id": 1, "before": 2"#, json!([one]), false),
        (r#""conversation_id": 1, "before": 1"#, json!([]), false),
        (
            r#""conversation_id": 1, "before": -9223372036854775808"#,
            json!([]),
            false,
        ),
        (
            r#""conversation_id": 1, "before": 9223372036854775807"#,
            json!([two, one]),
            false,
        ),
        (r#""conversation_id": 1, "limit": 1"#, json!([two]), true),
        (
            r#""conversation_id": 1, "limit": 2"#,
            json!([two, one]),
            false,
        ),
        (
            r#""conversation_id": 1, "limit": 100"#,
            json!([two, one]),
            false,
        ),
        (
            r#""conversation_id": 1, "after": 0"#,
            json!([two, one]),
            false,
        ),
        (
            r#""conversation_id": 1, "after": 0, "limit": 1"#,
            json!([one]),
            true,
        ),
        (r#""conversation_id": 1, "after": 1"#, json!([two]), false),
        (r#""conversation_id": 1, "after": 2"#, json!([]), false),
        (
            r#""conversation_id": 1, "after": 9223372036854775807"#,
            json!([]),
            false,
        ),
    ] {
        let data = json!({ "conversation_id": 1, "messages": messages, "has_more": has_more });
        check("alice", &get(fields), success("get_messages", data), &[]).await;
    }
    let limit = "limit should be an integer from 1 to 100";
    for (fields, code, error) in [
        (
            r#""before": 1"#,
            "invalid",
            "expected conversation_id as integer",
        ),
        (
            r#""conversation_id": [1]"#,
            "invalid",
            "expected conversation_id as integer",
        ),
        (
            r#""conversation_id": 2"#,
            "not_found",
            "alice not part of conversation with 2 id",
        ),
        (
            r#""conversation_id": 2, "before": "x""#,
            "not_found",
            "alice not part of conversation with 2 id",
        ),
        (
            r#""conversation_id": 9"#,
            "not_found",
            "alice not part of conversation with 9 id",
        ),
        (
            r#""conversation_id": 1, "before": "2""#,
            "invalid",
            "expected before as integer",
        ),
        (
            r#""conversation_id": 1, "before": 2.0"#,
            "invalid",
            "expected before as integer",
        ),
        (
            r#""conversation_id": 1, "after": true"#,
            "invalid",
            "expected after as integer",
        ),
        (
            r#""conversation_id": 1, "before": 2, "after": 1"#,
            "invalid",
            "before and after exclude each other",
        ),
        (r#""conversation_id": 1, "limit": 0"#, "invalid", limit),
        (r#""conversation_id": 1, "limit": 101"#, "invalid", limit),
        (r#""conversation_id": 1, "limit": "1""#, "invalid", limit),
    ] {
        refuse("alice", "get_messages", &get(fields), code, error).await;
    }
}

#[tokio::test]
async fn a_message_sent_again_is_found() {
    let world = World::new().await;
    let send = |conversation_id: i64, content: &str, client_id: Value| {
        json!({
            "type": "send_message", "conversation_id": conversation_id, "content": content, "client_id": client_id,
        })
        .to_string()
    };
    let mut stored = message(4, 1, 4, "alice", "hi");
    stored["client_id"] = json!("a\0");
    let reply = success("send_message", stored.clone());
    let push = json!([["alice", "bob"], reply]);
    assert_eq!(
        world.event("alice", &send(1, "hi", json!("a\0"))).await,
        (reply, vec![push])
    );
    // Again, whatever else is in it: the stored one, told to nobody else.
    let mut duplicate = stored.clone();
    duplicate["duplicate"] = json!(true);
    let again = success("send_message", duplicate);
    for content in ["hi", "other"] {
        assert_eq!(
            world.event("alice", &send(1, content, json!("a\0"))).await,
            (again.clone(), vec![])
        );
    }
    assert_eq!(
        world
            .integer("select count(*) from messages where conversation_id = 1")
            .await,
        3
    );
    // It is the sender's own, and the conversation's.
    for (user, conversation_id, client_id, id, rev) in [
        ("bob", 1, "a\0", 5, 5),
        ("bob", 2, "a\0", 6, 3),
        ("alice", 1, "a", 7, 6),
        ("alice", 1, "A\0", 8, 7),
    ] {
        let (reply, _) = world
            .event(user, &send(conversation_id, "x", json!(client_id)))
            .await;
        assert_eq!(
            (&reply["data"]["id"], &reply["data"]["rev"]),
            (&json!(id), &json!(rev)),
            "{reply}"
        );
        assert_eq!(reply["data"]["duplicate"], json!(null));
    }
    let (history, _) = world
        .event(
            "bob",
            r#"{"type": "get_messages", "conversation_id": 1, "after": 3, "limit": 1}"#,
        )
        .await;
    assert_eq!(history["data"]["messages"], json!([stored]));
    assert_eq!(
        world
            .integer("select rev from conversations where id = 1")
            .await,
        7
    );

    let error = "client_id should be a string of 1 to 64 characters";
    for client_id in [json!(""), json!(1), json!([]), json!("x".repeat(65))] {
        refuse(
            "alice",
            "send_message",
            &send(1, "x", client_id),
            "invalid",
            error,
        )
        .await;
    }
    let (reply, _) = world
        .event("alice", &send(1, "x", json!("é".repeat(64))))
        .await;
    assert_eq!(reply["success"], true);
    let (reply, _) = world.event("alice", &send(1, "x", json!(null))).await;
    assert_eq!(reply["data"]["client_id"], json!(null));
}

#[tokio::test]
async fn mark_read() {
    let world = World::new().await;
    let mark = |conversation_id: i64, message_id: Value| {
        json!({ "type": "mark_read", "conversation_id": conversation_id, "message_id": message_id })
            .to_string()
    };
    let read = |username: &str, message_id: i64| {
        success(
            "mark_read",
            json!({ "conversation_id": 1, "username": username, "message_id": message_id }),
        )
    };
    for (message_id, now_read, is_told) in
        [(1, 1, true), (1, 1, false), (2, 2, true), (1, 2, false)]
    {
        let pushes = if is_told {
            vec![json!([["alice", "bob"], read("alice", now_read)])]
        } else {
            vec![]
        };
        let outcome = world.event("alice", &mark(1, json!(message_id))).await;
        assert_eq!(
            outcome,
            (read("alice", now_read), pushes),
            "marking {message_id}"
        );
    }
    let (info, _) = world
        .event("bob", r#"{"type": "get_conversation_info", "id": 1}"#)
        .await;
    assert_eq!(info["data"]["read"], json!({ "alice": 2, "bob": 0 }));
    let (listed, _) = world
        .event("alice", r#"{"type": "get_conversations"}"#)
        .await;
    let listed = &listed["data"][0];
    assert_eq!(
        (&listed["read_id"], &listed["unread"], &listed["rev"]),
        (&json!(2), &json!(0), &json!(3))
    );

    let no_id = "expected message_id as integer";
    for (event, code, error) in [
        (mark(1, json!(null)), "invalid", no_id),
        (mark(1, json!("1")), "invalid", no_id),
        (
            mark(2, json!(null)),
            "not_found",
            "alice not part of conversation with 2 id",
        ),
        (
            mark(2, json!(3)),
            "not_found",
            "alice not part of conversation with 2 id",
        ),
        (
            mark(1, json!(3)),
            "not_found",
            "No such 3 message id found in 1 conversation_id",
        ),
        (
            mark(1, json!(99)),
            "not_found",
            "No such 99 message id found in 1 conversation_id",
        ),
        (
            r#"{"type": "mark_read", "message_id": 1}"#.into(),
            "invalid",
            "expected conversation_id as integer",
        ),
    ] {
        refuse("alice", "mark_read", &event, code, error).await;
    }
}

#[tokio::test]
async fn typing() {
    for on in [true, false] {
        let event = json!({ "type": "typing", "conversation_id": 1, "on": on });
        let data = json!({ "conversation_id": 1, "username": "alice", "on": on });
        let reply = success("typing", data);
        let push = json!([["alice", "bob"], reply]);
        check("alice", &event.to_string(), reply, &[push]).await;
    }
    let no_flag = "expected on as boolean";
    for (fields, code, error) in [
        (r#""conversation_id": 1"#, "invalid", no_flag),
        (r#""conversation_id": 1, "on": 1"#, "invalid", no_flag),
        (r#""conversation_id": 1, "on": "true""#, "invalid", no_flag),
        (
            r#""conversation_id": 2, "on": 1"#,
            "not_found",
            "alice not part of conversation with 2 id",
        ),
        (
            r#""on": true"#,
            "invalid",
            "expected conversation_id as integer",
        ),
    ] {
        refuse(
            "alice",
            "typing",
            &format!(r#"{{"type": "typing", {fields}}}"#),
            code,
            error,
        )
        .await;
    }
}

#[tokio::test]
async fn in_a_large_conversation_only_the_readers_own_devices_hear_of_it() {
    let world = World::new().await;
    let sql = "with recursive n(i) as (select 100 union all select i + 1 from n where i < 198)
        insert into members (conversation_id, user_id) select 1, i from n";
    world.db.execute(sql, ()).await.expect("inserted");
    let event = r#"{"type": "mark_read", "conversation_id": 1, "message_id": 2}"#;
    let (_, pushes) = world.event("alice", event).await;
    assert_eq!(pushes[0][0], json!(["alice"]));
}

#[tokio::test]
async fn unread_counts_the_messages_of_others_up_to_a_hundred() {
    let world = World::new().await;
    let sql = "with recursive n(i) as (select 4 union all select i + 1 from n where i < 253)
        insert into messages (id, sender_id, conversation_id, content, rev) select i, 1 + i % 2, 1, '', i from n";
    world.db.execute(sql, ()).await.expect("inserted");
    for (read_id, unread) in [(0, 100), (53, 100), (54, 100), (55, 99), (252, 1), (253, 0)] {
        world
            .db
            .execute(
                "update members set read_id = ?1 where user_id = 1",
                [read_id],
            )
            .await
            .expect("updated");
        let (listed, _) = world
            .event("alice", r#"{"type": "get_conversations"}"#)
            .await;
        assert_eq!(listed["data"][0]["unread"], unread, "after {read_id}");
    }
}

#[tokio::test]
async fn a_page_of_long_messages_is_shorter() {
    let world = World::new().await;
    let sql = "with recursive n(i) as (select 4 union all select i + 1 from n where i < 103)
        insert into messages (id, sender_id, conversation_id, content, rev) select i, 1, 1, ?1, i from n";
    for (content, count) in [("x".repeat(64 * 1024), 15), ("\u{1}".repeat(64 * 1024), 2)] {
        world
            .db
            .execute("delete from messages where id > 3", ())
            .await
            .expect("deleted");
        world
            .db
            .execute(sql, [content.as_str()])
            .await
            .expect("inserted");
        let event = r#"{"type": "get_messages", "conversation_id": 1}"#;
        let (reply, _) = world.event("bob", event).await;
        let messages = &reply["data"]["messages"];
        assert_eq!(
            tests::host::ids(messages),
            ((104 - count)..=103).rev().collect::<Vec<_>>()
        );
        assert_eq!(messages[0]["content"], json!(content));
    }
}

#[tokio::test]
async fn history_is_paged_by_a_hundred() {
    let world = World::new().await;
    let sql = "with recursive n(i) as (select 4 union all select i + 1 from n where i < 253)
        insert into messages (id, sender_id, conversation_id, content, rev) select i, 1, 1, '', i from n";
    world.db.execute(sql, ()).await.expect("inserted");
    let mut before = json!(null);
    for (newest, oldest) in [(253, 154), (153, 54), (53, 1)] {
        let event = json!({ "type": "get_messages", "conversation_id": 1, "before": before });
        let (reply, _) = world.event("bob", &event.to_string()).await;
        let ids = tests::host::ids(&reply["data"]["messages"]);
        assert!(ids.is_sorted_by(|a, b| a > b), "newest first: {ids:?}");
        assert_eq!((ids[0], ids[ids.len() - 1]), (newest, oldest));
        assert!(ids.len() <= 100);
        before = json!(oldest);
    }
}

/// `before` and `after` need not be messages of the conversation.
#[tokio::test]
async fn any_integer_bounds_a_page() {
    let world = World::new().await;
    // In two conversations, with ids and revs of other things between them.
    let sql = "with recursive n(i) as (select 4 union all select i + 1 from n where i < 60)
        insert into messages (id, sender_id, conversation_id, content, rev)
        select 3 * i, 1, 1 + i % 2, '', 2 * i from n where i % 7 > 1;
        update conversations set rev = 200";
    world.db.execute_batch(sql).await.expect("inserted");
    let mut rows = world
        .db
        .query(
            "select id from messages where conversation_id = 1 order by id",
            (),
        )
        .await
        .expect("found");
    let mut all = Vec::new();
    while let Some(row) = rows.next().await.expect("found") {
        all.push(row.get::<i64>(0).expect("an id"));
    }
    for bound in (-1..200).chain([i64::MIN, i64::MAX]) {
        let before = all.iter().rev().filter(|id| **id < bound);
        let after = all.iter().filter(|id| **id > bound);
        let mut after: Vec<i64> = after.take(5).copied().collect();
        after.reverse();
        for (name, expected) in [
            ("before", before.take(5).copied().collect()),
            ("after", after),
        ] {
            let event =
                json!({ "type": "get_messages", "conversation_id": 1, name: bound, "limit": 5 });
            let (reply, _) = world.event("bob", &event.to_string()).await;
            let ids = tests::host::ids(&reply["data"]["messages"]);
            assert_eq!(ids, expected, "{name} {bound}");
        }
    }
}

#[tokio::test]
async fn sync() {
    let sync = |fields: Value| {
        let mut event = json!({ "type": "sync" });
        event
            .as_object_mut()
            .expect("an object")
            .extend(fields.as_object().expect("an object").clone());
        event.to_string()
    };
    let changed = |id: i64, rev: i64, unread: i64, messages: Value| {
        let (name, members) = match id {
            1 => ("pair", ["alice", "bob"]),
            _ => ("other", ["bob", "carol"]),
        };
        json!({
            "id": id, "name": name, "rev": rev, "members": members, "read_id": 0, "unread": unread, "messages": messages,
        })
    };
    let (one, two) = (
        message(1, 1, 2, "alice", "one"),
        message(2, 1, 3, "bob", "two"),
    );
    let three = message(3, 2, 2, "bob", "three");
    let (all, newest) = (json!([one, two]), json!([two]));
    let pair = |rev: i64, messages: &Value| changed(1, rev, 1, messages.clone());
    let other = changed(2, 2, 0, json!([three]));
    for (user, fields, conversations, left, more) in [
        ("dave", json!({}), json!([]), json!([]), false),
        (
            "bob",
            json!({}),
            json!([pair(3, &all), other]),
            json!([]),
            false,
        ),
        (
            "bob",
            json!({ "revs": null, "limit": null }),
            json!([pair(3, &all), other]),
            json!([]),
            false,
        ),
        (
            "bob",
            json!({ "revs": { "1": 0, "2": null } }),
            json!([pair(3, &all), other]),
            json!([]),
            false,
        ),
        (
            "bob",
            json!({ "revs": { "1": 1 } }),
            json!([pair(3, &all), other]),
            json!([]),
            false,
        ),
        (
            "bob",
            json!({ "revs": { "1": 2 } }),
            json!([pair(3, &newest), other]),
            json!([]),
            false,
        ),
        (
            "bob",
            json!({ "revs": { "1": 3, "2": 2 } }),
            json!([]),
            json!([]),
            false,
        ),
        (
            "bob",
            json!({ "revs": { "1": 99, "2": 1 } }),
            json!([other]),
            json!([]),
            false,
        ),
        (
            "alice",
            json!({ "revs": { "1": 3, "2": 1, "9": 0 } }),
            json!([]),
            json!([2, 9]),
            false,
        ),
        (
            "bob",
            json!({ "limit": 1 }),
            json!([pair(2, &json!([one]))]),
            json!([]),
            true,
        ),
        (
            "bob",
            json!({ "limit": 1, "revs": { "1": 2 } }),
            json!([pair(3, &newest)]),
            json!([]),
            true,
        ),
        (
            "bob",
            json!({ "limit": 2, "revs": { "1": 2 } }),
            json!([pair(3, &newest), other]),
            json!([]),
            false,
        ),
        (
            "bob",
            json!({ "limit": 1, "revs": { "1": 3 } }),
            json!([other]),
            json!([]),
            false,
        ),
    ] {
        let data = json!({ "conversations": conversations, "left": left, "more": more });
        check(user, &sync(fields), success("sync", data), &[]).await;
    }
    let epoch = "epoch should be a string of at most 64 characters";
    let no_revs = "revs should be an object from conversation ids to integers";
    for (fields, error) in [
        (json!({ "revs": [] }), no_revs),
        (json!({ "revs": 1 }), no_revs),
        (json!({ "revs": { "x": 1 } }), no_revs),
        (json!({ "revs": { "1": "1" } }), no_revs),
        (json!({ "revs": { "1": 1.5 } }), no_revs),
        (
            json!({ "limit": 0 }),
            "limit should be an integer from 1 to 1000",
        ),
        (
            json!({ "limit": 1001 }),
            "limit should be an integer from 1 to 1000",
        ),
        (json!({ "epoch": 1 }), epoch),
        (json!({ "epoch": "é".repeat(EPOCH_CHARS_MAX + 1) }), epoch),
    ] {
        refuse("alice", "sync", &sync(fields), "invalid", error).await;
    }
    // One of them is hers, and nothing of it is new.
    let known = |count: usize| {
        let revs: serde_json::Map<_, _> =
            (1..=count).map(|id| (id.to_string(), json!(3))).collect();
        sync(json!({ "revs": revs }))
    };
    let error = "revs should have at most 20000 conversations";
    let too_many = known(SYNC_REVS_MAX + 1);
    refuse("alice", "sync", &too_many, "too_large", error).await;
    let left: Vec<_> = (2..=SYNC_REVS_MAX).collect();
    let nothing = json!({ "conversations": [], "left": left, "more": false });
    check(
        "alice",
        &known(SYNC_REVS_MAX),
        success("sync", nothing),
        &[],
    )
    .await;
}

#[tokio::test]
async fn revs_of_another_epoch_count_as_none() {
    let world = World::new().await;
    let sync = async |epoch: &Value| {
        let event = json!({ "type": "sync", "revs": { "1": 3, "2": 2, "9": 1 }, "epoch": epoch });
        let (mut reply, _) = world.event("bob", &event.to_string()).await;
        reply["data"].take()
    };
    let is_whole = |data: &Value| {
        let conversations = tests::host::ids(&data["conversations"]);
        conversations == [1, 2] && data["left"] == json!([]) && data["epoch"].is_string()
    };
    let new = sync(&json!("")).await;
    assert!(is_whole(&new), "{new}");
    let known = sync(&new["epoch"]).await;
    let nothing = json!({ "conversations": [], "left": [9], "more": false, "epoch": new["epoch"] });
    assert_eq!(known, nothing);
    let renew = handler::cluster::chat_id::NEW_CHAT_ID;
    world.db.execute(renew, ()).await.expect("renewed");
    let restored = sync(&new["epoch"]).await;
    assert!(is_whole(&restored), "{restored}");
    assert_ne!(restored["epoch"], new["epoch"]);
}

#[tokio::test]
async fn sync_gives_an_unknown_conversation_its_latest_hundred_and_pages_the_rest() {
    let world = World::new().await;
    let sql = "with recursive n(i) as (select 4 union all select i + 1 from n where i < 303)
        insert into messages (id, sender_id, conversation_id, content, rev) select i, 1, 1, ?1, i from n";
    for (content, limit, pages) in [
        ("x".to_owned(), 40, 3),
        ("x".to_owned(), 1000, 1),
        ("x".repeat(60_000), 1000, 6),
    ] {
        world
            .db
            .execute("delete from messages where id > 3", ())
            .await
            .expect("deleted");
        world.db.execute(sql, [content]).await.expect("inserted");
        world
            .db
            .execute(
                "update conversations set rev = 303, activity = 303 where id = 1",
                (),
            )
            .await
            .expect("updated");
        for (since, first) in [(0, 204), (3, 4)] {
            let (mut rev, mut ids, mut count) = (since, Vec::new(), 0);
            loop {
                let event = json!({ "type": "sync", "revs": { "1": rev }, "limit": limit });
                let (reply, _) = world.event("alice", &event.to_string()).await;
                let conversation = &reply["data"]["conversations"][0];
                let page = tests::host::ids(&conversation["messages"]);
                assert!(
                    !page.is_empty() && page.len() <= limit,
                    "every page takes a client further"
                );
                ids.extend(page);
                rev = conversation["rev"].as_i64().expect("a rev");
                count += 1;
                if reply["data"]["more"] == false {
                    break;
                }
                assert_eq!(
                    ids.last(),
                    Some(&rev),
                    "cut short, it has the rev of its last message"
                );
            }
            assert_eq!(rev, 303);
            assert_eq!(ids, (first..=303).collect::<Vec<_>>());
            if since == 0 {
                assert_eq!(count, pages);
            }
        }
    }
}

#[tokio::test]
async fn large_conversations_come_in_pages_too() {
    let world = World::new().await;
    let sql = "with recursive n(i) as (select 5 union all select i + 1 from n where i < 9000)
        insert into users (id, username, fullname, password) select i, printf('%060d', i), '', '' from n;
        with recursive n(i) as (select 3 union all select i + 1 from n where i < 7)
        insert into conversations (id, name) select i, 'large' from n;
        insert into members (conversation_id, user_id) select c.id, u.id from conversations c, users u where c.id > 2 and u.id <> 4;";
    world.db.execute_batch(sql).await.expect("inserted");
    let (mut revs, mut pages) = (serde_json::Map::new(), 0);
    loop {
        let event = json!({ "type": "sync", "revs": revs, "limit": 1000 });
        let (reply, _) = world.event("alice", &event.to_string()).await;
        assert!(
            reply.to_string().len() < 2 * 1024 * 1024,
            "an answer of {} bytes",
            reply.to_string().len()
        );
        for conversation in reply["data"]["conversations"]
            .as_array()
            .expect("conversations")
        {
            revs.insert(conversation["id"].to_string(), conversation["rev"].clone());
        }
        pages += 1;
        assert!(pages < 20, "it ends");
        if reply["data"]["more"] == false {
            break;
        }
    }
    let known: Vec<_> = revs.keys().map(String::as_str).collect();
    assert_eq!(known, ["1", "3", "4", "5", "6", "7"]);
    assert!(pages > 1);
}
