//! Users who take their data, and who delete their accounts.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tests::host::{Http, ORIGIN, PASSWORD, login, request};
use tests::{Client, Form, Host, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stories::in_every_form;

in_every_form! {
    a_user_takes_the_data_and_goes
    conversations_go_on_without_a_deleted_member
}

const EXPORT: &str = "/account/export";

fn farewell() -> String {
    json!({ "password": PASSWORD }).to_string()
}

async fn delete(host: &Host, cookie: &str, body: &str) -> Http {
    let headers = [("cookie", cookie)];
    host.http("DELETE", "/account", &headers, body.to_owned())
        .await
}

async fn export(host: &Host, cookie: &str) -> Http {
    request(
        host.next_address(),
        "GET",
        EXPORT,
        &[("cookie", cookie)],
        "",
    )
    .await
}

/// An error of these routes, as status, code and text.
fn error(answer: &Http) -> (u16, String, String) {
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    let text = |name: &str| body[name].as_str().expect("a text").to_owned();
    (answer.status, text("code"), text("error"))
}

fn refused(status: u16, code: &str, text: &str) -> (u16, String, String) {
    (status, code.into(), text.into())
}

async fn a_user_takes_the_data_and_goes(form: Form) {
    let host = Host::start_as(form).await;
    // On two hosts, one of each.
    let mut alices = [host.join("alice").await, host.connect("alice").await];
    let mut bobs = [host.join("bob").await, host.connect("bob").await];
    alices[0].add_contact("bob").await;
    let group = alices[0].converse(&["bob"]).await;
    alices[0].send(group, "the first").await;
    bobs[0].send(group, "@alice!").await;
    let cookie = login(host.address, "alice").await;

    let answer = export(&host, &cookie).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let attachment = "attachment; filename=\"chatapp-export.json\"";
    assert_eq!(answer.header("content-disposition"), Some(attachment));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let document: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(document["profile"]["username"], "alice");
    assert_eq!(document["contacts"], json!([{"username": "bob"}]));
    assert_eq!(document["conversations"][0]["id"], group);
    assert_eq!(document["messages"][0]["content"], "the first");
    assert_eq!(document["mentions"].as_array().expect("a list").len(), 1);

    for (body, expected) in [
        ("", refused(400, "invalid", "not a valid json")),
        ("{}", refused(400, "invalid", "password required")),
        (
            r#"{"password": "x"}"#,
            refused(403, "forbidden", "wrong password"),
        ),
    ] {
        assert_eq!(error(&delete(&host, &cookie, body).await), expected);
    }
    for alice in &mut alices {
        alice.ok(json!({ "type": "self" })).await;
    }
    let answer = delete(&host, &cookie, &farewell()).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    for alice in &mut alices {
        assert_eq!(alice.closed().await, (1008, "session ended".into()));
    }
    // The old login is worth nothing on any host, and there is no new one.
    let invalid = refused(401, "unauthorized", "invalid login-token");
    for _ in 0..2 {
        assert_eq!(error(&export(&host, &cookie).await), invalid);
        let mut late = Client::connect(host.next_address(), &cookie).await;
        let (code, _) = late.closed().await;
        assert_eq!(code, 1000);
    }
    assert_eq!(error(&delete(&host, &cookie, &farewell()).await), invalid);
    let credentials = json!({ "username": "alice", "password": PASSWORD, "fullname": "A" });
    for (path, expected) in [
        ("/auth/login", (401, "mismatch username and password")),
        ("/register", (409, "username already exists")),
    ] {
        let answer = host.http("POST", path, &[], credentials.to_string()).await;
        assert_eq!((answer.status, answer.body.as_str()), expected);
    }
    for bob in &mut bobs {
        // Another host may come first to the conversation.
        let mut expected = BTreeSet::from(["offline", "account_deleted", "leave_conversation"]);
        while !expected.is_empty() {
            let push = bob.push().await;
            match push["data"]["is_online"] == false {
                true => expected.remove("offline"),
                false => expected.remove(push["type"].as_str().expect("a type")),
            };
        }
        let history = bob.history(group).await;
        let senders = history.as_array().expect("messages").iter();
        let senders: Vec<_> = senders.map(|message| &message["sender_username"]).collect();
        assert_eq!(senders, ["bob", "deleted"]);
        assert_eq!(history[0]["mentions"], Value::Null);
        let contacts = bob.ok(json!({ "type": "get_contacts" })).await;
        assert_eq!(contacts["contacts"], json!([]));
    }
}

async fn conversations_go_on_without_a_deleted_member(form: Form) {
    let host = Host::start_as(form).await;
    let mut alice = host.join("alice").await;
    let mut bob = host.join("bob").await;
    let mut carol = host.join("carol").await;
    let group = alice.converse(&["bob", "carol"]).await;
    let made = json!({ "type": "create_conversation", "members": ["bob"], "direct": true });
    let direct = alice.ok(made).await["id"].clone();
    let sent = json!({ "type": "send_message", "conversation_id": direct, "content": "psst" });
    alice.ok(sent).await;
    for client in [&mut bob, &mut carol] {
        host.pushes_so_far(client).await;
    }
    let cookie = login(host.address, "alice").await;
    assert_eq!(delete(&host, &cookie, &farewell()).await.status, 204);

    // One who is there learns it by pushes.
    let left = json!({
        "conversation_id": group, "username": "alice", "rev": 2, "roles": {"bob": "owner"}, "deleted": true,
    });
    assert_eq!(carol.push().await["data"], left);
    let mut told = [bob.push().await, bob.push().await];
    told.sort_by_key(|push| push["type"] != "leave_conversation");
    assert_eq!(told[0]["data"], left);
    assert_eq!(told[1]["type"], "account_deleted");
    let noted = json!({ "conversation_id": direct, "username": "alice", "rev": 3 });
    assert_eq!(told[1]["data"], noted);
    // One who was away learns it by sync.
    let revs = json!({ group.to_string(): 1, direct.to_string(): 2 });
    let synced = bob.ok(json!({ "type": "sync", "revs": revs })).await;
    let shown = |index: usize| {
        let conversation = &synced["conversations"][index];
        ["id", "name", "rev", "members", "roles"].map(|name| conversation[name].clone())
    };
    let expected = [
        json!(group),
        json!("alice, bob, carol"),
        json!(2),
        json!(["bob", "carol"]),
        json!({"bob": "owner"}),
    ];
    assert_eq!(shown(0), expected);
    let expected = [
        direct.clone(),
        json!("deleted, bob"),
        json!(3),
        json!(["deleted", "bob"]),
        json!({}),
    ];
    assert_eq!(shown(1), expected);
    // bob is an owner now, and keeps what was said.
    let rename = json!({ "type": "rename_conversation", "conversation_id": group, "name": "we" });
    bob.ok(rename).await;
    let history = json!({ "type": "get_messages", "conversation_id": direct });
    let history = bob.ok(history).await;
    assert_eq!(history["messages"][0]["sender_username"], "deleted");
    assert_eq!(history["messages"][0]["content"], "psst");
    let list = bob.ok(json!({ "type": "get_conversations" })).await;
    let list = list.as_array().expect("a list");
    let listed = list
        .iter()
        .find(|listed| listed["id"] == direct)
        .expect("listed");
    assert_eq!(listed["profile"]["username"], "deleted");
}

#[tokio::test]
async fn who_may_take_and_delete_what() {
    let host = Host::start().await;
    host.register("alice").await;
    let cookie = login(host.address, "alice").await;
    let required = refused(401, "unauthorized", "login-token required");
    let invalid = refused(401, "unauthorized", "invalid login-token");
    let foreign = refused(403, "forbidden", "origin not allowed");
    let evil = ("origin", "http://evil.example");
    let link = ("sec-fetch-site", "cross-site");
    for (method, path) in [("GET", EXPORT), ("DELETE", "/account")] {
        for (headers, expected) in [
            (vec![], &required),
            (vec![("cookie", "login-token=x.y.z")], &invalid),
            (vec![("cookie", cookie.as_str()), evil], &foreign),
            // A link of another site has no `Origin`.
            (vec![("cookie", cookie.as_str()), link], &foreign),
        ] {
            let answer = host.http(method, path, &headers, farewell()).await;
            assert_eq!(&error(&answer), expected, "{method} {path} {headers:?}");
        }
        let headers = [("cookie", cookie.as_str())];
        let answer = host.http("HEAD", path, &headers, "").await;
        let allow = format!("{method}, OPTIONS");
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some(allow.as_str()))
        );
        let headers = [
            ("origin", ORIGIN),
            ("access-control-request-method", method),
        ];
        let answer = host.http("OPTIONS", path, &headers, "").await;
        assert_eq!(answer.header("access-control-allow-methods"), Some(method));
    }
    let headers = [("cookie", cookie.as_str()), ("origin", ORIGIN)];
    let answer = host.http("GET", EXPORT, &headers, "").await;
    assert_eq!(answer.status, 200);
    let answer = host.http("DELETE", "/account", &headers, farewell()).await;
    assert_eq!(answer.status, 204);
}

