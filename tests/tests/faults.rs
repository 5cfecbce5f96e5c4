//! Faults, each produced for real: what is lost, and what is seen. deploy/faults.md has them as a table.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures_util::{SinkExt, StreamExt};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::host::{Log, ids, login, register, request, run, run_in};
use tests::{Client, Form, Host, Process, Proxy, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;

/// Between two looks at something that is awaited.
const LOOK: Duration = Duration::from_millis(20);

/// Opens the file as another tool would.
async fn open(path: &Path) -> libsql::Connection {
    let database = libsql::Builder::new_local(path)
        .build()
        .await
        .expect("a database");
    database.connect().expect("a connection")
}

async fn rows(db: &libsql::Connection, sql: &'static str) -> Vec<handler::Row> {
    let mut statement = db.prepare(sql).await.expect("a query");
    handler::run(&mut statement, Vec::new())
        .await
        .expect("rows")
        .0
}

/// A message that a client was answered or told: its id, conversation, rev and content.
type Heard = (i64, i64, i64, String);

fn heard(data: &Value) -> Heard {
    let integer = |name: &str| data[name].as_i64().expect("an integer");
    let content = data["content"].as_str().expect("content").to_owned();
    (
        integer("id"),
        integer("conversation_id"),
        integer("rev"),
        content,
    )
}

/// Looks at the file as its host has left it, or leaves it at this moment: a copy, so that the host has its own recovery to do.
/// It is whole, every message that was heard of is in it, each once, and neither ids nor revs have gaps. Returns the contents.
async fn check(file: &Path, heard: &[Heard]) -> BTreeSet<String> {
    let folder = TempDir::new().expect("a folder");
    let copy = folder.path().join("copy.db");
    fs::copy(file, &copy).expect("copied");
    let log = file.with_extension("db-wal");
    if log.exists() {
        fs::copy(log, folder.path().join("copy.db-wal")).expect("copied");
    }
    let db = open(&copy).await;
    let found = rows(&db, "pragma integrity_check").await;
    assert_eq!(found[0].columns().text(), "ok");
    let select = "select id, conversation_id, rev, cast(content as blob) from messages order by id";
    let mut stored = BTreeMap::new();
    let mut revs: BTreeMap<i64, i64> = BTreeMap::new();
    for row in rows(&db, select).await {
        let mut columns = row.columns();
        let (id, conversation, rev) = (columns.integer(), columns.integer(), columns.integer());
        assert_eq!(id, stored.len() as i64 + 1, "ids without gaps");
        let last = revs.entry(conversation).or_insert(1);
        *last += 1;
        assert_eq!(
            rev, *last,
            "revs of conversation {conversation} without gaps"
        );
        stored.insert(id, (id, conversation, rev, columns.text()));
    }
    for message in heard {
        assert_eq!(
            stored.get(&message.0),
            Some(message),
            "what was heard of is lost"
        );
    }
    let contents: BTreeSet<_> = stored.values().map(|message| message.3.clone()).collect();
    assert_eq!(contents.len(), stored.len(), "each message once");
    contents
}

/// A client that sends without a pause, with several messages unanswered.
struct Streamer {
    name: String,
    cookie: String,
    conversation: i64,
    /// It calls its messages by client_ids, and sends those again that were not answered.
    has_client_ids: bool,
    count: usize,
    unanswered: VecDeque<String>,
}

impl Streamer {
    const WINDOW: usize = 10;

    /// Sends at most `count` new messages, until all are answered or the connection ends. Whatever message it is answered or
    /// told goes to `told`. Returns the code of the close frame, where there was one.
    async fn stream(
        &mut self,
        Client { mut socket, .. }: Client,
        count: usize,
        told: mpsc::UnboundedSender<Heard>,
    ) -> Option<u16> {
        let mut due = std::mem::take(&mut self.unanswered);
        if !self.has_client_ids {
            due.clear();
        }
        let end = self.count + count;
        loop {
            while self.unanswered.len() < Self::WINDOW {
                let content = match due.pop_front() {
                    Some(content) => content,
                    None if self.count == end => break,
                    None => {
                        self.count += 1;
                        format!("{} {}", self.name, self.count)
                    }
                };
                let mut event = json!({
                    "type": "send_message", "conversation_id": self.conversation, "content": content, "ref": content,
                });
                if self.has_client_ids {
                    event["client_id"] = json!(content);
                }
                self.unanswered.push_back(content);
                // Where the host has closed or is gone, what it said before is still read.
                if socket.send(Message::text(event.to_string())).await.is_err() {
                    break;
                }
            }
            if self.unanswered.is_empty() {
                return None;
            }
            match soon("a frame or the end", socket.next()).await {
                Some(Ok(Message::Text(text))) => {
                    let event: Value = serde_json::from_str(&text).expect("JSON");
                    if event["type"] != "send_message" {
                        continue;
                    }
                    assert_eq!(event["success"], true, "{event}");
                    if let Some(content) = event["ref"].as_str() {
                        assert_eq!(self.unanswered.pop_front().as_deref(), Some(content));
                    }
                    let _ = told.send(heard(&event["data"]));
                }
                Some(Ok(Message::Close(close))) => {
                    self.unanswered.extend(due);
                    return close.map(|close| close.code.into());
                }
                Some(Ok(_)) => {}
                None | Some(Err(_)) => {
                    self.unanswered.extend(due);
                    return None;
                }
            }
        }
    }
}

/// Streamers of a new database; the first two are in one conversation, and so on.
async fn streamers(address: SocketAddr, count: usize) -> Vec<Streamer> {
    let mut streamers = Vec::new();
    for index in 0..count {
        let name = format!("user{index}");
        register(address, &name).await;
        let cookie = login(address, &name).await;
        streamers.push(Streamer {
            name,
            cookie,
            conversation: 0,
            has_client_ids: index % 4 < 2,
            count: 0,
            unanswered: VecDeque::new(),
        });
    }
    for pair in streamers.chunks_mut(2) {
        let mut founder = Client::connect(address, &pair[0].cookie).await;
        let conversation = founder.converse(&[&pair[1].name]).await;
        for streamer in pair {
            streamer.conversation = conversation;
        }
    }
    streamers
}

/// Connects all of them, then lets them stream until they have their answers or the host is gone.
async fn start(
    streamers: Vec<Streamer>,
    address: SocketAddr,
    count: usize,
) -> (
    JoinSet<(Streamer, Option<u16>)>,
    mpsc::UnboundedReceiver<Heard>,
) {
    let (tell, told) = mpsc::unbounded_channel();
    let mut running = JoinSet::new();
    let mut connected = Vec::new();
    for streamer in streamers {
        let client = Client::connect(address, &streamer.cookie).await;
        connected.push((streamer, client));
    }
    for (mut streamer, client) in connected {
        let tell = tell.clone();
        running.spawn(async move {
            let code = streamer.stream(client, count, tell).await;
            (streamer, code)
        });
    }
    (running, told)
}

#[tokio::test]
async fn killed_at_any_moment_it_has_what_it_acknowledged() {
    const ROUNDS: usize = 50;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = Rng::with_seed(seed);
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("chat.db");
    let mut host = Process::start(&file).await;
    let mut streamers = streamers(host.address, 4).await;
    let mut acknowledged = Vec::new();
    for _ in 0..ROUNDS {
        let (running, mut told) = start(streamers, host.address, usize::MAX / 2).await;
        for _ in 0..random.usize(0..200) {
            acknowledged.push(soon("an answer", told.recv()).await.expect("they stream"));
        }
        // A commit takes less: the moment is any in it.
        sleep(Duration::from_micros(random.u64(0..5_000))).await;
        host.kill().await;
        streamers = running
            .join_all()
            .await
            .into_iter()
            .map(|(s, _)| s)
            .collect();
        while let Some(message) = told.recv().await {
            acknowledged.push(message);
        }
        check(&file, &acknowledged).await;
        host = Process::start(&file).await;
    }
    let (running, _told) = start(streamers, host.address, 0).await;
    let streamers = running.join_all().await;
    let contents = check(&file, &acknowledged).await;
    for (streamer, _) in streamers.iter().filter(|(s, _)| s.has_client_ids) {
        let own = |number| format!("{} {number}", streamer.name);
        assert!((1..=streamer.count).all(|number| contents.contains(&own(number))));
    }
    assert!(
        acknowledged.len() > ROUNDS,
        "{} messages",
        acknowledged.len()
    );
}

#[tokio::test]
async fn killed_while_it_makes_its_file_it_starts_on_what_there_is() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = Rng::with_seed(seed);
    for _ in 0..10 {
        let folder = TempDir::new().expect("a folder");
        let file = folder.path().join("data/chat.db");
        let script = format!(
            r#"exec timeout --signal=KILL 0.{:03} "$0" "$@""#,
            random.u32(1..100)
        );
        run_in(&script, &[], &[("DBPATH", file.to_str().expect("text"))]).await;
        let host = Process::start(&file).await;
        register(host.address, "alice").await;
        assert_eq!(host.end(Signal::TERM).await.code(), Some(0));
        check(&file, &[]).await;
    }
}

