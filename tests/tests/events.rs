//! Every event of the seed and every row of the reference behaviour, as tables over the handlers.

use serde_json::{Value, json};
use tests::World;
use tests::world::NOW;

/// In a fresh world, `user` sends `event`; `reply` and `pushes` are all that comes of it.
async fn check(user: &str, event: &str, reply: Value, pushes: &[Value]) {
    let (actual_reply, actual_pushes) = World::new().await.event(user, event).await;
    assert_eq!(actual_reply, reply, "the reply to {user}'s {event}");
    assert_eq!(actual_pushes, pushes, "the pushes of {user}'s {event}");
}

/// As `check`, for a refusal.
async fn refuse(user: &str, kind: &str, event: &str, code: &str, error: &str) {
    let reply = json!({ "type": kind, "success": false, "error": error, "code": code });
    check(user, event, reply, &[]).await;
}

fn success(kind: &str, data: Value) -> Value {
    json!({ "type": kind, "success": true, "data": data })
}

fn profile(username: &str) -> Value {
    json!({
        "username": username, "fullname": format!("{username} example"),
        "is_online": false, "last_online": NOW, "created_at": NOW,
    })
}

fn message(id: i64, conversation_id: i64, sender: &str, content: &str, reply_id: Value) -> Value {
    json!({
        "id": id, "conversation_id": conversation_id, "sender_username": sender,
        "content": content, "reply_id": reply_id, "sent_at": NOW,
    })
}

#[tokio::test]
async fn frames_that_are_no_events() {
    let deep = "[".repeat(100_000);
    let deep_object = format!("{}1{}", "{\"a\":".repeat(50_000), "}".repeat(50_000));
    for (event, error) in [
        ("", "invalid json event"),
        ("x", "invalid json event"),
        ("[]", "invalid json event"),
        ("\"text\"", "invalid json event"),
        ("1", "invalid json event"),
        ("null", "invalid json event"),
        ("{", "invalid json event"),
        ("{}{}", "invalid json event"),
        ("{\"type\": NaN}", "invalid json event"),
        (
            "{\"type\": \"ping\", \"x\": Infinity}",
            "invalid json event",
        ),
        ("{'type': 'ping'}", "invalid json event"),
        (&deep, "invalid json event"),
        ("{}", "no type field found in the event"),
        ("{\"type\": null}", "no type field found in the event"),
        ("{\"type\": 1}", "no type field found in the event"),
        ("{\"type\": \"\"}", "no type field found in the event"),
        ("{\"type\": \"PING\"}", "no type field found in the event"),
        ("{\"type\": \"root\"}", "no type field found in the event"),
        (
            "{\"type\": \"\\ud800\"}",
            "no type field found in the event",
        ),
        (&deep_object, "no type field found in the event"),
    ] {
        refuse("alice", "root", event, "invalid", error).await;
    }
}

