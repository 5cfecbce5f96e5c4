//! The index of the search: filled by the server, made anew by `chatapp reindex`, and switched off.

use std::ffi::OsStr;
use std::path::Path;

use serde_json::json;
use tests::data;
use tests::host::{Log, run, run_in};
use tests::{Data, Process, Sqld, until};

async fn integer(file: &Path, sql: &str) -> i64 {
    let db = data::open(file).await;
    let mut rows = db.query(sql, ()).await.expect("a query");
    let row = rows.next().await.expect("rows").expect("a row");
    row.get(0).expect("an integer")
}

async fn execute(file: &Path, sql: &str) {
    let db = data::open(file).await;
    db.execute_batch(sql).await.expect("executed");
}

/// The number of messages in the index that have a word.
async fn indexed(file: &Path, word: &str) -> i64 {
    let count = format!("select count(*) from search where search match '\"{word}\"'");
    integer(file, &count).await
}

const IS_COMPLETE: &str =
    "select high >= (select max(id) from messages) and low < (select min(id) from messages)
    and is_clearing = 0 and not exists (select 1 from search_stale) from search_state";

async fn complete(file: &Path) {
    until("the index holds all", async || {
        integer(file, IS_COMPLETE).await == 1
    })
    .await;
}

/// Starts a host with this value of SEARCH.
async fn start(data: &Data, search: &str) -> Process {
    let file = data.file();
    let variables = [("DBPATH", file.as_os_str()), ("SEARCH", OsStr::new(search))];
    Process::start_with(&variables, Log::Test).await
}

/// A file with a conversation of alice, and this many messages that are not indexed.
async fn chat(count: i64) -> Data {
    let data = Data::create();
    let host = data.start().await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    alice.send(conversation, "first").await;
    complete(&data.file()).await;
    drop(alice);
    host.stop().await;
    let more = format!(
        "with recursive n(n) as (select 1 union all select n + 1 from n where n < {count})
         insert into messages (sender_id, conversation_id, sent_at, content, rev)
         select 1, 1, 0, 'apples ' || n, 2 + n from n;
         update conversations set rev = rev + {count}"
    );
    execute(&data.file(), &more).await;
    data
}

async fn reindex(data: &Data) -> (bool, String) {
    let file = data.file();
    let (status, output, errors) =
        run(&["reindex"], &[("DBPATH", file.to_str().expect("text"))]).await;
    (status.success(), output + &errors)
}

#[tokio::test]
async fn the_server_indexes_what_is_there_and_what_comes() {
    let data = chat(1_000).await;
    let host = data.start().await;
    let mut alice = host.connect("alice").await;
    assert_eq!(alice.search("apples").await.len(), 1_000);
    complete(&data.file()).await;
    assert_eq!(indexed(&data.file(), "apples").await, 1_000);
    let id = alice.send(1, "pears").await;
    complete(&data.file()).await;
    assert_eq!(indexed(&data.file(), "pears").await, 1);
    let edit = json!({ "type": "edit_message", "message_id": id, "content": "plums" });
    alice.ok(edit).await;
    complete(&data.file()).await;
    assert_eq!(indexed(&data.file(), "pears").await, 0);
    assert_eq!(alice.search("plum").await, [id]);
    assert_eq!(alice.search("apples 10").await.len(), 12);
}

#[tokio::test]
async fn an_index_is_made_anew() {
    let data = chat(3_000).await;
    let (is_done, said) = reindex(&data).await;
    assert!(
        is_done && said.contains("3001 messages can be searched"),
        "{said}"
    );
    assert!(
        said.contains("search: 3001 messages of 3001, 100%"),
        "{said}"
    );
    assert_eq!(integer(&data.file(), IS_COMPLETE).await, 1);
    assert_eq!(indexed(&data.file(), "apples").await, 3_000);
    // Something went wrong with it.
    let lost = "insert into search (search) values ('delete-all')";
    execute(&data.file(), lost).await;
    let host = data.start().await;
    let mut alice = host.connect("alice").await;
    assert_eq!(alice.search("apples").await.len(), 0);
    let (is_done, said) = reindex(&data).await;
    assert!(
        !is_done && said.contains("a server is running on it"),
        "{said}"
    );
    drop(alice);
    host.stop().await;
    let (is_done, said) = reindex(&data).await;
    assert!(is_done, "{said}");
    let host = data.start().await;
    assert_eq!(
        host.connect("alice").await.search("apples").await.len(),
        3_000
    );
}

