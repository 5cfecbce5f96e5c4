//! Nothing is lost and nothing comes twice, whatever happens to connections and to the host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::host::{login, register};
use tests::{Client, Process, Proxy, ReferenceClient, soon};
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;

const CLIENTS: usize = 20;
const CONVERSATIONS: usize = 10;
const ROUNDS: usize = 4;
/// Messages of each client in each round.
const MESSAGES: usize = 12;
const SEED: u64 = 20_250_213;

/// A conversation's messages in the database, by id.
async fn stored(file: &Path) -> BTreeMap<i64, BTreeMap<i64, (i64, String)>> {
    let database = libsql::Builder::new_local(file)
        .build()
        .await
        .expect("a database");
    let db = database.connect().expect("a connection");
    let mut rows = db
        .query("select conversation_id, id, rev, content from messages", ())
        .await
        .expect("a query");
    let mut all: BTreeMap<i64, BTreeMap<_, _>> = BTreeMap::new();
    while let Some(row) = rows.next().await.expect("a row") {
        let integer = |column| row.get::<i64>(column).expect("an integer");
        let content = row.get(3).expect("text");
        all.entry(integer(0))
            .or_default()
            .insert(integer(1), (integer(2), content));
    }
    all
}

/// A client of the seed, which knows no ref, rev or client_id: sends and listens until its connection ends. Returns what
/// it was answered and told, as (id, content).
async fn plain(mut client: Client, conversation_id: i64, name: String) -> Vec<(i64, String)> {
    let mut heard = Vec::new();
    let mut count = 0;
    loop {
        let content = format!("{name} {count}");
        let event = json!({ "type": "send_message", "conversation_id": conversation_id, "content": content });
        count += 1;
        if client
            .socket
            .send(Message::text(event.to_string()))
            .await
            .is_err()
        {
            return heard;
        }
        // Its own reply is the next send_message with its content; everything before it is from others.
        loop {
            let Some(Ok(frame)) = soon("a frame or the end", client.socket.next()).await else {
                return heard;
            };
            let Message::Text(text) = frame else {
                continue;
            };
            let event: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(event["success"], true, "{event}");
            if event["type"] != "send_message" {
                continue;
            }
            let data = &event["data"];
            let told = data["content"].as_str().expect("content").to_owned();
            let is_reply = told == content;
            heard.push((data["id"].as_i64().expect("an id"), told));
            if is_reply {
                break;
            }
        }
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_comes_twice() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("chat.db");
    let mut random = Rng::with_seed(SEED);
    let mut host = Process::start(&file).await;
    let names: Vec<String> = (0..CLIENTS).map(|index| format!("user{index}")).collect();
    let mut cookies = Vec::new();
    for name in &names {
        register(host.address, name).await;
        cookies.push(login(host.address, name).await);
    }
    // Conversation 1 has everyone, the others some.
    let mut founder = Client::connect(host.address, &cookies[0]).await;
    let mut members: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for index in 0..CONVERSATIONS {
        let mut others: Vec<usize> = (1..CLIENTS).collect();
        random.shuffle(&mut others);
        others.truncate(if index == 0 {
            CLIENTS
        } else {
            random.usize(2..8)
        });
        let usernames: Vec<_> = others.iter().map(|other| names[*other].as_str()).collect();
        let id = founder.converse(&usernames).await;
        members.insert(id, [vec![0], others].concat());
    }
    founder.close().await;
    for name in ["plain0", "plain1"] {
        register(host.address, name).await;
    }
    let plain_cookie = login(host.address, "plain0").await;
    let mut plain_founder = Client::connect(host.address, &plain_cookie).await;
    let plain_conversation = plain_founder.converse(&["plain1"]).await;
    plain_founder.close().await;

    let proxy = Proxy::start(host.address, SEED).await;
    let clients: Vec<_> = cookies
        .iter()
        .enumerate()
        .map(|(index, cookie)| {
            ReferenceClient::start(proxy.address, cookie.clone(), SEED + index as u64)
        })
        .collect();
    // A client gets no more than the latest hundred messages of a conversation that it has never seen: they see theirs
    // before anyone writes.
    for client in &clients {
        soon("the first sync", client.settle()).await;
    }
    let mut expected: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    let mut plain_heard = Vec::new();
    for round in 0..ROUNDS {
        let talking = ["plain0", "plain1"].map(|name| {
            let (address, name) = (host.address, name.to_owned());
            tokio::spawn(async move {
                let cookie = login(address, &name).await;
                let client = Client::connect(address, &cookie).await;
                plain(client, plain_conversation, format!("{name} {round}")).await
            })
        });
        for message in 0..MESSAGES {
            for (index, client) in clients.iter().enumerate() {
                let own: Vec<_> = members
                    .iter()
                    .filter(|(_, all)| all.contains(&index))
                    .map(|(id, _)| *id)
                    .collect();
                let conversation_id = own[random.usize(..own.len())];
                let content = format!("user{index} {round} {message}");
                expected
                    .entry(conversation_id)
                    .or_default()
                    .insert(content.clone());
                client.send(conversation_id, content);
            }
            // Spreads the sends over the life of the host; nothing is judged by it.
            sleep(Duration::from_millis(random.u64(10..60))).await;
        }
        host.kill().await;
        for talk in talking {
            plain_heard.push(talk.await.expect("no panic"));
        }
        host = Process::start(&file).await;
        proxy.aim_at(host.address);
    }
    proxy.calm();
    // First all is sent, then all is known.
    for client in &clients {
        soon("sending all", client.settle()).await;
    }
    let all = stored(&file).await;
    let (mut connections, mut gaps, mut duplicates) = (0, 0, 0);
    for (index, client) in clients.iter().enumerate() {
        let memory = soon("knowing all", client.settle()).await;
        connections += memory.connections;
        gaps += memory.gaps;
        duplicates += memory.duplicates;
        assert_eq!(memory.refused, 0);
        for (id, all_members) in &members {
            let known = memory.conversations.get(id);
            assert_eq!(
                known.is_some(),
                all_members.contains(&index),
                "user{index} and conversation {id}"
            );
            let Some(known) = known else {
                continue;
            };
            let known: Vec<_> = known
                .messages
                .iter()
                .map(|(id, m)| {
                    (
                        *id,
                        m["rev"].as_i64().expect("a rev"),
                        m["content"].as_str().expect("content").to_owned(),
                    )
                })
                .collect();
            let stored: Vec<_> = all[id]
                .iter()
                .map(|(id, (rev, content))| (*id, *rev, content.clone()))
                .collect();
            assert_eq!(known, stored, "what user{index} knows of conversation {id}");
        }
    }
    for (id, contents) in &expected {
        let stored: Vec<_> = all[id]
            .values()
            .map(|(_, content)| content.clone())
            .collect();
        assert_eq!(
            stored.len(),
            contents.len(),
            "conversation {id}: each message once"
        );
        assert_eq!(stored.into_iter().collect::<BTreeSet<_>>(), *contents);
        let revs: Vec<_> = all[id].values().map(|(rev, _)| *rev).collect();
        assert_eq!(
            revs,
            (2..2 + revs.len() as i64).collect::<Vec<_>>(),
            "revs without gaps"
        );
    }
    // What plain clients were told is stored, and came in order, once.
    let plain_stored = &all[&plain_conversation];
    for heard in &plain_heard {
        assert!(heard.is_sorted_by(|a, b| a.0 < b.0), "{heard:?}");
        for (id, content) in heard {
            assert_eq!(&plain_stored[id].1, content);
        }
    }
    assert!(
        plain_heard.iter().any(|heard| heard.len() > 20),
        "plain clients took part"
    );
    // The test did what it is for.
    println!(
        "{connections} connections, {gaps} gaps, {duplicates} messages sent again after they were stored"
    );
    assert!(
        connections > 2 * CLIENTS && duplicates > 0,
        "{connections} connections, {duplicates} duplicates"
    );
}