/// A wrong password counts as a guess, so a stolen login does not help to find the password.
#[tokio::test]
async fn a_stolen_login_cannot_guess_the_password() {
    let host = Host::start_with(Form::File, |config| {
        config.limits.logins_per_minute = 1000;
    })
    .await;
    host.register("alice").await;
    let cookie = login(host.address, "alice").await;
    for _ in 0..10 {
        let wrong = r#"{"password": "wrong"}"#;
        assert_eq!(delete(&host, &cookie, wrong).await.status, 403);
    }
    let answer = delete(&host, &cookie, &farewell()).await;
    assert_eq!(answer.status, 429);
    assert!(answer.header("retry-after").is_some());
}

/// Messages of 60,000 bytes that are more than the buffers of a connection hold: those of the system hold
/// up to 10 MB.
const STALLING: usize = 300;

/// alice, who has sent this many messages of 60,000 bytes.
async fn with_messages(host: &Host, count: usize) -> String {
    let mut alice = host.join("alice").await;
    alice.converse(&[]).await;
    let sql = format!(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < {count})
         insert into messages (sender_id, conversation_id, content, rev)
         select 1, 1, printf('%.60000c', 'x'), i + 1 from n;
         update conversations set rev = {count} + 1, activity = {count} where id = 1"
    );
    match host.form() {
        Form::File => {
            let db = tests::data::open(&host.database()).await;
            db.execute_batch("pragma busy_timeout = 60000")
                .await
                .expect("set");
            drop(db.execute_batch(&sql).await.expect("filled"));
        }
        Form::Remote | Form::Cluster => {
            let db = tests::data::open_remote(host.gateway().url()).await;
            drop(db.execute_transactional_batch(&sql).await.expect("filled"));
        }
    }
    login(host.address, "alice").await
}

