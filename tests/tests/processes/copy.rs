//! `chatapp copy`: a chat moved from a file to a libSQL server and back, by the real program.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;
use tests::data;
use tests::host::{Site, ids, run, spawn};
use tests::servers::shared_sqld;
use tests::{Fault, Form, Gateway, Host, Process, soon};

/// Opens a database as another tool would.
async fn open(place: &str) -> libsql::Connection {
    match place.contains("://") {
        true => data::open_remote(place.into()).await,
        false => data::open(Path::new(place)).await,
    }
}

/// Runs SQL on a file.
async fn execute(file: &str, sql: &str) {
    let db = open(file).await;
    db.execute_batch("pragma foreign_keys = off")
        .await
        .expect("set");
    db.execute_batch(sql).await.expect("executed");
}

/// On a connection of its own: the server forgets one that has not asked for 10 s, and on a busy machine
/// it takes longer to read 40,000 rows.
async fn rows(place: &str, sql: &str) -> Vec<Vec<libsql::Value>> {
    let db = open(place).await;
    let mut found = db.query(sql, ()).await.expect("a query");
    let columns = found.column_count();
    let mut rows = Vec::new();
    while let Some(row) = found.next().await.expect("a row") {
        let values = (0..columns).map(|column| row.get_value(column).expect("a value"));
        rows.push(values.collect());
    }
    rows
}

async fn integer(place: &str, sql: &str) -> i64 {
    match rows(place, sql).await[0][0] {
        libsql::Value::Integer(value) => value,
        ref other => panic!("{other:?}"),
    }
}

/// The contents of each table: types, bytes and numbers of every column, in the order of rowids.
/// The tables of running hosts must be empty and are left out.
async fn contents(place: &str) -> BTreeMap<String, Vec<String>> {
    let text = |value: &libsql::Value| value.as_text().expect("text").clone();
    let tables = "select name from sqlite_master where type = 'table' order by name";
    let mut contents = BTreeMap::new();
    for table in rows(place, tables).await.iter().map(|row| text(&row[0])) {
        if table.starts_with("search") {
            // The index is made anew.
            continue;
        }
        if ["hosts", "presence"].contains(&table.as_str()) {
            let count = format!("select count(*) from {table}");
            assert_eq!(rows(place, &count).await, [[libsql::Value::Integer(0)]]);
            continue;
        }
        let columns = format!("select name from pragma_table_info('{table}') order by cid");
        let columns = rows(place, &columns).await;
        let columns = columns.iter().map(|row| text(&row[0]));
        let columns = columns.map(|name| {
            format!(", '{name}', typeof({name}), hex({name}), iif(typeof({name}) = 'real', {name}, null)")
        });
        let select = columns.collect::<String>();
        let select = format!("select rowid{select} from {table} order by rowid");
        let found = rows(place, &select).await;
        contents.insert(table, found.iter().map(|row| format!("{row:?}")).collect());
    }
    contents
}

/// A chat in a file: alice and bob have two messages, and no host serves it.
async fn chat() -> (TempDir, String) {
    let host = Host::start().await;
    let (mut alice, mut bob) = (host.join("alice").await, host.join("bob").await);
    alice.add_contact("bob").await;
    let conversation = alice.converse(&["bob"]).await;
    alice.send(conversation, "one").await;
    bob.send(conversation, "two").await;
    drop((alice, bob));
    let Site::Folder(folder) = host.stop().await else {
        panic!("it is on a file");
    };
    let file = folder.path().join("data/chat.db");
    (folder, file.to_str().expect("text").to_owned())
}

/// Adds this many messages to the conversation of a chat.
async fn add_messages(file: &str, count: u32) {
    let sql = format!(
        "with recursive n(n) as (select 3 union all select n + 1 from n where n < {count} + 2)
         insert into messages (id, sender_id, conversation_id, sent_at, content, rev)
         select n, 1 + n % 2, 1, 1700000000 + n, 'message ' || n, n + 1 from n;
         update conversations set rev = {count} + 3, activity = {count} + 2"
    );
    execute(file, &sql).await;
}

