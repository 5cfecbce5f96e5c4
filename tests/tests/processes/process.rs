//! The real program: killed, stopped, started on all kinds of files, and run without a server.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::data::open;
use tests::host::{
    Log, ORIGIN, PASSWORD, SECRET, ids, login, refuse, register, request, run, run_in,
};
use tests::{Client, Data, Process, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixDatagram};
use tokio::sync::Notify;
use tokio::task::JoinSet;

async fn value(db: &libsql::Connection, sql: &str) -> libsql::Value {
    let mut rows = db.query(sql, ()).await.expect("a query");
    rows.next()
        .await
        .expect("a row")
        .expect("a row")
        .get_value(0)
        .expect("a value")
}

#[tokio::test]
async fn users_of_a_killed_host_are_offline_when_it_is_back() {
    let data = Data::create();
    let host = data.start().await;
    let mut alice = host.join("alice").await;
    register(host.address, "bob").await;
    alice.add_contact("bob").await;
    let _bob = host.connect("bob").await;
    let online = alice.push().await["data"]["last_online"]
        .as_i64()
        .expect("a time");
    host.kill().await;

    let host = data.start().await;
    let mut alice = host.connect("alice").await;
    let contacts = alice.ok(json!({ "type": "get_contacts" })).await;
    let bob = &contacts["profiles"][0];
    assert_eq!(bob["is_online"], false);
    let last_online = bob["last_online"].as_i64().expect("a time");
    assert!(
        (online..=online + 20).contains(&last_online),
        "{last_online}, last seen at {online}"
    );
}

#[tokio::test]
async fn signals_stop_it_in_good_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let data = Data::create();
        let host = data.start().await;
        let mut alice = host.join("alice").await;
        let conversation = alice.converse(&[]).await;
        for count in 0..50 {
            let event = json!({
                "type": "send_message", "conversation_id": conversation, "content": count.to_string(),
            });
            alice.text(&event.to_string()).await;
        }
        let first = alice.receive().await;
        assert_eq!(first["success"], true);
        // A client that never reads its close frame must not delay the stop.
        let _stalled = host.connect("alice").await;
        let watch = tokio::spawn(async move { (alice.closed().await, alice) });
        assert_eq!(host.end(signal).await.code(), Some(0));
        let ((code, reason), _) = watch.await.expect("no panic");
        assert_eq!((code, reason.as_str()), (1001, "server is shutting down"));
        assert!(!data.wal().exists(), "checkpointed");
        let db = data.open().await;
        assert_eq!(
            value(&db, "select count(*) from users where is_online").await,
            libsql::Value::Integer(0)
        );
    }
}

/// The tables of reference-behaviour.md, with a user (hizz, password "xyz") whose hash was written
/// by argon2-cffi 25.1.
const FIRST_BACKEND: &str = "
    create table users(id integer primary key, username text not null unique, fullname text not null, password text not null,
        is_online integer not null default 0, last_online integer default (unixepoch()), created_at integer default (unixepoch()));
    create table contacts(user_id, contact_id, primary key (user_id, contact_id));
    create table conversations(id integer primary key, name text not null);
    create table members(conversation_id, user_id, primary key (conversation_id, user_id));
    create table messages(id integer primary key, sender_id, conversation_id, reply_id, sent_at integer default (unixepoch()), content text);
    insert into users values
        (1, 'hizz', 'Snakey', '$argon2id$v=19$m=65536,t=3,p=4$93ZEUAyt9uWS0KKy6TFlBQ$f6ON8uXVeTiE7gSb9xWz36ZPEjJAYhCvz+PowVIUMuI', 1, 1700000000, 1600000000),
        (2, 'bob', 'Bob', 'x', 1, 1700000001, 1600000000);
    insert into contacts values (1, 2), (2, 1), ('2', '1');
    insert into conversations values (7, 'old');
    insert into members values (7, 1), (7, 2), (7, '2x'), (7, 'bob');
    insert into messages values (41, 1, 7, null, 1700000000, 'from the first backend'), (42, 2, 7, 41, 1700000001, null);
";

