//! Faults of a remote database, each produced for real between the host and a libSQL server.

use std::time::Duration;

use handler::{Access, Context, Error, Operation, Outbox, Rows, Statement};
use serde_json::{Value, json};
use tests::data::open_remote;
use tests::host::{PASSWORD, Site, ready, request};
use tests::servers::shared_sqld;
use tests::{Client, Fault, Form, Gateway, Host, PATIENCE, Place, Sqld, World, soon};

/// The contents of a conversation's messages.
async fn contents(client: &mut Client, conversation: i64) -> Vec<String> {
    let history = client.history(conversation).await;
    let messages = history.as_array().expect("a list");
    let contents = messages
        .iter()
        .map(|m| m["content"].as_str().expect("text"));
    contents.map(str::to_owned).collect()
}

/// A host with a short timeout for the database.
async fn impatient() -> Host {
    Host::start_with(Form::Remote, |config| {
        config.store_timeout = Duration::from_secs(2);
    })
    .await
}

#[tokio::test]
async fn a_send_whose_answer_is_lost_is_stored_once_and_acknowledged() {
    let host = Host::start_as(Form::Remote).await;
    let (mut alice, mut bob) = (host.join("alice").await, host.join("bob").await);
    let conversation = alice.converse(&["bob"]).await;
    bob.push().await;
    let send = |content: &str, client_id: Option<&str>| {
        json!({
            "type": "send_message", "conversation_id": conversation, "content": content, "client_id": client_id,
        })
    };
    // Only the statement that stores a message contains this.
    let insert = "INTO messages";
    for (round, fault) in [
        Fault::LoseAnswer,
        Fault::LoseRequest,
        Fault::Stall,
        Fault::Status(429),
        Fault::Status(502),
    ]
    .into_iter()
    .enumerate()
    {
        for client_id in [None, Some(format!("id {round}"))] {
            host.gateway().fault(insert, fault);
            let content = format!("{fault:?} {client_id:?}");
            let sent = alice.ok(send(&content, client_id.as_deref())).await;
            assert_eq!(host.gateway().faults_left(), 0, "the fault was met");
            assert_eq!(sent["content"], content);
            assert_eq!(sent["duplicate"], Value::Null, "{sent}");
            let heard = bob.push().await;
            assert_eq!(heard["data"], sent, "{fault:?}: others hear the same");
            assert_eq!(contents(&mut bob, conversation).await[0], content);
        }
    }
    let stored = contents(&mut bob, conversation).await;
    assert_eq!(stored.len(), 10, "each is stored once: {stored:?}");
    assert_eq!(bob.pushes_so_far().await, [] as [Value; 0]);
    let revs = bob.history(conversation).await;
    assert_eq!(revs[0]["rev"], 11, "no rev is lost");
    // The id that the host gives a message without a client_id is not sent to clients.
    assert_eq!(revs[1]["client_id"], Value::Null);
}