/// Rows that no client can send, but that a file may contain.
const NASTY: &str = "
    insert into users (id, username, fullname, password, is_online, last_online, created_at) values
        (-9223372036854775808, 'a' || char(0) || 'b', '', 'x', 1, 9223372036854775807, -9223372036854775808),
        (9223372036854775807, cast(x'ff00fe' as text), x'', x'00ff', 'yes', 0.1 + 0.2, null),
        (77, 'it''s; --\"?1', cast(x'00' as text), 5, 2.5, 5e-324, -1.7976931348623157e308);
    insert into members (rowid, conversation_id, user_id, read_id) values (-5, 1, 77, 0), (1000, 1, -1, 'none');
    insert into contacts (rowid, user_id, contact_id) values (500, 'text', x'0102');
    insert into messages (id, sender_id, conversation_id, reply_id, sent_at, content, rev, client_id) values
        (10, 1, 1, null, 1700000000.123456789, char(0), 4, null),
        (11, 'one', 1, 'none', 'yesterday', cast(x'f0288cbc00' as text), 5, '12'),
        (12, 1, 1, 11, 3.141592653589793, hex(zeroblob(500000)), 6, ''),
        (13, 1, 1, 11, -0.1, zeroblob(100000), 1e300, x'31');
    update messages set changed_rev = 7 where id = 11;
    insert into changed_messages values (11, 1, 5, 7, 1700000000, 0, 1);
    insert into mentions values (2, 11, 1, 1);
    insert into reactions values (11, '👍', 2);
    insert into members_changes values (1, 3, 1);
    insert into blocks values (1, 77), (77, 'text');
    insert into api_keys (name, hash, scopes, created_at) values ('app', x'00ff', 'users', 1700000000);
    insert into identities values ('https://id.example', '7', 77);
    insert into deleted_accounts (user_id, username, skeleton, deleted_at) values (78, 'eve', 'eve', 1700000000);
    insert into reports (message_id, reporter_id, reason, content, reported_at) values (12, 2, char(0), x'00', 1700000000);
    insert into conversations (id, name, request_id) values (50, '\u{1f44b} \r\n', x'00112233');
    create table notes (text, number real);
    insert into notes (rowid, text, number) values (3, 'of another tool', 7), (9, 1.25, '7');
    create view latest as select max(id) from messages;
";

async fn copy(arguments: &[&str]) -> (Option<i32>, String, String) {
    let arguments: Vec<&str> = ["copy"].iter().chain(arguments).copied().collect();
    let (status, output, errors) = run(&arguments, &[("DB_AUTH_TOKEN", "a-secret")]).await;
    for text in [&output, &errors] {
        assert!(!text.contains("a-secret"), "{text}");
    }
    (status.code(), output, errors)
}

/// Copies a database completely.
async fn copied(from: &str, to: &str) -> String {
    let (code, output, errors) = copy(&[from, to]).await;
    assert_eq!(code, Some(0), "{errors}");
    output
}

/// Asserts that the copy is refused for this reason.
async fn refused(arguments: &[&str], reason: &str) {
    let (code, _, errors) = copy(arguments).await;
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains(reason), "{reason:?} is not in {errors:?}");
}

/// Asserts that a host does not start on an incomplete copy.
async fn not_served(place: &str) {
    let (status, _, errors) = run(&[], &[("DBPATH", place)]).await;
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(errors.contains("an incomplete copy"), "{errors}");
}

fn path(folder: &TempDir, name: &str) -> String {
    let path = folder.path().join(name);
    path.to_str().expect("text").to_owned()
}