#[tokio::test]
async fn one_that_is_killed_at_any_moment_goes_on() {
    let data = chat(20_000).await;
    let file = data.file();
    let file = file.to_str().expect("text");
    let mut was_complete = false;
    for milliseconds in (20..400).step_by(40) {
        // `timeout` kills it at various moments, unless it ends first.
        let script = format!(r#"timeout -s KILL 0.{milliseconds:03} "$0" "$@""#);
        let (status, ..) = run_in(&script, &["reindex"], &[("DBPATH", file)]).await;
        was_complete |= status.success();
        let whole = "insert into search (search) values ('integrity-check')";
        execute(&data.file(), whole).await;
    }
    let host = data.start().await;
    let mut alice = host.connect("alice").await;
    assert_eq!(alice.search("\"apples 20000\"").await.len(), 1);
    complete(&data.file()).await;
    assert_eq!(
        indexed(&data.file(), "apples").await,
        20_000,
        "{was_complete}"
    );
}

#[tokio::test]
async fn it_can_be_switched_off_and_on() {
    let data = chat(500).await;
    let (is_done, said) = reindex(&data).await;
    assert!(is_done, "{said}");
    let host = start(&data, "off").await;
    let mut alice = host.connect("alice").await;
    let search = json!({ "type": "search_messages", "query": "apples" });
    until("it is refused", async || {
        alice.request(search.clone()).await["code"] == "forbidden"
    })
    .await;
    let pages = "select count(*) from search_data where id > 10";
    until("nothing is left", async || {
        integer(&data.file(), pages).await == 0
    })
    .await;
    // Nothing is kept of what is edited.
    let edit = json!({ "type": "edit_message", "message_id": 1, "content": "plums" });
    alice.ok(edit).await;
    assert_eq!(
        integer(&data.file(), "select count(*) from search_stale").await,
        0
    );
    drop(alice);
    host.stop().await;
    let file = data.file();
    let variables = [("DBPATH", file.to_str().expect("text")), ("SEARCH", "off")];
    let (status, _, errors) = run(&["reindex"], &variables).await;
    assert!(
        !status.success() && errors.contains("SEARCH is off"),
        "{errors}"
    );
    let host = start(&data, "on").await;
    let mut alice = host.connect("alice").await;
    until("it is answered", async || {
        alice.request(search.clone()).await["success"] == true
    })
    .await;
    assert_eq!(alice.search("apples").await.len(), 500);
    complete(&data.file()).await;
    assert_eq!(indexed(&data.file(), "plums").await, 1);
}

#[tokio::test]
async fn a_remote_index_is_made_anew() {
    let sqld = Sqld::start().await;
    let gateway = tests::Gateway::start(&sqld).await;
    let host = Process::start_on(&gateway, None, 2).await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    let id = alice.send(conversation, "apples").await;
    drop(alice);
    host.stop().await;
    let url = gateway.url();
    until("nobody serves it", async || {
        let (status, output, errors) = run(&["reindex"], &[("DBPATH", &url)]).await;
        let is_served = errors.contains("a server is running on it");
        assert!(status.success() || is_served, "{errors}");
        assert!(
            is_served || output.contains("1 messages can be searched"),
            "{output}"
        );
        status.success()
    })
    .await;
    let db = data::open_remote(url).await;
    let sql = "select count(*) from search where search match '\"apples\"'";
    let mut rows = db.query(sql, ()).await.expect("a query");
    let count: i64 = rows
        .next()
        .await
        .expect("rows")
        .expect("a row")
        .get(0)
        .expect("a number");
    assert_eq!(count, 1);
    let host = Process::start_on(&gateway, None, 2).await;
    assert_eq!(host.connect("alice").await.search("apple").await, [id]);
}

/// The messages of the first backend are found like others.
#[tokio::test]
async fn a_file_of_the_first_backend_is_indexed() {
    let data = Data::create();
    let old = "create table users (id integer primary key, username text not null unique, fullname text not null,
            password text not null, is_online integer not null default 0, last_online integer default (unixepoch()),
            created_at integer default (unixepoch()));
        create table contacts (user_id integer, contact_id integer, primary key (user_id, contact_id));
        create table conversations (id integer primary key, name text not null);
        create table members (conversation_id integer, user_id integer, primary key (conversation_id, user_id));
        create table messages (id integer primary key, sender_id integer not null, conversation_id integer not null,
            reply_id integer, sent_at integer default (unixepoch()), content text not null);
        insert into conversations values (1, 'old');
        insert into messages (id, sender_id, conversation_id, content) values
            (1, 1, 1, 'Apples'), (2, 1, 1, 'pears'), (7, 1, 1, 'more apples'), (8, 1, 2, 'apples of others')";
    execute(&data.file(), old).await;
    let host = data.start().await;
    host.join("alice").await.close().await;
    host.stop().await;
    execute(
        &data.file(),
        "insert into members (conversation_id, user_id) values (1, 1)",
    )
    .await;
    let host = data.start().await;
    let mut alice = host.connect("alice").await;
    assert_eq!(alice.search("apple").await, [7, 1]);
    complete(&data.file()).await;
    assert_eq!(indexed(&data.file(), "apples").await, 3);
    assert_eq!(alice.search("apple").await, [7, 1]);
    assert_eq!(alice.search("from:alice pear").await, [2]);
}