/// Messages that wait together are one set; what was refused stays refused when it is asked for again.
#[tokio::test]
async fn a_set_whose_answer_is_lost_is_stored_once_and_acknowledged() {
    let host = Host::start_as(Form::Remote).await;
    let (mut alice, mut bob) = (host.join("alice").await, host.join("bob").await);
    let conversation = alice.converse(&["bob"]).await;
    bob.push().await;
    let gateway = host.gateway();
    let latest = alice.send(conversation, "first").await;
    bob.push().await;
    for fault in [Fault::LoseAnswer, Fault::LoseRequest, Fault::Stall] {
        // While the first one is under way, the others wait. Only the statement of a set numbers rows.
        gateway.delay(Duration::from_millis(100));
        gateway.fault("row_number", fault);
        let mut expected = Vec::new();
        for count in 0..20 {
            let content = format!("{fault:?} {count}");
            let mut event = json!({
                "type": "send_message", "conversation_id": conversation, "content": content,
            });
            match count % 5 {
                1 => event["conversation_id"] = 77.into(),
                2 => event["reply_id"] = 77.into(),
                3 => event["client_id"] = content.clone().into(),
                4 => event["reply_id"] = latest.into(),
                _ => {}
            }
            alice.text(&event.to_string()).await;
            if !matches!(count % 5, 1 | 2) {
                expected.push(content);
            }
        }
        let mut stored = Vec::new();
        for count in 0..20 {
            let reply = alice.receive().await;
            assert_eq!(
                reply["success"],
                !matches!(count % 5, 1 | 2),
                "{fault:?}: {reply}"
            );
            match reply["success"].as_bool() {
                Some(true) => stored.push(reply["data"].clone()),
                _ => assert_eq!(reply["code"], "not_found", "{fault:?}: {reply}"),
            }
        }
        gateway.delay(Duration::ZERO);
        assert_eq!(gateway.faults_left(), 0, "{fault:?} was met");
        let contents: Vec<_> = stored.iter().map(|message| &message["content"]).collect();
        assert_eq!(contents, expected.iter().collect::<Vec<_>>(), "{fault:?}");
        for message in &stored {
            assert_eq!(
                &bob.push().await["data"],
                message,
                "{fault:?}: others hear the same"
            );
        }
        let history = bob.history(conversation).await;
        stored.reverse();
        assert_eq!(
            history.as_array().expect("a list")[..stored.len()],
            stored,
            "{fault:?}"
        );
    }
    let revs = bob.history(conversation).await;
    let revs: Vec<_> = revs
        .as_array()
        .expect("a list")
        .iter()
        .map(|m| m["rev"].clone())
        .collect();
    assert_eq!(revs.len(), 37);
    assert_eq!(revs[0], 38, "no rev is lost, and none is left out");
}

/// Every operation that writes, with its answer lost: the reply is the same, and the change is
/// stored once.
#[tokio::test]
async fn every_change_survives_the_loss_of_its_answer() {
    let host = Host::start_as(Form::Remote).await;
    let gateway = host.gateway();
    let lose = |statement: &str| gateway.fault(statement, Fault::LoseAnswer);

    lose("INSERT INTO users");
    let body = json!({ "username": "alice", "password": PASSWORD, "fullname": "a" }).to_string();
    let answer = host.http("POST", "/register", &[], body.clone()).await;
    assert_eq!((answer.status, answer.body.as_str()), (201, "registered"));
    let answer = host.http("POST", "/register", &[], body).await;
    assert_eq!(answer.status, 409, "the user is already registered");

    host.register("bob").await;
    lose("INSERT INTO presence");
    let mut alice = host.connect("alice").await;
    lose("INSERT INTO contacts");
    let added = alice
        .ok(json!({ "type": "add_contact", "contact_username": "bob" }))
        .await;
    assert_eq!(added["message"], "'bob' successfully added");
    lose("INSERT INTO presence");
    let mut bob = host.connect("bob").await;
    assert_eq!(alice.push().await["data"]["is_online"], true);

    lose("INSERT INTO conversations");
    let made = alice
        .ok(json!({ "type": "create_conversation", "members": ["bob"], "name": "once" }))
        .await;
    let heard = bob.push().await;
    assert_eq!(
        (&heard["data"]["id"], &made["rev"]),
        (&made["id"], &json!(1))
    );
    let list = bob.ok(json!({ "type": "get_conversations" })).await;
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");

    let conversation = made["id"].as_i64().expect("an id");
    let id = alice.send(conversation, "read me").await;
    bob.push().await;
    lose("UPDATE members SET read_id");
    let read = json!({ "type": "mark_read", "conversation_id": conversation, "message_id": id });
    assert_eq!(bob.ok(read).await["message_id"], id);
    assert_eq!(alice.push().await["type"], "mark_read");

    // Each of two sockets is counted once when it opens and once when it closes. Otherwise bob
    // would be offline too early or never.
    lose("INSERT INTO presence");
    host.connect("bob").await.close().await;
    let profile = alice.ok(json!({ "type": "get_contacts" })).await;
    assert_eq!(profile["profiles"][0]["is_online"], true);
    lose("INSERT INTO presence");
    bob.close().await;
    // Alice may have been told twice that bob is online.
    while alice.push().await["data"]["is_online"] != false {}
    assert_eq!(gateway.faults_left(), 0, "every fault was met");
}