#[tokio::test]
async fn the_envelope() {
    let deep = format!(
        r#"{{"type": "ping", "x": {}{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let digits = format!(r#"{{"type": "ping", "x": {}}}"#, "9".repeat(5000));
    for event in [
        r#"{"type": "ping"}"#,
        r#"{"ty\u0070e": "p\u0069ng"}"#,
        r#"{"type": "self", "type": "ping"}"#,
        r#"{"type": "ping", "ref": null}"#,
        r#"{"type": "ping", "x": "\ud800", "y": 1e999}"#,
        " {\n\"type\"\t: \"ping\" } ",
        &deep,
        &digits,
    ] {
        check("alice", event, success("ping", json!("pong")), &[]).await;
    }
    let longest = "é".repeat(64);
    for reference in [
        json!(0),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(""),
        json!("\0 \"x\""),
        json!(longest),
    ] {
        let event = json!({ "type": "ping", "ref": reference });
        let mut reply = success("ping", json!("pong"));
        reply["ref"] = reference;
        check("alice", &event.to_string(), reply, &[]).await;
    }
    let bad = "ref should be an integer or a string of at most 64 characters";
    let too_long = format!("\"{}\"", "x".repeat(65));
    for reference in [
        "1.5",
        "9223372036854775808",
        "[]",
        "{}",
        "true",
        "\"\\udfff\"",
        &too_long,
    ] {
        let event = format!(r#"{{"type": "ping", "ref": {reference}}}"#);
        refuse("alice", "ping", &event, "invalid", bad).await;
    }
    let event = r#"{"type": "nonsense", "ref": "r"}"#;
    let error = "no type field found in the event";
    let reply =
        json!({ "type": "root", "success": false, "error": error, "code": "invalid", "ref": "r" });
    check("alice", event, reply, &[]).await;
    let event = r#"{"type": "send_message", "ref": 7}"#;
    let error = "expected conversation_id as integer";
    let reply = json!({ "type": "send_message", "success": false, "error": error, "code": "invalid", "ref": 7 });
    check("alice", event, reply, &[]).await;
}

#[tokio::test]
async fn own_profile() {
    check(
        "alice",
        r#"{"type": "self"}"#,
        success("self", profile("alice")),
        &[],
    )
    .await;
}

#[tokio::test]
async fn add_contact() {
    let add = |name: Value| json!({ "type": "add_contact", "contact_username": name }).to_string();
    let added = json!({ "message": "'carol' successfully added", "contact": profile("carol") });
    check(
        "alice",
        &add(json!("carol")),
        success("add_contact", added),
        &[],
    )
    .await;

    let expected = "invalid contact_username, expected a string";
    for name in [
        json!(null),
        json!(1),
        json!(["bob"]),
        json!({}),
        json!(true),
    ] {
        refuse("alice", "add_contact", &add(name), "invalid", expected).await;
    }
    let lone = r#"{"type": "add_contact", "contact_username": "\ud83d"}"#;
    refuse("alice", "add_contact", lone, "invalid", expected).await;
    refuse(
        "alice",
        "add_contact",
        r#"{"type": "add_contact"}"#,
        "invalid",
        expected,
    )
    .await;

    for (name, code, error) in [
        ("alice", "invalid", "cannot add itself as a contact"),
        ("nobody", "not_found", "no such user 'nobody' exists"),
        ("", "not_found", "no such user '' exists"),
        ("Carol", "not_found", "no such user 'Carol' exists"),
        ("carol\0", "not_found", "no such user 'carol\0' exists"),
        (
            "' or 1=1 --",
            "not_found",
            "no such user '' or 1=1 --' exists",
        ),
        ("bob", "conflict", "'bob' is already a contact"),
    ] {
        refuse("alice", "add_contact", &add(json!(name)), code, error).await;
    }
}

#[tokio::test]
async fn contacts_are_mutual_and_in_the_order_of_adding() {
    let world = World::new().await;
    for name in ["dave", "carol"] {
        let event = json!({ "type": "add_contact", "contact_username": name });
        world.event("alice", &event.to_string()).await;
    }
    for (user, contacts) in [
        ("alice", &["bob", "dave", "carol"][..]),
        ("bob", &["alice"]),
        ("carol", &["alice"]),
    ] {
        let (reply, _) = world.event(user, r#"{"type": "get_contacts"}"#).await;
        let profiles: Vec<_> = contacts.iter().map(|name| profile(name)).collect();
        let data = json!({
            "message": "got all the contacts", "contacts": contacts, "profiles": profiles,
        });
        assert_eq!(reply, success("get_contacts", data));
    }
}

#[tokio::test]
async fn a_contact_in_one_direction_is_completed() {
    let world = World::new().await;
    world
        .db
        .execute("insert into contacts values (4, 1)", ())
        .await
        .expect("inserted");
    let event = r#"{"type": "add_contact", "contact_username": "dave"}"#;
    let (reply, _) = world.event("alice", event).await;
    assert_eq!(reply["success"], true, "{reply}");
    assert_eq!(
        world
            .integer("select count(*) from contacts where 4 in (user_id, contact_id)")
            .await,
        2
    );
}

#[tokio::test]
async fn create_conversation() {
    let create = |fields: Value| {
        let mut event = json!({ "type": "create_conversation" });
        event
            .as_object_mut()
            .expect("an object")
            .extend(fields.as_object().expect("an object").clone());
        event.to_string()
    };
    for (fields, name, members) in [
        (
            json!({ "members": ["bob", "carol"] }),
            "alice, bob, carol",
            &["alice", "bob", "carol"][..],
        ),
        (
            json!({ "members": ["carol", "bob"], "name": "n" }),
            "n",
            &["alice", "carol", "bob"],
        ),
        (
            json!({ "members": ["bob", "alice", "bob"], "name": null }),
            "alice, bob",
            &["alice", "bob"],
        ),
        (json!({ "members": [] }), "alice", &["alice"]),
        (
            json!({ "members": ["bob"], "name": "\0 ü" }),
            "\0 ü",
            &["alice", "bob"],
        ),
    ] {
        let data = json!({ "id": 3, "name": name, "members": members });
        let reply = success("create_conversation", data);
        let pushed = json!([
            members
                .iter()
                .copied()
                .collect::<std::collections::BTreeSet<_>>(),
            reply
        ]);
        check("alice", &create(fields), reply, &[pushed]).await;
    }
    let no_name = "name value expected as a non zero string";
    let no_list = "members value expected a list";
    let no_text = "members should be a list of string";
    for (fields, code, error) in [
        (
            json!({ "members": ["bob"], "name": "" }),
            "invalid",
            no_name,
        ),
        (json!({ "members": ["bob"], "name": 1 }), "invalid", no_name),
        (json!({ "name": 1 }), "invalid", no_name),
        (json!({}), "invalid", no_list),
        (json!({ "members": null }), "invalid", no_list),
        (json!({ "members": "bob" }), "invalid", no_list),
        (json!({ "members": { "0": "bob" } }), "invalid", no_list),
        (json!({ "members": ["bob", 1] }), "invalid", no_text),
        (json!({ "members": [null] }), "invalid", no_text),
        (json!({ "members": [["bob"]] }), "invalid", no_text),
        (
            json!({ "members": ["bob", "x", "y"] }),
            "not_found",
            "'x' is not a valid username",
        ),
        (
            json!({ "members": ["bob\0"] }),
            "not_found",
            "'bob\0' is not a valid username",
        ),
        (
            json!({ "members": [""] }),
            "not_found",
            "'' is not a valid username",
        ),
        (
            json!({ "members": ["bob"], "name": "x".repeat(257) }),
            "too_large",
            "name should be at most 256 characters",
        ),
        (
            json!({ "members": vec!["bob"; 10_000] }),
            "too_large",
            "a conversation can have at most 10000 members",
        ),
    ] {
        refuse("alice", "create_conversation", &create(fields), code, error).await;
    }
    let lone = r#"{"type": "create_conversation", "members": ["bob", "\ud800"]}"#;
    refuse("alice", "create_conversation", lone, "invalid", no_text).await;
    let million = format!(
        r#"{{"type": "create_conversation", "members": [{}1]}}"#,
        "1,".repeat(400_000)
    );
    refuse(
        "alice",
        "create_conversation",
        &million,
        "too_large",
        "a conversation can have at most 10000 members",
    )
    .await;
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

#[tokio::test]
async fn conversations_of_a_user() {
    let event = r#"{"type": "get_conversations"}"#;
    let (pair, other) = (
        json!({ "id": 1, "name": "pair" }),
        json!({ "id": 2, "name": "other" }),
    );
    for (user, conversations) in [
        ("alice", json!([pair])),
        ("bob", json!([other, pair])),
        ("dave", json!([])),
    ] {
        check(
            user,
            event,
            success("get_conversations", conversations),
            &[],
        )
        .await;
    }
}

#[tokio::test]
async fn get_conversation_info() {
    let get = |id: &str| format!(r#"{{"type": "get_conversation_info", "id": {id}}}"#);
    let data = json!({ "id": 2, "name": "other", "members": ["bob", "carol"] });
    check(
        "carol",
        &get("2"),
        success("get_conversation_info", data),
        &[],
    )
    .await;
    for id in [
        "null",
        "\"1\"",
        "1.0",
        "1e0",
        "true",
        "[1]",
        "9223372036854775808",
        &"1".repeat(5000),
    ] {
        refuse(
            "alice",
            "get_conversation_info",
            &get(id),
            "invalid",
            "id is required as int",
        )
        .await;
    }
    refuse(
        "alice",
        "get_conversation_info",
        r#"{"type": "get_conversation_info"}"#,
        "invalid",
        "id is required as int",
    )
    .await;
    for id in ["2", "3", "0", "-1", "9223372036854775807"] {
        let error = format!("alice is not part of any conversation with {id} id");
        refuse(
            "alice",
            "get_conversation_info",
            &get(id),
            "not_found",
            &error,
        )
        .await;
    }
}

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
        let reply = success("send_message", message(4, 1, "alice", content, reply_id));
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
    let one = message(1, 1, "alice", "one", json!(null));
    let two = message(2, 1, "bob", "two", json!(null));
    for (fields, messages) in [
        (r#""conversation_id": 1"#, json!([two, one])),
        (r#""conversation_id": 1, "before": null"#, json!([two, one])),
        (r#""conversation_id": 1, "before": 3"#, json!([two, one])),
        (r#""conversation_id": 1, "before": 2"#, json!([one])),
        (r#""conversation_id": 1, "before": 1"#, json!([])),
        (
            r#""conversation_id": 1, "before": -9223372036854775808"#,
            json!([]),
        ),
        (
            r#""conversation_id": 1, "before": 9223372036854775807"#,
            json!([two, one]),
        ),
    ] {
        let data = json!({ "conversation_id": 1, "messages": messages });
        check("alice", &get(fields), success("get_messages", data), &[]).await;
    }
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
    ] {
        refuse("alice", "get_messages", &get(fields), code, error).await;
    }
}

#[tokio::test]
async fn a_page_of_long_messages_is_shorter() {
    let world = World::new().await;
    let sql = "with recursive n(i) as (select 4 union all select i + 1 from n where i < 103)
        insert into messages (id, sender_id, conversation_id, content) select i, 1, 1, ?1 from n";
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
        insert into messages (id, sender_id, conversation_id, content) select i, 1, 1, '' from n";
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
