//! The search: the index finds exactly what a scan of all messages finds, whatever was edited or
//! deleted, and however far the index is.

use std::sync::Arc;

use fastrand::Rng;
use handler::search::WORDS_VERSION;
use handler::search::clear::{ClearIndex, SwitchSearch};
use handler::search::index::{Batch, FindUnindexed, IndexWork};
use handler::{Event, Operation};
use serde_json::{Value, json};
use tests::{Place, World, places};

fn find() -> FindUnindexed {
    FindUnindexed {
        host_id: Arc::from("local"),
        lease_seconds: 30,
        batch: Batch {
            messages_max: 7,
            bytes_max: 300,
            tokens_max: 60,
        },
    }
}

/// Does the next part of the index's work; returns whether there was any.
async fn index_once(world: &World) -> bool {
    let (work, _) = world.run("", &find()).await;
    match work.expect("found") {
        IndexWork::Nothing => return false,
        IndexWork::Clear => drop(world.run("", &ClearIndex).await.0.expect("cleared")),
        IndexWork::Change(changes) => world.run("", &changes).await.0.expect("changed"),
        IndexWork::Add(messages) => world.run("", &messages).await.0.expect("added"),
    }
    true
}

async fn index_all(world: &World) {
    while index_once(world).await {}
}

/// All pages of a search. Each message has its id and the places of its hits.
async fn found(world: &World, user: &str, event: &Value) -> Vec<(i64, Value)> {
    let mut event = event.clone();
    event["type"] = json!("search_messages");
    let mut all: Vec<(i64, Value)> = Vec::new();
    loop {
        let (reply, _) = world.event(user, &event.to_string()).await;
        assert_eq!(reply["success"], true, "{event}: {reply}");
        let data = &reply["data"];
        for message in data["messages"].as_array().expect("a list") {
            let id = message["id"].as_i64().expect("an id");
            assert!(
                all.last().is_none_or(|(last, _)| *last > id),
                "{event}: {reply}"
            );
            all.push((id, message["hits"].clone()));
        }
        if data["has_more"] == false {
            assert!(data.get("before").is_none(), "{reply}");
            return all;
        }
        let before = data["before"].as_i64().expect("where to go on");
        assert!(
            event["before"].as_i64().is_none_or(|last| before < last),
            "{event}: {reply}"
        );
        event["before"] = json!(before);
    }
}

const PIECES: [&str; 24] = [
    "hello",
    "Hello",
    "HELLÓ",
    "help",
    "hel",
    "he",
    "h",
    "world",
    "words",
    "wörld",
    "e-mail",
    "mail",
    "mails",
    "東京",
    "京都",
    "東",
    "京",
    "สวัส",
    "ดี",
    "x机",
    "机x",
    "don't",
    "straße",
    "👋",
];

fn text(random: &mut Rng, pieces: usize) -> String {
    let mut text = String::new();
    for _ in 0..random.usize(1..=pieces) {
        text.push_str(random.choice(PIECES).expect("a piece"));
        text.push_str(
            random
                .choice([" ", " ", " ", ", ", "", "-"])
                .expect("a separator"),
        );
    }
    text
}

fn query(random: &mut Rng) -> String {
    let mut query = text(random, 3);
    match random.u8(..6) {
        0 => query = format!("\"{}\"", query.trim()),
        1 => {
            query = format!(
                "\"{}\" {}",
                query.trim(),
                random.choice(PIECES).expect("a piece")
            )
        }
        2 => query.push_str(
            random
                .choice([" from:alice", " from:bob", " from:nobody"])
                .expect("a sender"),
        ),
        _ => {}
    }
    query
}

const USERS: [&str; 3] = ["alice", "bob", "carol"];