#[tokio::test]
async fn one_event_is_one_request_and_waiting_ones_share_it() {
    let host = Host::start_as(Form::Remote).await;
    let (mut alice, mut bob) = (host.join("alice").await, host.join("bob").await);
    let conversation = alice.converse(&["bob"]).await;
    bob.push().await;
    let gateway = host.gateway();
    for event in [
        json!({ "type": "send_message", "conversation_id": conversation, "content": "x" }),
        json!({ "type": "get_messages", "conversation_id": conversation }),
        json!({ "type": "sync" }),
        json!({ "type": "get_conversations" }),
        json!({ "type": "self" }),
    ] {
        let before = gateway.requests();
        alice.ok(event.clone()).await;
        // A second request may be the host's own sign of life.
        let requests = gateway.requests() - before;
        assert!((1..=2).contains(&requests), "{event}: {requests}");
    }
    gateway.delay(Duration::from_millis(100));
    let before = gateway.requests();
    for count in 0..20 {
        let event = json!({
            "type": "send_message", "conversation_id": conversation, "content": format!("{count}"),
        });
        alice.text(&event.to_string()).await;
    }
    for count in 0..20 {
        assert_eq!(alice.receive().await["data"]["content"], count.to_string());
    }
    let requests = gateway.requests() - before;
    assert!(requests <= 5, "20 events in {requests} requests");
    gateway.delay(Duration::ZERO);
    let mut readers = Vec::new();
    for _ in 0..64 {
        readers.push(host.connect("alice").await);
    }
    gateway.delay(Duration::from_millis(300));
    let before = gateway.requests();
    let page = json!({ "type": "get_messages", "conversation_id": conversation }).to_string();
    for reader in &mut readers {
        reader.text(&page).await;
    }
    for reader in &mut readers {
        assert_eq!(reader.receive().await["type"], "get_messages");
    }
    // Sixteen leave at once, and what waits for these shares the next ones.
    let requests = gateway.requests() - before;
    assert!(requests <= 30, "64 reads in {requests} requests");
    // The writer's, those of the 16 threads that read, and of the two for large answers.
    let connections = gateway.connections();
    assert!(
        connections <= 19,
        "at most one lasting connection for each thread: {connections}"
    );
}