#[tokio::test]
async fn terminated_under_load_it_answers_closes_and_leaves_a_whole_file() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("chat.db");
    let host = Process::start(&file).await;
    let streamers = streamers(host.address, 20).await;
    let (running, mut told) = start(streamers, host.address, usize::MAX / 2).await;
    let mut acknowledged = Vec::new();
    for _ in 0..1000 {
        acknowledged.push(soon("an answer", told.recv()).await.expect("they stream"));
    }
    assert_eq!(host.end(Signal::TERM).await.code(), Some(0));
    for (streamer, code) in running.join_all().await {
        assert_eq!(code, Some(1001), "{}", streamer.name);
    }
    while let Some(message) = told.recv().await {
        acknowledged.push(message);
    }
    assert!(!file.with_extension("db-wal").exists(), "checkpointed");
    check(&file, &acknowledged).await;
}

/// A script that starts the program where `mounts` hold, which only the program sees. Where this user may not mount, nothing,
/// and the test cannot be made: it says so, whether or not the output of tests is shown.
fn mounted(mounts: &str, folder: &Path) -> Option<String> {
    for options in ["-m", "-rm"] {
        let mut command = std::process::Command::new("unshare");
        command
            .args([options, "sh", "-c", mounts])
            .env("DIR", folder);
        if command.output().is_ok_and(|output| output.status.success()) {
            return Some(format!(
                r#"exec unshare {options} sh -c '{mounts} && exec "$0" "$@"' "$0" "$@""#
            ));
        }
    }
    let _ = writeln!(
        std::io::stderr(),
        "SKIPPED, because this user may not mount anything: {mounts}"
    );
    None
}

