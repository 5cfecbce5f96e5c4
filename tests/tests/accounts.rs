//! The operations without an event: accounts, tokens, presence; and what every operation asks of the database.

use handler::account::{
    Account, Credentials, FindAccount, Register, Registration, ReplacePasswordHash,
};
use handler::hosts::{
    self, FindHostUsers, FindUncounted, Gone, HostAlive, HostGone, HostReturned, HostStarted,
    OtherHosts, SweepOffline,
};
use handler::presence::{Connected, Disconnected, Session};
use handler::sync::FindMembers;
use handler::token::{LIFETIME_SECONDS, TokenKey};
use handler::{Access, Audience, Error, Event, Operation, Output};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tests::World;
use tests::world::NOW;

const LOCAL: &str = "local";

#[test]
fn bodies_of_registration() {
    for (body, error) in [
        ("", "not a valid json"),
        ("{", "not a valid json"),
        ("[]", "not a valid json"),
        ("\"username\"", "not a valid json"),
        ("{}", "username required"),
        (
            r#"{"username": null, "password": 1, "fullname": ""}"#,
            "username required",
        ),
        (r#"{"username": 1}"#, "password required"),
        (r#"{"username": 1, "password": 1}"#, "fullname required"),
        (
            r#"{"username": 1, "password": 1, "fullname": ""}"#,
            "username should be a string",
        ),
        (
            r#"{"username": "", "password": [], "fullname": ""}"#,
            "password should be a string",
        ),
        (
            r#"{"username": "", "password": "", "fullname": {}}"#,
            "fullname should be a string",
        ),
        (
            r#"{"username": "", "password": "", "fullname": ""}"#,
            "username should not be empty",
        ),
        (
            r#"{"username": "a", "password": "", "fullname": ""}"#,
            "password should not be empty",
        ),
        (
            r#"{"username": "a", "password": "b", "fullname": ""}"#,
            "fullname should not be empty",
        ),
        (
            r#"{"username": "\ud800", "password": "b", "fullname": "c"}"#,
            "username should be a string",
        ),
        (
            r#"{"username": "a", "password": "\udc00", "fullname": "c"}"#,
            "password should be a string",
        ),
    ] {
        let parsed = Registration::parse(body.as_bytes());
        assert_eq!(parsed, Err(Error::Invalid(error.into())), "{body}");
    }
    let invalid_utf8 = b"{\"username\": \"\xff\", \"password\": \"b\", \"fullname\": \"c\"}";
    assert_eq!(
        Registration::parse(invalid_utf8),
        Err(Error::Invalid("not a valid json".into()))
    );
    for (username, password, fullname, error) in [
        (64, 1024, 256, None),
        (65, 1, 1, Some("username should be at most 64 characters")),
        (1, 1025, 1, Some("password should be at most 1024 bytes")),
        (1, 1, 257, Some("fullname should be at most 256 characters")),
    ] {
        let body = json!({
            "username": "é".repeat(username), "password": "x".repeat(password), "fullname": "é".repeat(fullname),
        });
        let error = error.map(|text| Error::Invalid(text.into()));
        assert_eq!(
            Registration::parse(body.to_string().as_bytes()).err(),
            error
        );
    }
}

#[test]
fn bodies_of_login() {
    for (body, error) in [
        ("nonsense", "not a valid json"),
        (r#"{"password": 1}"#, "username required"),
        (r#"{"username": 1, "password": null}"#, "password required"),
        (
            r#"{"username": 1, "password": ""}"#,
            "username should be a string",
        ),
        (
            r#"{"username": "", "password": 1}"#,
            "password should be a string",
        ),
        (
            r#"{"username": "", "password": ""}"#,
            "username should not be empty",
        ),
        (
            r#"{"username": "a", "password": ""}"#,
            "password should not be empty",
        ),
    ] {
        let parsed = Credentials::parse(body.as_bytes());
        assert_eq!(parsed, Err(Error::Invalid(error.into())), "{body}");
    }
    let parsed = Credentials::parse(br#"{"username": "a", "password": "b", "more": [1e999]}"#);
    let expected = Credentials {
        username: "a".into(),
        password: "b".into(),
    };
    assert_eq!(parsed, Ok(expected));
}

#[tokio::test]
async fn an_account_is_registered_found_and_rehashed() {
    let world = World::new().await;
    let register = |name: &str| Register {
        username: name.into(),
        fullname: "E".into(),
        password_hash: "phc".into(),
    };
    assert_eq!(world.run("", &register("e\0ve")).await.0, Ok(()));
    let taken = Error::Conflict("username already exists".into());
    assert_eq!(world.run("", &register("e\0ve")).await.0, Err(taken));

    let find = FindAccount {
        username: "e\0ve".into(),
    };
    let found = |hash: &str| {
        Some(Account {
            user_id: 5,
            password_hash: hash.into(),
        })
    };
    assert_eq!(world.run("", &find).await.0, Ok(found("phc")));
    assert_eq!(
        world
            .run(
                "",
                &FindAccount {
                    username: "e".into()
                }
            )
            .await
            .0,
        Ok(None)
    );

    let replace = |old: &str, new: &str| ReplacePasswordHash {
        user_id: 5,
        old: old.into(),
        new: new.into(),
    };
    world
        .run("", &replace("stale", "lost"))
        .await
        .0
        .expect("nothing to do");
    assert_eq!(world.run("", &find).await.0, Ok(found("phc")));
    world
        .run("", &replace("phc", "new"))
        .await
        .0
        .expect("replaced");
    assert_eq!(world.run("", &find).await.0, Ok(found("new")));
}

#[test]
fn tokens() {
    const FOREVER: i64 = NOW + 1_000_000;
    let key = TokenKey::new(b"secret");
    let token = key.sign("alice", NOW);
    assert_eq!(key.verify(&token, NOW).as_deref(), Some("alice"));
    assert_eq!(
        key.verify(&token, NOW + LIFETIME_SECONDS - 1).as_deref(),
        Some("alice")
    );
    assert_eq!(key.verify(&token, NOW + LIFETIME_SECONDS), None);
    assert_eq!(TokenKey::new(b"other").verify(&token, NOW), None);

    // PyJWT 2.15.1: jwt.encode({"username": "hizz", "exp": 4102444800}, "secret", algorithm="HS256")
    let python = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImhpenoiLCJleHAiOjQxMDI0NDQ4MDB9.T4qjhZVwmEqyyutw3mhX7YJxS--qkNFl6kRZrBrckAo";
    assert_eq!(key.verify(python, NOW).as_deref(), Some("hizz"));

    let sign = |claims: Value, algorithm: Algorithm| {
        let key = EncodingKey::from_secret(b"secret");
        encode(&Header::new(algorithm), &claims, &key).expect("a token")
    };
    let good = json!({ "username": "a", "exp": FOREVER });
    assert!(
        key.verify(&sign(good.clone(), Algorithm::HS256), NOW)
            .is_some()
    );
    for (claims, algorithm) in [
        (good.clone(), Algorithm::HS384),
        (good, Algorithm::HS512),
        (json!({ "username": "a" }), Algorithm::HS256),
        (json!({ "exp": FOREVER }), Algorithm::HS256),
        (
            json!({ "username": "a", "exp": FOREVER as f64 + 0.5 }),
            Algorithm::HS256,
        ),
        (
            json!({ "username": "a", "exp": FOREVER.to_string() }),
            Algorithm::HS256,
        ),
        (json!({ "username": "a", "exp": null }), Algorithm::HS256),
        (json!({ "username": 1, "exp": FOREVER }), Algorithm::HS256),
        (json!({ "username": "a", "exp": NOW }), Algorithm::HS256),
        (json!({ "username": "a", "exp": -1 }), Algorithm::HS256),
    ] {
        let token = sign(claims.clone(), algorithm);
        assert_eq!(key.verify(&token, NOW), None, "{claims} {algorithm:?}");
    }
    // {"alg":"none","typ":"JWT"}, with an empty and with a foreign signature.
    let (_, rest) = token.split_once('.').expect("three parts");
    let (claims, signature) = rest.split_once('.').expect("three parts");
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    for forged in [
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        "..".into(),
        "x".into(),
        "".into(),
    ] {
        assert_eq!(key.verify(&forged, NOW), None, "{forged}");
    }
}

fn connected(username: &str) -> Connected {
    Connected {
        username: username.into(),
        host_id: LOCAL.into(),
    }
}

fn disconnected() -> Disconnected {
    Disconnected {
        host_id: LOCAL.into(),
    }
}

fn alive() -> HostAlive {
    HostAlive {
        host_id: LOCAL.into(),
        lease_seconds: 30,
    }
}

fn started(host_id: &str) -> HostStarted {
    HostStarted {
        host_id: host_id.into(),
    }
}

fn gone(host_id: &str, why: Gone) -> HostGone {
    HostGone {
        host_id: host_id.into(),
        why,
        user_ids: vec![1, 2, 3, 4],
    }
}

fn status(is_online: bool) -> Vec<Output> {
    let event = json!({
        "type": "user_status", "success": true,
        "data": { "username": "alice", "is_online": is_online, "last_online": NOW },
    });
    vec![Output::Push {
        to: Audience::Users(vec![2]),
        event: event.to_string(),
        is_droppable: false,
    }]
}

/// The outbox with its events as JSON, so that the order of fields does not matter.
fn parsed(outbox: &[Output]) -> Vec<(Audience, Value)> {
    let pushes = outbox.iter().map(|output| match output {
        Output::Push { to, event, .. } => (to.clone(), serde_json::from_str(event).expect("JSON")),
        other => panic!("{other:?}"),
    });
    pushes.collect()
}

#[tokio::test]
async fn only_the_first_and_the_last_socket_change_presence() {
    let world = World::new().await;
    let online = "select is_online from users where id = 1";
    let session = Session {
        user_id: 1,
        conversation_ids: vec![1],
    };
    for is_first in [true, false, false] {
        let (outcome, outbox) = world.run("", &connected("alice")).await;
        assert_eq!(outcome, Ok(session.clone()));
        let expected = if is_first { status(true) } else { vec![] };
        assert_eq!(parsed(&outbox), parsed(&expected));
        assert_eq!(world.integer(online).await, 1);
    }
    for is_last in [false, false, true] {
        let (outcome, outbox) = world.run("alice", &disconnected()).await;
        assert_eq!(outcome, Ok(()));
        let expected = if is_last { status(false) } else { vec![] };
        assert_eq!(parsed(&outbox), parsed(&expected));
        assert_eq!(world.integer(online).await, i64::from(!is_last));
    }
    assert_eq!(world.integer("select count(*) from presence").await, 0);
    let missing = Error::NotFound("'nobody' doesn't exists".into());
    assert_eq!(world.run("", &connected("nobody")).await.0, Err(missing));
}

#[tokio::test]
async fn a_dead_hosts_users_went_offline_when_it_was_last_seen() {
    let world = World::new().await;
    let seen_at = "update hosts set seen_at = ";
    let set = async |sql: &str| {
        world.db.execute(sql, ()).await.expect("updated");
    };
    // The first backend died with dave online; the file has its own idea of when.
    set("update users set is_online = 1, last_online = 77 where id = 4").await;
    world.run("", &started(LOCAL)).await.0.expect("started");
    set(&format!("{seen_at} 5")).await;
    world.run("", &alive()).await.0.expect("alive");
    let found = world.integer("select seen_at from hosts").await;
    assert_eq!(found, 5, "a host without sockets writes nothing");

    for user in ["alice", "bob"] {
        world.run("", &connected(user)).await.0.expect("connected");
    }
    world.run("", &alive()).await.0.expect("alive");
    let found = world
        .integer("select seen_at > 1700000000 from hosts")
        .await;
    assert_eq!(found, 1, "by the database's clock");
    // Killed here, when bob had just come, and started again much later.
    set(&format!("{seen_at} {}", NOW + 20)).await;
    set(&format!(
        "update users set last_online = {} where id = 2",
        NOW + 25
    ))
    .await;
    let (outcome, outbox) = world.run("", &gone(LOCAL, Gone::Restarted)).await;
    assert_eq!(outcome, Ok(()));
    assert_eq!(
        outbox.len(),
        2,
        "one push for each, to the other: {outbox:?}"
    );
    world.run("", &started(LOCAL)).await.0.expect("started");
    for (id, last_online) in [(1, NOW + 20), (2, NOW + 25), (3, NOW), (4, 77)] {
        let user = format!("select last_online from users where is_online = 0 and id = {id}");
        assert_eq!(world.integer(&user).await, last_online, "user {id}");
    }
    assert_eq!(world.integer("select count(*) from presence").await, 0);

    world
        .run("", &connected("alice"))
        .await
        .0
        .expect("connected");
    set("update users set last_online = 0 where id = 1").await;
    let (outcome, outbox) = world.run("", &gone(LOCAL, Gone::Stopped)).await;
    assert_eq!(outcome, Ok(()));
    assert_eq!(parsed(&outbox), parsed(&status(false)));
    assert_eq!(world.integer("select count(*) from hosts").await, 0);
}

#[tokio::test]
async fn a_user_online_through_another_host_stays_online() {
    let world = World::new().await;
    let online = "select is_online from users where id = 1";
    world.run("", &started(LOCAL)).await.0.expect("started");
    world
        .run("", &started("elsewhere"))
        .await
        .0
        .expect("started");
    let elsewhere = Connected {
        username: "alice".into(),
        host_id: "elsewhere".into(),
    };
    world
        .run("", &connected("alice"))
        .await
        .0
        .expect("connected");
    world.run("", &elsewhere).await.0.expect("connected");
    let (outcome, outbox) = world.run("alice", &disconnected()).await;
    assert_eq!((outcome, outbox), (Ok(()), vec![]));
    for (host_id, is_online) in [(LOCAL, true), ("elsewhere", false)] {
        let (outcome, outbox) = world.run("", &gone(host_id, Gone::Stopped)).await;
        assert_eq!(outcome, Ok(()));
        let expected = if is_online { vec![] } else { status(false) };
        assert_eq!(parsed(&outbox), parsed(&expected));
        assert_eq!(world.integer(online).await, i64::from(is_online));
    }
}

#[tokio::test]
async fn a_host_is_dead_when_its_lease_has_run_out_and_not_before() {
    let world = World::new().await;
    let expired = Gone::Expired { lease_seconds: 30 };
    world.run("", &started(LOCAL)).await.0.expect("started");
    world
        .run("", &started("elsewhere"))
        .await
        .0
        .expect("started");
    let elsewhere = Connected {
        username: "alice".into(),
        host_id: "elsewhere".into(),
    };
    world.run("", &elsewhere).await.0.expect("connected");
    let others = |alive: usize, expired: &[&str]| OtherHosts {
        alive,
        expired: expired.iter().map(|id| id.to_string()).collect(),
    };
    assert_eq!(world.run("", &alive()).await.0, Ok(others(1, &[])));
    let (_, outbox) = world.run("", &gone("elsewhere", expired)).await;
    assert_eq!(outbox, [], "it lives");

    let seen_at = "update hosts set seen_at = unixepoch() - 31 where id = 'elsewhere'";
    world.db.execute(seen_at, ()).await.expect("updated");
    assert_eq!(
        world.run("", &alive()).await.0,
        Ok(others(0, &["elsewhere"]))
    );
    let (_, outbox) = world.run("", &gone("elsewhere", expired)).await;
    assert_eq!(outbox.len(), 1, "one push: {outbox:?}");
    let (outcome, outbox) = world.run("", &gone("elsewhere", expired)).await;
    assert_eq!((outcome, outbox), (Ok(()), vec![]), "once");
    assert_eq!(world.run("", &alive()).await.0, Ok(others(0, &[])));
}

#[tokio::test]
async fn a_host_that_was_believed_dead_makes_its_users_known_again() {
    let world = World::new().await;
    let online = "select is_online from users where id = 1";
    world.run("", &started(LOCAL)).await.0.expect("started");
    for _ in 0..3 {
        world
            .run("", &connected("alice"))
            .await
            .0
            .expect("connected");
    }
    world
        .run("", &gone(LOCAL, Gone::Restarted))
        .await
        .0
        .expect("gone");
    assert_eq!(world.integer(online).await, 0);
    // It lives, has three sockets, and two of them close meanwhile.
    let lease = hosts::take_lease(LOCAL, 7, false);
    for statement in lease {
        let mut prepared = world.db.prepare(statement.sql).await.expect("SQL");
        handler::run(&mut prepared, statement.parameters)
            .await
            .expect("taken");
    }
    world
        .run("alice", &disconnected())
        .await
        .0
        .expect("disconnected");
    world
        .run("alice", &disconnected())
        .await
        .0
        .expect("disconnected");
    let returned = |lease: i64, part: i64| HostReturned {
        host_id: LOCAL.into(),
        lease,
        part,
        users: vec![(1, 3), (4, 1)],
    };
    let (_, outbox) = world.run("", &returned(6, 1)).await;
    assert_eq!(outbox, [], "of a lease that was lost");
    let (outcome, outbox) = world.run("", &returned(7, 1)).await;
    assert_eq!(outcome, Ok(()));
    let told = parsed(&outbox);
    assert_eq!(told.len(), 1, "dave has no contacts: {told:?}");
    assert_eq!(told[0].1["data"]["is_online"], true);
    assert_eq!(
        world
            .integer("select sockets from presence where user_id = 1")
            .await,
        1
    );
    let (_, outbox) = world.run("", &returned(7, 1)).await;
    assert_eq!(outbox, [], "said again");
    let (_, outbox) = world.run("alice", &disconnected()).await;
    assert_eq!(parsed(&outbox), parsed(&status(false)));
    assert_eq!(
        world.integer("select count(*) from presence").await,
        1,
        "dave"
    );
}

/// Fails for a statement that walks through a table instead of an index, or that would hand out text in a form that
/// libsql cuts at the first NUL.
async fn check_statements<O: Operation>(world: &World, operation: &O) {
    let ctx = world.context("alice").await;
    for statement in operation.statements(&ctx) {
        let sql = format!("explain query plan {}", statement.sql);
        let mut rows = world
            .db
            .query(&sql, statement.parameters.clone())
            .await
            .expect("a plan");
        while let Some(row) = rows.next().await.expect("a row") {
            let step: String = row.get(3).expect("text");
            // Common tables, lists and constants are walked through; tables never.
            let tables = [
                "users",
                "contacts",
                "conversations",
                "members",
                "messages",
                "presence",
            ];
            let aliases = ["u", "c", "mb", "m"];
            let scanned = step
                .strip_prefix("SCAN ")
                .and_then(|rest| rest.split(' ').next());
            let scans = scanned
                .is_some_and(|name| tables.contains(&name) || aliases.contains(&name))
                && !step.contains("INDEX users_online");
            assert!(!scans, "{step}\n{}", statement.sql);
        }
    }
    let (_, _) = world.run("alice", operation).await;
    for statement in operation.statements(&ctx) {
        let mut prepared = world.db.prepare(statement.sql).await.expect("prepared");
        let rows = handler::run(&mut prepared, statement.parameters)
            .await
            .expect("rows");
        let text = rows
            .0
            .iter()
            .flat_map(|row| &row.0)
            .find(|v| matches!(v, libsql::Value::Text(_)));
        assert!(
            text.is_none(),
            "a text column without `cast(… as blob)`: {}",
            statement.sql
        );
    }
}

#[tokio::test]
async fn no_operation_scans_a_table() {
    for event in [
        json!({ "type": "self" }),
        json!({ "type": "add_contact", "contact_username": "carol" }),
        json!({ "type": "get_contacts" }),
        json!({ "type": "create_conversation", "members": ["bob", "nobody"] }),
        json!({ "type": "create_conversation", "members": ["bob"] }),
        json!({ "type": "get_conversations" }),
        json!({ "type": "get_conversation_info", "id": 1 }),
        json!({ "type": "send_message", "conversation_id": 1, "content": "x", "reply_id": 1 }),
        json!({ "type": "get_messages", "conversation_id": 1 }),
        json!({ "type": "get_messages", "conversation_id": 1, "before": 2 }),
        json!({ "type": "get_messages", "conversation_id": 1, "after": 1 }),
        json!({ "type": "get_conversations", "limit": 1, "before": 2 }),
        json!({ "type": "typing", "conversation_id": 1, "on": true }),
        json!({ "type": "mark_read", "conversation_id": 1, "message_id": 1 }),
        json!({ "type": "send_message", "conversation_id": 1, "content": "x", "client_id": "y" }),
        json!({ "type": "sync" }),
        json!({ "type": "sync", "revs": { "1": 1, "2": 1, "9": 1 }, "limit": 10 }),
    ] {
        let world = World::new().await;
        let operation = Event::parse(&event.to_string())
            .operation
            .expect("an operation");
        assert_ne!(operation.access(), Access::None);
        check_statements(&world, &operation).await;
    }
    let world = World::new().await;
    check_statements(
        &world,
        &FindAccount {
            username: "bob".into(),
        },
    )
    .await;
    check_statements(
        &world,
        &Register {
            username: "eve".into(),
            fullname: "".into(),
            password_hash: "".into(),
        },
    )
    .await;
    check_statements(
        &world,
        &ReplacePasswordHash {
            user_id: 1,
            old: "none".into(),
            new: "".into(),
        },
    )
    .await;
    check_statements(&world, &connected("bob")).await;
    check_statements(&world, &disconnected()).await;
    check_statements(&world, &alive()).await;
    check_statements(&world, &started(LOCAL)).await;
    for why in [
        Gone::Restarted,
        Gone::Stopped,
        Gone::Expired { lease_seconds: 30 },
    ] {
        check_statements(&world, &gone(LOCAL, why)).await;
    }
    let returned = HostReturned {
        host_id: LOCAL.into(),
        lease: 0,
        part: 1,
        users: vec![(1, 2)],
    };
    let sweep = SweepOffline {
        user_ids: vec![1, 2],
    };
    check_statements(&world, &sweep).await;
    check_statements(&world, &FindUncounted).await;
    let users = FindHostUsers {
        host_id: LOCAL.into(),
        why: Gone::Expired { lease_seconds: 30 },
    };
    check_statements(&world, &users).await;
    check_statements(&world, &returned).await;
    let members = FindMembers {
        user_ids: vec![1, 2],
    };
    check_statements(&world, &members).await;
}