#[tokio::test]
async fn a_chat_moves_to_a_server_and_back() {
    let (folder, from) = chat().await;
    execute(&from, NASTY).await;
    let before = std::fs::read(&from).expect("a file");
    let gateway = Gateway::start(shared_sqld().await).await;
    let back = path(&folder, "new/folder/back.db");

    let output = copied(&from, &gateway.url()).await;
    assert!(
        std::fs::read(&from).expect("a file") == before,
        "FROM is only read"
    );
    let line = output.lines().find(|line| line.starts_with("messages "));
    let there: Vec<&str> = line.expect("a line").split_whitespace().collect();
    assert_eq!((there[1], there[2].len()), ("6", 64), "{output}");
    let output = copied(&gateway.url(), &back).await;
    let line = output.lines().find(|line| line.starts_with("messages "));
    let here: Vec<&str> = line.expect("a line").split_whitespace().collect();
    assert_eq!(
        here, there,
        "the same content has the same checksum, wherever it is"
    );

    execute(
        &from,
        "update users set is_online = 0; delete from hosts; delete from presence",
    )
    .await;
    let expected = contents(&from).await;
    for (table, rows) in &expected {
        assert!(!rows.is_empty(), "{table} has nothing to copy");
    }
    assert!(contents(&gateway.url()).await == expected, "on the server");
    assert!(contents(&back).await == expected, "and back");
    // The triggers of TO have not counted the members once more.
    let wrong = "select count(*) from conversation_counts as counted
        where conversations <> (select count(*) from members where user_id = counted.user_id)";
    assert_eq!(integer(&gateway.url(), wrong).await, 0);
    assert_eq!(integer(&back, wrong).await, 0);
    // It holds password hashes.
    let mode = std::fs::metadata(&back).expect("a file").mode();
    assert_eq!(mode & 0o777, 0o600);
    let others = "select group_concat(name) from (select name from sqlite_master
        where type in ('index', 'view', 'trigger') and name not like 'sqlite_%' order by name)";
    let others_of = async |place: &str| rows(place, others).await;
    assert_eq!(others_of(&gateway.url()).await, others_of(&from).await);
    assert_eq!(others_of(&back).await, others_of(&from).await);
}

#[tokio::test]
async fn a_host_serves_the_copy() {
    let (folder, from) = chat().await;
    add_messages(&from, 100).await;
    let gateway = Gateway::start(shared_sqld().await).await;
    copied(&from, &gateway.url()).await;
    let indexed = "select count(*) from search where search match '\"message\"'";
    assert_eq!(
        integer(&gateway.url(), indexed).await,
        100,
        "the copy has an index"
    );
    let back = TempDir::new().expect("a folder");
    for (form, site, newest) in [
        (Form::File, Site::Folder(folder), "message 102"),
        (Form::Remote, Site::Database(gateway.clone()), "message 102"),
        (Form::File, Site::Folder(back), "goes on"),
    ] {
        if let (Form::File, Site::Folder(folder)) = (form, &site)
            && !folder.path().join("data/chat.db").exists()
        {
            // What was written on the server is copied back.
            copied(&gateway.url(), &path(folder, "data/chat.db")).await;
        }
        let host = Host::start_at(form, site, |_| {}).await;
        let (mut alice, mut bob) = (host.connect("alice").await, host.connect("bob").await);
        let contacts = alice.ok(json!({ "type": "get_contacts" })).await;
        assert_eq!(contacts["profiles"][0]["username"], "bob");
        let info = json!({ "type": "get_conversation_info", "id": 1 });
        assert_eq!(alice.ok(info).await["members"], json!(["alice", "bob"]));
        let history = bob.history(1).await;
        assert_eq!(history[0]["content"], newest);
        assert_eq!(alice.search("message").await.len(), 100);
        let last = ids(&history)[0];
        assert_eq!(alice.send(1, "goes on").await, last + 1);
        drop((alice, bob));
        host.stop().await;
    }
}

/// Starts a copy and kills it after this many more requests. Returns `None` if the copy was
/// complete before.
async fn killed(
    from: &str,
    to: &str,
    gateway: &Gateway,
    requests: usize,
    signal: Signal,
) -> Option<Output> {
    let limit = gateway.requests() + requests;
    let mut child = spawn(&["copy", from, to]);
    let reached = async {
        while gateway.requests() < limit && child.try_wait().expect("a state").is_none() {
            tokio::task::yield_now().await;
        }
    };
    soon("the moment", reached).await;
    if let Some(id) = child.id() {
        kill_process(Pid::from_raw(id as i32).expect("a process id"), signal).expect("signalled");
    }
    let output = soon("its end", child.wait_with_output())
        .await
        .expect("an output");
    (!output.status.success()).then_some(output)
}

