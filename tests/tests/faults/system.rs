//! Faults of the system: no file descriptors left, and a clock that jumps.

use std::ffi::OsStr;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::host::{Log, ids, login, register};
use tests::{Client, Data, Process, until};
use tokio::net::TcpStream;

#[tokio::test]
async fn without_file_descriptors_it_serves_whom_it_has_and_then_accepts_again() {
    let data = Data::create();
    let file = data.file();
    let variables = [
        ("DBPATH", file.as_os_str()),
        ("LOG_LEVEL", OsStr::new("info")),
    ];
    let script = r#"ulimit -n 64 && exec "$0" "$@""#;
    let host = Process::start_in(script, &variables, Log::File(data.log())).await;
    let (mut alice, mut bob) = (host.join("alice").await, host.join("bob").await);
    let conversation = alice.converse(&["bob"]).await;
    bob.push().await;
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(
            TcpStream::connect(host.address)
                .await
                .expect("the system accepts"),
        );
    }
    let named = "Too many open files";
    until("a line in the log", async || data.logged(named) > 0).await;
    // Enough time for many more attempts to accept.
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(1) {
        let id = alice.send(conversation, "still here").await;
        assert_eq!(bob.push().await["data"]["id"], id);
        assert_eq!(bob.history(conversation).await[0]["id"], id);
    }
    assert_eq!(data.logged(named), 1, "logged once");
    drop(crowd);
    let mut carol = host.join("carol").await;
    carol.converse(&["alice"]).await;
    host.stop().await;
}

/// The library of Debian's package faketime, which shows a program another time. The dynamic
/// linker replaces $LIB by the folder of this architecture.
const FAKETIME: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";

#[tokio::test]
async fn when_the_clock_jumps_order_and_connections_stay() {
    let data = Data::create();
    let (file, clock) = (data.file(), data.beside("clock"));
    fs::write(&clock, "+0").expect("written");
    let variables = [
        ("DBPATH", file.as_os_str()),
        ("FAKETIME_TIMESTAMP_FILE", clock.as_os_str()),
        ("FAKETIME_NO_CACHE", OsStr::new("1")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", OsStr::new("1")),
    ];
    let script = format!(r#"export LD_PRELOAD='{FAKETIME}'; exec "$0" "$@""#);
    let host = Process::start_in(&script, &variables, Log::Test).await;
    for name in ["alice", "bob"] {
        register(host.address, name).await;
    }
    let cookie = login(host.address, "bob").await;
    let mut alice = host.connect("alice").await;
    let bob = Client::connect(host.address, &cookie).await;
    let (first, second) = (
        alice.converse(&["bob"]).await,
        alice.converse(&["bob"]).await,
    );
    alice.add_contact("bob").await;
    let mut sent = Vec::new();
    let mut send = async |alice: &mut Client, conversation: i64| {
        let event =
            json!({ "type": "send_message", "conversation_id": conversation, "content": "x" });
        sent.push(alice.ok(event).await);
    };
    send(&mut alice, first).await;
    send(&mut alice, second).await;
    fs::write(&clock, "-3600").expect("written");
    send(&mut alice, first).await;
    bob.close().await;
    fs::write(&clock, "+1800").expect("written");
    send(&mut alice, second).await;
    send(&mut alice, first).await;
    fs::write(&clock, "-7200").expect("written");
    send(&mut alice, second).await;

    let times: Vec<_> = sent
        .iter()
        .map(|m| m["sent_at"].as_i64().expect("a time"))
        .collect();
    assert!(
        times[2] < times[1] - 3000 && times[3] > times[1] + 1000 && times[5] < times[2] - 3000,
        "the library faketime, which tests/setup installs, is needed: {times:?}"
    );
    assert_eq!(ids(&json!(sent)), [1, 2, 3, 4, 5, 6]);
    let list = alice.ok(json!({ "type": "get_conversations" })).await;
    assert_eq!(ids(&list), [second, first], "by the latest activity");
    // A login token that was issued in the future, by this clock, is valid.
    let mut bob = Client::connect(host.address, &cookie).await;
    assert_eq!(ids(&bob.history(first).await), [5, 3, 1]);
    let sync = bob
        .ok(json!({ "type": "sync", "revs": { first.to_string(): 2, second.to_string(): 2 } }))
        .await;
    let missed = |index: usize| ids(&sync["conversations"][index]["messages"]);
    assert_eq!((missed(0), missed(1)), (vec![3, 5], vec![4, 6]));
    for is_online in [false, true] {
        assert_eq!(alice.push().await["data"]["is_online"], is_online);
    }
    alice.send(first, "still connected").await;
    assert_eq!(bob.push().await["data"]["id"], 7);

    // By this clock, the file says that a host was alive in the future.
    host.kill().await;
    fs::write(&clock, "-9000").expect("written");
    let host = Process::start_in(&script, &variables, Log::Test).await;
    let mut bob = host.connect("bob").await;
    let contacts = bob.ok(json!({ "type": "get_contacts" })).await;
    assert_eq!(contacts["profiles"][0]["is_online"], false);
    assert_eq!(bob.send(first, "after").await, 8);
    // And a login token expires after its hour.
    fs::write(&clock, "+3700").expect("written");
    let mut late = Client::connect(host.address, &cookie).await;
    assert_eq!(late.closed().await, (1000, "invalid login-token".into()));
    host.connect("bob").await;
    assert_eq!(bob.send(first, "later").await, 9);
    host.stop().await;
}