/// Changes the chat: sends, edits and deletes.
async fn change(world: &World, random: &mut Rng, messages: &mut Vec<(i64, &'static str)>) {
    let user = random.choice(USERS).expect("a user");
    let old = random.choice(&*messages).copied();
    let event = match (random.u8(..6), old) {
        (0, Some((id, _))) => {
            json!({ "type": "edit_message", "message_id": id, "content": text(random, 6) })
        }
        (1, Some((id, _))) => json!({ "type": "delete_message", "message_id": id }),
        _ => json!({
            "type": "send_message",
            "conversation_id": match user {
                "alice" => 1,
                "carol" => 2,
                _ => random.i64(1..=2),
            },
            "content": text(random, 6),
        }),
    };
    let user = match (event["type"].as_str(), old) {
        (Some("edit_message" | "delete_message"), Some((_, sender))) => sender,
        _ => user,
    };
    let (reply, _) = world.event(user, &event.to_string()).await;
    if event["type"] == "send_message" {
        assert_eq!(reply["success"], true, "{event}: {reply}");
        messages.push((reply["data"]["id"].as_i64().expect("an id"), user));
    } else {
        // A deleted message is not edited.
        assert!(
            reply["success"] == true || reply["code"] == "conflict",
            "{reply}"
        );
    }
}

/// Each search finds the same with the index as it is, which may be behind, as without it.
async fn check(place: Place, seed: u64, changes: usize, queries: usize) {
    let (world, plain) = (World::new_at(place).await, World::new().await);
    let mut random = Rng::with_seed(seed);
    let (mut messages, mut hits) = (Vec::new(), 0);
    for _ in 0..queries {
        for _ in 0..random.usize(..=changes / queries * 2) {
            let mut same = random.clone();
            let mut copy = messages.clone();
            change(&world, &mut random, &mut messages).await;
            change(&plain, &mut same, &mut copy).await;
        }
        if random.u8(..3) == 0 {
            index_once(&world).await;
        }
        if random.u8(..20) == 0 {
            let (_, _) = world.run("", &ClearIndex).await;
        }
        let mut event = json!({ "query": query(&mut random), "limit": random.i64(1..=20) });
        if event["query"]
            .as_str()
            .is_some_and(|text| text.chars().all(|c| !c.is_alphanumeric()))
        {
            continue;
        }
        if random.bool() {
            event["conversation_id"] = json!(1);
        }
        let user = match event["conversation_id"].is_i64() {
            true => "bob",
            false => random.choice(USERS).expect("a user"),
        };
        let expected = found(&plain, user, &event).await;
        hits += expected.len();
        assert_eq!(
            found(&world, user, &event).await,
            expected,
            "seed {seed}: {user}: {event}"
        );
    }
    assert!(4 * hits > queries, "{hits} hits");
    index_all(&world).await;
    let left = world.integer("select count(*) from search_stale").await;
    assert_eq!(left, 0, "all changes are indexed");
    let whole = "insert into search (search) values ('integrity-check')";
    world.db.execute_batch(whole).await.expect("a whole index");
}

#[tokio::test]
async fn the_index_finds_what_a_scan_finds() {
    for &place in places() {
        match place {
            Place::File => {
                for seed in 0..4 {
                    check(place, seed, 300, 80).await;
                }
            }
            Place::Remote => check(place, 100, 120, 40).await,
        }
    }
}

#[tokio::test]
async fn a_search_that_is_switched_off_says_so() {
    let world = World::new().await;
    let search = r#"{"type": "search_messages", "query": "one"}"#;
    for (is_on, code) in [(false, json!("forbidden")), (true, Value::Null)] {
        world
            .run("", &SwitchSearch { is_on })
            .await
            .0
            .expect("switched");
        assert_eq!(world.event("alice", search).await.0["code"], code);
    }
}

/// Adds messages of alice to conversation 1, all with the same content.
async fn add(world: &World, count: i64, content: &str) {
    let script = format!(
        "with recursive n(n) as (select 1 union all select n + 1 from n where n < {count})
         insert into messages (sender_id, conversation_id, sent_at, content, rev)
         select 1, 1, 0, '{content}', 3 + n from n;
         update conversations set rev = rev + {count} where id = 1"
    );
    world.db.execute_batch(&script).await.expect("added");
}

/// The number of messages on a page, and where the next one goes on.
async fn page(world: &World, user: &str, query: &str, before: &Value) -> (usize, Value) {
    let event = json!({ "type": "search_messages", "query": query, "before": before });
    let (reply, _) = world.event(user, &event.to_string()).await;
    let data = &reply["data"];
    let messages = data["messages"].as_array().expect("a list");
    (messages.len(), data["before"].clone())
}

#[tokio::test]
async fn a_search_ends_after_so_many_messages() {
    // Those that are not in the index are compared one by one.
    let world = World::new().await;
    add(&world, 2_500, "hello").await;
    let last = world.integer("select max(id) from messages").await;
    let first = page(&world, "alice", "one", &Value::Null).await;
    assert_eq!(first, (0, json!(last - 999)));
    let second = page(&world, "alice", "one", &first.1).await;
    assert_eq!(second, (0, json!(last - 1999)));
    let third = page(&world, "alice", "one", &second.1).await;
    assert_eq!(third, (1, Value::Null));
    // For somebody who may see none of them, more of them are passed over.
    let first = page(&world, "carol", "three", &Value::Null).await;
    assert_eq!(first, (0, json!(last - 1999)));
    let second = page(&world, "carol", "three", &first.1).await;
    assert_eq!(second, (1, Value::Null));

    // The index names those that have the word. carol may see none of them.
    index_all(&world).await;
    let crowd = "insert into members (conversation_id, user_id)
        with recursive n(n) as (select 10 union all select n + 1 from n where n < 40) select n, 3 from n";
    world
        .db
        .execute_batch(crowd)
        .await
        .expect("in many conversations");
    add(&world, 2_500, "hello").await;
    index_all(&world).await;
    let last = world.integer("select max(id) from messages").await;
    let first = page(&world, "carol", "hello", &Value::Null).await;
    assert_eq!(first, (0, json!(last - 1_999)));
    let second = page(&world, "carol", "hello", &first.1).await;
    assert_eq!(second.0, 0);
    let third = page(&world, "carol", "hello", &json!(last - 3_998)).await;
    assert_eq!(third, (0, Value::Null));
    // How many there are is not to be seen in the answer: at 3,000, every other search stops.
    let before = json!(last - 2_000);
    let mut answers = Vec::new();
    for _ in 0..40 {
        answers.push(page(&world, "carol", "hello", &before).await);
    }
    answers.sort_by_key(|(_, next)| next.is_null());
    answers.dedup();
    assert_eq!(answers, [(0, json!(last - 3_999)), (0, Value::Null)]);
    // The beginning of two letters is not in the index, so all of the caller's messages are compared.
    let first = page(&world, "alice", "on", &Value::Null).await;
    assert_eq!(first, (0, json!(last - 999)));

    // A megabyte of long messages is enough.
    let world = World::new().await;
    add(&world, 30, &"long ".repeat(13_000)).await;
    let last = world.integer("select max(id) from messages").await;
    for is_indexed in [false, true] {
        if is_indexed {
            index_all(&world).await;
        }
        let first = page(&world, "alice", "on", &Value::Null).await;
        assert_eq!(first, (0, json!(last - 16)), "{is_indexed}");
    }

    // A phrase that nearly begins at each word takes longer to look for: 84 messages otherwise.
    let world = World::new().await;
    let x = "x ".repeat(62);
    add(&world, 100, &format!("{x}y ").repeat(47)).await;
    let last = world.integer("select max(id) from messages").await;
    let first = page(&world, "alice", &format!("\"{x} x y\""), &Value::Null).await;
    assert_eq!(first, (0, json!(last - 17)));

    // A character that stands for three words and a part: 84 messages of which 3,000 words count have
    // more than a search compares.
    let world = World::new().await;
    add(&world, 100, &"\u{fdfa}".repeat(1_000)).await;
    let last = world.integer("select max(id) from messages").await;
    let first = page(&world, "alice", "on", &Value::Null).await;
    assert_eq!(first, (0, json!(last - 83)));
}

/// FTS5 writes some of what it is given only at a later statement of the transaction, and what it
/// writes then counts as changes.
#[tokio::test]
async fn what_follows_the_index_in_a_commit_is_as_ever() {
    let world = World::new().await;
    index_all(&world).await;
    add(&world, 1, "hello").await;
    let message = world.integer("select max(id) from messages").await;
    let react = json!({ "type": "react", "message_id": message, "emoji": "+", "on": true });
    let (reply, _) = world.event("alice", &react.to_string()).await;
    assert_eq!(reply["success"], true, "{reply}");
    let (work, _) = world.run("", &find()).await;
    let Ok(IndexWork::Add(messages)) = work else {
        panic!("not indexed yet");
    };
    let state = "select c.rev + 100 * m.reactions from conversations c, changed_messages m
        where c.id = m.conversation_id";
    let before = world.integer(state).await;
    let ctx = world.context("alice").await;
    let again = Event::parse(&react.to_string()).operation.expect("valid");
    let group = [messages.statements(&ctx), again.statements(&ctx)].concat();
    let ran = handler::run_batch(&world.db, &group).await;
    ran.expect("one transaction");
    assert_eq!(world.integer(state).await, before, "it is as it was");
}

/// Two words that hardly ever meet: the search does not go through all messages for that.
#[tokio::test]
async fn words_that_do_not_meet_are_looked_for_in_parts() {
    let world = World::new().await;
    // alice is in many conversations.
    let crowd = "insert into members (conversation_id, user_id)
        with recursive n(n) as (select 10 union all select n + 1 from n where n < 40) select n, 1 from n";
    world
        .db
        .execute_batch(crowd)
        .await
        .expect("in many conversations");
    let texts = format!(
        "with recursive n(n) as (select 1 union all select n + 1 from n where n < 200000)
         insert into search (rowid, words) select 10 + n, iif(n % 2, 'left', 'right') from n;
         insert into search (rowid, words) values (5, 'left right');
         update search_state set words_version = {WORDS_VERSION}, low = 0, high = 200010;
         insert into messages (id, sender_id, conversation_id, content, rev) values (5, 1, 1, 'left right', 5)"
    );
    world.db.execute_batch(&texts).await.expect("indexed");
    let (mut before, mut pages, mut found) = (Value::Null, 0, 0);
    loop {
        let (count, next) = page(&world, "alice", "\"left\" \"right\"", &before).await;
        found += count;
        pages += 1;
        before = next;
        if before.is_null() {
            break;
        }
    }
    assert_eq!(found, 1);
    assert!((2..10).contains(&pages), "{pages} pages");
    // A rare word is looked for everywhere at once.
    let rare = "insert into search (rowid, words) values (6, 'right rare');
         insert into messages (id, sender_id, conversation_id, content, rev) values (6, 1, 1, 'right rare', 6)";
    world.db.execute_batch(rare).await.expect("indexed");
    let found = page(&world, "alice", "right \"rare\"", &Value::Null).await;
    assert_eq!(found, (1, Value::Null));
}

/// However many words a query has, what it says it has looked at, it has looked at.
#[tokio::test]
async fn frequent_words_that_hardly_meet_are_found_where_they_do() {
    let world = World::new().await;
    let texts = format!(
        "insert into members (conversation_id, user_id)
         with recursive n(n) as (select 10 union all select n + 1 from n where n < 40) select n, 1 from n;
         with recursive n(n) as (select 1 union all select n + 1 from n where n < 100000)
         insert into search (rowid, words) select 10 + n, iif(n = 50000, 'a b c d e f', replace('a b c d e f', char(97 + n % 6), 'x')) from n;
         update search_state set words_version = {WORDS_VERSION}, low = 0, high = 100010;
         insert into messages (id, sender_id, conversation_id, content, rev) values (50010, 1, 1, 'a b c d e f', 5)"
    );
    world.db.execute_batch(&texts).await.expect("indexed");
    let event = json!({ "query": "a b c d e \"f\"" });
    let ids: Vec<_> = found(&world, "alice", &event).await;
    let ids: Vec<_> = ids.into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [50_010]);
}

