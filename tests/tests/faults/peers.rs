//! Clients that vanish, send a byte at a time, or never read: others are served meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tests::host::{ids, login, register};
use tests::memory::resident_kib;
use tests::{Client, Data, Form, Host, LOOK, Process, Proxy, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;

use crate::stored::rows;

/// Counts the open sockets of a process. Its other files come and go: a reader opens the
/// write-ahead log when it first reads.
fn sockets_of(process: &Process) -> usize {
    let folder = format!("/proc/{}/fd", process.id());
    let files = fs::read_dir(folder).expect("it runs").flatten();
    // A file that was closed meanwhile has no name.
    let names = files.filter_map(|file| fs::read_link(file.path()).ok());
    names
        .filter(|name| name.to_string_lossy().starts_with("socket:"))
        .count()
}

fn handshake(address: SocketAddr, cookie: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Opens a socket and answers its pings for as long as it lives. If `is_abrupt`, the socket ends
/// with a reset.
async fn stay(address: SocketAddr, cookie: String, is_abrupt: bool) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    if is_abrupt {
        stream.set_zero_linger()?;
    }
    stream
        .write_all(handshake(address, &cookie).as_bytes())
        .await?;
    let mut buffer = [0; 512];
    while stream.read(&mut buffer).await? > 0 {
        // A pong, whatever was received.
        stream.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await?;
    }
    Err(ErrorKind::UnexpectedEof.into())
}

#[tokio::test]
async fn ten_thousand_sockets_may_go_at_once() {
    const USERS: usize = 10;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("up to the maximum");
    // Other tests of this process need file descriptors too.
    let allowed = maximum
        .map_or(usize::MAX, |most| most as usize)
        .saturating_sub(1000);
    let sockets = allowed.min(10_000);
    if sockets < 10_000 {
        let _ = writeln!(
            std::io::stderr(),
            "SCALED DOWN to {sockets} sockets by the limit of open files"
        );
    }
    let data = Data::create();
    let host = data.start().await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    let mut cookies = Vec::new();
    for index in 0..USERS {
        let name = format!("user{index}");
        register(host.address, &name).await;
        cookies.push(login(host.address, &name).await);
        alice.add_contact(&name).await;
    }
    let before = sockets_of(&host);
    let db = data.open().await;
    let open_sockets = async || {
        let counted = rows(&db, "select sum(sockets) from presence").await;
        counted[0].columns().integer() as usize
    };
    let mut crowd = JoinSet::new();
    for index in 0..sockets {
        crowd.spawn(stay(
            host.address,
            cookies[index % USERS].clone(),
            index % 2 == 0,
        ));
        // Do not start more connections than the system's queue holds.
        while index % 100 == 0 && open_sockets().await + 500 < index {
            sleep(LOOK).await;
        }
    }
    until("all are open", async || open_sockets().await == sockets + 1).await;
    assert!(crowd.try_join_next().is_none(), "none was closed");
    assert!(sockets_of(&host) > sockets);
    for _ in 0..USERS {
        assert_eq!(alice.push().await["data"]["is_online"], true);
    }

    crowd.abort_all();
    let gone = tokio::spawn(async move { while crowd.join_next().await.is_some() {} });
    let mut offline = BTreeSet::new();
    while offline.len() < USERS {
        // Alice is served all the time, although she may have to try again, because the departures
        // are writes too.
        until("a send", async || {
            let event = json!({ "type": "send_message", "conversation_id": conversation, "content": "still here" });
            let reply = alice.request(event).await;
            assert!(reply["success"] == true || reply["code"] == "unavailable", "{reply}");
            reply["success"] == true
        })
        .await;
        for status in alice.pushes_so_far().await {
            assert_eq!(status["data"]["is_online"], false, "{status}");
            assert!(
                offline.insert(status["data"]["username"].to_string()),
                "told once"
            );
        }
    }
    gone.await.expect("no panic");
    until("all are gone", async || open_sockets().await == 1).await;
    until("they are closed", async || sockets_of(&host) <= before).await;
}

#[tokio::test]
async fn a_peer_that_vanished_without_a_word_is_offline_after_a_heartbeat() {
    let ping_interval = Duration::from_secs(2);
    let host = Host::start_with(Form::File, |config| config.ping_interval = ping_interval).await;
    let proxy = Proxy::start(host.address, 0).await;
    proxy.calm();
    host.register("bob").await;
    let cookie = login(host.address, "bob").await;
    let mut alice = host.join("alice").await;
    alice.add_contact("bob").await;
    let conversation = alice.converse(&["bob"]).await;
    let mut bob = Client::connect(proxy.address, &cookie).await;
    assert_eq!(alice.push().await["data"]["is_online"], true);
    alice.send(conversation, "before").await;
    let rev = bob.push().await["data"]["rev"].clone();
    // Bob's client is alive and answers pings, but no answer arrives.
    let bob = tokio::spawn(async move { while let Some(Ok(_)) = bob.socket.next().await {} });
    proxy.swallow();
    let missed = alice.send(conversation, "into the void").await;
    assert_eq!(alice.push().await["data"]["is_online"], false);
    soon("the end of the connection", bob)
        .await
        .expect("no panic");
    let mut bob = host.connect("bob").await;
    let sync = bob
        .ok(json!({ "type": "sync", "revs": { conversation.to_string(): rev } }))
        .await;
    assert_eq!(ids(&sync["conversations"][0]["messages"]), [missed]);
}

/// Sends `start`, then single bytes now and then, until the server ends the connection. Returns the
/// server's answer.
async fn trickle(address: SocketAddr, start: &'static str, byte: Option<u8>) -> String {
    let stream = TcpStream::connect(address).await.expect("the host listens");
    let (mut reads, mut writes) = stream.into_split();
    writes.write_all(start.as_bytes()).await.expect("open");
    let trickling = tokio::spawn(async move {
        while let Some(byte) = byte
            && writes.write_all(&[byte]).await.is_ok()
        {
            sleep(LOOK).await;
        }
        // Returned, so that this half stays open until the server has ended the connection.
        writes
    });
    let mut answer = Vec::new();
    // The connection may end with a reset, because the server no longer reads what is sent.
    let _ = reads.read_to_end(&mut answer).await;
    drop(trickling);
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn requests_that_trickle_are_ended_and_others_are_served() {
    let host = Host::start_with(Form::File, |config| {
        config.head_timeout = Duration::from_secs(2);
        config.body_timeout = Duration::from_secs(2);
    })
    .await;
    let (mut alice, mut bob) = (host.join("alice").await, host.join("bob").await);
    let conversation = alice.converse(&["bob"]).await;
    bob.push().await;
    const BODY: &str = "POST /auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n{";
    let kinds = [
        ("", None, ""),
        ("GET /healthz HTTP/1.1\r\nhost: x\r\nslow: ", Some(b'x'), ""),
        (BODY, Some(b' '), "HTTP/1.1 408 Request Timeout"),
        (BODY, None, "HTTP/1.1 408 Request Timeout"),
    ];
    let mut slow = JoinSet::new();
    for index in 0..200 {
        let (start, byte, expected) = kinds[index % kinds.len()];
        let address = host.address;
        slow.spawn(async move { (trickle(address, start, byte).await, expected) });
    }
    let mut served = 0;
    soon("the end of all slow requests", async {
        while !slow.is_empty() {
            let id = alice.send(conversation, "meanwhile").await;
            assert_eq!(bob.push().await["data"]["id"], id);
            assert_eq!(host.http("GET", "/healthz", &[], "").await.status, 200);
            served += 1;
            while let Some(ended) = slow.try_join_next() {
                let (answer, expected) = ended.expect("no panic");
                assert!(answer.starts_with(expected), "{answer}");
            }
        }
    })
    .await;
    assert!(served > 1, "{served}");
}

#[tokio::test]
async fn a_client_that_never_reads_costs_little_and_catches_up() {
    let data = Data::create();
    let host = data.start().await;
    let (mut alice, mut bob) = (host.join("alice").await, host.join("bob").await);
    register(host.address, "sloth").await;
    let cookie = login(host.address, "sloth").await;
    alice.add_contact("sloth").await;
    let conversation = alice.converse(&["bob", "sloth"]).await;
    bob.push().await;
    let content = "x".repeat(60_000);
    let send = async |alice: &mut Client, bob: &mut Client| {
        let ids = alice.send_many(conversation, &content, 10).await;
        for id in &ids {
            assert_eq!(bob.push().await["data"]["id"], *id, "others get everything");
        }
        ids[9]
    };
    // Fill the database's cache.
    for _ in 0..100 {
        send(&mut alice, &mut bob).await;
    }
    let mut sloth = Client::connect(host.address, &cookie).await;
    assert_eq!(alice.push().await["data"]["is_online"], true);
    let memory = || resident_kib(host.id()).expect("it runs");
    let before = memory();
    let mut most = before;
    let mut last = 0;
    let mut told = Vec::new();
    // 60 MB: far more than may wait for one socket.
    for _ in 0..100 {
        last = send(&mut alice, &mut bob).await;
        most = most.max(memory());
        told.extend(alice.pushes_so_far().await);
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["data"]["is_online"], false);
    assert!(most - before < 20.0 * 1024.0, "from {before} to {most} KiB");
    // If the client still does not read, the connection is cut.
    loop {
        match soon("a frame or the end", sloth.socket.next()).await {
            Some(Ok(Message::Text(_) | Message::Ping(_))) => {}
            Some(Ok(Message::Close(Some(close)))) => break assert_eq!(u16::from(close.code), 1013),
            None | Some(Err(_)) => break,
            other => panic!("{other:?}"),
        }
    }
    let mut sloth = Client::connect(host.address, &cookie).await;
    let (mut rev, mut missed) = (1001, Vec::new());
    loop {
        let sync = sloth
            .ok(json!({ "type": "sync", "revs": { conversation.to_string(): rev } }))
            .await;
        let found = &sync["conversations"][0];
        missed.extend(ids(&found["messages"]));
        rev = found["rev"].as_i64().expect("a rev");
        if sync["more"] == false {
            break;
        }
    }
    assert_eq!(missed, (1001..=last).collect::<Vec<_>>());
}

/// The host and its clients run in one thread here, so that blocking it is a pause of all of them.
#[tokio::test]
async fn after_a_pause_of_the_host_idle_clients_are_still_connected() {
    let ping_interval = Duration::from_secs(2);
    let host = Host::start_with(Form::File, |config| config.ping_interval = ping_interval).await;
    host.register("alice").await;
    let cookie = login(host.address, "alice").await;
    let mut idle = JoinSet::new();
    for _ in 0..60 {
        let mut client = Client::connect(host.address, &cookie).await;
        client.ok(json!({ "type": "ping" })).await;
        // It answers pings.
        idle.spawn(async move { client.closed().await });
    }
    // The pause is the fault itself, not a wait for something.
    std::thread::sleep(5 * ping_interval / 2);
    // When a client that answers no ping is closed, the others have been asked too.
    let mut mute = TcpStream::connect(host.address).await.expect("it listens");
    let handshake = handshake(host.address, &cookie);
    mute.write_all(handshake.as_bytes()).await.expect("written");
    let closing = async { while mute.read(&mut [0; 512]).await.is_ok_and(|bytes| bytes > 0) {} };
    soon("the end of a mute client", closing).await;
    assert_eq!(
        idle.try_join_next().map(|ended| ended.expect("no panic")),
        None
    );
}
