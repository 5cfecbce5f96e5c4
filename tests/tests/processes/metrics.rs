//! What an operator sees of the real program: its metrics and its log.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use tests::host::{Begun, Log, ORIGIN, PASSWORD, login, register, request};
use tests::{Client, Data, LOOK, Process, soon, until};
use tokio::time::sleep;

/// Starts the program with metrics, and its log in a file.
async fn start(data: &Data, format: &str) -> (Process, SocketAddr) {
    let (file, log) = (data.file(), data.log());
    let variables = [
        ("DBPATH", file.as_os_str()),
        ("METRICS_ADDR", OsStr::new("127.0.0.1:0")),
        ("LOG_FORMAT", OsStr::new(format)),
        ("LOG_LEVEL", OsStr::new("info")),
        ("EVENTS_PER_SECOND", OsStr::new("100")),
        ("REGISTRATIONS_PER_HOUR", OsStr::new("3")),
    ];
    let process = Process::start_with(&variables, Log::File(log.clone())).await;
    let lines = logged(&log, "metrics on http://", 1).await;
    let (_, address) = lines[0].split_once("metrics on http://").expect("it is");
    let (address, _) = address.split_once("/metrics").expect("a path");
    (process, address.parse().expect("an address"))
}

/// Waits until this many lines contain the text; returns them.
async fn logged(log: &Path, text: &str, count: usize) -> Vec<String> {
    soon("a line in the log", async {
        loop {
            let whole = std::fs::read_to_string(log).unwrap_or_default();
            // The last line may be half written.
            let whole = whole.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let lines = whole.lines().filter(|line| line.contains(text));
            let lines: Vec<String> = lines.map(str::to_owned).collect();
            if lines.len() >= count {
                return lines;
            }
            sleep(LOOK).await;
        }
    })
    .await
}

/// The value of each series.
async fn scrape(address: SocketAddr) -> HashMap<String, f64> {
    let answer = request(address, "GET", "/metrics", &[], "").await;
    assert_eq!(answer.status, 200);
    let content_type = answer.header("content-type").expect("a type");
    assert!(content_type.starts_with("text/plain; version=0.0.4"));
    let samples = answer.body.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.map(|line| {
        let (series, value) = line.rsplit_once(' ').expect("a series and its value");
        (series.to_owned(), value.parse().expect("a number"))
    });
    samples.collect()
}

/// Waits until a series has this value.
async fn reached(address: SocketAddr, series: &str, value: f64) {
    until(series, async || {
        scrape(address).await.get(series) == Some(&value)
    })
    .await;
}