/// Large reads have threads of their own, because what shares a request with one has to wait for it.
#[tokio::test]
async fn small_reads_do_not_wait_for_a_large_one_that_stalls() {
    // The host waits longer for the database than this test for an answer.
    let host = Host::start_with(Form::Remote, |config| {
        config.store_timeout = 4 * PATIENCE;
    })
    .await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(host.connect("alice").await);
    }
    let gateway = host.gateway();
    // Each of these is in a request of its own, so that all threads for small reads are busy.
    gateway.delay(Duration::from_millis(500));
    let page = json!({ "type": "get_messages", "conversation_id": conversation }).to_string();
    for socket in &mut sockets[..16] {
        let before = gateway.requests();
        socket.text(&page).await;
        soon("a request", async {
            while gateway.requests() == before {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    // Reads that wait now would share a request.
    gateway.fault("ORDER BY c.activity DESC", Fault::Stall);
    let list = json!({ "type": "get_conversations" });
    alice.text(&list.to_string()).await;
    for socket in &mut sockets[16..] {
        socket.text(&page).await;
    }
    for socket in &mut sockets {
        let reply = socket.receive().await;
        assert_eq!(reply["success"], true, "{reply}");
    }
    assert_eq!(gateway.faults_left(), 0, "the large read stalls");
}

#[tokio::test]
async fn what_cannot_be_stored_in_time_is_refused_and_the_host_recovers() {
    let host = impatient().await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    let send = json!({ "type": "send_message", "conversation_id": conversation, "content": "x", "client_id": "x" });
    // The faults last longer than anyone waits.
    for fault in [
        Fault::Status(429),
        Fault::Status(503),
        Fault::LoseRequest,
        // As if the token were no longer accepted.
        Fault::Status(401),
    ] {
        for _ in 0..200 {
            host.gateway().fault("", fault);
        }
        let body = json!({ "username": "alice", "password": PASSWORD }).to_string();
        let (refused, login) = tokio::join!(
            alice.request(send.clone()),
            host.http("POST", "/auth/login", &[], body)
        );
        assert_eq!(
            (&refused["success"], &refused["code"]),
            (&json!(false), &json!("unavailable"))
        );
        assert!(refused["retry_after"].as_i64() >= Some(1), "{refused}");
        assert_eq!(login.status, 503);
        assert!(login.header("retry-after").is_some());
        let answer = host.http("GET", "/readyz", &[], "").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (503, "the database is not available")
        );
        assert_eq!(host.http("GET", "/healthz", &[], "").await.status, 200);
        host.gateway().clear_faults();
        ready(host.address).await;
    }
    let sent = alice.ok(send.clone()).await;
    assert_eq!(sent["duplicate"], Value::Null, "nothing was stored: {sent}");
    assert_eq!(contents(&mut alice, conversation).await, ["x"]);
}

#[tokio::test]
async fn an_outcome_that_stays_unknown_is_settled_by_sending_again() {
    let host = impatient().await;
    let (mut alice, mut bob) = (host.join("alice").await, host.join("bob").await);
    let conversation = alice.converse(&["bob"]).await;
    bob.push().await;
    // The message is stored, its answer is lost, and then nothing gets through.
    host.gateway().fault("INTO messages", Fault::LoseAnswer);
    for _ in 0..200 {
        host.gateway()
            .fault("INSERT INTO hosts", Fault::LoseRequest);
    }
    let send = json!({ "type": "send_message", "conversation_id": conversation, "content": "x", "client_id": "x" });
    let refused = alice.request(send.clone()).await;
    assert_eq!(refused["code"], "unavailable");
    host.gateway().clear_faults();
    ready(host.address).await;
    // Clients that missed the push are told to sync.
    soon("a hint", async {
        while bob.hints == 0 {
            bob.pushes_so_far().await;
        }
    })
    .await;
    let sync = bob
        .ok(json!({ "type": "sync", "revs": { conversation.to_string(): 1 } }))
        .await;
    let sent = alice.ok(send).await;
    assert_eq!(sent["duplicate"], true, "{sent}");
    assert_eq!(sync["conversations"][0]["messages"][0]["id"], sent["id"]);
    assert_eq!(contents(&mut bob, conversation).await, ["x"]);
}

#[tokio::test]
async fn a_host_starts_before_its_database_and_serves_when_that_comes() {
    let mut sqld = Sqld::start().await;
    let gateway = Gateway::start(&sqld).await;
    sqld.kill();
    let host = soon(
        "a host that listens",
        Host::listen_at(Form::Remote, Site::Database(gateway), |config| {
            config.store_timeout = Duration::from_secs(2);
        }),
    )
    .await;
    assert_eq!(host.http("GET", "/healthz", &[], "").await.body, "ok");
    assert_eq!(host.http("GET", "/readyz", &[], "").await.status, 503);
    let body = json!({ "username": "alice", "password": PASSWORD, "fullname": "a" }).to_string();
    assert_eq!(host.http("POST", "/register", &[], body).await.status, 503);
    sqld.restart().await;
    ready(host.address).await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    // The database is lost while the host runs: acknowledged messages and the socket remain.
    alice.send(conversation, "before").await;
    sqld.kill();
    let send =
        json!({ "type": "send_message", "conversation_id": conversation, "content": "meanwhile" });
    assert_eq!(alice.request(send).await["code"], "unavailable");
    sqld.restart().await;
    ready(host.address).await;
    alice.send(conversation, "after").await;
    assert_eq!(
        contents(&mut alice, conversation).await,
        ["after", "before"]
    );
}

#[tokio::test]
async fn two_hosts_that_start_at_once_make_one_schema() {
    let gateway = Gateway::start(shared_sqld().await).await;
    let (first, second) = tokio::join!(
        Host::listen_beside(&gateway, |_| {}),
        Host::listen_beside(&gateway, |_| {})
    );
    ready(first.address).await;
    ready(second.address).await;
    let mut alice = first.join("alice").await;
    let cookie = tests::host::login(second.address, "alice").await;
    let mut again = Client::connect(second.address, &cookie).await;
    let profile = again.ok(json!({ "type": "self" })).await;
    assert_eq!(alice.ok(json!({ "type": "self" })).await, profile);
}

#[tokio::test]
async fn a_refused_token_ends_the_start_with_a_clear_message() {
    let gateway = Gateway::start(shared_sqld().await).await;
    for _ in 0..10 {
        gateway.fault("", Fault::Status(401));
    }
    let variables = [
        ("DBPATH", gateway.url()),
        ("DB_AUTH_TOKEN", "a token nobody may read".to_owned()),
    ];
    let variables: Vec<_> = variables.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let (status, _, errors) = tests::host::run(&[], &variables).await;
    assert_eq!(status.code(), Some(1));
    assert!(errors.contains("DB_AUTH_TOKEN is refused"), "{errors}");
    assert!(!errors.contains("nobody may read"), "{errors}");
}

#[tokio::test]
async fn a_newer_or_a_foreign_remote_database_is_refused() {
    for (statement, reason) in [
        ("create table notes (text)", "not a chat database"),
        (
            "create table migrations (version integer primary key, applied_at integer);
             insert into migrations values (99, 0)",
            "a newer version of the program wrote it",
        ),
    ] {
        let gateway = Gateway::start(shared_sqld().await).await;
        let db = open_remote(gateway.url()).await;
        db.execute_transactional_batch(statement)
            .await
            .expect("made");
        let url = gateway.url();
        let (status, _, errors) = tests::host::run(&[], &[("DBPATH", &url)]).await;
        assert_eq!(status.code(), Some(1), "{errors}");
        assert!(errors.contains(reason), "{errors}");
    }
}

#[tokio::test]
async fn text_of_any_content_is_safe() {
    let host = Host::start_as(Form::Remote).await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    let mut random = fastrand::Rng::with_seed(7);
    let mut texts: Vec<String> = [
        "'; drop table messages; --",
        "?1 ?2 ?3",
        "x' || '",
        "\0",
        "\u{feff}\u{202e}é😀",
        "/* */ -- \\ \" ` [",
    ]
    .map(Into::into)
    .into();
    texts.extend((0..50).map(|_| {
        let length = random.usize(1..40);
        (0..length).map(|_| random.char(..)).collect()
    }));
    texts.push("😀".repeat(16_000));
    for text in texts {
        let event = json!({
            "type": "send_message", "conversation_id": conversation, "content": text, "client_id": text.chars().take(64).collect::<String>(),
        });
        let sent = alice.ok(event).await;
        assert_eq!(sent["content"], text);
        assert_eq!(alice.history(conversation).await[0], sent);
    }
    for id in [i64::MIN, -1, 0, i64::MAX] {
        let event = json!({ "type": "get_messages", "conversation_id": id });
        assert_eq!(alice.request(event).await["code"], "not_found", "{id}");
        let event = json!({
            "type": "send_message", "conversation_id": conversation, "content": "x", "reply_id": id,
        });
        assert_eq!(alice.request(event).await["code"], "not_found", "{id}");
    }
}

#[tokio::test]
async fn one_event_runs_on_a_remote_database_without_a_server() {
    let host = Host::start_as(Form::Remote).await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    let url = host.gateway().url();
    let event = async |event: Value| {
        let event = event.to_string();
        let arguments = ["event", "--user", "alice", &event];
        tests::host::run(&arguments, &[("DBPATH", &url)]).await
    };
    let send = json!({ "type": "send_message", "conversation_id": conversation, "content": "x" });
    let (status, _, errors) = event(send).await;
    assert_eq!(status.code(), Some(1), "a host serves the database");
    assert!(errors.contains("a server is running"), "{errors}");
    let (status, output, errors) = event(json!({ "type": "self" })).await;
    assert_eq!(status.code(), Some(0), "{errors}");
    let reply: Value = serde_json::from_str(&output).expect("JSON");
    assert_eq!(reply["reply"]["data"]["username"], "alice");
    // The host still answers HTTP.
    let answer = request(host.address, "GET", "/misc/ping", &[], "").await;
    assert_eq!(answer.body, "pong");
}

#[tokio::test]
async fn who_is_online_is_right_after_an_outcome_that_stayed_unknown() {
    let host = Host::start_with(Form::Remote, |config| {
        config.store_timeout = Duration::from_secs(1);
        config.lease = Duration::from_secs(3);
    })
    .await;
    let gateway = host.gateway();
    let mut alice = host.join("alice").await;
    let (phone, laptop) = (host.join("bob").await, host.connect("bob").await);
    alice.add_contact("bob").await;
    // The first close is counted, its answer is lost, and then nothing gets through for longer than
    // the host tries.
    let outage = || {
        gateway.fault("INSERT INTO presence", Fault::LoseAnswer);
        for _ in 0..100 {
            gateway.fault("INSERT INTO hosts", Fault::LoseRequest);
        }
    };
    let online = async |alice: &mut Client| {
        let contacts = alice.ok(json!({ "type": "get_contacts" })).await;
        contacts["profiles"][0]["is_online"] == true
    };
    // Checks for longer than the new count of all sockets takes.
    let stays_online = async |alice: &mut Client| {
        gateway.clear_faults();
        ready(host.address).await;
        for _ in 0..25 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(online(alice).await, "the laptop is open");
        }
    };
    outage();
    phone.close().await;
    soon("the outage", async {
        while host.http("GET", "/readyz", &[], "").await.status == 200 {}
    })
    .await;
    stays_online(&mut alice).await;
    // The same with a socket that opens: it is refused, but may have been counted.
    let cookie = tests::host::login(host.address, "bob").await;
    outage();
    let refused = Client::connect(host.address, &cookie).await.closed().await;
    assert_eq!(refused.0, 1013, "{refused:?}");
    stays_online(&mut alice).await;
    laptop.close().await;
    soon("being offline", async { while online(&mut alice).await {} }).await;
}

/// The login ends after its socket was counted, but before the host knows that.
#[tokio::test]
async fn who_logs_out_while_the_answer_to_the_connect_is_lost_is_not_online() {
    let host = Host::start_with(Form::Remote, |config| {
        config.lease = Duration::from_secs(3);
    })
    .await;
    let gateway = host.gateway();
    let mut alice = host.join("alice").await;
    host.register("bob").await;
    alice.add_contact("bob").await;
    let cookie = tests::host::login(host.address, "bob").await;
    gateway.fault("INSERT INTO presence", Fault::LoseAnswer);
    for _ in 0..100 {
        gateway.fault("INSERT INTO hosts", Fault::LoseRequest);
    }
    let refused = async {
        let closed = Client::connect(host.address, &cookie).await.closed().await;
        assert_eq!(closed.1, "invalid login-token");
    };
    let online = async |alice: &mut Client| {
        let contacts = alice.ok(json!({ "type": "get_contacts" })).await;
        contacts["profiles"][0]["is_online"] == true
    };
    // Another host may end it.
    let logout = async {
        soon("the commit", async { while !online(&mut alice).await {} }).await;
        let db = open_remote(gateway.url()).await;
        let end =
            "delete from sessions where user_id = (select id from users where username = 'bob')";
        db.execute(end, ()).await.expect("ended");
        gateway.clear_faults();
    };
    tokio::join!(refused, logout);
    soon("being offline", async { while online(&mut alice).await {} }).await;
}

#[tokio::test]
async fn an_answer_that_the_server_holds_too_large_is_refused_alone() {
    let host = Host::start_as(Form::Remote).await;
    let mut alice = host.join("alice").await;
    let content = "x".repeat(64 * 1024);
    for _ in 0..170 {
        let conversation = alice.converse(&[]).await;
        alice.send(conversation, &content).await;
    }
    // sqld's answers have at most 10 MB.
    let all = json!({ "type": "get_conversations" });
    assert_eq!(alice.request(all).await["code"], "too_large");
    let page = json!({ "type": "get_conversations", "limit": 100 });
    assert!(!alice.ok(page).await.as_array().expect("a list").is_empty());
}

/// On a remote database, parameters are rendered as literals. They must still compare as parameters
/// do: a text equals no number.
#[tokio::test]
async fn parameters_compare_as_on_a_local_database() {
    struct Compare;
    impl Operation for Compare {
        type Output = Vec<i64>;

        fn access(&self) -> Access {
            Access::Read
        }

        fn statements(&self, _: &Context) -> Vec<Statement> {
            let sql = "select ?1 = ?2 union all select ?1 = 1 union all select ?2 = 1 union all select ?1 = '1'";
            vec![Statement::new(sql, ["1".into(), 1.into()])]
        }

        fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Vec<i64>, Error> {
            Ok(rows[0].integers())
        }
    }
    for place in [Place::File, Place::Remote] {
        let world = World::empty_at(place).await;
        assert_eq!(
            world.run("", &Compare).await.0,
            Ok(vec![0, 0, 1, 1]),
            "{place:?}"
        );
    }
}
