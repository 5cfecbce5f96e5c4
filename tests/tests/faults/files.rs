//! Data files that are locked by other processes, damaged, or not databases at all.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tests::host::{ids, login, ready, refuse, register, request};
use tests::{Client, Data, Process, until};

use crate::stored::rows;

#[tokio::test]
async fn while_another_process_writes_events_are_unavailable_and_then_work_again() {
    let data = Data::create();
    let host = data.start().await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    let db = data.open().await;
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
    host.stop().await;
    db.execute_batch("begin immediate").await.expect("begun");
    refuse(&data.file(), "database is locked").await;
}

/// The event failed, and the reply does not say why.
fn assert_internal(reply: &Value) {
    assert_eq!(
        (&reply["code"], &reply["error"]),
        (&json!("internal"), &json!("internal error"))
    );
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let data = Data::create();
    let text = data.beside("text.db");
    let garbage = "this is a text of more than a hundred bytes ".repeat(50);
    fs::write(&text, garbage).expect("written");
    refuse(&text, "it is not a data file of chatapp").await;
    let lock = data.beside("text.db-lock");
    assert!(!lock.exists(), "nothing is left beside it");
    refuse(data.folder(), "is a folder, expected a file").await;
    refuse(&text.join("below/a/file.db"), "cannot create the folder").await;

    let host = data.start().await;
    register(host.address, "alice").await;
    host.stop().await;
    let bytes = fs::read(data.file()).expect("a file");
    let half = data.beside("half.db");
    fs::write(&half, &bytes[..bytes.len() / 2]).expect("written");
    refuse(&half, "database disk image is malformed").await;

    // An empty file is an empty database.
    let empty = data.beside("empty.db");
    fs::write(&empty, "").expect("written");
    let host = Process::start(&empty).await;
    register(host.address, "alice").await;
}

#[tokio::test]
async fn a_damaged_page_fails_the_events_that_need_it_and_no_others() {
    let data = Data::create();
    let host = data.start().await;
    register(host.address, "alice").await;
    let cookie = login(host.address, "alice").await;
    let mut alice = Client::connect(host.address, &cookie).await;
    let (damaged, sound) = (alice.converse(&[]).await, alice.converse(&[]).await);
    // Each message is in a page of its own.
    for count in 0..10 {
        alice
            .send(damaged, &format!("needle {count} {}", "x".repeat(2500)))
            .await;
    }
    for _ in 0..10 {
        alice.send(sound, &"y".repeat(2500)).await;
    }
    // Then the index of the search does not need the page that will be damaged.
    let is_indexed = "select high = (select max(id) from messages) and low < 1 from search_state";
    let db = data.open().await;
    until("the index holds all", async || {
        let indexed = rows(&db, is_indexed).await;
        indexed[0].columns().flag()
    })
    .await;
    drop(db);
    host.stop().await;
    let mut bytes = fs::read(data.file()).expect("a file");
    let needle = b"needle 5";
    let at = bytes.windows(needle.len()).position(|w| w == needle);
    let page = at.expect("it is there") / 4096 * 4096;
    bytes[page..page + 4096].fill(0xff);
    fs::write(data.file(), bytes).expect("written");

    let host = data.start_logging().await;
    let mut alice = Client::connect(host.address, &cookie).await;
    let get = json!({ "type": "get_messages", "conversation_id": damaged });
    assert_internal(&alice.request(get).await);
    until("a line in the log", async || data.logged("malformed") > 0).await;
    assert_eq!(
        alice.history(sound).await.as_array().map(Vec::len),
        Some(10)
    );
    for conversation in [sound, damaged] {
        let id = alice.send(conversation, "more").await;
        let get = json!({ "type": "get_messages", "conversation_id": conversation, "limit": 1 });
        assert_eq!(alice.ok(get).await["messages"][0]["id"], id);
    }
    assert_eq!(data.logged("malformed"), 1, "logged once");
    host.stop().await;
}