/// Asks for an export and reads only the status.
async fn ask(host: &Host, cookie: &str) -> (TcpStream, u16) {
    ask_in(host, cookie, "HTTP/1.1").await
}

async fn ask_in(host: &Host, cookie: &str, version: &str) -> (TcpStream, u16) {
    let mut stream = TcpStream::connect(host.address)
        .await
        .expect("a connection");
    let head = format!("GET {EXPORT} {version}\r\nhost: x\r\ncookie: {cookie}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.expect("a status");
    let status = String::from_utf8_lossy(&status);
    let status = status.rsplit(' ').next().and_then(|code| code.parse().ok());
    (stream, status.expect("a status"))
}

/// The pages are read as the client reads, so what a slow client costs is a page or two.
#[tokio::test]
async fn an_export_is_read_as_fast_as_its_client_reads() {
    const MESSAGES: usize = 500;
    /// Messages of 60,000 bytes in what is read ahead and in the buffers of a connection: those of
    /// the system hold up to 10 MB.
    const AHEAD_MAX: usize = 250;
    /// Looks without a new request, after which the server waits for the client.
    const QUIET_LOOKS: usize = 25;
    // The index of the search would ask the database too.
    let host = Host::start_with(Form::Remote, |config| config.search = false).await;
    let cookie = with_messages(&host, MESSAGES).await;
    let (mut stream, status) = ask(&host, &cookie).await;
    assert_eq!(status, 200);
    // A page has 4 or 5 messages, and each is a request to the database.
    let before = host.gateway().requests();
    let (mut last, mut quiet) = (0, 0);
    until("a pause", async || {
        let requests = host.gateway().requests() - before;
        quiet = if requests == last { quiet + 1 } else { 0 };
        last = requests;
        quiet == QUIET_LOOKS
    })
    .await;
    assert!(last * 4 < AHEAD_MAX, "{last} pages are read ahead");
    let mut text = Vec::new();
    let mut part = vec![0; 64 * 1024];
    while !text.ends_with(b"\r\n0\r\n\r\n") {
        let read = stream.read(&mut part).await.expect("read");
        assert!(read > 0, "cut short");
        text.extend_from_slice(&part[..read]);
    }
    let text = String::from_utf8(text).expect("text");
    assert_eq!(text.matches("\"rev\":10,").count(), 1);
    assert!(text.len() > MESSAGES * 60_000);
    assert!(host.gateway().requests() - before > MESSAGES / 5);
}

#[tokio::test]
async fn an_export_that_is_not_read_ends() {
    let host = Host::start_with(Form::File, |config| {
        config.export_page_timeout = Duration::from_millis(200);
    })
    .await;
    let cookie = with_messages(&host, STALLING).await;
    let (mut stalled, status) = ask(&host, &cookie).await;
    assert_eq!(status, 200);
    let (_, status) = ask(&host, &cookie).await;
    assert_eq!(status, 429, "one at once");
    until("a place", async || ask(&host, &cookie).await.1 == 200).await;
    // The client can see that the document is not whole.
    let mut text = Vec::new();
    let _ = stalled.read_to_end(&mut text).await;
    assert!(!text.ends_with(b"0\r\n\r\n") && text.len() < STALLING * 60_000);
}

/// Asks for an export without chunks, and reads only the status.
async fn ask_for_document(host: &Host, cookie: &str) -> TcpStream {
    let (stream, status) = ask_in(host, cookie, "HTTP/1.0").await;
    assert_eq!(status, 200);
    stream
}

async fn document(mut stream: TcpStream) -> Value {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n");
    let head = head.expect("a head");
    serde_json::from_slice(&answer[head + 4..]).expect("a whole document")
}

/// The one item of a list that has this value.
fn item<'a>(document: &'a Value, list: &str, key: &str, value: &Value) -> &'a Value {
    let items = document[list].as_array().expect("a list").iter();
    let mut found = items.filter(|item| item[key] == *value);
    let item = found.next().unwrap_or_else(|| panic!("no {key} {value}"));
    assert!(found.next().is_none(), "{key} {value} comes twice");
    item
}