/// Waits until this holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !holds().await {
            sleep(LOOK).await;
        }
    })
    .await;
}

/// The lines of a log that have this in them.
fn lines(log: &Path, text: &str) -> usize {
    let log = fs::read_to_string(log).expect("a log");
    log.lines().filter(|line| line.contains(text)).count()
}

#[tokio::test]
async fn a_full_disk_makes_sends_unavailable_until_there_is_room() {
    let folder = TempDir::new().expect("a folder");
    let folder = folder.path();
    let Some(script) = mounted(r#"mount -t tmpfs -o size=4m tmpfs "$DIR""#, folder) else {
        return;
    };
    let logs = TempDir::new().expect("a folder");
    let log = logs.path().join("log");
    let file = folder.join("chat.db");
    let variables = [
        ("DBPATH", file.as_os_str()),
        ("DIR", folder.as_os_str()),
        ("LOG_LEVEL", OsStr::new("info")),
    ];
    let host = Process::start_in(&script, &variables, Log::File(log.clone())).await;
    let inside = format!("/proc/{}/root{}", host.id(), folder.display());
    let inside = Path::new(&inside);
    for name in ["alice", "bob", "carol"] {
        register(host.address, name).await;
    }
    let mut alice = host.connect("alice").await;
    let bob_cookie = login(host.address, "bob").await;
    let carol = host.connect("carol").await;
    alice
        .ok(json!({ "type": "add_contact", "contact_username": "carol" }))
        .await;
    let conversation = alice.converse(&["bob"]).await;
    let send = |content: &str| json!({ "type": "send_message", "conversation_id": conversation, "content": content });
    let mut stored = vec![heard(&alice.ok(send("before")).await)];

    let ballast = inside.join("ballast");
    let mut filling = File::create(&ballast).expect("a file");
    while match filling.write(&[0; 4096]) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::StorageFull);
            false
        }
    } {}
    let started = Instant::now();
    let mut refused = 0;
    for round in 0..100 {
        for count in 0..20 {
            alice
                .text(&send(&format!("full {round} {count}")).to_string())
                .await;
        }
        for _ in 0..20 {
            let reply = alice.receive().await;
            if reply["success"] == true {
                // The log had a piece of a page left.
                stored.push(heard(&reply["data"]));
                continue;
            }
            assert_eq!(reply["code"], "unavailable", "{reply}");
            assert!(reply["retry_after"].as_i64() > Some(0), "{reply}");
            refused += 1;
        }
    }
    assert!(refused > 1000, "{refused} of 2000");
    let newest = stored.last().expect("a message").0;
    let history = alice.history(conversation).await;
    assert_eq!(history[0]["id"], newest, "reads go on");
    // It tries a smaller write than these, for which there may be room a few times more.
    until("not ready", async || {
        let ready = request(host.address, "GET", "/readyz", &[], "").await;
        (ready.status, ready.body.as_str()) == (503, "the database is not available")
    })
    .await;
    let mut bob = Client::connect(host.address, &bob_cookie).await;
    assert_eq!(bob.closed().await.0, 1013, "try again later");
    carol.close().await;
    let reason = "database or disk is full";
    until("a line in the log", async || lines(&log, reason) > 0).await;
    let named = lines(&log, reason);
    let most = started.elapsed().as_secs() as usize + 1;
    assert!(
        named <= most,
        "{named} lines for {refused} refusals, at most {most}"
    );

    fs::remove_file(ballast).expect("removed");
    drop(filling);
    stored.push(heard(&alice.ok(send("after")).await));
    let offline = alice.push().await;
    assert_eq!(
        (&offline["data"]["username"], &offline["data"]["is_online"]),
        (&json!("carol"), &json!(false)),
        "what could not be stored then is now"
    );
    tests::host::ready(host.address).await;
    host.signal(Signal::STOP);
    let contents = check(&inside.join("chat.db"), &stored).await;
    assert_eq!(
        contents.len(),
        stored.len(),
        "what was refused is not there"
    );
    host.signal(Signal::CONT);
    assert_eq!(host.end(Signal::TERM).await.code(), Some(0));
}