#[tokio::test]
async fn a_panic_fails_the_event_that_it_happens_in_and_no_other() {
    let data = Data::create();
    let host = data.start_logging().await;
    let mut alice = host.join("alice").await;
    let (damaged, sound) = (alice.converse(&[]).await, alice.converse(&[]).await);
    for conversation in [damaged, sound] {
        alice.send(conversation, "hello").await;
    }
    // libsql panics on text that is not UTF-8 in a numeric column.
    let update = format!(
        "pragma busy_timeout = 60000;
         update conversations set rev = cast(x'ff' as text) where id = {damaged};"
    );
    let db = data.open().await;
    db.execute_batch(&update).await.expect("written");
    // More often than there are threads that a panic could end.
    for round in 1..=20 {
        let get = json!({ "type": "get_conversation_info", "id": damaged });
        assert_internal(&alice.request(get).await);
        until("a line in the log", async || {
            data.logged("an event failed") == round
        })
        .await;
    }
    assert_eq!(data.logged(": panic why="), 20);
    assert_eq!(alice.history(sound).await.as_array().map(Vec::len), Some(1));
    alice.send(sound, "more").await;
    host.stop().await;
}

#[tokio::test]
async fn of_a_damaged_write_ahead_log_what_is_before_the_damage_counts() {
    let data = Data::create();
    let host = data.start().await;
    register(host.address, "alice").await;
    let cookie = login(host.address, "alice").await;
    let mut alice = Client::connect(host.address, &cookie).await;
    let conversation = alice.converse(&[]).await;
    let first = alice.send(conversation, "first").await;
    host.kill().await;
    // As a power failure may leave it: the end of the file is garbage.
    let mut bytes = fs::read(data.wal()).expect("a log");
    bytes.extend([0xa5; 10_000]);
    fs::write(data.wal(), bytes).expect("written");
    let host = data.start().await;
    let mut alice = Client::connect(host.address, &cookie).await;
    assert_eq!(ids(&alice.history(conversation).await), [first]);
    let second = alice.send(conversation, "second").await;
    host.stop().await;
    // And a log that is only garbage.
    fs::write(data.wal(), [0xa5; 10_000]).expect("written");
    let host = data.start().await;
    let mut alice = Client::connect(host.address, &cookie).await;
    assert_eq!(ids(&alice.history(conversation).await), [second, first]);
    alice.send(conversation, "third").await;
}

/// The file that the process has open under this name, which is no longer that of a file.
fn open_file(host: &Process, name: &str) -> PathBuf {
    let files = fs::read_dir(format!("/proc/{}/fd", host.id())).expect("it runs");
    let paths = files.flatten().map(|file| file.path());
    let is_it = |path: &PathBuf| {
        let leads_to = fs::read_link(path).unwrap_or_default();
        leads_to.to_string_lossy().ends_with(name)
    };
    let mut found = paths.into_iter().filter(is_it);
    found.next().expect("it is open")
}

async fn assert_stores_nothing(host: &Process, client: &mut Client, conversation: i64) {
    for _ in 0..20 {
        let send =
            json!({ "type": "send_message", "conversation_id": conversation, "content": "x" });
        let reply = client.request(send).await;
        assert_eq!(reply["code"], "unavailable", "{reply}");
    }
    until("not ready", async || {
        request(host.address, "GET", "/readyz", &[], "")
            .await
            .status
            == 503
    })
    .await;
}

