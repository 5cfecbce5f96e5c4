//! Limits: how much one client may use, the answer it gets beyond that, and that all others are
//! served meanwhile.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::{join_all, select_all};
use futures_util::{SinkExt, StreamExt, join, stream};
use host::{Limits, SameSite};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tests::data::open;
use tests::host::{Http, PASSWORD, SECRET, login, request};
use tests::tokens::foreign_token;
use tests::{Client, Form, Host, ReferenceClient, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_tungstenite::tungstenite::Message;

async fn host_with(limits: impl Fn(&mut Limits)) -> Host {
    Host::start_with(Form::File, |config| limits(&mut config.limits)).await
}

/// A POST request through a proxy, for a client at this address.
async fn post_from(host: &Host, client: &str, path: &str, body: &Value) -> Http {
    let headers = [("x-forwarded-for", client)];
    host.http("POST", path, &headers, body.to_string()).await
}

fn credentials(username: &str, password: &str) -> Value {
    json!({ "username": username, "password": password, "fullname": username })
}

/// Checks that the request was refused; returns the seconds after which to try again.
fn retry_after(answer: &Http) -> u64 {
    let expected = (429, "too many requests, try again later");
    assert_eq!((answer.status, answer.body.as_str()), expected);
    let seconds = answer.header("retry-after").expect("retry-after");
    seconds.parse().expect("seconds")
}

#[tokio::test]
async fn guesses_of_a_password_are_slowed_down_where_they_come_from() {
    let host = host_with(|limits| limits.logins_per_minute = 1000).await;
    host.register("alice").await;
    for username in ["alice", "nobody"] {
        let wrong = credentials(username, "wrong");
        for _ in 0..10 {
            let answer = post_from(&host, "192.0.2.1", "/auth/login", &wrong).await;
            assert_eq!(answer.status, 401);
        }
        // The refusal does not tell whether the user exists.
        let refused = post_from(&host, "192.0.2.1", "/auth/login", &wrong).await;
        assert!((1..=31).contains(&retry_after(&refused)), "{refused:?}");
    }
    let right = credentials("alice", PASSWORD);
    let refused = post_from(&host, "192.0.2.1", "/auth/login", &right).await;
    retry_after(&refused);
    // The user herself can log in from elsewhere, and other users from that address are not
    // affected.
    let answer = post_from(&host, "192.0.2.2", "/auth/login", &right).await;
    assert_eq!(answer.status, 202);
    let other = credentials("bob", "wrong");
    let answer = post_from(&host, "192.0.2.1", "/auth/login", &other).await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn an_address_has_a_rate_of_logins_and_of_registrations() {
    let host = host_with(|limits| {
        limits.logins_per_minute = 3;
        limits.registrations_per_hour = 2;
    })
    .await;
    let addresses = ["192.0.2.1", "2001:db8::1", "2001:db8:0:100::1"];
    for (number, address) in addresses.into_iter().enumerate() {
        for count in 0..2 {
            let body = credentials(&format!("user {number} {count}"), PASSWORD);
            let answer = post_from(&host, address, "/register", &body).await;
            assert_eq!(answer.status, 201, "{address}");
        }
        let another = credentials(&format!("another {number}"), PASSWORD);
        let refused = post_from(&host, address, "/register", &another).await;
        assert!((1..=1801).contains(&retry_after(&refused)));
        for count in 0..3 {
            let body = credentials(&format!("nobody {number} {count}"), "wrong");
            let answer = post_from(&host, address, "/auth/login", &body).await;
            assert_eq!(answer.status, 401, "{address}");
        }
        let refused = post_from(&host, address, "/auth/login", &another).await;
        assert!((1..=21).contains(&retry_after(&refused)));
    }
}

#[tokio::test]
async fn an_untrusted_client_cannot_claim_another_address() {
    let host = Host::start_with(Form::File, |config| {
        config.limits.logins_per_minute = 3;
        config.trusted_proxies.clear();
    })
    .await;
    for count in 0..4 {
        let body = credentials(&format!("nobody {count}"), "wrong");
        let claimed = format!("192.0.2.{count}");
        let answer = post_from(&host, &claimed, "/auth/login", &body).await;
        assert_eq!(answer.status, if count < 3 { 401 } else { 429 });
    }
}

/// Opens a socket with this cookie from this address; returns the client, or the close code and
/// reason.
async fn visit(address: SocketAddr, cookie: &str, from: &str) -> Result<Client, (u16, String)> {
    let headers = [("cookie", cookie), ("x-forwarded-for", from)];
    let mut client = Client::connect_with(address, &headers).await;
    client.text(r#"{"type": "ping"}"#).await;
    match soon("an answer", client.socket.next()).await {
        Some(Ok(Message::Text(_))) => Ok(client),
        Some(Ok(Message::Close(Some(close)))) => Err((close.code.into(), close.reason.to_string())),
        other => panic!("{other:?}"),
    }
}

/// Like `visit`, but tries again until a place is free.
async fn visit_when_free(address: SocketAddr, cookie: &str, from: &str) -> Client {
    soon("a place", async {
        loop {
            if let Ok(client) = visit(address, cookie, from).await {
                return client;
            }
        }
    })
    .await
}

#[tokio::test]
async fn sockets_have_places_in_all_for_a_user_and_for_an_address() {
    // The limit; the users and their addresses, of which the last is refused; and the close code
    // and reason.
    type Case<'a> = (fn(&mut Limits), [(&'a str, &'a str); 4], (u16, &'a str));
    let cases: [Case; 3] = [
        (
            |limits| limits.sockets = 3,
            [
                ("alice", "192.0.2.1"),
                ("bob", "192.0.2.2"),
                ("carol", "192.0.2.3"),
                ("dave", "192.0.2.4"),
            ],
            (1013, "the server is busy, try again later"),
        ),
        (
            |limits| limits.sockets_per_user = 2,
            [
                ("alice", "192.0.2.1"),
                ("bob", "192.0.2.1"),
                ("alice", "192.0.2.2"),
                ("alice", "192.0.2.3"),
            ],
            (1008, "too many sockets of this user"),
        ),
        (
            |limits| limits.sockets_per_address = 2,
            [
                ("alice", "2001:db8::1"),
                ("bob", "192.0.2.2"),
                ("bob", "2001:db8::2"),
                ("carol", "2001:db8::3"),
            ],
            (1013, "too many sockets from this address"),
        ),
    ];
    for (change, visits, (code, reason)) in cases {
        let host = host_with(change).await;
        let mut cookies = std::collections::HashMap::new();
        for name in ["alice", "bob", "carol", "dave"] {
            host.register(name).await;
            cookies.insert(name, login(host.address, name).await);
        }
        let [there @ .., (last, last_from)] = visits;
        let mut clients = Vec::new();
        for (name, from) in there {
            let client = visit(host.address, &cookies[name], from).await;
            clients.push(client.expect("a place"));
        }
        for _ in 0..3 {
            let refused = visit(host.address, &cookies[last], last_from).await;
            assert_eq!(refused.err(), Some((code, reason.to_owned())));
        }
        // Open sockets are served, logins too, and a place that becomes free is taken.
        for client in &mut clients {
            client.ok(json!({ "type": "self" })).await;
        }
        login(host.address, "dave").await;
        clients.remove(0).close().await;
        let mut client = visit_when_free(host.address, &cookies[last], last_from).await;
        client.ok(json!({ "type": "self" })).await;
    }
}

#[tokio::test]
async fn events_beyond_the_rate_are_refused_in_their_order_then_the_socket_is_closed() {
    let host = host_with(|limits| limits.events_per_second = 2).await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    // The limit allows ten seconds' worth at once, of which two events are used up. Malformed
    // events count as well.
    let flood = host.connect("alice").await;
    let event = json!({ "type": "send_message", "conversation_id": conversation, "content": "x" });
    let mut frames = Vec::new();
    for count in 0..100 {
        let mut event = event.clone();
        event["ref"] = json!(count);
        frames.push(Ok(Message::text(event.to_string())));
    }
    frames.insert(5, Ok(Message::text("nonsense")));
    let (mut sink, mut received) = flood.socket.split();
    let sent = async {
        // The socket may be closed before all frames are sent.
        let _ = sink.send_all(&mut stream::iter(frames)).await;
    };
    let received = async {
        let mut replies = Vec::new();
        loop {
            match received.next().await.expect("a frame").expect("a frame") {
                Message::Text(text) => {
                    replies.push(serde_json::from_str::<Value>(&text).expect("JSON"));
                }
                Message::Close(Some(close)) => {
                    let close = (u16::from(close.code), close.reason.to_string());
                    return (replies, close);
                }
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    let (_, (replies, close)) = soon("the end", async { tokio::join!(sent, received) }).await;
    assert_eq!(close, (1008, "rate limit".to_owned()));
    let references = replies.iter().filter_map(|reply| reply["ref"].as_i64());
    assert!(references.eq(0..replies.len() as i64 - 1), "{replies:?}");
    let done = replies
        .iter()
        .filter(|reply| reply["success"] == true)
        .count();
    let refused: Vec<_> = replies
        .iter()
        .filter(|reply| reply["code"] == "rate_limited")
        .collect();
    // The exact numbers depend on how long it took.
    assert!(done >= 18 && refused.len() >= 20, "{replies:?}");
    assert_eq!(refused[0]["error"], "too many requests, try again later");
    assert!(refused[0]["retry_after"].as_i64() > Some(0));
    // A refused event is not stored, and the other socket is still served.
    let history = alice.history(conversation).await;
    assert_eq!(history.as_array().map(Vec::len), Some(done));
}

#[tokio::test]
async fn a_client_that_was_away_brings_its_whole_outbox_through() {
    let host = host_with(|limits| limits.events_per_second = 20).await;
    host.register("alice").await;
    let mut device = host.connect("alice").await;
    let conversation = device.converse(&[]).await;
    let cookie = login(host.address, "alice").await;
    let client = ReferenceClient::start(host.address, cookie, 7);
    soon("the first sync", client.settle()).await;
    for count in 0..300 {
        client.send(conversation, count.to_string());
    }
    let memory = soon("an empty outbox", client.settle()).await;
    assert_eq!(memory.refused, 0);
    assert!(memory.connections > 1, "it was refused for a while");
    let stored = &memory.conversations[&conversation].messages;
    let contents = stored.values().map(|message| message["content"].clone());
    let contents: std::collections::HashSet<_> = contents.collect();
    assert_eq!((stored.len(), contents.len()), (300, 300));
}

#[tokio::test]
async fn one_address_has_a_bounded_number_of_requests_under_way() {
    let host = Host::start().await;
    let head = "POST /auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\nx-forwarded-for: 192.0.2.1\r\n\r\n{";
    let mut slow = Vec::new();
    for _ in 0..256 {
        let mut stream = TcpStream::connect(host.address)
            .await
            .expect("the host listens");
        stream.write_all(head.as_bytes()).await.expect("written");
        slow.push(stream);
    }
    let body = credentials("nobody", "wrong");
    soon("the limit", async {
        // The last of the slow requests may still be on their way.
        while post_from(&host, "192.0.2.1", "/auth/login", &body)
            .await
            .status
            != 429
        {}
    })
    .await;
    let answer = post_from(&host, "192.0.2.2", "/auth/login", &body).await;
    assert_eq!(answer.status, 401);
}

/// A request is under way until its answer is read.
#[tokio::test]
async fn answers_that_are_not_read_are_under_way() {
    let host = Host::start().await;
    let page = host.http("GET", "/", &[], "").await.body;
    let script = page.split('"').find(|part| part.contains(".js"));
    let head = format!(
        "GET {} HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 192.0.2.1\r\n\r\n",
        script.expect("a script")
    );
    let mut deaf = Vec::new();
    for _ in 0..256 {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("set");
        let mut stream = socket.connect(host.address).await.expect("connected");
        let heads = head.repeat(100);
        stream.write_all(heads.as_bytes()).await.expect("written");
        deaf.push(stream);
    }
    let ping = async |client: &str| {
        let headers = [("x-forwarded-for", client)];
        host.http("GET", "/misc/ping", &headers, "").await.status
    };
    soon("the limit", async {
        while ping("192.0.2.1").await != 429 {}
    })
    .await;
    assert_eq!(ping("192.0.2.2").await, 200);
    drop(deaf);
    soon("room", async { while ping("192.0.2.1").await != 200 {} }).await;
}

/// Asks on a connection of the operator's socket, and reads the whole answer.
async fn ask_as_operator(stream: &mut UnixStream) {
    stream.write_all(LIST_USERS).await.expect("written");
    read_list(stream).await;
}

const LIST_USERS: &[u8] = b"GET /users HTTP/1.1\r\nhost: x\r\n\r\n";

async fn read_list(stream: &mut UnixStream) {
    let mut answer = Vec::new();
    soon("an answer", async {
        while !answer.ends_with(br#"{"users":[],"has_more":false}"#) {
            let read = stream.read_buf(&mut answer).await.expect("an answer");
            assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
        }
    })
    .await;
}

#[tokio::test]
async fn the_operators_socket_has_a_bounded_number_of_connections() {
    let host = Host::start().await;
    let path = host.database().with_file_name("chat.db-socket");
    let connect = async || UnixStream::connect(&path).await.expect("connected");
    let mut open = Vec::new();
    for _ in 0..16 {
        let mut stream = connect().await;
        ask_as_operator(&mut stream).await;
        open.push(stream);
    }
    let mut waiting = connect().await;
    waiting.write_all(LIST_USERS).await.expect("written");
    for stream in &mut open {
        ask_as_operator(stream).await;
    }
    let unread = waiting.try_read(&mut [0]).expect_err("no answer yet");
    assert_eq!(unread.kind(), std::io::ErrorKind::WouldBlock);
    // Others are served, and the one that waits comes next.
    assert_eq!(host.http("GET", "/readyz", &[], "").await.status, 200);
    open.pop();
    read_list(&mut waiting).await;
}

#[tokio::test]
async fn a_flood_of_control_frames_closes_the_socket() {
    let host = Host::start().await;
    let mut alice = host.join("alice").await;
    for flood in [Message::Ping("x".into()), Message::Pong("x".into())] {
        let mut client = host.connect("alice").await;
        for _ in 0..50 {
            client.socket.send(flood.clone()).await.expect("sent");
        }
        assert_eq!(client.ok(json!({ "type": "ping" })).await, "pong");
        for _ in 0..10_000 {
            if client.socket.send(flood.clone()).await.is_err() {
                break;
            }
        }
        let mut end = None;
        while let Some(Ok(message)) = soon("a close frame", client.socket.next()).await {
            if let Message::Close(close) = message {
                end = close.map(|close| (u16::from(close.code), close.reason.to_string()));
            }
        }
        assert_eq!(end, Some((1008, "rate limit".to_owned())));
        assert_eq!(alice.ok(json!({ "type": "ping" })).await, "pong");
    }
}

#[tokio::test]
async fn a_message_that_does_not_end_closes_the_socket() {
    let host = Host::start_with(Form::File, |config| {
        config.message_timeout = Duration::from_secs(1);
    })
    .await;
    let mut alice = host.join("alice").await;
    let fragment: &[u8] = &[0x01, 0x81, 0, 0, 0, 0, b'{'];
    let half_a_frame: &[u8] = &[0x81, 0xfe, 0xff];
    for begun in [fragment, half_a_frame] {
        let mut client = host.connect("alice").await;
        // First a message that ends in time.
        client
            .socket
            .get_mut()
            .write_all(fragment)
            .await
            .expect("written");
        let end = [0x80, 0x81, 0, 0, 0, 0, b'}'];
        client
            .socket
            .get_mut()
            .write_all(&end)
            .await
            .expect("written");
        assert_eq!(client.receive().await["code"], "invalid");
        client
            .socket
            .get_mut()
            .write_all(begun)
            .await
            .expect("written");
        assert_eq!(
            client.closed().await,
            (1008, "message took too long".into())
        );
    }
    // Messages without a pause between them, each of which ends in time.
    let mut client = host.connect("alice").await;
    let whole = [0x81, 0x81, 0, 0, 0, 0, b'{'];
    let (begin, end) = whole.split_at(3);
    let stream = client.socket.get_mut();
    stream.write_all(begin).await.expect("written");
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let both = [end, begin].concat();
        stream.write_all(&both).await.expect("written");
    }
    for _ in 0..12 {
        assert_eq!(client.receive().await["code"], "invalid");
    }
    alice.ok(json!({ "type": "self" })).await;
}

#[tokio::test]
async fn unfinished_messages_have_room_that_ends() {
    let host = Host::start().await;
    let mut bob = host.join("bob").await;
    host.register("alice").await;
    // The head of a masked frame of 1 MiB, and all of its payload except for the last byte.
    let mut unfinished = vec![0x81, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0];
    unfinished.resize(14 + 1024 * 1024 - 1, b' ');
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = host.connect("alice").await;
        client.ok(json!({ "type": "ping" })).await;
        let stream = client.socket.get_mut();
        stream.write_all(&unfinished).await.expect("written");
        clients.push(client);
    }
    // The 4 MiB of a user are room for four.
    let closed = clients.iter_mut().map(|client| Box::pin(client.closed()));
    let (reason, index, others) = soon("a socket without room", select_all(closed)).await;
    drop(others);
    assert_eq!(reason, (1013, "too many unfinished messages".into()));
    clients.remove(index);
    // Others are not affected, and the room of the one that was closed is free.
    bob.ok(json!({ "type": "self" })).await;
    for mut client in clients {
        client
            .socket
            .get_mut()
            .write_all(b" ")
            .await
            .expect("written");
        assert_eq!(client.receive().await["code"], "invalid");
    }
    let mut client = host.connect("alice").await;
    let stream = client.socket.get_mut();
    stream.write_all(&unfinished).await.expect("written");
    stream.write_all(b" ").await.expect("written");
    assert_eq!(client.receive().await["code"], "invalid");
}

/// A few who hold all the room, and send no more, lose it to those who need it.
#[tokio::test]
async fn unfinished_messages_make_room_for_those_of_others() {
    let host = Host::start().await;
    let mut unfinished = vec![0x81, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0];
    unfinished.resize(14 + 1024 * 1024 - 1, b' ');
    let mut held = Vec::new();
    // As much as a user, an address and all may have.
    for user in 0..9 {
        let (name, address) = (format!("user {user}"), format!("192.0.2.{}", user / 4));
        host.register(&name).await;
        let token = format!("Bearer {}", foreign_token(SECRET, &name));
        let headers = [("authorization", &*token), ("x-forwarded-for", &*address)];
        for _ in 0..4 {
            let mut client = Client::connect_with(host.address, &headers).await;
            client.ok(json!({ "type": "ping" })).await;
            let stream = client.socket.get_mut();
            stream.write_all(&unfinished).await.expect("written");
            held.push(client);
        }
    }
    let mut bob = host.join("bob").await;
    let conversation = bob.converse(&[]).await;
    bob.send(conversation, &"x".repeat(64 * 1024)).await;
    // The first ones have made room.
    let reason = soon("a socket without room", held[0].closed()).await;
    assert_eq!(reason, (1013, "too many unfinished messages".into()));
    let last = held.last_mut().expect("a client");
    last.socket
        .get_mut()
        .write_all(b" ")
        .await
        .expect("written");
    assert_eq!(last.receive().await["code"], "invalid");
}

/// A large event that waits for its user to pay takes as much memory as an unfinished message.
#[tokio::test]
async fn large_events_that_wait_have_room_that_ends() {
    let host = host_with(|limits| limits.events_per_second = 50).await;
    host.register("alice").await;
    let event = json!({ "type": "block_user", "username": "x".repeat(1024 * 1024 - 100) });
    let mut clients = Vec::new();
    // Two are paid for at once. The 4 MiB of a user are room for four.
    for _ in 0..8 {
        let mut client = host.connect("alice").await;
        client.ok(json!({ "type": "ping" })).await;
        client.text(&event.to_string()).await;
        clients.push(client);
    }
    let closed = clients.iter_mut().map(|client| Box::pin(client.closed()));
    let (reason, _, others) = soon("a socket without room", select_all(closed)).await;
    drop(others);
    assert_eq!(reason, (1013, "too many unfinished messages".into()));
}

#[tokio::test]
async fn a_user_who_does_not_read_has_room_for_few_answers() {
    let host = Host::start().await;
    let mut alice = host.join("alice").await;
    let mut bob = host.join("bob").await;
    let content = "x".repeat(64 * 1024);
    for _ in 0..128 {
        let conversation = alice.converse(&[]).await;
        alice.send(conversation, &content).await;
    }
    // Each answer has 8 MiB.
    let get = json!({ "type": "get_conversations" });
    let mut deaf = Vec::new();
    for _ in 0..6 {
        let mut client = host.connect("alice").await;
        client.text(&get.to_string()).await;
        deaf.push(client);
    }
    soon("a refusal", async {
        while alice.request(get.clone()).await["code"] != "unavailable" {}
    })
    .await;
    // Small answers still come, and other users get all.
    alice.ok(json!({ "type": "self" })).await;
    assert_eq!(bob.ok(get.clone()).await, json!([]));
    // When they have been read, there is room again. Some of them were refused too.
    let mut refused = 0;
    for mut client in deaf {
        refused += usize::from(client.receive().await["success"] == false);
    }
    assert!((1..6).contains(&refused), "{refused}");
    let all = alice.ok(get).await;
    assert_eq!(all.as_array().map(Vec::len), Some(128));
}

/// Three users at two addresses ask for lists of 16 MiB over HTTP, and read nothing.
#[tokio::test]
async fn unread_answers_of_requests_make_room_for_others() {
    let host = Host::start().await;
    let mut alice = host.join("alice").await;
    for username in ["bob", "carol", "dave"] {
        host.register(username).await;
    }
    // Six times as long in an answer.
    let content = "\u{1}".repeat(64 * 1024);
    for _ in 0..41 {
        let conversation = alice.converse(&["bob", "carol"]).await;
        alice.send(conversation, &content).await;
    }
    let get = json!({ "type": "get_conversations" }).to_string();
    let mut deaf = Vec::new();
    for (username, from) in [("alice", 1), ("bob", 1), ("carol", 2)] {
        let cookie = login(host.address, username).await;
        for _ in 0..2 {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.set_recv_buffer_size(4096).expect("set");
            let mut stream = socket.connect(host.address).await.expect("connected");
            let request = format!(
                "POST /events HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncookie: {cookie}\r\n\
                 x-forwarded-for: 192.0.2.{from}\r\ncontent-length: {}\r\n\r\n{get}",
                get.len()
            );
            stream.write_all(request.as_bytes()).await.expect("written");
            let mut status = [0; 12];
            let answered = soon("an answer", stream.read_exact(&mut status));
            answered.await.expect("a status");
            assert_eq!(String::from_utf8_lossy(&status), "HTTP/1.1 200");
            deaf.push(stream);
        }
    }
    let cookie = login(host.address, "dave").await;
    let headers = [("cookie", &*cookie), ("x-forwarded-for", "192.0.2.3")];
    let answer = host.http("POST", "/events", &headers, get.clone()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // The answer that had waited longest is cut short, and only that one.
    let mut whole = 0;
    for mut stream in deaf {
        let mut answer = Vec::new();
        let _ = soon("the end", stream.read_to_end(&mut answer)).await;
        whole += usize::from(answer.ends_with(b"}]}"));
    }
    assert_eq!(whole, 5);
}

/// Three users at two addresses read no answers, and each of their sockets has sent what waits until
/// the user is out of debt.
#[tokio::test]
async fn who_waits_for_the_own_debt_makes_room_for_others() {
    let host = host_with(|limits| limits.events_per_second = 50).await;
    let mut dave = host.join("dave").await;
    let conversation = dave.converse(&[]).await;
    dave.send(conversation, &"\u{1}".repeat(64 * 1024)).await;
    let costly = format!("@all{}", " @nobody".repeat(49));
    let mut deaf = Vec::new();
    for (name, from) in [("alice", 1), ("bob", 1), ("carol", 2)] {
        let mut client = host.join(name).await;
        let conversation = client.converse(&[]).await;
        let send = |content: &str, client_id| json!({ "type": "send_message", "conversation_id": conversation, "content": content, "client_id": client_id });
        client.ok(send(&"\u{1}".repeat(64 * 1024), "again")).await;
        let token = format!("Bearer {}", foreign_token(SECRET, name));
        let address = format!("192.0.2.{from}");
        let headers = [("authorization", &*token), ("x-forwarded-for", &*address)];
        for _ in 0..16 {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.set_recv_buffer_size(4096).expect("set");
            let stream = socket.connect(host.address).await.expect("connected");
            let mut client = Client::connect_over(stream, &headers).await;
            for index in 0..32 {
                let event = match index {
                    ..16 => send("x", "again"),
                    _ => send(&costly, "new"),
                };
                let event = Message::text(event.to_string());
                client.socket.feed(event).await.expect("fed");
            }
            client.socket.flush().await.expect("flushed");
            deaf.push(client);
        }
    }
    let answered = deaf.iter().map(|client| client.socket.get_ref().readable());
    soon("answers", join_all(answered)).await;
    for _ in 0..20 {
        dave.ok(json!({ "type": "get_conversations" })).await;
    }
}

/// A message is counted as it is in an answer: control characters are six times as long there.
#[tokio::test]
async fn answers_to_a_repeated_client_id_count_with_all_their_bytes() {
    let host = Host::start().await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    let send = |content: &str| json!({ "type": "send_message", "conversation_id": conversation, "content": content, "client_id": "a" });
    alice.ok(send(&"\u{1}".repeat(64 * 1024))).await;
    let again = send("x");
    let mut deaf = Vec::new();
    for _ in 0..6 {
        let mut client = host.connect("alice").await;
        for _ in 0..40 {
            let event = Message::text(again.to_string());
            client.socket.feed(event).await.expect("fed");
        }
        client.socket.flush().await.expect("flushed");
        deaf.push(client);
    }
    soon("a refusal", async {
        while alice.request(again.clone()).await["code"] != "unavailable" {}
    })
    .await;
    alice.ok(json!({ "type": "ping" })).await;
    // When they have been read, there is room again.
    for mut client in deaf {
        for _ in 0..40 {
            client.receive().await;
        }
    }
    assert_eq!(alice.ok(again).await["duplicate"], true);
}

#[tokio::test]
async fn creations_cost_by_their_members() {
    let host = host_with(|limits| limits.events_per_second = 50).await;
    let mut alice = host.join("alice").await;
    let mut bob = host.join("bob").await;
    // Unknown users cost as much as known ones.
    let nobodies: Vec<_> = (0..9_000).map(|index| format!("nobody {index}")).collect();
    let create = json!({ "type": "create_conversation", "members": nobodies });
    assert_eq!(alice.request(create.clone()).await["code"], "not_found");
    let refused = alice.request(create.clone()).await;
    assert_eq!(refused["code"], "rate_limited");
    assert!(refused["retry_after"].as_i64() > Some(60), "{refused}");
    // Everything else still passes, and other users have rates of their own.
    let conversation = alice.converse(&["bob"]).await;
    alice.send(conversation, "hello").await;
    assert_eq!(bob.request(create).await["code"], "not_found");
    // A list of one counts for 20, so that nobody fills the conversations of another user: it was one
    // of 50.
    let create = json!({ "type": "create_conversation", "members": ["bob"] });
    let created = passes(&mut alice, create, 49).await;
    assert!((49..60).contains(&created), "{created}");
    let add = json!({ "type": "add_members", "conversation_id": conversation, "members": ["bob"] });
    let added = passes(&mut alice, add, 0).await;
    assert!(added < 5, "{added}");
    assert_eq!(alice.converse(&[]).await, conversation + created as i64 + 1);
}

/// How many of these requests pass before the rate refuses one. Some are earned meanwhile; if there
/// are 100 more than expected, it gives up.
async fn passes(client: &mut Client, request: Value, expected: usize) -> usize {
    for count in 0..expected + 100 {
        let reply = client.request(request.clone()).await;
        match reply["code"].as_str() {
            None => {}
            Some("rate_limited") => return count,
            Some(_) => panic!("{reply}"),
        }
    }
    panic!("no request was refused");
}

#[tokio::test]
async fn who_changes_the_fullname_often_has_to_wait() {
    let host = host_with(|limits| limits.events_per_second = 50).await;
    let mut alice = host.join("alice").await;
    let rename = json!({ "type": "update_profile", "fullname": "Alice" });
    let renamed = passes(&mut alice, rename, 20).await;
    assert!((20..23).contains(&renamed), "{renamed}");
    // What no contact is told of costs nothing.
    for event in [
        json!({ "type": "update_profile", "reachable_by": "contacts" }),
        json!({ "type": "update_profile" }),
    ] {
        alice.ok(event).await;
    }
}

#[tokio::test]
async fn what_costs_too_much_comes_later_in_order() {
    let host = host_with(|limits| limits.events_per_second = 50).await;
    let mut alice = host.join("alice").await;
    let mut bob = host.join("bob").await;
    let conversation = alice.converse(&["bob"]).await;
    bob.push().await;
    // 2 MiB at once are free, and a MiB takes two seconds after that.
    let content = "x".repeat(64 * 1024);
    let ids = alice.send_many(conversation, &content, 40).await;
    assert!(ids.is_sorted() && ids.len() == 40);
    for id in ids {
        assert_eq!(bob.push().await["data"]["id"], id);
    }
}

/// Otherwise three users could wait with all the room.
#[tokio::test]
async fn who_is_in_debt_holds_no_room_for_answers() {
    let host = host_with(|limits| limits.events_per_second = 10_000).await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    let message = alice.send(conversation, "hello").await;
    let mention =
        json!({ "type": "send_message", "conversation_id": conversation, "content": "@all" });
    // Its answer may have 1 MiB, the 32nd part of the room.
    let react = json!({ "type": "react", "message_id": message, "emoji": "👍", "on": true });
    let mut waiting = Vec::new();
    for event in [vec![mention; 10], vec![react.clone(); 32]].concat() {
        let mut client = host.connect("alice").await;
        client.text(&event.to_string()).await;
        waiting.push(client);
    }
    // The mentions take some seconds.
    let get = json!({ "type": "get_messages", "conversation_id": conversation });
    let cookie = login(host.address, "alice").await;
    for _ in 0..32 {
        let (address, cookie, event) = (host.address, cookie.clone(), react.to_string());
        tokio::spawn(async move {
            let headers = [("cookie", &*cookie)];
            request(address, "POST", "/events", &headers, event).await
        });
    }
    let reactions = waiting.iter_mut().skip(10);
    let paid = select_all(reactions.map(|client| Box::pin(client.receive())));
    let reading = async {
        loop {
            alice.ok(get.clone()).await;
        }
    };
    tokio::select! {
        (reply, ..) = paid => assert_eq!(reply["success"], true, "{reply}"),
        () = reading => {}
    }
}

#[tokio::test]
async fn what_waits_to_be_paid_ends_with_the_login() {
    let host = host_with(|limits| limits.events_per_second = 50).await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    let mention =
        json!({ "type": "send_message", "conversation_id": conversation, "content": "@all" });
    let cookie = login(host.address, "alice").await;
    let headers = [("cookie", &*cookie)];
    let send = || host.http("POST", "/events", &headers, mention.to_string());
    let sends = (0..14).map(|_| Box::pin(send()));
    let (first, _, rest) = select_all(sends).await;
    assert_eq!(first.status, 200);
    let (ended, rest) = join!(
        host.http("POST", "/auth/logout", &headers, ""),
        join_all(rest)
    );
    assert_eq!(ended.status, 204);
    // Five are paid for at once, and the others one after the other, each in 0.8 s.
    let refused = rest.iter().filter(|answer| answer.status == 401);
    assert!(refused.count() >= 4, "{rest:?}");
}

#[tokio::test]
async fn mentions_cost_by_what_they_store() {
    let host = host_with(|limits| limits.events_per_second = 50).await;
    let mut alice = host.join("alice").await;
    host.register("bob").await;
    let cookie = login(host.address, "alice").await;
    let conversation = alice.converse(&["bob"]).await;
    let message =
        json!({ "type": "send_message", "conversation_id": conversation, "content": "@all" });
    let started = Instant::now();
    for _ in 0..4 {
        alice.ok(message.clone()).await;
        let headers = [("cookie", cookie.as_str())];
        let answer = host.http("POST", "/events", &headers, message.to_string());
        assert_eq!(answer.await.status, 200);
    }
    // Each counts for 99 mentions of 4 KiB. Of all but the last, 2 MiB are free, and the other 0.7 MiB
    // take 1.4 s.
    assert!(started.elapsed() > Duration::from_secs(1));
}

/// Nothing would wait until the pushes are paid for.
#[tokio::test]
async fn who_has_spent_much_is_not_seen_typing() {
    let host = host_with(|limits| limits.events_per_second = 10_000).await;
    let mut alice = host.join("alice").await;
    let mut bob = host.join("bob").await;
    let mut carol = host.join("carol").await;
    let conversation = carol.converse(&["alice", "bob"]).await;
    bob.push().await;
    let typing = json!({ "type": "typing", "conversation_id": conversation, "on": true });
    let mut is_seen = async || {
        alice.ok(typing.clone()).await;
        carol.send(conversation, "hello").await;
        let first = bob.push().await;
        let is_typing = first["type"] == "typing";
        if is_typing {
            bob.push().await;
        }
        is_typing
    };
    assert!(is_seen().await);
    // 512 KiB are earned in a second.
    let mut large = host.connect("alice").await;
    let unused = "x".repeat(1_000_000);
    let create = json!({ "type": "create_conversation", "members": [], "unused": unused });
    for _ in 0..3 {
        large.text(&create.to_string()).await;
    }
    soon("that it is left out", async { while is_seen().await {} }).await;
    for _ in 0..3 {
        assert_eq!(large.receive().await["success"], true);
    }
    soon("that it is seen again", async { while !is_seen().await {} }).await;
}

#[tokio::test]
async fn a_crowd_hears_everything_in_order() {
    let host = Host::start().await;
    let mut alice = host.join("alice").await;
    host.register("bob").await;
    let cookie = login(host.address, "bob").await;
    let mut crowd = Vec::new();
    for _ in 0..150 {
        crowd.push(Client::connect(host.address, &cookie).await);
    }
    for client in &mut crowd {
        client.ok(json!({ "type": "ping" })).await;
    }
    let conversation = alice.converse(&["bob"]).await;
    let ids = alice.send_many(conversation, "hello", 30).await;
    for client in &mut crowd {
        assert_eq!(client.push().await["type"], "create_conversation");
        for id in &ids {
            assert_eq!(client.push().await["data"]["id"], *id);
        }
    }
}

#[tokio::test]
async fn who_is_in_many_conversations_hears_all_of_them() {
    let host = Host::start().await;
    let mut bob = host.join("bob").await;
    host.register("alice").await;
    // More than are read in the transaction that stores a socket.
    let mut conversations = Vec::new();
    for _ in 0..210 {
        conversations.push(bob.converse(&["alice"]).await);
    }
    for _ in 0..2 {
        let mut first = host.connect("alice").await;
        let mut second = host.connect("alice").await;
        for client in [&mut first, &mut second] {
            client.ok(json!({ "type": "ping" })).await;
        }
        for conversation in &conversations {
            let id = bob.send(*conversation, "hello").await;
            for client in [&mut first, &mut second] {
                assert_eq!(client.push().await["data"]["id"], id);
            }
        }
        first.close().await;
        second.close().await;
    }
}

#[tokio::test]
async fn a_client_that_gets_too_many_pushes_can_still_act() {
    let host = Host::start().await;
    let mut alice = host.join("alice").await;
    let mut victim = host.join("victim").await;
    let mut other = host.join("other").await;
    let loud = alice.converse(&["victim"]).await;
    let quiet = alice.converse(&["victim", "other"]).await;
    other.push().await;
    // More than a slow client takes at once, but less than closes its socket.
    let content = "x".repeat(64 * 1024);
    alice.send_many(loud, &content, 55).await;
    let send = json!({ "type": "send_message", "conversation_id": quiet, "content": "help" });
    victim.text(&send.to_string()).await;
    // The victim has read nothing yet.
    assert_eq!(other.push().await["data"]["content"], "help");
}

#[tokio::test]
async fn sockets_of_an_account_that_is_gone_are_closed() {
    let host = Host::start_with(Form::File, |config| {
        config.account_interval = Duration::from_millis(50);
    })
    .await;
    let mut gone = host.join("gone").await;
    let mut replaced = host.join("replaced").await;
    // A username can contain any characters.
    let mut alice = host.join("al\0ice 'é").await;
    let db = open(&host.database()).await;
    db.execute_batch(
        "pragma busy_timeout = 60000;
         delete from users where username = 'gone';
         update users set username = 'somebody else' where username = 'replaced';",
    )
    .await
    .expect("deleted");
    for client in [&mut gone, &mut replaced] {
        assert_eq!(client.closed().await, (1008, "session ended".into()));
    }
    alice.ok(json!({ "type": "self" })).await;
}

#[tokio::test]
async fn the_head_of_a_request_has_a_limit() {
    let host = Host::start().await;
    for (bytes, status) in [(15 * 1024, 200), (17 * 1024, 431)] {
        let value = "x".repeat(bytes);
        let answer = host
            .http("GET", "/misc/ping", &[("x-long", &value)], "")
            .await;
        assert_eq!(answer.status, status, "{bytes}");
    }
}

/// Connects from this address of the loopback network.
async fn connect_from(source: &str, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    let source = format!("{source}:0").parse().expect("an address");
    socket.bind(source).expect("an address of this machine");
    socket.connect(address).await.expect("the host listens")
}

/// Bodies count until their requests are answered, so that many of them do not take all the memory.
#[tokio::test]
async fn bodies_of_requests_have_room_that_ends() {
    let host = Host::start_with(Form::File, |config| {
        config.limits.registrations_per_hour = 0;
    })
    .await;
    let mut begun =
        String::from("POST /register HTTP/1.1\r\nhost: x\r\ncontent-length: 65536\r\n\r\n");
    begun.push_str(&"x".repeat(64 * 1024 - 1));
    let mut bodies = Vec::new();
    for index in 0..32 * 1024 / 60 {
        let source = format!("127.0.0.{}", 2 + index / 200);
        let mut stream = connect_from(&source, host.address).await;
        stream.write_all(begun.as_bytes()).await.expect("written");
        bodies.push(stream);
    }
    let register = |bytes: usize| host.http("POST", "/register", &[], "x".repeat(bytes));
    // Meanwhile the server reads the bodies.
    let refused = tests::soon("a refusal", async {
        loop {
            let answer = register(64 * 1024).await;
            if answer.status != 400 {
                break answer;
            }
        }
    });
    let refused = refused.await;
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(register(4 * 1024).await.status, 400, "small ones are free");
    drop(bodies);
    let room = async { while register(64 * 1024).await.status != 400 {} };
    tests::soon("room", room).await;
}

/// The answer to `GET /misc/ping`; empty if the connection is closed.
async fn ping(mut stream: TcpStream) -> String {
    let ping = b"GET /misc/ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut answer = String::new();
    let asked = async {
        stream.write_all(ping).await?;
        stream.read_to_string(&mut answer).await
    };
    // A closed connection may also be reset.
    let _ = soon("an answer", asked).await;
    answer
}

#[tokio::test]
async fn connections_of_an_address_that_is_no_proxy_have_a_limit() {
    let host = Host::start_with(Form::File, |config| config.trusted_proxies.clear()).await;
    let mut idle = Vec::new();
    for _ in 0..256 {
        idle.push(connect_from("127.0.0.9", host.address).await);
    }
    soon("the limit", async {
        // The last connections may still be on their way to the host.
        while !ping(connect_from("127.0.0.9", host.address).await)
            .await
            .is_empty()
        {}
    })
    .await;
    let answer = ping(connect_from("127.0.0.10", host.address).await).await;
    assert!(answer.ends_with("pong"), "{answer}");
    idle.truncate(200);
    soon("room", async {
        while !ping(connect_from("127.0.0.9", host.address).await)
            .await
            .ends_with("pong")
        {}
    })
    .await;
}

#[tokio::test]
async fn connections_beyond_what_there_is_room_for_wait() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("raised");
    let host = Host::start().await;
    let mut alice = host.join("alice").await;
    let mut idle = Vec::new();
    for _ in 0..4096 {
        idle.push(
            TcpStream::connect(host.address)
                .await
                .expect("the host listens"),
        );
    }
    // A new connection may still be served while recently closed ones leave room, so try until one
    // has to wait.
    let (waiting,) = soon("a connection that waits", async {
        loop {
            let stream = TcpStream::connect(host.address)
                .await
                .expect("the host listens");
            let mut waiting = tokio::spawn(ping(stream));
            let sockets_are_served = async {
                for _ in 0..100 {
                    alice.ok(json!({ "type": "ping" })).await;
                }
            };
            tokio::select! {
                biased;
                () = sockets_are_served => return (waiting,),
                _ = &mut waiting => {
                    idle.push(TcpStream::connect(host.address).await.expect("the host listens"));
                }
            }
        }
    })
    .await;
    drop(idle);
    let answer = waiting.await.expect("no panic");
    assert!(answer.ends_with("pong"), "{answer}");
}

#[tokio::test]
async fn the_login_cookie_is_for_the_sites_that_are_configured() {
    for (same_site, attribute) in [
        (SameSite::Lax, "SameSite=Lax"),
        (SameSite::Strict, "SameSite=Strict"),
        (SameSite::None, "SameSite=None"),
    ] {
        let host = Host::start_with(Form::File, |config| config.same_site = same_site).await;
        host.register("alice").await;
        let body = credentials("alice", PASSWORD).to_string();
        let answer = request(host.address, "POST", "/auth/login", &[], body).await;
        let cookie = answer.header("set-cookie").expect("a cookie");
        let (_, attributes) = cookie.split_once(';').expect("attributes");
        let expected = format!(" HttpOnly; Max-Age=3600; Path=/; Secure; {attribute}");
        assert_eq!(attributes, expected);
    }
}
