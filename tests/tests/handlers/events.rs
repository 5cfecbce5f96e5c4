//! The envelope, people and conversations: every event of the seed and every row of the reference behaviour, as tables.

use handler::account::register::Register;
use handler::{Event, Outbox, handle};
use serde_json::{Value, json};
use tests::table::{check, message, profile, refuse, success};
use tests::{Place, World};

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
    // For dave it is one already: a refusal, which changes nothing.
    let event = r#"{"type": "add_contact", "contact_username": "alice"}"#;
    let (reply, _) = world.event("dave", event).await;
    assert_eq!(reply["code"], "conflict", "{reply}");
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
async fn nobody_gets_more_contacts_than_there_is_room_for() {
    let world = World::new().await;
    // bob has alice and these; 5 does not have him.
    let sql = "with recursive n(i) as (select 5 union all select i + 1 from n where i < 10003)
        insert into users (id, username, fullname, password) select i, 'user' || i, '', '' from n;
        insert into contacts select 2, id from users where id > 4;
        insert into contacts select id, 2 from users where id > 5;";
    world.db.execute_batch(sql).await.expect("inserted");
    for (user, name, code) in [
        ("bob", "dave", "too_large"),
        ("dave", "bob", "too_large"),
        ("user6", "bob", "conflict"),
        ("user5", "bob", ""),
    ] {
        let event = json!({ "type": "add_contact", "contact_username": name });
        let (reply, _) = world.event(user, &event.to_string()).await;
        assert_eq!(
            reply["code"].as_str().unwrap_or_default(),
            code,
            "{user}: {reply}"
        );
    }
    let contacts = "select count(*) from contacts where 2 in (user_id, contact_id)";
    assert_eq!(world.integer(contacts).await, 20_000);
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
        let data = json!({ "id": 3, "name": name, "rev": 1, "members": members });
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

/// After a lost answer: in the same order, too, although bob has the lower id.
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
async fn names_are_any_characters() {
    let names = [
        "\0",
        "bob\0",
        "b\0b",
        "BOB",
        "?1",
        "' --",
        "\"\\",
        "\u{1}\n",
        " ",
        "123",
        "null",
        "e\u{301}",
        "é",
        "\u{feff}",
        "\u{10ffff}",
    ];
    for place in [Place::Memory, Place::Remote] {
        let world = World::new_at(place).await;
        for name in names {
            let register = Register {
                username: name.into(),
                fullname: name.into(),
                password_hash: name.into(),
            };
            assert_eq!(world.run("", &register).await.0, Ok(()), "{name:?}");
        }
        for name in names {
            let add = json!({ "type": "add_contact", "contact_username": name });
            let (reply, _) = world.event("carol", &add.to_string()).await;
            assert_eq!(reply["data"]["contact"]["username"], name, "{reply}");
        }
        let create = json!({ "type": "create_conversation", "members": names });
        let (reply, _) = world.event("carol", &create.to_string()).await;
        let info = json!({ "type": "get_conversation_info", "id": reply["data"]["id"] });
        let (info, _) = world.event("carol", &info.to_string()).await;
        let (contacts, _) = world.event("carol", r#"{"type": "get_contacts"}"#).await;
        assert_eq!(contacts["data"]["contacts"], json!(names));
        let members = [&["carol"], &names[..]].concat();
        assert_eq!(reply["data"]["members"], json!(members));
        assert_eq!(info["data"]["members"], json!(members));
    }
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
    let get = |fields: Value| {
        let mut event = json!({ "type": "get_conversations" });
        event
            .as_object_mut()
            .expect("an object")
            .extend(fields.as_object().expect("an object").clone());
        event.to_string()
    };
    let listed = |id: i64, name: &str, rev: i64, unread: i64, last: Value| json!({ "id": id, "name": name, "rev": rev, "read_id": 0, "unread": unread, "last_message": last });
    let pair = |unread| listed(1, "pair", 3, unread, message(2, 1, 3, "bob", "two"));
    let other = listed(2, "other", 2, 0, message(3, 2, 2, "bob", "three"));
    for (user, fields, conversations) in [
        ("alice", json!({}), json!([pair(1)])),
        ("bob", json!({}), json!([other, pair(1)])),
        (
            "bob",
            json!({ "limit": null, "before": null }),
            json!([other, pair(1)]),
        ),
        ("bob", json!({ "limit": 1 }), json!([other])),
        ("bob", json!({ "limit": 1, "before": 2 }), json!([pair(1)])),
        ("bob", json!({ "before": 1 }), json!([])),
        ("dave", json!({}), json!([])),
    ] {
        check(
            user,
            &get(fields),
            success("get_conversations", conversations),
            &[],
        )
        .await;
    }
    for before in [2, 99] {
        let error = format!("alice is not part of any conversation with {before} id");
        let event = get(json!({ "before": before }));
        refuse("alice", "get_conversations", &event, "not_found", &error).await;
    }
    for (fields, error) in [
        (
            json!({ "limit": 0 }),
            "limit should be an integer from 1 to 1000",
        ),
        (
            json!({ "limit": 1001 }),
            "limit should be an integer from 1 to 1000",
        ),
        (
            json!({ "limit": "1" }),
            "limit should be an integer from 1 to 1000",
        ),
        (json!({ "before": "1" }), "expected before as integer"),
    ] {
        refuse("alice", "get_conversations", &get(fields), "invalid", error).await;
    }
}

#[tokio::test]
async fn the_most_recently_active_conversation_is_first() {
    let world = World::new().await;
    let order = async || {
        let (reply, _) = world.event("bob", r#"{"type": "get_conversations"}"#).await;
        tests::host::ids(&reply["data"])
    };
    let say = async |event: Value| {
        let (reply, _) = world.event("bob", &event.to_string()).await;
        assert_eq!(reply["success"], true, "{reply}");
    };
    assert_eq!(order().await, [2, 1]);
    say(json!({ "type": "send_message", "conversation_id": 1, "content": "x" })).await;
    assert_eq!(order().await, [1, 2]);
    say(json!({ "type": "create_conversation", "members": [] })).await;
    assert_eq!(order().await, [3, 1, 2], "a new one is active");
    say(json!({ "type": "send_message", "conversation_id": 2, "content": "x" })).await;
    assert_eq!(order().await, [2, 3, 1]);
    let page = r#"{"type": "get_conversations", "limit": 1, "before": 2}"#;
    let (reply, _) = world.event("bob", page).await;
    assert_eq!(tests::host::ids(&reply["data"]), [3]);
    assert_eq!(reply["data"][0]["last_message"], json!(null));
}

#[tokio::test]
async fn all_conversations_at_once_have_a_bound() {
    let world = World::new().await;
    let ask = async |event: Value| world.event("dave", &event.to_string()).await.0;
    // Six times as long in JSON.
    let content = "\u{1}".repeat(64 * 1024);
    for count in 1..=43 {
        let made = ask(json!({ "type": "create_conversation", "members": [] })).await;
        let id = &made["data"]["id"];
        let sent =
            ask(json!({ "type": "send_message", "conversation_id": id, "content": content })).await;
        assert_eq!(sent["success"], true);
        if count >= 42 {
            let listed = ask(json!({ "type": "get_conversations" })).await;
            let expected = if count == 42 {
                json!(null)
            } else {
                json!("too_large")
            };
            assert_eq!(listed["code"], expected, "{count}");
        }
    }
    let page = ask(json!({ "type": "get_conversations", "limit": 1000 })).await;
    assert_eq!(page["data"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn get_conversation_info() {
    let get = |id: &str| format!(r#"{{"type": "get_conversation_info", "id": {id}}}"#);
    let read = json!({ "bob": 0, "carol": 0 });
    let data =
        json!({ "id": 2, "name": "other", "rev": 2, "members": ["bob", "carol"], "read": read });
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
async fn a_page_of_conversations_with_long_messages_is_shorter() {
    let world = World::new().await;
    let content = "\u{1}".repeat(64 * 1024);
    let sql = "insert into messages (id, sender_id, conversation_id, content, rev) values (?1, 2, ?2, ?3, 9)";
    for id in 3..7 {
        let create = r#"{"type": "create_conversation", "members": ["alice"]}"#;
        world.event("bob", create).await;
        world
            .db
            .execute(sql, libsql::params![id + 100, id, content.as_str()])
            .await
            .expect("inserted");
        world
            .db
            .execute(
                "update conversations set activity = ?1 + 100 where id = ?1",
                [id],
            )
            .await
            .expect("updated");
    }
    let (all, _) = world
        .event("alice", r#"{"type": "get_conversations"}"#)
        .await;
    assert_eq!(tests::host::ids(&all["data"]), [6, 5, 4, 3, 1]);
    let (mut ids, mut before, mut pages) = (Vec::new(), json!(null), 0);
    loop {
        let event = json!({ "type": "get_conversations", "limit": 50, "before": before });
        let (reply, _) = world.event("alice", &event.to_string()).await;
        let page = tests::host::ids(&reply["data"]);
        let Some(last) = page.last() else {
            break;
        };
        before = json!(last);
        ids.extend(page);
        pages += 1;
    }
    assert_eq!((ids, pages), (vec![6, 5, 4, 3, 1], 2));
}