#[tokio::test]
async fn what_happens_is_counted() {
    let data = Data::create();
    let (host, metrics) = start(&data, "text").await;
    for name in ["alice", "bob"] {
        register(host.address, name).await;
    }
    let alice_cookie = login(host.address, "alice").await;
    let bob_cookie = login(host.address, "bob").await;
    let wrong = json!({ "username": "alice", "password": "wrong" }).to_string();
    request(host.address, "POST", "/auth/login", &[], wrong).await;
    let taken = json!({ "username": "alice", "password": PASSWORD, "fullname": "x" }).to_string();
    for status in [409, 429] {
        let answer = request(host.address, "POST", "/register", &[], taken.clone()).await;
        assert_eq!(answer.status, status);
    }
    let evil = [("origin", "http://evil.example")];
    request(host.address, "POST", "/register", &evil, "").await;
    request(host.address, "GET", "/nowhere", &[], "").await;
    let mut alice = Client::connect(host.address, &alice_cookie).await;
    let mut bob = Client::connect(host.address, &bob_cookie).await;
    bob.ok(json!({ "type": "self" })).await;
    let conversation = alice.converse(&["bob"]).await;
    for _ in 0..5 {
        alice.send(conversation, "hello").await;
    }
    alice.text("nonsense").await;
    alice.receive().await;
    let foreign = json!({ "type": "get_messages", "conversation_id": 77 });
    assert_eq!(alice.request(foreign).await["code"], "not_found");
    let mut anonymous = Client::connect(host.address, "").await;
    assert_eq!(anonymous.closed().await.0, 1000);
    bob.close().await;

    reached(metrics, "chat_sockets", 1.0).await;
    let series = scrape(metrics).await;
    for (name, value) in [
        (r#"chat_events_total{result="ok",type="send_message"}"#, 5.0),
        (
            r#"chat_events_total{result="ok",type="create_conversation"}"#,
            1.0,
        ),
        (
            r#"chat_events_total{result="not_found",type="get_messages"}"#,
            1.0,
        ),
        (r#"chat_events_total{result="invalid",type="root"}"#, 1.0),
        ("chat_event_duration_seconds_count", 9.0),
        (r#"chat_logins_total{result="ok"}"#, 2.0),
        (r#"chat_logins_total{result="unauthorized"}"#, 1.0),
        (r#"chat_registrations_total{result="ok"}"#, 2.0),
        (r#"chat_registrations_total{result="conflict"}"#, 1.0),
        (r#"chat_registrations_total{result="rate_limited"}"#, 1.0),
        ("chat_password_duration_seconds_count", 5.0),
        (r#"chat_refusals_total{reason="origin"}"#, 1.0),
        (r#"chat_refusals_total{reason="registration"}"#, 1.0),
        (r#"chat_refusals_total{reason="token"}"#, 1.0),
        (
            r#"chat_http_requests_total{route="/register",status="201"}"#,
            2.0,
        ),
        (
            r#"chat_http_requests_total{route="/register",status="403"}"#,
            1.0,
        ),
        (
            r#"chat_http_requests_total{route="other",status="404"}"#,
            1.0,
        ),
        (r#"chat_http_requests_total{route="/ws",status="101"}"#, 3.0),
        ("chat_sockets_opened_total", 2.0),
        ("chat_users", 1.0),
        (r#"chat_socket_closes_total{code="1000"}"#, 1.0),
        (r#"chat_socket_closes_total{code="1005"}"#, 1.0),
        // The conversation and five messages, for bob.
        ("chat_deliveries_total", 6.0),
        ("chat_drops_total", 0.0),
        ("chat_panics_total", 0.0),
        (r#"chat_store_queue_length{queue="writes"}"#, 0.0),
        (r#"chat_store_queue_length{queue="reads"}"#, 0.0),
        ("chat_password_queue_length", 0.0),
    ] {
        assert_eq!(series.get(name), Some(&value), "{name}: {series:#?}");
    }
    let at_least = |name: &str, value: f64| {
        assert!(series.get(name) >= Some(&value), "{name}: {series:#?}");
    };
    at_least("chat_commit_duration_seconds_count", 8.0);
    at_least("chat_commit_operations_sum", 8.0);
    at_least(r#"chat_database_bytes{file="main"}"#, 4096.0);
    at_least(r#"chat_database_bytes{file="wal"}"#, 4096.0);
    at_least("process_open_fds", 5.0);
    at_least("process_resident_memory_bytes", 1e6);
    at_least(
        concat!(
            r#"chat_build_info{version=""#,
            env!("CARGO_PKG_VERSION"),
            r#""}"#
        ),
        1.0,
    );

    // The metrics' address serves nothing else, and the chat's address serves no metrics.
    for (address, path) in [
        (metrics, "/"),
        (metrics, "/misc/ping"),
        (host.address, "/metrics"),
    ] {
        assert_eq!(request(address, "GET", path, &[], "").await.status, 404);
    }
}

#[tokio::test]
async fn floods_are_counted() {
    let data = Data::create();
    let (host, metrics) = start(&data, "text").await;
    let mut alice = host.join("alice").await;
    for _ in 0..10_000 {
        use futures_util::SinkExt;
        let ping = r#"{"type": "ping"}"#.into();
        if alice.socket.feed(ping).await.is_err() {
            break;
        }
    }
    reached(metrics, r#"chat_socket_closes_total{code="1008"}"#, 1.0).await;
    let series = scrape(metrics).await;
    assert_eq!(series[r#"chat_refusals_total{reason="flood"}"#], 1.0);
    assert!(series[r#"chat_events_total{result="rate_limited",type="ping"}"#] >= 1000.0);
}

#[tokio::test]
async fn a_refused_origin_is_logged_with_the_variable() {
    let data = Data::create();
    let (host, metrics) = start(&data, "text").await;
    let long = format!("http://{}", "x".repeat(200));
    let preflight = ("access-control-request-method", "POST");
    for (method, headers) in [
        ("POST", vec![("origin", "http://localhost:3000")]),
        ("OPTIONS", vec![("origin", "http://a.example"), preflight]),
        ("POST", vec![("origin", long.as_str())]),
        ("POST", vec![("origin", "\"x\" allowed=all")]),
        // These are allowed, or no page's.
        ("OPTIONS", vec![("origin", ORIGIN), preflight]),
        ("OPTIONS", vec![("origin", "http://b.example")]),
        ("OPTIONS", vec![preflight]),
    ] {
        request(host.address, method, "/auth/login", &headers, "").await;
    }
    reached(metrics, r#"chat_refusals_total{reason="origin"}"#, 4.0).await;
    let refused = format!("refused: CORS_ALLOW_ORIGIN allows {ORIGIN}");
    let lines = logged(&data.log(), &refused, 4).await;
    for (line, origin) in lines.iter().zip([
        r#""http://localhost:3000""#,
        r#""http://a.example""#,
        &format!("\"{}\"", &long[..100]),
        r#""\"x\" allowed=all""#,
    ]) {
        assert!(line.contains(&format!(" origin={origin}")), "{line}");
    }
}

#[tokio::test]
async fn lines_of_json_name_the_request_and_who_came_in() {
    let data = Data::create();
    let log = data.log();
    let (host, _) = start(&data, "json").await;
    register(host.address, "alice").await;
    let body = json!({ "username": "alice\n{}", "password": "wrong" }).to_string();
    let headers = [("x-forwarded-for", "192.0.2.1")];
    let answer = request(host.address, "POST", "/auth/login", &headers, body).await;
    let id = answer.header("x-request-id").expect("an id");
    let lines = logged(&log, r#""target":"security","span""#, 2).await;
    let lines: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let [registered, refused] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(
        (
            &registered["message"],
            &registered["result"],
            &registered["username"]
        ),
        (&json!("registration"), &json!("ok"), &json!("alice"))
    );
    assert_eq!(
        (
            &refused["message"],
            &refused["result"],
            &refused["username"],
            &refused["address"]
        ),
        (
            &json!("login"),
            &json!("unauthorized"),
            &json!("alice\n{}"),
            &json!("192.0.2.1")
        )
    );
    let span = &refused["span"];
    assert_eq!(
        (&span["name"], &span["id"], &span["path"]),
        (&json!("request"), &json!(id), &json!("/auth/login"))
    );
    // Each answer has an id of its own. An answer that is the server's fault is logged.
    let db = data.open().await;
    db.execute_batch("pragma busy_timeout = 60000; begin immediate")
        .await
        .expect("begun");
    let body = json!({ "username": "bob", "password": PASSWORD, "fullname": "Bob" }).to_string();
    let answer = request(host.address, "POST", "/register", &[], body).await;
    assert_eq!(answer.status, 503);
    let failed = answer.header("x-request-id").expect("an id");
    assert_ne!(failed, id);
    // One line is for the operator who watches registrations, and one for the answer.
    let lines = logged(&log, failed, 2).await;
    let answered = lines
        .iter()
        .filter(|line| line.contains(r#""message":"answered""#));
    assert_eq!(answered.count(), 1, "{lines:?}");
    let cause = logged(&log, "database is locked", 1).await;
    assert_eq!(cause.len(), 1, "{cause:?}");
}

#[tokio::test]
async fn the_write_ahead_log_is_measured_through_a_link_too() {
    let data = Data::create();
    std::fs::create_dir(data.beside("disk")).expect("a folder");
    std::os::unix::fs::symlink(data.beside("disk/real.db"), data.file()).expect("a link");
    let (host, metrics) = start(&data, "text").await;
    register(host.address, "alice").await;
    let series = scrape(metrics).await;
    assert!(series[r#"chat_database_bytes{file="wal"}"#] > 0.0);
    assert!(series[r#"chat_database_bytes{file="main"}"#] > 0.0);
}

#[tokio::test]
async fn what_users_do_with_their_logins_is_logged() {
    let data = Data::create();
    let log = data.log();
    let (host, _) = start(&data, "json").await;
    register(host.address, "alice").await;
    let cookie = tests::host::login(host.address, "alice").await;
    let headers = [("cookie", &*cookie), ("x-forwarded-for", "192.0.2.1")];
    let change = json!({ "old_password": "wrong", "new_password": "x" }).to_string();
    let missing = "/auth/sessions/0000000000000007";
    for (method, path, body, status) in [
        ("POST", "/auth/refresh", "", 200),
        ("DELETE", missing, "", 404),
        ("POST", "/auth/password", &change, 403),
        ("GET", "/account/export", "", 200),
        ("DELETE", "/account", r#"{"password": "wrong"}"#, 403),
        ("POST", "/auth/logout", "", 204),
    ] {
        let answer = request(host.address, method, path, &headers, body.to_owned()).await;
        assert_eq!(answer.status, status, "{path}");
    }
    let lines = logged(&log, r#""target":"security","span""#, 8).await;
    let told = lines[2..].iter().map(|line| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(
            (&line["username"], &line["address"]),
            (&json!("alice"), &json!("192.0.2.1"))
        );
        [&line["message"], &line["result"]].map(|value| value.as_str().expect("text").to_owned())
    });
    let expected = [
        ["refresh", "ok"],
        ["end of a session", "not_found"],
        ["change of the password", "forbidden"],
        ["export of the account", "ok"],
        ["deletion of the account", "forbidden"],
        ["logout", "ok"],
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    host.stop().await;
}

#[tokio::test]
async fn what_is_begun_is_done_and_logged_though_the_client_leaves() {
    let data = Data::create();
    let log = data.log();
    let (host, _) = start(&data, "json").await;
    register(host.address, "alice").await;
    let cookie = login(host.address, "alice").await;
    let bearer = cookie.replace("login-token=", "Bearer ");
    let alice = json!({ "username": "alice", "password": PASSWORD });
    let bob = json!({ "username": "bob", "password": PASSWORD, "fullname": "Bob" });
    let change = json!({ "old_password": PASSWORD, "new_password": "x" });
    let farewell = json!({ "password": "x" });
    for (before, (method, path, body, told)) in [
        ("POST", "/auth/login", alice, "login"),
        ("POST", "/register", bob, "registration"),
        ("POST", "/auth/password", change, "change of the password"),
        ("DELETE", "/account", farewell, "deletion of the account"),
    ]
    .into_iter()
    .enumerate()
    {
        let body = body.to_string();
        let begun = Begun::send(host.address, method, path, &bearer, body).await;
        begun.leave().await;
        let lines = logged(&log, r#""target":"security","span""#, before + 3).await;
        let line: Value = serde_json::from_str(&lines[before + 2]).expect("JSON");
        let expected = (&json!(told), &json!("ok"));
        assert_eq!((&line["message"], &line["result"]), expected, "{line}");
    }
    host.stop().await;
}