#[tokio::test]
async fn one_that_is_killed_at_any_moment_goes_on() {
    let (folder, from) = chat().await;
    add_messages(&from, 20_000).await;
    let gateway = Gateway::start(shared_sqld().await).await;
    let back = path(&folder, "back.db");
    for (from, to) in [
        (from.as_str(), gateway.url().as_str()),
        (&gateway.url(), &back),
    ] {
        let mut kills = 0;
        // The kill comes later each time, so that the copy completes in the end.
        for requests in (2..).step_by(5) {
            let signal = [Signal::KILL, Signal::TERM, Signal::INT][kills % 3];
            let Some(output) = killed(from, to, &gateway, requests, signal).await else {
                break;
            };
            let errors = String::from_utf8_lossy(&output.stderr);
            match signal {
                Signal::KILL => {}
                _ => assert!(
                    errors.contains("stopped: run the same command again"),
                    "{errors}"
                ),
            }
            kills += 1;
            let mark = "select count(*) from sqlite_master where name = 'copying'";
            if integer(to, mark).await == 1 {
                not_served(to).await;
            }
        }
        assert!(kills > 5, "only {kills} times");
        // The copy is complete already, or this completes it.
        copied(from, to).await;
    }
    assert!(contents(&gateway.url()).await == contents(&from).await);
    assert!(contents(&back).await == contents(&from).await);
}

#[tokio::test]
async fn lost_requests_and_answers_are_asked_for_again() {
    let (folder, from) = chat().await;
    add_messages(&from, 5_000).await;
    let gateway = Gateway::start(shared_sqld().await).await;
    for fault in [
        Fault::LoseAnswer,
        Fault::LoseRequest,
        Fault::Status(429),
        Fault::Status(502),
    ] {
        gateway.fault("INSERT INTO \\\"messages\\\"", fault);
        gateway.fault("max (rowid)", fault);
    }
    copied(&from, &gateway.url()).await;
    assert_eq!(gateway.faults_left(), 0, "every fault was met");
    assert!(contents(&gateway.url()).await == contents(&from).await);
    for fault in [
        Fault::LoseAnswer,
        Fault::LoseRequest,
        Fault::Status(429),
        Fault::Status(502),
    ] {
        gateway.fault("octet_length", fault);
    }
    let back = path(&folder, "back.db");
    copied(&gateway.url(), &back).await;
    assert_eq!(gateway.faults_left(), 0, "every fault was met");
    assert!(contents(&back).await == contents(&from).await);
}

#[tokio::test]
async fn what_is_not_the_same_is_found_by_its_checksum() {
    let (folder, from) = chat().await;
    add_messages(&from, 40_000).await;
    let gateway = Gateway::start(shared_sqld().await).await;
    let url = gateway.url();
    let output = killed(&from, &url, &gateway, 26, Signal::KILL).await;
    assert!(output.is_some(), "it was killed");
    let last = integer(&url, "select coalesce(max(id), 0) from messages").await;
    assert!((1..40_000).contains(&last), "in the middle: {last}");
    // This changes one letter of one message, but no count.
    let tamper = "update messages set content = 'message 4 ' where id = 4";
    open(&url).await.execute(tamper, ()).await.expect("changed");
    for _ in 0..2 {
        refused(&[&from, &url], "not the same as in FROM: messages.").await;
        not_served(&url).await;
    }
    // A restart copies FROM again.
    let (code, ..) = copy(&["--restart", &from, &url]).await;
    assert_eq!(code, Some(0));
    assert!(contents(&url).await == contents(&from).await);

    // Later changes in FROM are found too. A complete copy is compared but not changed.
    let before = contents(&url).await;
    execute(
        &from,
        "update users set fullname = 'Bob' where username = 'bob'",
    )
    .await;
    refused(
        &[&from, &url],
        "this chat is in it already, but differs from FROM in: users",
    )
    .await;
    refused(&["--restart", &from, &url], "this chat is in it already").await;
    assert!(contents(&url).await == before);

    let back = path(&folder, "back.db");
    let output = killed(&url, &back, &gateway, 33, Signal::KILL).await;
    assert!(output.is_some(), "it was killed");
    not_served(&back).await;
    execute(
        &back,
        "update users set password = cast(password as blob) where id = 1",
    )
    .await;
    refused(&[&url, &back], "not the same as in FROM: users.").await;
}

#[tokio::test]
async fn databases_that_are_served_are_refused() {
    let (folder, file) = chat().await;
    let other = path(&folder, "other.db");
    let host = Process::start(Path::new(&file)).await;
    refused(&[&file, &other], "FROM, ").await;
    refused(&[&file, &other], "a server is running on it").await;
    assert!(!Path::new(&other).exists());
    let (_folder, from) = chat().await;
    refused(&[&from, &file], "a server is running on it").await;
    host.kill().await;

    let gateway = Gateway::start(shared_sqld().await).await;
    let url = gateway.url();
    let host = Process::start_on(&gateway, None, 30).await;
    refused(&[&url, &other], "a server is running on it").await;
    refused(&[&file, &url], "a server is running on it").await;
    assert_eq!(host.end(Signal::TERM).await.code(), Some(0));
    // No client has used this database, so it counts as empty. FROM is the file that a killed host
    // has left.
    copied(&file, &url).await;
    let host = Process::start_on(&gateway, None, 30).await;
    assert_eq!(host.connect("bob").await.send(1, "three").await, 3);
}