/// Changes to the beginning and the end of the document, while the host writes it.
#[tokio::test]
async fn an_export_is_of_one_moment() {
    let host = Host::start().await;
    let cookie = with_messages(&host, 200).await;
    let mut alice = host.connect("alice").await;
    let group = alice.converse(&[]).await;
    let edited = json!(alice.send(group, "0").await);
    alice.send(group, "0").await;
    let mut round = 0;
    for _ in 0..4 {
        let is_done = Cell::new(false);
        let changing = async {
            while !is_done.get() {
                round += 1;
                let text = round.to_string();
                for event in [
                    json!({ "type": "update_profile", "fullname": text }),
                    json!({ "type": "rename_conversation", "conversation_id": group, "name": text }),
                    json!({ "type": "edit_message", "message_id": edited, "content": text }),
                    json!({ "type": "send_message", "conversation_id": group, "content": text }),
                ] {
                    alice.ok(event).await;
                }
            }
        };
        let reading = async {
            let read = document(ask_for_document(&host, &cookie).await).await;
            is_done.set(true);
            read
        };
        let ((), read) = tokio::join!(changing, reading);
        let number = |text: &Value| -> i64 {
            let text = text.as_str().expect("a text");
            text.parse().unwrap_or_default()
        };
        let conversation = item(&read, "conversations", "id", &json!(group));
        let messages = read["messages"].as_array().expect("messages").iter();
        let of_group = messages.filter(|message| message["conversation_id"] == group);
        let mut sent = of_group.filter(|message| message["id"] != edited);
        let steps = [
            number(&read["profile"]["fullname"]),
            number(&conversation["name"]),
            number(&item(&read, "messages", "id", &edited)["content"]),
            number(&sent.next_back().expect("a message")["content"]),
        ];
        let in_order = steps.is_sorted_by(|early, late| early >= late);
        assert!(in_order && steps[0] <= steps[3] + 1, "{steps:?}");
    }
}