#[tokio::test]
async fn where_it_cannot_write_it_says_so_and_does_not_start() {
    let folder = TempDir::new().expect("a folder");
    let folder = folder.path();
    let file = folder.join("chat.db");
    let read_only = r#"mount --bind "$DIR" "$DIR" && mount -o remount,bind,ro "$DIR""#;
    let Some(folder_read_only) = mounted(read_only, folder) else {
        return;
    };
    let variables = [
        ("DBPATH", file.to_str().expect("text")),
        ("DIR", folder.to_str().expect("text")),
    ];
    let refuse = async |script: &str, reason: &str, variables: &[(&str, &str)]| {
        let before = fs::read(&file).ok();
        let (status, _, errors) = run_in(script, &[], variables).await;
        assert_eq!(status.code(), Some(1), "{errors}");
        assert!(errors.contains("DBPATH: "), "{errors}");
        assert!(errors.contains(reason), "{errors}");
        assert!(fs::read(&file).ok() == before, "it has changed");
    };
    let reason = "Read-only file system";
    refuse(&folder_read_only, reason, &variables).await;
    let full = mounted(r#"mount -t tmpfs -o size=64k tmpfs "$DIR""#, folder).expect("as before");
    refuse(&full, "database or disk is full", &variables).await;
    let host = Process::start(&file).await;
    register(host.address, "alice").await;
    assert_eq!(host.end(Signal::TERM).await.code(), Some(0));
    refuse(&folder_read_only, reason, &variables).await;
    // The file alone.
    let variables = [variables[0], ("DIR", file.to_str().expect("text"))];
    let file_read_only = mounted(read_only, &file).expect("as before");
    refuse(&file_read_only, "readonly database", &variables).await;
}

#[tokio::test]
async fn while_another_process_writes_events_are_unavailable_and_then_work_again() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("chat.db");
    let host = Process::start(&file).await;
    register(host.address, "alice").await;
    let mut alice = host.connect("alice").await;
    let conversation = alice.converse(&[]).await;
    let db = open(&file).await;
    db.execute_batch("begin immediate").await.expect("begun");
    let event = json!({ "type": "send_message", "conversation_id": conversation, "content": "x" });
    for _ in 0..30 {
        alice.text(&event.to_string()).await;
    }
    for _ in 0..30 {
        let reply = alice.receive().await;
        assert_eq!(reply["code"], "unavailable", "{reply}");
        assert_eq!(reply["error"], "the server is busy, try again later");
        assert!(reply["retry_after"].as_i64() > Some(0));
    }
    assert_eq!(
        alice.history(conversation).await,
        json!([]),
        "readers go on"
    );
    db.execute_batch("rollback").await.expect("rolled back");
    alice.send(conversation, "again").await;
    assert_eq!(host.end(Signal::TERM).await.code(), Some(0));
    db.execute_batch("begin immediate").await.expect("begun");
    refuse(&file, "database is locked").await;
}

