//! Hosts that are killed while they erase a deleted account, and what is left of it in the file.

use std::fs;

use serde_json::json;
use tests::data::open_remote;
use tests::host::{login, register, request};
use tests::servers::{shared_nats, shared_sqld};
use tests::{Client, Data, Gateway, Process, until};

use crate::stored::rows;

const FULLNAME: &str = "Alice Whose Name Is To Be Found Nowhere";
const PASSWORD: &str = "a password of alice";

/// Conversations of alice, and her contacts: some seconds of work.
const CONVERSATIONS: usize = 2_000;
const CONTACTS: usize = 2_000;

/// Registers alice; returns her cookie.
async fn register_alice(host: &Process) -> String {
    let account = json!({ "username": "alice", "password": PASSWORD, "fullname": FULLNAME });
    let body = account.to_string();
    let answer = request(host.address, "POST", "/register", &[], body.clone()).await;
    assert_eq!(answer.status, 201);
    let answer = request(host.address, "POST", "/auth/login", &[], body).await;
    let cookie = answer.header("set-cookie").expect("a cookie");
    cookie.split(';').next().expect("a value").to_owned()
}

/// Gives alice (1) conversations with bob (2), and contacts.
fn much() -> String {
    format!(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < {CONVERSATIONS})
         insert into conversations (name, member_count) select 'n' || i, 2 from n;
         insert into members (conversation_id, user_id, role) select id, 1, 2 from conversations;
         insert into members (conversation_id, user_id) select id, 2 from conversations;
         with recursive n(i) as (select 1 union all select i + 1 from n where i < {CONTACTS})
         insert into contacts (user_id, contact_id) select 1, 100 + i from n union all select 100 + i, 1 from n"
    )
}

async fn delete(host: &Process, cookie: &str) {
    let body = json!({ "password": PASSWORD }).to_string();
    let headers = [("cookie", cookie)];
    let answer = request(host.address, "DELETE", "/account", &headers, body).await;
    assert_eq!(answer.status, 204, "{answer:?}");
}

const MEMBERSHIPS: &str = "select count(*) from members where user_id = 1";
const REST: &str = "select (select count(*) from members where user_id = 1)
    + (select count(*) from contacts where user_id = 1 or contact_id = 1)
    + (select count(*) from users where username = 'alice')";

async fn count(db: &libsql::Connection, sql: &'static str) -> i64 {
    let found = rows(db, sql).await;
    found[0].columns().integer()
}

#[tokio::test]
async fn a_deletion_that_a_kill_interrupts_is_finished_and_leaves_no_profile() {
    let data = Data::create();
    let host = data.start_logging().await;
    let cookie = register_alice(&host).await;
    register(host.address, "bob").await;
    let db = data.open().await;
    let script = format!("pragma busy_timeout = 60000; {}", much());
    db.execute_batch(&script).await.expect("filled");
    let hash = rows(&db, "select cast(password as blob) from users where id = 1").await;
    let hash = hash[0].columns().text();
    let all = CONVERSATIONS as i64;
    let export = request(
        host.address,
        "GET",
        "/account/export",
        &[("cookie", &cookie)],
        "",
    )
    .await;
    assert_eq!(export.status, 200);
    delete(&host, &cookie).await;
    until("a beginning", async || count(&db, MEMBERSHIPS).await < all).await;
    host.kill().await;
    let left = count(&db, MEMBERSHIPS).await;
    assert!(left > 0, "killed in the middle");
    for line in ["export of the account", "deletion of the account"] {
        assert_eq!(data.logged(line), 1, "{line}");
    }

    let host = data.start().await;
    let mut bob = Client::connect(host.address, &login(host.address, "bob").await).await;
    until("the end", async || count(&db, REST).await == 0).await;
    let list = bob
        .ok(json!({ "type": "get_conversations", "limit": 1000 }))
        .await;
    let listed = list.as_array().expect("a list");
    assert!(listed.iter().all(|one| one["members"] == json!(["bob"])));
    drop(db);
    drop(bob);
    host.stop().await;
    let file = fs::read(data.file()).expect("a file");
    for text in [FULLNAME, &hash] {
        let found = file.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(!found, "{text}");
    }
}

#[tokio::test]
async fn another_host_finishes_the_deletion_of_one_that_is_killed() {
    let gateway = Gateway::start(shared_sqld().await).await;
    let nats = shared_nats().await;
    let first = Process::start_on(&gateway, Some(nats), 30).await;
    let cookie = register_alice(&first).await;
    register(first.address, "bob").await;
    let db = open_remote(gateway.url()).await;
    db.execute_transactional_batch(&much())
        .await
        .expect("filled");
    let all = CONVERSATIONS as i64;
    let second = Process::start_on(&gateway, Some(nats), 30).await;
    let mut alice = Client::connect(second.address, &cookie).await;
    alice.ok(json!({ "type": "ping" })).await;
    delete(&first, &cookie).await;
    assert_eq!(alice.closed().await, (1008, "session ended".into()));
    until("a beginning", async || count(&db, MEMBERSHIPS).await < all).await;
    first.kill().await;
    assert!(count(&db, MEMBERSHIPS).await > 0, "killed in the middle");
    until("the end", async || count(&db, REST).await == 0).await;
    second.stop().await;
}