#[tokio::test]
async fn without_its_file_it_acknowledges_nothing_until_it_is_back() {
    let data = Data::create();
    let host = data.start_logging().await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    let first = alice.send(conversation, "first").await;
    let away = data.beside("away.db");
    fs::rename(data.file(), &away).expect("moved");
    assert_stores_nothing(&host, &mut alice, conversation).await;
    let named = "chat.db was removed, moved or replaced, so nothing is stored any more";
    until("a line in the log", async || data.logged(named) > 0).await;
    // Another file of that name is not the one.
    fs::write(data.file(), "").expect("written");
    assert_stores_nothing(&host, &mut alice, conversation).await;
    fs::rename(&away, data.file()).expect("back");
    ready(host.address).await;
    let second = alice.send(conversation, "second").await;

    // Gone for good: what the process has open is saved, as deploy/faults.md says.
    fs::remove_file(data.file()).expect("removed");
    assert_stores_nothing(&host, &mut alice, conversation).await;
    let saved = data.beside("saved.db");
    fs::copy(open_file(&host, "chat.db (deleted)"), &saved).expect("saved");
    fs::copy(data.wal(), data.beside("saved.db-wal")).expect("saved");
    host.kill().await;
    // The next start makes no empty database.
    refuse(&data.file(), "is gone").await;
    assert!(!data.file().exists());
    let host = Process::start(&saved).await;
    let mut alice = host.connect("alice").await;
    assert_eq!(ids(&alice.history(conversation).await), [second, first]);
}

/// As a copy on a full disk leaves it.
#[tokio::test]
async fn an_empty_file_in_the_place_of_its_database_is_refused() {
    let data = Data::create();
    let host = data.start().await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    let stored = alice.send(conversation, "in the log").await;
    let away = data.beside("away.db");
    host.kill().await;
    fs::rename(data.file(), &away).expect("moved");
    fs::write(data.file(), "").expect("written");
    let log = fs::read(data.wal()).expect("a log");
    refuse(&data.file(), "is empty").await;
    assert!(fs::read(data.wal()).expect("a log") == log);
    fs::rename(&away, data.file()).expect("back");
    let host = data.start().await;
    let mut alice = host.connect("alice").await;
    assert_eq!(ids(&alice.history(conversation).await), [stored]);
    host.stop().await;

    // Without a log, and on purpose.
    fs::write(data.file(), "").expect("written");
    refuse(&data.file(), "is empty").await;
    fs::remove_file(data.beside("chat.db-lock")).expect("removed");
    data.start().await.stop().await;
}

/// A copy lacks what is in the write-ahead log, and the server goes on with the file that was moved.
#[tokio::test]
async fn a_copy_in_the_place_of_its_file_is_not_taken_for_it_silently() {
    let data = Data::create();
    let host = data.start_logging().await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    let stored = alice.send(conversation, "in the log").await;
    let away = data.beside("away.db");
    fs::rename(data.file(), &away).expect("moved");
    fs::copy(&away, data.file()).expect("copied");
    assert_stores_nothing(&host, &mut alice, conversation).await;
    host.stop().await;
    let told = format!("all that it has acknowledged is in {}", away.display());
    assert_eq!(data.logged(&told), 1);
    // As the log says.
    fs::rename(&away, data.file()).expect("back");
    let host = data.start_logging().await;
    let mut alice = host.connect("alice").await;
    assert_eq!(ids(&alice.history(conversation).await), [stored]);

    fs::remove_file(data.file()).expect("removed");
    assert_stores_nothing(&host, &mut alice, conversation).await;
    host.stop().await;
    let told = "chat.db was removed while this server ran";
    assert_eq!(data.logged(told), 1);
}

#[tokio::test]
async fn without_its_write_ahead_log_it_acknowledges_nothing_and_loses_nothing() {
    let data = Data::create();
    let host = data.start_logging().await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    let stored = alice.send(conversation, "in the log").await;
    fs::remove_file(data.wal()).expect("removed");
    assert_stores_nothing(&host, &mut alice, conversation).await;
    let named = "chat.db-wal was removed, moved or replaced, so nothing is stored any more: stop";
    until("a line in the log", async || data.logged(named) > 0).await;
    host.stop().await;
    let host = data.start().await;
    let mut alice = host.connect("alice").await;
    assert_eq!(ids(&alice.history(conversation).await), [stored]);
}