/// Starts the program on this file: it must refuse, and leave the file as it is.
async fn refuse(file: &Path, reason: &str) {
    let before = fs::read(file).ok();
    let path = file.to_str().expect("text");
    let (status, _, errors) = run(&[], &[("DBPATH", path)]).await;
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(errors.contains("DBPATH: "), "{errors}");
    assert!(errors.contains(reason), "{reason:?} is not in {errors:?}");
    assert!(
        fs::read(file).ok() == before,
        "{} has changed",
        file.display()
    );
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let folder = TempDir::new().expect("a folder");
    let text = folder.path().join("text.db");
    let garbage = "this is a text of more than a hundred bytes ".repeat(50);
    fs::write(&text, garbage).expect("written");
    refuse(&text, "file is not a database").await;
    refuse(folder.path(), "is a folder, expected a file").await;
    refuse(&text.join("below/a/file.db"), "cannot create the folder").await;

    let whole = folder.path().join("whole.db");
    let host = Process::start(&whole).await;
    register(host.address, "alice").await;
    assert_eq!(host.end(Signal::TERM).await.code(), Some(0));
    let bytes = fs::read(&whole).expect("a file");
    let half = folder.path().join("half.db");
    fs::write(&half, &bytes[..bytes.len() / 2]).expect("written");
    refuse(&half, "database disk image is malformed").await;

    // An empty file is an empty database.
    let empty = folder.path().join("empty.db");
    fs::write(&empty, "").expect("written");
    let host = Process::start(&empty).await;
    register(host.address, "alice").await;
}

#[tokio::test]
async fn a_damaged_page_fails_the_events_that_need_it_and_no_others() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("chat.db");
    let host = Process::start(&file).await;
    register(host.address, "alice").await;
    let cookie = login(host.address, "alice").await;
    let mut alice = Client::connect(host.address, &cookie).await;
    let (damaged, sound) = (alice.converse(&[]).await, alice.converse(&[]).await);
    // Each in a page of its own.
    for count in 0..10 {
        alice
            .send(damaged, &format!("needle {count} {}", "x".repeat(2500)))
            .await;
    }
    for _ in 0..10 {
        alice.send(sound, &"y".repeat(2500)).await;
    }
    assert_eq!(host.end(Signal::TERM).await.code(), Some(0));
    let mut bytes = fs::read(&file).expect("a file");
    let needle = b"needle 5";
    let at = bytes.windows(needle.len()).position(|w| w == needle);
    let page = at.expect("it is there") / 4096 * 4096;
    bytes[page..page + 4096].fill(0xff);
    fs::write(&file, bytes).expect("written");

    let log = folder.path().join("log");
    let variables = [
        ("DBPATH", file.as_os_str()),
        ("LOG_LEVEL", OsStr::new("info")),
    ];
    let host = Process::start_with(&variables, Log::File(log.clone())).await;
    let mut alice = Client::connect(host.address, &cookie).await;
    let get = json!({ "type": "get_messages", "conversation_id": damaged });
    let reply = alice.request(get).await;
    assert_eq!(
        (&reply["code"], &reply["error"]),
        (&json!("internal"), &json!("internal error"))
    );
    until("a line in the log", async || lines(&log, "malformed") > 0).await;
    assert_eq!(
        alice.history(sound).await.as_array().map(Vec::len),
        Some(10)
    );
    for conversation in [sound, damaged] {
        let id = alice.send(conversation, "more").await;
        let get = json!({ "type": "get_messages", "conversation_id": conversation, "limit": 1 });
        assert_eq!(alice.ok(get).await["messages"][0]["id"], id);
    }
    assert_eq!(lines(&log, "malformed"), 1, "once");
    assert_eq!(host.end(Signal::TERM).await.code(), Some(0));
}