#[tokio::test]
async fn a_batch_has_so_many_messages_bytes_and_tokens() {
    let world = World::new().await;
    add(&world, 1_000, "hello").await;
    // Each has 1,003 tokens.
    let digit = |n| char::from_digit(n, 36).expect("a digit");
    let short = (0..1_000).map(|n| format!("{}{} ", digit(n / 36), digit(n % 36)));
    add(&world, 6, &short.collect::<String>()).await;
    let long = (10_000..20_000).map(|n| format!("{n} "));
    add(&world, 20, &long.collect::<String>()).await;
    let find = FindUnindexed {
        host_id: "local".into(),
        lease_seconds: 30,
        batch: Batch::BESIDE_OTHERS,
    };
    let mut counts = Vec::new();
    loop {
        let (work, _) = world.run("", &find).await;
        match work.expect("found") {
            IndexWork::Nothing => break,
            IndexWork::Clear => drop(world.run("", &ClearIndex).await),
            IndexWork::Add(messages) => {
                counts.push(messages.count());
                world.run("", &messages).await.0.expect("added");
            }
            work @ IndexWork::Change(_) => panic!("nothing was changed: {work:?}"),
        }
    }
    // The newest first: long ones one by one, of which the first 3,000 words count.
    assert_eq!(counts[..20], [1; 20]);
    assert_eq!(counts[20..], [3, 128, 128, 128, 128, 128, 128, 128, 110]);
}