#[tokio::test]
async fn a_file_of_the_first_backend_is_adopted_in_place() {
    let data = Data::create();
    let file = data.beside("chatapp.db");
    let db = open(&file).await;
    db.execute_batch(FIRST_BACKEND)
        .await
        .expect("the first backend's tables");
    let host = Process::start(&file).await;
    let counted = "select sum(conversations) from conversation_counts";
    assert_eq!(value(&db, counted).await, libsql::Value::Integer(2));
    let stored = "select password from users where id = 1";
    let old = value(&db, stored).await;
    let log_in = async || {
        let body = r#"{"username": "hizz", "password": "xyz"}"#;
        let answer = request(host.address, "POST", "/auth/login", &[], body).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        let cookie = answer.header("set-cookie").expect("a cookie");
        cookie.split(';').next().expect("a value").to_owned()
    };
    let mut hizz = Client::connect(host.address, &log_in().await).await;
    let new = value(&db, stored).await;
    assert_ne!(new, old, "the hash gets the present parameters");
    assert!(
        new.as_text()
            .is_some_and(|phc| phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$")),
        "{new:?}"
    );
    log_in().await;
    assert_eq!(value(&db, stored).await, new, "replaced only once");

    let contacts = hizz.ok(json!({ "type": "get_contacts" })).await;
    assert_eq!(
        contacts["profiles"],
        json!([{
            "username": "bob", "fullname": "Bob", "is_online": false, "last_online": 1_700_000_001, "created_at": 1_600_000_000,
        }])
    );
    let history = hizz.history(7).await;
    assert_eq!(ids(&history), [42, 41]);
    assert_eq!(
        (&history[0]["content"], &history[0]["reply_id"]),
        (&json!(""), &json!(41))
    );
    assert_eq!(history[1]["content"], "from the first backend");
    assert_eq!(hizz.send(7, "from the second").await, 43);
    // The old messages have revs in the order of their ids, and sync works from the start.
    let sync = hizz.ok(json!({ "type": "sync", "revs": { "7": 1 } })).await;
    let conversation = &sync["conversations"][0];
    assert_eq!(
        (&conversation["rev"], &conversation["unread"]),
        (&json!(3), &json!(1))
    );
    let revs = conversation["messages"]
        .as_array()
        .expect("messages")
        .iter();
    assert_eq!(
        revs.map(|m| (m["id"].as_i64(), m["rev"].as_i64()))
            .collect::<Vec<_>>(),
        [(Some(42), Some(2)), (Some(43), Some(3))]
    );
    // Other tools read the file while the server runs.
    let online = value(&db, "select is_online from users where username = 'hizz'").await;
    assert_eq!(online, libsql::Value::Integer(1));
    // The columns have types now: otherwise SQLite uses no index of theirs in joins.
    let types = "select group_concat(lower(type)) from pragma_table_info('members') where name in ('conversation_id', 'user_id')";
    let typed = libsql::Value::Text("integer,integer".into());
    assert_eq!(value(&db, types).await, typed);
    let contacts = "select count(*) from contacts where user_id = 2 and contact_id = 1";
    assert_eq!(value(&db, contacts).await, libsql::Value::Integer(1));
    let odd = "select count(*) from members where typeof(user_id) = 'text'";
    assert_eq!(value(&db, odd).await, libsql::Value::Integer(2));
    host.stop().await;
    // An earlier release has left them as they were.
    db.execute_batch(
        "pragma writable_schema = on;
         update sqlite_schema set sql = replace(sql, 'user_id integer', 'user_id') where name = 'members';
         pragma writable_schema = reset;",
    )
    .await
    .expect("without a type");
    assert_ne!(value(&db, types).await, typed);
    drop(db);
    let again = Process::start(&file).await;
    let db = open(&file).await;
    assert_eq!(value(&db, types).await, typed);
    assert_eq!(
        value(&db, "pragma integrity_check").await,
        libsql::Value::Text("ok".into())
    );
    again.stop().await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_refused_with_a_reason() {
    let newer =
        "create table migrations (version integer primary key, applied_at integer not null);
        insert into migrations values (1, 0), (999, 0);";
    for (tables, reason) in [
        (
            newer,
            "the database has schema version 999, and this program knows versions up to",
        ),
        (
            "create table users (id integer primary key, email text)",
            "the database is not a chat database: it has no table users with a column username",
        ),
        (
            "create table songs (id integer primary key)",
            "the database is not a chat database: it has no table users",
        ),
    ] {
        let data = Data::create();
        let db = data.open().await;
        db.execute_batch(tables).await.expect("tables");
        refuse(&data.file(), reason).await;
    }
}

#[tokio::test]
async fn a_second_server_on_the_same_file_is_refused() {
    let data = Data::create();
    let file = data.file();
    let host = data.start().await;
    let mut alice = host.join("alice").await;
    let path = file.to_str().expect("text");
    let (status, _, errors) = run(&[], &[("DBPATH", path)]).await;
    assert_eq!(status.code(), Some(1));
    assert!(errors.contains("another server is running on"), "{errors}");
    let link = data.beside("link.db");
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    let (_, _, errors) = run(&[], &[("DBPATH", link.to_str().expect("text"))]).await;
    assert!(errors.contains("another server is running on"), "{errors}");
    assert_eq!(alice.ok(json!({ "type": "self" })).await["is_online"], true);
}

#[tokio::test]
async fn a_second_server_is_refused_whatever_the_first_was_told_and_lost() {
    let data = Data::create();
    let (file, link) = (data.file(), data.beside("link.db"));
    // The file that the link leads to does not exist yet.
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    let host = Process::start(&link).await;
    let refuse = async |path: &Path| {
        let (status, _, errors) = run(&[], &[("DBPATH", path.to_str().expect("text"))]).await;
        assert_eq!(status.code(), Some(1));
        assert!(errors.contains("another server is running on"), "{errors}");
    };
    refuse(&file).await;
    refuse(&link).await;
    std::fs::remove_file(data.beside("chat.db-lock")).expect("removed");
    refuse(&file).await;
    refuse(&link).await;
    host.join("alice").await;
}

#[tokio::test]
async fn a_login_storm_does_not_flood_the_log_nor_hide_a_line() {
    const LOGINS: usize = 2000;
    let data = Data::create();
    let host = data.start_logging().await;
    register(host.address, "alice").await;
    let (mut storm, mut answers) = (JoinSet::new(), HashMap::<u16, usize>::new());
    let body = json!({ "username": "alice", "password": "wrong" }).to_string();
    for _ in 0..LOGINS {
        // Fewer than an address may have under way.
        while storm.len() >= 200 {
            *answers
                .entry(storm.join_next().await.expect("one").expect("no panic"))
                .or_default() += 1;
        }
        let (address, body) = (host.address, body.clone());
        storm.spawn(async move {
            request(address, "POST", "/auth/login", &[], body)
                .await
                .status
        });
    }
    while let Some(status) = storm.join_next().await {
        *answers.entry(status.expect("no panic")).or_default() += 1;
    }
    login(host.address, "alice").await;
    host.stop().await;
    until("the last line", async || data.logged("stopped") > 0).await;
    let log = std::fs::read_to_string(data.log()).expect("a log");
    // The lines that are there, and those of which only the number is.
    let left_out = |kind: &str| -> usize {
        let lines = log
            .lines()
            .filter(|line| line.contains(&format!("kind=\"{kind}\"")));
        let counts =
            lines.filter_map(|line| line.split_once("left_out=")?.1.trim().parse::<usize>().ok());
        counts.sum()
    };
    let refused = data.logged("security: login result=\"unavailable\"");
    assert!(answers[&503] > 300, "it was a storm: {answers:?}");
    assert!(refused < answers[&503], "{refused} lines for {answers:?}");
    assert_eq!(
        refused + left_out("login unavailable"),
        answers[&503],
        "{answers:?}"
    );
    assert_eq!(
        data.logged("answered status=503") + left_out("answered"),
        answers[&503]
    );
    assert_eq!(data.logged("security: login result=\"ok\""), 1);
}

#[tokio::test]
async fn a_long_request_makes_no_long_line() {
    let data = Data::create();
    let host = data.start_logging().await;
    let path = format!("/users/{}", "x".repeat(15_000));
    let key = [("authorization", "Bearer wrong")];
    request(host.address, "GET", &path, &key, "").await;
    host.stop().await;
    until("the last line", async || data.logged("stopped") > 0).await;
    let log = std::fs::read_to_string(data.log()).expect("a log");
    assert!(log.contains(&path[..256]), "its beginning is logged: {log}");
    let longest = log.lines().map(str::len).max();
    assert!(longest < Some(1_000), "{log}");
}

#[tokio::test]
async fn other_lines_do_not_push_out_those_about_security() {
    let (data, read) = (Data::create(), Arc::new(Notify::new()));
    let file = data.file();
    let variables = [
        ("DBPATH", file.as_os_str()),
        ("LOG_LEVEL", OsStr::new("debug")),
    ];
    let log = Log::FileAfter(data.log(), read.clone());
    let host = Process::start_with(&variables, log).await;
    let mut alice = host.join("alice").await;
    // More lines than may wait.
    for _ in 0..15 {
        for _ in 0..1000 {
            alice.text(r#"{"type":"ping"}"#).await;
        }
        for _ in 0..1000 {
            alice.receive().await;
        }
    }
    let body = json!({ "username": "alice", "password": "wrong" }).to_string();
    let answer = request(host.address, "POST", "/auth/login", &[], body).await;
    assert_eq!(answer.status, 401);
    read.notify_one();
    let logged =
        |text: &str| std::fs::read_to_string(data.log()).is_ok_and(|log| log.contains(text));
    for text in [
        "login result=\"unauthorized\"",
        "lines were left out: the log is not read fast enough left_out=",
    ] {
        until(text, async || logged(text)).await;
    }
}

#[tokio::test]
async fn configuration_mistakes_name_the_variable() {
    for (variable, value, reason) in [
        (
            "PORT",
            "80a",
            "PORT is \"80a\": expected a number from 0 to 65535",
        ),
        (
            "HOST",
            "0.0.0.0",
            "JWTSECRET is the public demo secret, but others can reach the address 0.0.0.0. Set it",
        ),
        ("DBPATH", "wss://x", "DBPATH is a wss URL"),
        (
            "NATS_URL",
            "nats://x",
            "NATS_URL joins hosts over a libSQL server",
        ),
        ("LOG_LEVEL", "a=b=c", "LOG_LEVEL"),
        (
            "REGISTRATION",
            "off",
            "REGISTRATION is \"off\": expected open or closed",
        ),
        (
            "UNKNOWN_USERS",
            "yes",
            "UNKNOWN_USERS is \"yes\": expected refuse or create",
        ),
        (
            "AUTH_ISSUERS",
            "http://id.example",
            "AUTH_ISSUERS has \"http://id.example\": expected URLs",
        ),
        (
            "AUTH_ISSUERS",
            "https://id.example",
            "AUTH_ISSUERS and AUTH_AUDIENCE: expected both or neither",
        ),
        (
            "AUTH_AUDIENCE",
            "my-app",
            "AUTH_ISSUERS and AUTH_AUDIENCE: expected both or neither",
        ),
        ("AUTH_USERNAME_CLAIM", "", "AUTH_USERNAME_CLAIM is empty"),
    ] {
        let (status, _, errors): (ExitStatus, _, _) = run(&[], &[(variable, value)]).await;
        assert_eq!(status.code(), Some(1), "{variable}");
        assert!(errors.contains(reason), "{errors}");
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_refused_with_advice() {
    let data = Data::create();
    let host = data.start().await;
    let port = host.address.port().to_string();
    let other = data.beside("other.db");
    let other = other.to_str().expect("text");
    let (status, _, errors) = run(&[], &[("PORT", &port), ("DBPATH", other)]).await;
    assert_eq!(status.code(), Some(1));
    let expected = format!(
        "chatapp: cannot listen on 127.0.0.1:{port}: another program does. Stop it, or set PORT to another number\n"
    );
    assert!(errors.ends_with(&expected), "{errors}");
    assert!(!Path::new(other).exists());
}

#[tokio::test]
async fn a_mistyped_variable_is_warned_of() {
    let hint = "JWT_SECRET is not a variable of chatapp: is JWTSECRET meant?";
    let (status, _, errors) = run(
        &[],
        &[("JWT_SECRET", "do not show this"), ("HOST", "0.0.0.0")],
    )
    .await;
    assert_eq!(status.code(), Some(1));
    assert!(errors.contains(hint), "{errors}");
    assert!(!errors.contains("do not show"), "{errors}");
    let data = Data::create();
    let path = data.file();
    let path = path.to_str().expect("text");
    let (status, output, _) = run(&["check"], &[("JWT_SECRET", "x"), ("DBPATH", path)]).await;
    assert_eq!(status.code(), Some(0), "{output}");
    assert!(output.contains(hint), "{output}");
}

#[tokio::test]
async fn without_tls_it_warns_at_the_start_and_of_the_first_login() {
    const PAGE: &str = "http://192.168.1.5:8000";
    let origins = format!("{ORIGIN},{PAGE}");
    for (ip, proxies, warnings) in [
        ("0.0.0.0", "127.0.0.0/8,::1", 1),
        ("0.0.0.0", "172.31.245.0/28", 0),
        ("127.0.0.1", "127.0.0.0/8,::1", 0),
    ] {
        let data = Data::create();
        let file = data.file();
        let variables = [
            ("DBPATH", file.as_os_str()),
            ("HOST", OsStr::new(ip)),
            ("TRUSTED_PROXIES", OsStr::new(proxies)),
            ("CORS_ALLOW_ORIGIN", OsStr::new(&origins)),
        ];
        let host = Process::start_with(&variables, Log::File(data.log())).await;
        register(host.address, "alice").await;
        let body = json!({ "username": "alice", "password": PASSWORD }).to_string();
        for (origin, path) in [
            (ORIGIN, "/auth/login"),
            ("https://192.168.1.5:8000", "/auth/login"),
            (PAGE, "/auth/login"),
            (PAGE, "/auth/token"),
        ] {
            let headers = [("host", "192.168.1.5:8000"), ("origin", origin)];
            let answer = request(host.address, "POST", path, &headers, body.clone()).await;
            assert!(matches!(answer.status, 200 | 202), "{answer:?}");
        }
        host.stop().await;
        until("the last line", async || data.logged("stopped") > 0).await;
        assert_eq!(
            data.logged("without TLS: anyone in between"),
            warnings,
            "{ip}"
        );
        assert_eq!(data.logged("from a page without TLS"), 1);
        assert_eq!(data.logged(&format!("from a page without TLS ({PAGE})")), 1);
    }
}

#[tokio::test]
async fn help_names_the_variables() {
    let (status, output, _) = run(&["--help"], &[]).await;
    assert_eq!(status.code(), Some(0));
    for text in [
        "Usage: chatapp",
        "\n  DBPATH ",
        "[.data/chatapp.db]",
        "\n  JWTSECRET_FILE ",
    ] {
        assert!(output.contains(text), "{text}: {output}");
    }
}

#[tokio::test]
async fn one_event_runs_without_a_server() {
    let data = Data::create();
    let file = data.file();
    let path = file.to_str().expect("text");
    let host = data.start().await;
    for name in ["alice", "bob"] {
        register(host.address, name).await;
    }
    let event = async |user: &str, event: Value| {
        let event = event.to_string();
        let (status, output, errors) =
            run(&["event", "--user", user, &event], &[("DBPATH", path)]).await;
        let lines = output
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"));
        let lines: Vec<Value> = lines.collect();
        assert_eq!(
            status.success(),
            lines[0]["reply"]["success"] == true,
            "{errors}"
        );
        lines
    };
    let create = json!({ "type": "create_conversation", "members": ["bob"] });
    let get = json!({ "type": "get_messages", "conversation_id": 1, "ref": 5 });
    // While a server runs, an event may read. One that writes is refused, because clients would not
    // hear of it.
    assert_eq!(
        event("alice", get.clone()).await[0]["reply"]["code"],
        "not_found"
    );
    let refused = async |user: &str, event: &Value, database: &str, reason: &str| {
        let event = event.to_string();
        let (status, _, errors) =
            run(&["event", "--user", user, &event], &[("DBPATH", database)]).await;
        assert_eq!(status.code(), Some(1));
        assert!(errors.contains(reason), "{errors}");
    };
    refused("alice", &create, path, "a server is running on").await;
    host.stop().await;

    let made = json!({
        "id": 1, "name": "alice, bob", "rev": 1, "direct": false, "created_at": "a time",
        "members": ["alice", "bob"], "roles": { "alice": "owner" },
    });
    let reply = json!({ "type": "create_conversation", "success": true, "data": made });
    let expected = [
        json!({ "reply": reply }),
        json!({ "join": { "conversation": 1, "users": [1, 2] } }),
        json!({ "push": reply, "to": { "conversation": 1 } }),
    ];
    let mut lines = event("alice", create.clone()).await;
    for (index, part) in [(0, "reply"), (2, "push")] {
        let created_at = &mut lines[index][part]["data"]["created_at"];
        assert!(created_at.is_i64(), "{created_at}");
        *created_at = json!("a time");
    }
    assert_eq!(lines, expected);
    let host = data.start().await;
    let mut bob = host.connect("bob").await;
    assert_eq!(bob.send(1, "hello").await, 1);
    let lines = event("alice", get).await;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["reply"]["ref"], 5);
    assert_eq!(lines[0]["reply"]["data"]["messages"][0]["content"], "hello");

    refused("nobody", &json!({}), path, "no such user \"nobody\"").await;
    let mistyped = data.beside("no.db");
    let mistyped = mistyped.to_str().expect("text");
    refused("alice", &create, mistyped, "there is no database").await;
    assert!(!Path::new(mistyped).exists());
}

#[tokio::test]
async fn a_log_that_cannot_be_written_stops_nothing() {
    let data = Data::create();
    let host = Process::start_logging_to(&data.file(), Log::Nobody).await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    alice.send(conversation, "still here").await;
    let watch = tokio::spawn(async move { alice.closed().await });
    host.stop().await;
    assert_eq!(watch.await.expect("no panic").0, 1001);
}

#[tokio::test]
async fn the_log_holds_no_secrets() {
    let data = Data::create();
    let log = Log::File(data.log());
    let host = Process::start_logging_to(&data.file(), log).await;
    register(host.address, "alice").await;
    let cookie = login(host.address, "alice").await;
    request(
        host.address,
        "GET",
        "/auth/verify",
        &[("cookie", &cookie)],
        "",
    )
    .await;
    let mut alice = Client::connect(host.address, &cookie).await;
    let conversation = alice.converse(&[]).await;
    alice.send(conversation, "between us").await;
    host.stop().await;
    until("the last line", async || data.logged("stopped") > 0).await;
    let logged = std::fs::read_to_string(data.log()).expect("a log");
    assert!(
        logged.contains("send_message") && logged.contains("/auth/login"),
        "it logs what it does: {logged}"
    );
    let token = cookie.trim_start_matches("login-token=");
    let signature = token.rsplit('.').next().expect("three parts");
    for secret in [PASSWORD, SECRET, token, signature, "between us", "argon2"] {
        assert!(!logged.contains(secret), "{secret:?} is in the log");
    }
}

#[tokio::test]
async fn another_process_that_reads_does_not_hold_up_the_stop() {
    let data = Data::create();
    let host = data.start().await;
    register(host.address, "alice").await;
    let db = data.open().await;
    db.execute_batch("begin").await.expect("begun");
    value(&db, "select count(*) from users").await;
    register(host.address, "bob").await;
    host.stop().await;
    drop(db);
    let host = data.start().await;
    host.connect("bob").await;
}

#[tokio::test]
async fn a_service_manager_hears_when_it_is_ready_alive_and_stopping() {
    let data = Data::create();
    let (file, name) = (data.file(), data.beside("notify"));
    let manager = UnixDatagram::bind(&name).expect("bound");
    let heard = async || {
        let mut text = [0; 64];
        let length = soon("a word", manager.recv(&mut text))
            .await
            .expect("heard");
        String::from_utf8(text[..length].to_vec()).expect("text")
    };
    let variables = [
        ("DBPATH", file.as_os_str()),
        ("NOTIFY_SOCKET", name.as_os_str()),
    ];
    let host = Process::start_with(&variables, Log::Test).await;
    let mut words = vec![heard().await, heard().await, heard().await];
    host.signal(Signal::TERM);
    while words.last().is_none_or(|word| word != "STOPPING=1\n") {
        words.push(heard().await);
    }
    words.dedup();
    // The first sign of life may come before the other words.
    words.sort();
    words.dedup();
    assert_eq!(words, ["READY=1\n", "STOPPING=1\n", "WATCHDOG=1\n"]);
}

/// Starts the program with a listening socket as systemd does, except that the socket's number is
/// not 3.
const HANDED_OVER: &str =
    r#"LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDS_FIRST_FD=$LISTENER exec "$0" "$@""#;

#[tokio::test]
async fn a_listener_that_is_handed_over_outlives_the_program() {
    let data = Data::create();
    let file = data.file();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    let start = async || {
        // From here on, the socket is inherited.
        fcntl_setfd(&listener, FdFlags::empty()).expect("set");
        let number = listener.as_raw_fd().to_string();
        let variables = [
            ("DBPATH", file.as_os_str()),
            ("LISTENER", OsStr::new(&number)),
        ];
        let host = Process::start_in(HANDED_OVER, &variables, Log::Test).await;
        fcntl_setfd(&listener, FdFlags::CLOEXEC).expect("set");
        host
    };
    let host = start().await;
    assert_eq!(host.address, address);
    register(address, "alice").await;
    host.end(Signal::TERM).await;
    // No program runs: connections made now wait.
    let waiting = tokio::spawn(async move { login(address, "alice").await });
    let _host = start().await;
    soon("an answer", waiting).await.expect("logged in");
}

#[tokio::test]
async fn a_listener_that_others_reach_needs_a_secret() {
    let data = Data::create();
    let file = data.file();
    let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("bound");
    fcntl_setfd(&listener, FdFlags::empty()).expect("set");
    let number = listener.as_raw_fd().to_string();
    let variables = [
        ("DBPATH", file.to_str().expect("text")),
        ("LISTENER", &number),
    ];
    let (status, _, errors) = run_in(HANDED_OVER, &[], &variables).await;
    assert_eq!(status.code(), Some(1));
    assert!(
        errors.contains("JWTSECRET is the public demo secret"),
        "{errors}"
    );
}

/// Stops a host right after a connection has come, and sends a request on that connection. Returns
/// the answer, and how long after the signal the request was sent.
async fn ask_while_it_stops() -> (String, Duration) {
    let data = Data::create();
    let host = data.start().await;
    let address = host.address;
    let mut early = TcpStream::connect(address).await.expect("connected");
    // Connections are accepted in order, so `early` is accepted once this one is answered.
    assert_eq!(
        request(address, "GET", "/misc/ping", &[], "").await.status,
        200
    );
    let signalled = Instant::now();
    host.signal(Signal::TERM);
    until("no more connections", async || {
        TcpStream::connect(address).await.is_err()
    })
    .await;
    let asked = format!("GET /misc/ping HTTP/1.1\r\nhost: {address}\r\n\r\n");
    // It may have been closed meanwhile, if the test was late.
    let _ = early.write_all(asked.as_bytes()).await;
    let after = signalled.elapsed();
    let mut answer = String::new();
    let _ = early.read_to_string(&mut answer).await;
    (answer, after)
}

#[tokio::test]
async fn who_came_before_the_stop_is_answered() {
    soon("a request in time", async {
        loop {
            let (answer, after) = ask_while_it_stops().await;
            if answer.starts_with("HTTP/1.1 200") && answer.ends_with("pong") {
                return;
            }
            // The host waits for half a second, and a busy machine may take longer to get here.
            assert!(after > Duration::from_millis(250), "{after:?}: {answer:?}");
        }
    })
    .await;
}