#[tokio::test]
async fn a_panic_fails_the_event_that_it_happens_in_and_no_other() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("chat.db");
    let log = folder.path().join("log");
    let variables = [
        ("DBPATH", file.as_os_str()),
        ("LOG_LEVEL", OsStr::new("info")),
    ];
    let host = Process::start_with(&variables, Log::File(log.clone())).await;
    register(host.address, "alice").await;
    let mut alice = host.connect("alice").await;
    let (damaged, sound) = (alice.converse(&[]).await, alice.converse(&[]).await);
    for conversation in [damaged, sound] {
        alice.send(conversation, "hello").await;
    }
    // libsql panics on text that is not UTF-8 in a column of numbers.
    let update = format!(
        "pragma busy_timeout = 60000;
         update conversations set rev = cast(x'ff' as text) where id = {damaged};"
    );
    open(&file)
        .await
        .execute_batch(&update)
        .await
        .expect("written");
    // More often than there are threads that could be gone.
    for round in 1..=20 {
        let get = json!({ "type": "get_conversation_info", "id": damaged });
        let reply = alice.request(get).await;
        assert_eq!(
            (&reply["code"], &reply["error"]),
            (&json!("internal"), &json!("internal error"))
        );
        until("its line", async || lines(&log, "an event failed") == round).await;
    }
    assert_eq!(lines(&log, ": panic why="), 20);
    assert_eq!(alice.history(sound).await.as_array().map(Vec::len), Some(1));
    alice.send(sound, "more").await;
    assert_eq!(host.end(Signal::TERM).await.code(), Some(0));
}

#[tokio::test]
async fn of_a_damaged_write_ahead_log_what_is_before_the_damage_counts() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("chat.db");
    let log = file.with_extension("db-wal");
    let host = Process::start(&file).await;
    register(host.address, "alice").await;
    let cookie = login(host.address, "alice").await;
    let mut alice = Client::connect(host.address, &cookie).await;
    let conversation = alice.converse(&[]).await;
    let first = alice.send(conversation, "first").await;
    host.kill().await;
    // As a power failure may leave it: something at the end that was never written whole.
    let mut bytes = fs::read(&log).expect("a log");
    bytes.extend([0xa5; 10_000]);
    fs::write(&log, bytes).expect("written");
    let host = Process::start(&file).await;
    let mut alice = Client::connect(host.address, &cookie).await;
    assert_eq!(ids(&alice.history(conversation).await), [first]);
    let second = alice.send(conversation, "second").await;
    assert_eq!(host.end(Signal::TERM).await.code(), Some(0));
    // And one that is none.
    fs::write(&log, [0xa5; 10_000]).expect("written");
    let host = Process::start(&file).await;
    let mut alice = Client::connect(host.address, &cookie).await;
    assert_eq!(ids(&alice.history(conversation).await), [second, first]);
    alice.send(conversation, "third").await;
}

/// README.md, "Limits".
const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}

/// Sends this many long messages.
async fn write(client: &mut Client, conversation: i64, count: usize) {
    let content = "x".repeat(60_000);
    let event =
        json!({ "type": "send_message", "conversation_id": conversation, "content": content });
    let event = event.to_string();
    for _ in 0..count {
        client.text(&event).await;
    }
    for _ in 0..count {
        assert_eq!(client.receive().await["success"], true);
    }
}

#[tokio::test]
async fn a_write_ahead_log_that_a_long_reader_held_is_short_again_when_it_has_gone() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("chat.db");
    let (wal, log) = (file.with_extension("db-wal"), folder.path().join("log"));
    let variables = [
        ("DBPATH", file.as_os_str()),
        ("LOG_LEVEL", OsStr::new("info")),
    ];
    let host = Process::start_with(&variables, Log::File(log.clone())).await;
    register(host.address, "alice").await;
    let mut alice = host.connect("alice").await;
    let conversation = alice.converse(&[]).await;
    let reader = open(&file).await;
    reader.execute_batch("begin").await.expect("begun");
    rows(&reader, "select count(*) from messages").await;
    while length(&wal) < LOG_BYTES_MAX * 5 / 4 {
        write(&mut alice, conversation, 20).await;
    }
    let warned = "the write-ahead log";
    until("a warning", async || lines(&log, warned) > 0).await;
    write(&mut alice, conversation, 20).await;
    assert_eq!(lines(&log, warned), 1, "once");
    reader.execute_batch("rollback").await.expect("rolled back");
    until("a short log", async || {
        write(&mut alice, conversation, 20).await;
        length(&wal) < LOG_BYTES_MAX
    })
    .await;
    until("a word of it", async || lines(&log, warned) == 2).await;
}