#[tokio::test]
async fn an_index_is_removed_in_parts() {
    let world = World::new().await;
    let texts = format!(
        "with recursive n(n) as (select 1 union all select n + 1 from n where n < 300000)
         insert into search (rowid, words) select n, 'word' || n from n;
         update search_state set words_version = {WORDS_VERSION}, low = 0, high = 300000;
         insert into search_stale (message_id, content) values (1, 'x')"
    );
    world.db.execute_batch(&texts).await.expect("indexed");
    let pages = "select count(*) from search_data where id > 10";
    let mut left = world.integer(pages).await;
    assert!(left > 600, "{left} pages");
    // The search goes on: all messages count as not indexed.
    loop {
        let (is_last, _) = world.run("", &ClearIndex).await;
        let before = std::mem::replace(&mut left, world.integer(pages).await);
        assert!(before - left <= 200);
        assert_eq!(
            page(&world, "alice", "one", &Value::Null).await,
            (1, Value::Null)
        );
        if is_last.expect("cleared") {
            break;
        }
        assert_eq!(before - left, 200);
    }
    assert_eq!(left, 0);
    index_all(&world).await;
    assert_eq!(
        page(&world, "alice", "one", &Value::Null).await,
        (1, Value::Null)
    );
    let indexed = "select count(*) from search where search match '\"one\"'";
    assert_eq!(world.integer(indexed).await, 1);
}