#[tokio::test]
async fn what_happens_while_a_client_reads_its_export_is_not_in_it() {
    const MESSAGES: i64 = STALLING as i64;
    let host = Host::start().await;
    let cookie = with_messages(&host, STALLING).await;
    let mut alice = host.connect("alice").await;
    let group = alice.converse(&[]).await;
    let edited = json!(alice.send(group, "first").await);
    let stream = ask_for_document(&host, &cookie).await;
    for event in [
        json!({ "type": "update_profile", "fullname": "later" }),
        json!({ "type": "rename_conversation", "conversation_id": group, "name": "later" }),
        json!({ "type": "edit_message", "message_id": edited, "content": "later" }),
        json!({ "type": "delete_message", "message_id": MESSAGES }),
        json!({ "type": "react", "message_id": edited, "emoji": "later", "on": true }),
        json!({ "type": "send_message", "conversation_id": group, "content": "@alice later" }),
    ] {
        alice.ok(event).await;
    }
    let read = document(stream).await;
    assert!(!read.to_string().contains("later"));
    let message = |id: &Value| item(&read, "messages", "id", id);
    assert_eq!(message(&edited)["content"], "first");
    let deleted = &message(&json!(MESSAGES))["content"];
    assert_eq!(deleted.as_str().map(str::len), Some(60_000));
    let count = read["messages"].as_array().expect("messages").len();
    assert_eq!(count as i64, MESSAGES + 1);
}

/// The files beside the data file that the host has open, and that have no name any more.
fn nameless_files(host: &Host) -> usize {
    let database = host.database();
    let folder = database.parent().expect("a folder");
    let open = fs::read_dir("/proc/self/fd").expect("files").flatten();
    let open = open.filter_map(|file| fs::read_link(file.path()).ok());
    let is_nameless = |file: &PathBuf| file.to_string_lossy().ends_with(" (deleted)");
    open.filter(|file| file.starts_with(folder) && is_nameless(file))
        .count()
}

#[tokio::test]
async fn nothing_is_left_of_an_export_whose_client_goes() {
    let host = Host::start().await;
    let cookie = with_messages(&host, STALLING).await;
    let (stalled, status) = ask(&host, &cookie).await;
    assert_eq!((status, nameless_files(&host)), (200, 1));
    let database = host.database();
    let folder = fs::read_dir(database.parent().expect("a folder")).expect("a folder");
    for file in folder.flatten() {
        let name = file.file_name().into_string().expect("a text");
        assert!(name.starts_with("chat.db"), "{name}");
    }
    drop(stalled);
    until("the end", async || nameless_files(&host) == 0).await;
    // This one goes while its export is written, or before.
    let mut hasty = TcpStream::connect(host.address).await.expect("connected");
    let head = format!("GET {EXPORT} HTTP/1.1\r\nhost: x\r\ncookie: {cookie}\r\n\r\n");
    hasty.write_all(head.as_bytes()).await.expect("sent");
    until("a file", async || nameless_files(&host) == 1).await;
    drop(hasty);
    until("the end", async || nameless_files(&host) == 0).await;
    until("a place", async || ask(&host, &cookie).await.1 == 200).await;
}