#[tokio::test]
async fn under_constant_reads_the_write_ahead_log_stays_short() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("chat.db");
    let wal = file.with_extension("db-wal");
    let host = Process::start(&file).await;
    register(host.address, "alice").await;
    let cookie = login(host.address, "alice").await;
    let mut alice = Client::connect(host.address, &cookie).await;
    let conversation = alice.converse(&[]).await;
    write(&mut alice, conversation, 20).await;
    let mut readers = JoinSet::new();
    for _ in 0..4 {
        let cookie = cookie.clone();
        readers.spawn(async move {
            let mut reader = Client::connect(host.address, &cookie).await;
            loop {
                reader.history(conversation).await;
            }
        });
    }
    let mut longest = 0;
    // 96 MB.
    for _ in 0..80 {
        write(&mut alice, conversation, 20).await;
        longest = longest.max(length(&wal));
    }
    assert!(longest < LOG_BYTES_MAX * 5 / 4, "{longest} bytes");
    assert!(readers.try_join_next().is_none(), "they read all the while");
}

#[tokio::test]
async fn without_file_descriptors_it_serves_whom_it_has_and_then_accepts_again() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("chat.db");
    let log = folder.path().join("log");
    let variables = [
        ("DBPATH", file.as_os_str()),
        ("LOG_LEVEL", OsStr::new("info")),
    ];
    let script = r#"ulimit -n 64 && exec "$0" "$@""#;
    let host = Process::start_in(script, &variables, Log::File(log.clone())).await;
    register(host.address, "alice").await;
    register(host.address, "bob").await;
    let (mut alice, mut bob) = (host.connect("alice").await, host.connect("bob").await);
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
    until("a line in the log", async || lines(&log, named) > 0).await;
    // Time for many more attempts.
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(1) {
        let id = alice.send(conversation, "still here").await;
        assert_eq!(bob.push().await["data"]["id"], id);
        assert_eq!(bob.history(conversation).await[0]["id"], id);
    }
    assert_eq!(lines(&log, named), 1, "once");
    drop(crowd);
    let mut carol = {
        register(host.address, "carol").await;
        host.connect("carol").await
    };
    carol.converse(&["alice"]).await;
    assert_eq!(host.end(Signal::TERM).await.code(), Some(0));
}

/// A library that shows a program another time than the system's (Debian's package faketime), wherever the system keeps it.
const FAKETIME: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";

#[tokio::test]
async fn when_the_clock_jumps_order_and_connections_stay() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("chat.db");
    let clock = folder.path().join("clock");
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
    alice
        .ok(json!({ "type": "add_contact", "contact_username": "bob" }))
        .await;
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
        "the library faketime is needed: {times:?}"
    );
    assert_eq!(ids(&json!(sent)), [1, 2, 3, 4, 5, 6]);
    let list = alice.ok(json!({ "type": "get_conversations" })).await;
    assert_eq!(ids(&list), [second, first], "by what happened last");
    // A login that was made later than now, by this clock, holds.
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

    // The file says that a host was alive in the future.
    host.kill().await;
    fs::write(&clock, "-9000").expect("written");
    let host = Process::start_in(&script, &variables, Log::Test).await;
    let mut bob = host.connect("bob").await;
    let contacts = bob.ok(json!({ "type": "get_contacts" })).await;
    assert_eq!(contacts["profiles"][0]["is_online"], false);
    assert_eq!(bob.send(first, "after").await, 8);
    // And a login is over when its hour is.
    fs::write(&clock, "+3700").expect("written");
    let mut late = Client::connect(host.address, &cookie).await;
    assert_eq!(late.closed().await, (1000, "invalid login-token".into()));
    host.connect("bob").await;
    assert_eq!(bob.send(first, "later").await, 9);
    assert_eq!(host.end(Signal::TERM).await.code(), Some(0));
}

/// The open files of a process.
fn files(process: &Process) -> usize {
    let folder = format!("/proc/{}/fd", process.id());
    fs::read_dir(folder).expect("it runs").count()
}

