//! Two hosts over one database, and the faults of the hosts and of the bus between them.

use std::ffi::OsStr;
use std::time::Duration;

use host::BusUrl;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::data::open_remote;
use tests::host::{Log, PASSWORD, SECRET, login, ready, register, request, run};
use tests::servers::shared_sqld;
use tests::tokens::foreign_token;
use tests::{Client, Form, Gateway, Host, Nats, Process, Proxy, soon, until};

/// Two processes of the real program, with a bus and a database of their own.
struct Cluster {
    gateway: Gateway,
    nats: Nats,
    hosts: Vec<Process>,
}

impl Cluster {
    async fn start(lease_seconds: u32) -> Self {
        Self::start_with(lease_seconds, 0).await
    }

    async fn start_with(lease_seconds: u32, events_per_second: u32) -> Self {
        let gateway = Gateway::start(shared_sqld().await).await;
        let nats = Nats::start().await;
        let start = || async {
            let (url, bus) = (gateway.url(), nats.url());
            let (lease, events) = (lease_seconds.to_string(), events_per_second.to_string());
            let variables = [
                ("DBPATH", &url),
                ("NATS_URL", &bus),
                ("LEASE_SECONDS", &lease),
                ("EVENTS_PER_SECOND", &events),
            ];
            let variables = variables.map(|(name, value)| (name, OsStr::new(value)));
            let process = Process::start_with(&variables, Log::Test).await;
            ready(process.address).await;
            process
        };
        let (first, second) = tokio::join!(start(), start());
        Cluster {
            gateway,
            nats,
            hosts: vec![first, second],
        }
    }

    /// Registers the user and connects to this host.
    async fn join(&self, host: usize, username: &str) -> Client {
        self.hosts[host].join(username).await
    }

    async fn readiness(&self, host: usize) -> (u16, String) {
        let answer = request(self.hosts[host].address, "GET", "/readyz", &[], "").await;
        (answer.status, answer.body)
    }
}

async fn online(client: &mut Client) -> Value {
    let contacts = client.ok(json!({ "type": "get_contacts" })).await;
    contacts["profiles"][0]["is_online"].clone()
}

/// Waits until the client has been told once more to catch up.
async fn hinted(client: &mut Client, before: usize) {
    soon("a hint", async {
        while client.hints == before {
            client.ok(json!({ "type": "ping" })).await;
        }
    })
    .await;
}

/// Waits until the client has heard something, or has been told to catch up: the other host may not
/// have heard yet that the client is there.
async fn pushed_or_hinted(client: &mut Client) {
    soon("a push or a hint", async {
        while client.pushes_so_far().await.is_empty() && client.hints == 0 {}
    })
    .await;
}

/// Removes a user from a conversation as `remove_member` does, but tells no host. This is the state
/// that a host leaves if it is killed between its commit and its packet.
async fn leave_unheard(cluster: &Cluster, conversation: i64, username: &str) {
    let database = libsql::Builder::new_remote(cluster.gateway.url(), String::new()).build();
    let db = database.await.expect("a client").connect().expect("one");
    let script = format!(
        "update conversations set rev = rev + 1 where id = {conversation};
         insert into members_changes (conversation_id, members_rev, previous_rev) select id, rev, 1 from conversations where id = {conversation};
         delete from members where conversation_id = {conversation}
             and user_id = (select id from users where username = '{username}');"
    );
    db.execute_transactional_batch(&script).await.expect("left");
}