#[tokio::test]
async fn databases_that_do_not_fit_are_refused_and_left_as_they_are() {
    let (folder, from) = chat().await;
    let (_folder, another) = chat().await;
    let to = path(&folder, "to.db");
    let missing = path(&folder, "missing.db");
    refused(&[&missing, &to], "there is no such file").await;
    assert!(!Path::new(&missing).exists() && !Path::new(&to).exists());
    refused(&[&from, &from], "the same database").await;
    refused(
        &[folder.path().to_str().expect("text"), &to],
        "it is a folder",
    )
    .await;
    refused(&[&from, "http://127.0.0.1:1"], "TO, http://127.0.0.1:1").await;
    refused(&["http://127.0.0.1:1", &to], "FROM, http://127.0.0.1:1").await;
    refused(
        &[&from, "https://user:secret@example"],
        "TO is a URL with a user",
    )
    .await;

    let newer = "insert into migrations (version, applied_at) values (999, 0)";
    let older = "delete from migrations where version = (select max(version) from migrations)";
    let left = async |sql: &str| {
        let file: PathBuf = folder.path().join(format!("{}.db", sql.len()));
        std::fs::copy(&another, &file).expect("a copy");
        let file = file.to_str().expect("text").to_owned();
        execute(&file, sql).await;
        file
    };
    let unfinished =
        "create table copying (community text not null); insert into copying values ('another')";
    let foreign = "drop table users";
    for (sql, as_from, as_to) in [
        (newer, "schema version 999", "schema version 999"),
        (older, "start this server on it once", "another chat"),
        (
            unfinished,
            "an incomplete copy",
            "an incomplete copy of another chat",
        ),
        ("select 1", "", "there is another chat in it"),
        // With its schema version it counts as a chat database, whatever it lacks.
        (foreign, "", "there is another chat in it"),
        (
            "create virtual table words using fts5 (word)",
            "the table words is virtual",
            "the table words is virtual",
        ),
    ] {
        let file = left(sql).await;
        let before = std::fs::read(&file).expect("a file");
        refused(&[&from, &file], as_to).await;
        if !as_from.is_empty() {
            refused(&[&file, &to], as_from).await;
            assert!(!Path::new(&to).exists(), "{sql}");
        }
        assert!(std::fs::read(&file).expect("a file") == before, "{sql}");
    }
    let songs = path(&folder, "songs.db");
    execute(&songs, "create table songs (id integer primary key)").await;
    refused(&[&from, &songs], "not a chat database").await;
    refused(&[&songs, &to], "not a chat database").await;
    std::fs::write(
        &songs,
        "a text that is no database, of some length, more than a header has; ".repeat(20),
    )
    .expect("written");
    refused(&[&from, &songs], "it is not a data file of chatapp").await;
    assert!(!Path::new(&to).exists());
}

#[tokio::test]
async fn a_table_that_cannot_be_copied_is_an_error() {
    let (folder, from) = chat().await;
    let to = path(&folder, "to.db");
    execute(
        &from,
        "create table words (word text primary key) without rowid; insert into words values ('x')",
    )
    .await;
    refused(&[&from, &to], "the table words has no rowids").await;
    assert!(!Path::new(&to).exists());
}

/// sqld would store null instead of the row's text.
#[tokio::test]
async fn a_row_that_is_too_long_for_a_server_is_named() {
    let (_folder, from) = chat().await;
    let long = "update messages set content = hex(zeroblob(2500001)) where id = 2";
    execute(&from, long).await;
    let gateway = Gateway::start(shared_sqld().await).await;
    refused(&[&from, &gateway.url()], "row 2 has 50000").await;
    execute(
        &from,
        "update messages set content = hex(zeroblob(2499900)) where id = 2",
    )
    .await;
    copied(&from, &gateway.url()).await;
}