/// Opens a socket and answers its pings, for as long as it lives. `is_abrupt`: it ends with a reset.
async fn stay(address: SocketAddr, cookie: String, is_abrupt: bool) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    if is_abrupt {
        stream.set_zero_linger()?;
    }
    let handshake = format!(
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(handshake.as_bytes()).await?;
    let mut buffer = [0; 512];
    while stream.read(&mut buffer).await? > 0 {
        // A pong, whatever came.
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
    // Other tests of this process need some too.
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
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("chat.db");
    let host = Process::start(&file).await;
    register(host.address, "alice").await;
    let mut alice = host.connect("alice").await;
    let conversation = alice.converse(&[]).await;
    let mut cookies = Vec::new();
    for index in 0..USERS {
        let name = format!("user{index}");
        register(host.address, &name).await;
        cookies.push(login(host.address, &name).await);
        alice
            .ok(json!({ "type": "add_contact", "contact_username": name }))
            .await;
    }
    let before = files(&host);
    let db = open(&file).await;
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
        // No more on their way than the system lets wait.
        while index % 100 == 0 && open_sockets().await + 500 < index {
            sleep(LOOK).await;
        }
    }
    until("all are open", async || open_sockets().await == sockets + 1).await;
    assert!(crowd.try_join_next().is_none(), "none was closed");
    assert!(files(&host) > sockets);
    for _ in 0..USERS {
        assert_eq!(alice.push().await["data"]["is_online"], true);
    }

    crowd.abort_all();
    let gone = tokio::spawn(async move { while crowd.join_next().await.is_some() {} });
    let mut offline = BTreeSet::new();
    while offline.len() < USERS {
        // It is served all the while, if sometimes only when it asks again: the departures are writes too.
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
    until("their files are closed", async || files(&host) <= before).await;
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
    alice
        .ok(json!({ "type": "add_contact", "contact_username": "bob" }))
        .await;
    let conversation = alice.converse(&["bob"]).await;
    let mut bob = Client::connect(proxy.address, &cookie).await;
    assert_eq!(alice.push().await["data"]["is_online"], true);
    alice.send(conversation, "before").await;
    let rev = bob.push().await["data"]["rev"].clone();
    // It is there and answers pings, and nothing of that arrives.
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

/// Sends `start`, and behind it a byte now and then, until the server ends it; returns what that answers.
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
        // Not closed before the server has ended it.
        writes
    });
    let mut answer = Vec::new();
    // It may end with a reset, because what it was sent is not read any more.
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
    soon("the end of all that are slow", async {
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

/// Resident memory of a process.
fn memory_bytes(process: &Process) -> i64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.expect("a line").trim().trim_end_matches(" kB");
    kib.parse::<i64>().expect("a number") * 1024
}

#[tokio::test]
async fn a_client_that_never_reads_costs_little_and_catches_up() {
    let folder = TempDir::new().expect("a folder");
    let host = Process::start(&folder.path().join("chat.db")).await;
    for name in ["alice", "bob", "sloth"] {
        register(host.address, name).await;
    }
    let (mut alice, mut bob) = (host.connect("alice").await, host.connect("bob").await);
    let cookie = login(host.address, "sloth").await;
    alice
        .ok(json!({ "type": "add_contact", "contact_username": "sloth" }))
        .await;
    let conversation = alice.converse(&["bob", "sloth"]).await;
    bob.push().await;
    let content = "x".repeat(60_000);
    let send = async |alice: &mut Client, bob: &mut Client| {
        let id = alice.send(conversation, &content).await;
        assert_eq!(bob.push().await["data"]["id"], id, "others get everything");
        id
    };
    // Until the database's cache is full.
    for _ in 0..1000 {
        send(&mut alice, &mut bob).await;
    }
    let mut sloth = Client::connect(host.address, &cookie).await;
    assert_eq!(alice.push().await["data"]["is_online"], true);
    let before = memory_bytes(&host);
    let mut most = before;
    let mut last = 0;
    let mut told = Vec::new();
    // 60 MB: far more than may wait for it.
    for _ in 0..1000 {
        last = send(&mut alice, &mut bob).await;
        most = most.max(memory_bytes(&host));
        told.extend(alice.pushes_so_far().await);
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["data"]["is_online"], false);
    assert!(
        most - before < 20 * 1024 * 1024,
        "from {before} to {most} bytes"
    );
    // Where it does not read even then, it is cut off.
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