/// An edit between the two steps of the index is not lost.
#[tokio::test]
async fn what_changes_while_it_is_indexed_is_indexed_as_it_is_then() {
    for &place in places() {
        let world = World::new_at(place).await;
        let find = FindUnindexed {
            host_id: "local".into(),
            lease_seconds: 30,
            batch: Batch::ALONE,
        };
        world.run("", &ClearIndex).await.0.expect("cleared");
        let edit = async |content: &str| {
            let edit = json!({ "type": "edit_message", "message_id": 1, "content": content });
            let (reply, _) = world.event("alice", &edit.to_string()).await;
            assert_eq!(reply["success"], true, "{reply}");
        };
        let IndexWork::Add(messages) = world.run("", &find).await.0.expect("found") else {
            panic!("three messages");
        };
        edit("apples").await;
        world.run("", &messages).await.0.expect("nothing");
        assert_eq!(
            world.integer("select high - low from search_state").await,
            0
        );
        let IndexWork::Add(messages) = world.run("", &find).await.0.expect("found") else {
            panic!("three messages");
        };
        world.run("", &messages).await.0.expect("added");
        // Two hosts may do the same.
        world.run("", &messages).await.0.expect("nothing");
        edit("pears").await;
        edit("plums").await;
        let IndexWork::Change(changes) = world.run("", &find).await.0.expect("found") else {
            panic!("one change");
        };
        edit("grapes").await;
        world.run("", &changes).await.0.expect("nothing");
        assert_eq!(world.integer("select count(*) from search_stale").await, 1);
        index_all(&world).await;
        assert_eq!(world.integer("select count(*) from search_stale").await, 0);
        for (word, count) in [
            ("one", 0),
            ("apples", 0),
            ("pears", 0),
            ("plums", 0),
            ("grapes", 1),
            ("two", 1),
        ] {
            let indexed = format!("select count(*) from search where search match '\"{word}\"'");
            assert_eq!(world.integer(&indexed).await, count, "{place:?}: {word}");
        }
    }
}

/// Another host, whose id comes first, is alive: it fills the index.
#[tokio::test]
async fn one_host_of_several_fills_the_index() {
    let world = World::new().await;
    let find = |host_id: &str| FindUnindexed {
        host_id: host_id.into(),
        lease_seconds: 30,
        batch: Batch::ALONE,
    };
    let hosts = "insert into hosts (id, seen_at) values ('a', unixepoch()), ('b', unixepoch())";
    world.db.execute_batch(hosts).await.expect("two hosts");
    let work = world.run("", &find("b")).await.0.expect("found");
    assert_eq!(work, IndexWork::Nothing);
    let work = world.run("", &find("a")).await.0.expect("found");
    assert_ne!(work, IndexWork::Nothing);
    let dead = "update hosts set seen_at = seen_at - 60 where id = 'a'";
    world.db.execute_batch(dead).await.expect("dead");
    let work = world.run("", &find("b")).await.0.expect("found");
    assert_ne!(work, IndexWork::Nothing);
}