#[tokio::test]
async fn one_who_has_left_hears_nothing_though_no_host_was_told() {
    let cluster = Cluster::start(30).await;
    let mut alice = cluster.join(0, "alice").await;
    let mut carol = cluster.join(1, "carol").await;
    let mut bob = [
        cluster.join(0, "bob").await,
        cluster.hosts[1].connect("bob").await,
    ];
    let conversation = alice.converse(&["bob", "carol"]).await;
    alice.send(conversation, "before").await;
    for client in bob.iter_mut().chain([&mut carol]) {
        assert_eq!(client.push().await["type"], "create_conversation");
        assert_eq!(client.push().await["data"]["content"], "before");
    }
    leave_unheard(&cluster, conversation, "bob").await;
    // Both hosts commit to the conversation before they know of the change.
    alice.send(conversation, "by alice").await;
    assert_eq!(carol.push().await["data"]["content"], "by alice");
    carol.send(conversation, "by carol").await;
    assert_eq!(alice.push().await["data"]["content"], "by carol");
    carol
        .ok(json!({ "type": "typing", "conversation_id": conversation, "on": true }))
        .await;
    for client in &mut bob {
        assert_eq!(client.pushes_so_far().await, [] as [Value; 0]);
    }
    // A device that connects now hears nothing either, and the others still hear each other.
    bob[0] = cluster.hosts[0].connect("bob").await;
    alice.send(conversation, "after").await;
    assert_eq!(carol.push().await["data"]["content"], "after");
    for client in &mut bob {
        assert_eq!(client.pushes_so_far().await, [] as [Value; 0]);
        let revs = json!({ conversation.to_string(): 2 });
        let missed = client.ok(json!({ "type": "sync", "revs": revs })).await;
        assert_eq!(missed["left"], json!([conversation]));
    }
}

#[tokio::test]
async fn who_is_removed_hears_nothing_while_the_bus_is_lost_and_devices_reconnect() {
    let mut cluster = Cluster::start(30).await;
    let mut alice = cluster.join(0, "alice").await;
    let mut carol = cluster.join(1, "carol").await;
    register(cluster.hosts[0].address, "bob").await;
    let conversation = alice.converse(&["carol"]).await;
    let changed = |kind: &str, field: &str, value: Value| json!({ "type": kind, "conversation_id": conversation, field: value });
    for round in 0..6 {
        let is_lossy = round % 2 == 0;
        let mut bob = [
            cluster.hosts[0].connect("bob").await,
            cluster.hosts[1].connect("bob").await,
        ];
        let added = alice
            .ok(changed("add_members", "members", json!(["bob"])))
            .await;
        let rev = added["rev"].as_i64().expect("a rev");
        for device in &mut bob {
            assert_eq!(device.push().await["data"]["added"], json!(["bob"]));
        }
        if is_lossy {
            cluster.nats.kill();
        }
        let removal = changed("remove_member", "username", json!("bob"));
        let [near, far] = &mut bob;
        let (removed, again, sent, ()) = tokio::join!(
            alice.ok(removal),
            cluster.hosts[1].connect("bob"),
            carol.send(conversation, "meanwhile"),
            async { far.text(r#"{"type": "ping"}"#).await },
        );
        // A device that connected before the removal was known, or before it was committed.
        let mut again = again;
        assert!(removed["rev"].as_i64() > Some(rev) && sent > 0);
        for host in 0..2 {
            let sender = if host == 0 { &mut alice } else { &mut carol };
            sender.send(conversation, "after").await;
        }
        if is_lossy {
            cluster.nats.restart().await;
            for host in &cluster.hosts {
                ready(host.address).await;
            }
        }
        for host in [0, 1] {
            let sender = if host == 0 { &mut alice } else { &mut carol };
            sender.send(conversation, "after").await;
        }
        for (device, name) in [(near, "near"), (far, "far"), (&mut again, "again")] {
            let heard = device.pushes_so_far().await;
            let is_after = |push: &&Value| push["data"]["content"] == "after";
            assert_eq!(heard.iter().find(is_after), None, "{name}, round {round}");
            let revs = json!({ conversation.to_string(): rev });
            let missed = device.ok(json!({ "type": "sync", "revs": revs })).await;
            assert_eq!(missed["left"], json!([conversation]), "{name}");
        }
        // Those who stay hear each other again, also after a lost bus.
        soon("carol hears alice", async {
            let is_heard = |push: &Value| push["data"]["content"] == "to carol";
            while !carol.pushes_so_far().await.iter().any(is_heard) {
                alice.send(conversation, "to carol").await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_killed_hosts_users_go_offline_once() {
    let mut cluster = Cluster::start(3).await;
    let mut alice = cluster.join(0, "alice").await;
    register(cluster.hosts[0].address, "bob").await;
    register(cluster.hosts[0].address, "both").await;
    for name in ["bob", "both"] {
        alice.add_contact(name).await;
    }
    let _phones = [
        cluster.hosts[1].connect("bob").await,
        cluster.hosts[1].connect("bob").await,
        cluster.hosts[1].connect("both").await,
    ];
    let mut both = cluster.hosts[0].connect("both").await;
    for name in ["bob", "both"] {
        let push = alice.push().await;
        assert_eq!(
            (&push["data"]["username"], &push["data"]["is_online"]),
            (&json!(name), &json!(true))
        );
    }
    cluster.hosts.pop().expect("two hosts").kill().await;
    let push = alice.push().await;
    assert_eq!(
        (&push["data"]["username"], &push["data"]["is_online"]),
        (&json!("bob"), &json!(false))
    );
    assert_eq!(online(&mut alice).await, false);
    let profile = both.ok(json!({ "type": "self" })).await;
    assert_eq!(profile["is_online"], true, "online through the other host");
    assert_eq!(alice.pushes_so_far().await, [] as [Value; 0], "one push");
    // Clients that come back connect to the other host.
    let _bob = cluster.hosts[0].connect("bob").await;
    assert_eq!(alice.push().await["data"]["is_online"], true);
}

#[tokio::test]
async fn a_host_that_was_believed_dead_and_was_not_is_known_again() {
    let cluster = Cluster::start(3).await;
    let mut alice = cluster.join(0, "alice").await;
    let mut bob = cluster.join(1, "bob").await;
    alice.add_contact("bob").await;
    pushed_or_hinted(&mut bob).await;
    cluster.hosts[1].signal(Signal::STOP);
    assert_eq!(alice.push().await["data"]["is_online"], false);
    cluster.hosts[1].signal(Signal::CONT);
    assert_eq!(alice.push().await["data"]["is_online"], true);
    assert_eq!(online(&mut alice).await, true);
    // The host's sockets stayed open, and hear what they have missed.
    let conversation = alice.converse(&["bob"]).await;
    assert_eq!(bob.push().await["data"]["id"], conversation);
    bob.close().await;
    assert_eq!(alice.push().await["data"]["is_online"], false);
}

#[tokio::test]
async fn a_lost_bus_is_told_and_made_good() {
    let mut cluster = Cluster::start(30).await;
    let mut alice = cluster.join(0, "alice").await;
    let mut near = cluster.join(0, "near").await;
    let mut far = cluster.join(1, "far").await;
    let before = alice.converse(&["near", "far"]).await;
    near.push().await;
    far.push().await;
    cluster.nats.kill();
    until("a host that misses its bus", async || {
        cluster.readiness(0).await == (503, "the bus is not available".into())
    })
    .await;
    // Local delivery and commits go on.
    let first = alice.send(before, "first").await;
    assert_eq!(near.push().await["data"]["id"], first);
    let meanwhile = alice.converse(&["near", "far"]).await;
    assert_eq!(near.push().await["data"]["id"], meanwhile);
    let history = far.history(before).await;
    assert_eq!(history[0]["id"], first, "the database has the message");

    let hints = far.hints;
    cluster.nats.restart().await;
    for host in &cluster.hosts {
        ready(host.address).await;
    }
    hinted(&mut far, hints).await;
    far.pushes_so_far().await;
    let sync = json!({ "type": "sync", "revs": { before.to_string(): 1 } });
    let missed = far.ok(sync).await;
    assert_eq!(missed["conversations"][0]["messages"][0]["id"], first);
    // The other host now knows the conversation that was created while the bus was lost.
    let second = alice.send(meanwhile, "second").await;
    let heard = far.push().await;
    assert_eq!(
        (&heard["type"], &heard["data"]["id"]),
        (&json!("send_message"), &json!(second))
    );
}

#[tokio::test]
async fn an_end_of_a_login_that_the_bus_loses_is_known_at_once_and_closes_its_socket() {
    let nats = Nats::start().await;
    let link = Proxy::start(nats.address, 0).await;
    link.calm();
    let bus = |address| BusUrl {
        addresses: vec![format!("nats://{address}")],
        login: None,
        credentials_file: None,
    };
    let near = Host::start_with(Form::Remote, |config| {
        config.bus = Some(bus(nats.address));
    });
    let near = near.await;
    let far = Host::listen_beside(near.gateway(), |config| {
        config.bus = Some(bus(link.address));
        // Instead of a minute.
        config.account_interval = Duration::from_secs(2);
    });
    let far = far.await;
    ready(far.address).await;
    let mut alice = near.join("alice").await;
    let (ending, ended) = (login(near.address, "alice").await, "session ended".into());
    let logins = [
        login(near.address, "alice").await,
        format!("login-token={}", foreign_token(SECRET, "alice")),
    ];
    let mut sockets = Vec::new();
    for cookie in &logins {
        let mut socket = Client::connect(far.address, cookie).await;
        socket.ok(json!({ "type": "ping" })).await;
        sockets.push(socket);
    }
    near.register("bob").await;
    let mut bob = far.connect("bob").await;
    let conversation = alice.converse(&["bob"]).await;
    assert_eq!(bob.push().await["data"]["id"], conversation, "it is heard");
    link.swallow();
    let change = json!({ "old_password": PASSWORD, "new_password": PASSWORD }).to_string();
    let headers = [("cookie", ending.as_str())];
    let answer = near.http("POST", "/auth/password", &headers, change).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    for cookie in &logins {
        let headers = [("cookie", cookie.as_str())];
        let answer = far.http("GET", "/auth/verify", &headers, "").await;
        assert_eq!((answer.status, &*answer.body), (401, "invalid login-token"));
    }
    for socket in &mut sockets {
        assert_eq!(socket.closed().await, (1008, String::clone(&ended)));
    }
    let headers = [("cookie", ending.as_str())];
    let answer = far.http("GET", "/auth/verify", &headers, "").await;
    assert_eq!(answer.status, 200, "the login that changed the password");
    // The bus keeps the order of its packets: it has not brought this either.
    near.connect("alice").await.send(conversation, "lost").await;
    assert_eq!(bob.pushes_so_far().await, [] as [Value; 0]);
}

#[tokio::test]
async fn a_bus_that_stalls_delays_nobody_here() {
    let cluster = Cluster::start(30).await;
    let mut alice = cluster.join(0, "alice").await;
    let mut bob = cluster.join(0, "bob").await;
    let mut idle = cluster.join(1, "idle").await;
    let conversation = alice.converse(&["bob"]).await;
    bob.push().await;
    let hints = idle.hints;
    cluster.nats.signal(Signal::STOP);
    // 60 MB: far more than all buffers on the way can hold.
    let content = "x".repeat(60_000);
    for _ in 0..50 {
        for id in alice.send_many(conversation, &content, 20).await {
            assert_eq!(bob.push().await["data"]["id"], id);
        }
    }
    cluster.nats.signal(Signal::CONT);
    hinted(&mut idle, hints).await;
    let mut far = cluster.hosts[1].connect("bob").await;
    assert_eq!(far.history(conversation).await[0]["rev"], 1001);
}

#[tokio::test]
async fn a_member_who_is_just_connecting_elsewhere_hears_of_everything() {
    let cluster = Cluster::start(30).await;
    let mut alice = cluster.join(0, "alice").await;
    register(cluster.hosts[0].address, "bob").await;
    let cookie = login(cluster.hosts[1].address, "bob").await;
    // While bob connects, he becomes a member. His host hears of it from the bus or from the
    // database, in either order.
    for round in 0..60 {
        let (conversation, mut bob) = tokio::join!(
            alice.converse(&["bob"]),
            Client::connect(cluster.hosts[1].address, &cookie)
        );
        bob.ok(json!({ "type": "ping" })).await;
        let content = format!("round {round}");
        alice.send(conversation, &content).await;
        loop {
            let heard = bob.push().await;
            if heard["type"] == "send_message" {
                assert_eq!(heard["data"]["content"], content);
                break;
            }
        }
        bob.close().await;
    }
}

#[tokio::test]
async fn a_message_that_is_sent_while_its_reader_connects_is_pushed_or_told() {
    let cluster = Cluster::start(30).await;
    let mut alice = cluster.join(0, "alice").await;
    let mut told = 0;
    // A user and a conversation of its own for each round: the hosts know nothing of them yet.
    for round in 0..40 {
        let name = format!("reader{round}");
        register(cluster.hosts[0].address, &name).await;
        let cookie = login(cluster.hosts[1].address, &name).await;
        let conversation = alice.converse(&[&name]).await;
        let connects = async {
            for _ in 0..fastrand::u32(..200) {
                tokio::task::yield_now().await;
            }
            let mut reader = Client::connect(cluster.hosts[1].address, &cookie).await;
            let known = known_by(&mut reader, conversation).await;
            (reader, known)
        };
        let sends = async {
            let mut ids = Vec::new();
            for number in 0..12 {
                ids.push(alice.send(conversation, &number.to_string()).await);
            }
            ids
        };
        let ((mut reader, mut known), sent) = tokio::join!(connects, sends);
        soon("the messages, or a hint", async {
            while sent.iter().any(|id| !known.contains(id)) {
                if reader.hints > 0 {
                    told += 1;
                    known = known_by(&mut reader, conversation).await;
                    break;
                }
                let pushes = reader.pushes_so_far().await;
                known.extend(pushes.iter().filter_map(|push| push["data"]["id"].as_i64()));
            }
        })
        .await;
        assert!(sent.iter().all(|id| known.contains(id)), "round {round}");
        // From now on it hears everything.
        let last = alice.send(conversation, "last").await;
        while reader.push().await["data"]["id"] != last {}
        reader.close().await;
    }
    assert!(told < 40, "most are pushed: {told}");
}

/// The messages of a conversation that the database has.
async fn known_by(client: &mut Client, conversation: i64) -> Vec<i64> {
    let history = client.history(conversation).await;
    let messages = history.as_array().expect("a list").iter();
    messages
        .filter_map(|message| message["id"].as_i64())
        .collect()
}

#[tokio::test]
async fn a_host_hears_only_what_it_delivers() {
    let mut cluster = Cluster::start(30).await;
    let mut stranger = cluster.join(1, "stranger").await;
    let mut alice = cluster.join(0, "alice").await;
    register(cluster.hosts[0].address, "bob").await;
    let conversation = alice.converse(&["bob"]).await;
    // All hosts hear the first messages of a new conversation. To the next host it is not new.
    assert!(cluster.hosts.remove(0).end(Signal::TERM).await.success());
    let next = Process::start_on(&cluster.gateway, Some(&cluster.nats), 30).await;
    let mut alice = next.connect("alice").await;
    let mut bob = next.connect("bob").await;
    let content = "x".repeat(10_000);
    soon("that the hosts know what each wants", async {
        loop {
            let before = cluster.nats.carried().await;
            alice.send(conversation, &content).await;
            bob.push().await;
            if cluster.nats.carried().await - before < 10_000 {
                break;
            }
        }
    })
    .await;
    let before = cluster.nats.carried().await;
    for _ in 0..10 {
        let id = alice.send(conversation, &content).await;
        assert_eq!(bob.push().await["data"]["id"], id);
    }
    let bytes = cluster.nats.carried().await - before;
    assert!(bytes < 10_000, "{bytes}");
    assert_eq!(stranger.pushes_so_far().await, [] as [Value; 0]);
    // Another device of bob, on the other host: from now on that host hears it.
    let mut far = cluster.hosts[0].connect("bob").await;
    soon("the first push", async {
        while far.pushes_so_far().await.is_empty() {
            alice.send(conversation, "near").await;
        }
    })
    .await;
    let before = cluster.nats.carried().await;
    let id = alice.send(conversation, &content).await;
    while far.push().await["data"]["id"] != id {}
    let bytes = cluster.nats.carried().await - before;
    assert!((10_000..20_000).contains(&bytes), "{bytes}");
}

#[tokio::test]
async fn what_a_host_of_another_version_says_is_counted_as_lost() {
    let cluster = Cluster::start(30).await;
    let mut alice = cluster.join(0, "alice").await;
    let hints = alice.hints;
    let db = open_remote(cluster.gateway.url()).await;
    let find = handler::Statement::new("select cast(id as blob) from community", []);
    let rows = handler::run_batch(&db, [&find]).await.expect("rows");
    let chat_id = rows[0].first().expect("a row").columns().text();
    cluster
        .nats
        .publish(&format!("chat.{chat_id}"), "\u{2}of before")
        .await;
    hinted(&mut alice, hints).await;
}

#[tokio::test]
async fn secrets_are_used_and_never_logged() {
    let gateway = Gateway::start(shared_sqld().await).await;
    let nats = Nats::start_for(Some(("somebody", "a-word-of-the-bus"))).await;
    let folder = TempDir::new().expect("a folder");
    let log = folder.path().join("log");
    let (url, nats_url) = (gateway.url(), nats.url());
    let variables = [
        ("DBPATH", url.as_str()),
        ("DB_AUTH_TOKEN", "a-token-of-the-database"),
        ("NATS_URL", nats_url.as_str()),
        // Everything of those who know most. The whole of `trace` is more than the log takes.
        ("LOG_LEVEL", "host=trace,libsql=trace,async_nats=trace"),
    ];
    let variables = variables.map(|(name, value)| (name, OsStr::new(value)));
    let host = Process::start_with(&variables, Log::File(log.clone())).await;
    ready(host.address).await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    alice.send(conversation, "between us").await;
    alice.history(conversation).await;
    alice.close().await;
    assert!(host.end(Signal::TERM).await.success());
    let read = || std::fs::read_to_string(&log).expect("a log");
    until("the last line", async || read().contains("stopped")).await;
    let log = read();
    assert!(
        log.contains("async_nats") && log.contains("DEBUG host"),
        "everything is logged that may be"
    );
    for secret in [
        "a-word-of-the-bus",
        "a-token-of-the-database",
        "between us",
        "argon2",
        PASSWORD,
    ] {
        // SQL for a server has its texts in hexadecimal digits.
        let digits: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        for written in [secret, &digits] {
            assert!(!log.contains(written), "{secret}");
        }
    }
    // Without the user and password, the host has no bus.
    let variables = [
        ("DBPATH", url),
        ("NATS_URL", format!("nats://{}", nats.address)),
    ];
    let variables = variables
        .each_ref()
        .map(|(name, value)| (*name, OsStr::new(value)));
    let deaf = Process::start_with(&variables, Log::Test).await;
    let answer = request(deaf.address, "GET", "/readyz", &[], "").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (503, "the bus is not available")
    );
    let missing = folder.path().join("no.creds");
    let (status, _, errors) = run(
        &[],
        &[
            ("DBPATH", &gateway.url()),
            ("NATS_URL", &nats.url()),
            ("NATS_CREDS", missing.to_str().expect("text")),
        ],
    )
    .await;
    assert_eq!(status.code(), Some(1));
    assert!(errors.contains("NATS_CREDS: cannot use"), "{errors}");
}

#[tokio::test]
async fn hosts_of_other_databases_on_the_same_bus_are_not_heard() {
    let cluster = Cluster::start(30).await;
    let other = Gateway::start(shared_sqld().await).await;
    let other = Process::start_on(&other, Some(&cluster.nats), 30).await;
    let mut stranger = other.join("stranger").await;
    let mut alice = cluster.join(0, "alice").await;
    let mut bob = cluster.join(1, "bob").await;
    // Both databases have the same ids of users and conversations.
    assert_eq!(stranger.converse(&[]).await, alice.converse(&["bob"]).await);
    bob.push().await;
    alice.send(1, "for bob").await;
    assert_eq!(bob.push().await["data"]["content"], "for bob");
    assert_eq!(stranger.pushes_so_far().await, [] as [Value; 0]);
    assert_eq!(stranger.hints, 0);
    assert!(cluster.gateway.requests() > 0);
}

#[tokio::test]
async fn hosts_that_were_paused_together_do_not_take_each_other_for_dead() {
    // Enough time to wake the second host after the first.
    const LEASE_SECONDS: u32 = 6;
    let cluster = Cluster::start(LEASE_SECONDS).await;
    let mut alice = cluster.join(0, "alice").await;
    let mut bob = cluster.join(1, "bob").await;
    alice.add_contact("bob").await;
    pushed_or_hinted(&mut bob).await;
    let db = open_remote(cluster.gateway.url()).await;
    // When the host that renewed its lease first, and last, did so, and the time.
    let renewed = async || {
        let sql = "select min(seen_at), max(seen_at), unixepoch() from hosts";
        let rows = handler::run_batch(&db, [&handler::Statement::new(sql, [])]).await;
        let rows = rows.expect("rows");
        let mut columns = rows[0].first().expect("a row").columns();
        (columns.integer(), columns.integer(), columns.integer())
    };
    for host in &cluster.hosts {
        host.signal(Signal::STOP);
    }
    until("both leases have run out", async || {
        let (_, seen_at, now) = renewed().await;
        now > seen_at + i64::from(LEASE_SECONDS) + 1
    })
    .await;
    let (_, paused_at, resumed_at) = renewed().await;
    cluster.hosts[0].signal(Signal::CONT);
    until("the first renews its lease", async || {
        renewed().await.1 > paused_at
    })
    .await;
    cluster.hosts[1].signal(Signal::CONT);
    until("both have renewed their leases again", async || {
        renewed().await.0 > resumed_at + i64::from(LEASE_SECONDS)
    })
    .await;
    assert_eq!(online(&mut alice).await, true);
    assert_eq!(alice.pushes_so_far().await, [] as [Value; 0]);
    assert_eq!(bob.pushes_so_far().await, [] as [Value; 0]);
}

#[tokio::test]
async fn who_writes_to_many_sockets_of_another_host_pays_for_them() {
    const SOCKETS: usize = 150;
    let cluster = Cluster::start_with(30, 1_000).await;
    let mut alice = cluster.join(0, "alice").await;
    let address = cluster.hosts[1].address;
    register(address, "bob").await;
    let cookie = login(address, "bob").await;
    let mut bob = Vec::new();
    for _ in 0..SOCKETS {
        bob.push(Client::connect(address, &cookie).await);
    }
    let conversation = alice.converse(&["bob"]).await;
    let typing = json!({ "type": "typing", "conversation_id": conversation, "on": true });
    // Each is 128 times 512 bytes, so six are more than is earned in a second. Their own bytes are
    // less.
    let content = "x".repeat(64 * 1024 - 200);
    for _ in 0..6 {
        alice.send(conversation, &content).await;
    }
    for client in &mut bob {
        pushed_or_hinted(client).await;
    }
    // Nothing would wait until the pushes are paid for, so typing is left out.
    soon("that typing is left out", async {
        loop {
            alice.ok(typing.clone()).await;
            let mark = alice.send(conversation, "mark").await;
            let mut is_seen = false;
            loop {
                let push = bob[0].push().await;
                is_seen |= push["type"] == "typing";
                if push["data"]["id"] == mark {
                    break;
                }
            }
            if !is_seen {
                break;
            }
        }
    })
    .await;
}
