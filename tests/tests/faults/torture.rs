//! No message is lost or stored twice, whatever happens to connections, hosts, the bus and the
//! database.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fastrand::Rng;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tests::data::open_remote;
use tests::host::{login, register};
use tests::reference_client::{Conversation, Memory};
use tests::{
    Client, Data, Form, Gateway, Nats, Process, Proxy, ReferenceClient, SdkClients, Sqld, soon,
    until,
};
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;

use crate::stored::rows;

const CLIENTS: usize = 20;
const CONVERSATIONS: usize = 10;
const ROUNDS: usize = 4;
/// The number of messages that each client sends in each round.
const MESSAGES: usize = 12;
/// The number of messages that the archive gets in each round, all at once.
const ARCHIVED: usize = 2_000;
/// What an edit adds to a content.
const EDITED: &str = ", edited";
/// The variable SEED chooses another one.
const SEED: u64 = 20_250_213;

/// The hosts and their data: one host on a file, or two on a libSQL server with a bus.
struct Stage {
    hosts: Vec<Process>,
    place: Place,
}

enum Place {
    File(Data),
    Servers(Box<Servers>),
}

struct Servers {
    gateway: Gateway,
    sqld: Sqld,
    nats: Nats,
}

impl Stage {
    async fn start(form: Form) -> Self {
        let place = match form {
            Form::File => Place::File(Data::create()),
            Form::Remote | Form::Cluster => {
                let sqld = Sqld::start().await;
                let gateway = Gateway::start(&sqld).await;
                let nats = Nats::start().await;
                Place::Servers(Box::new(Servers {
                    gateway,
                    sqld,
                    nats,
                }))
            }
        };
        let mut stage = Stage {
            hosts: Vec::new(),
            place,
        };
        let hosts = if form == Form::Cluster { 2 } else { 1 };
        for _ in 0..hosts {
            let host = stage.start_host().await;
            stage.hosts.push(host);
        }
        stage
    }

    async fn start_host(&self) -> Process {
        match &self.place {
            Place::File(data) => data.start().await,
            Place::Servers(servers) => {
                Process::start_on(&servers.gateway, Some(&servers.nats), 3).await
            }
        }
    }

    fn address(&self, index: usize) -> SocketAddr {
        self.hosts[index % self.hosts.len()].address
    }

    /// Kills a host, a different one each round, and starts it again. Before that, if there are
    /// servers, it kills and restarts the bus or the database. Returns the last message in the index
    /// of the search when the host was dead.
    async fn disaster(&mut self, round: usize) -> i64 {
        if let Place::Servers(servers) = &mut self.place {
            // For a while, the rest of the system runs without the server.
            let outage = Duration::from_millis(700);
            if round.is_multiple_of(2) {
                servers.nats.kill();
                sleep(outage).await;
                servers.nats.restart().await;
            } else {
                servers.sqld.kill();
                sleep(outage).await;
                servers.sqld.restart().await;
            }
        }
        let index = round % self.hosts.len();
        self.hosts.remove(index).kill().await;
        let indexed = self.last_indexed().await;
        let host = self.start_host().await;
        self.hosts.insert(index, host);
        indexed
    }

    async fn execute(&self, sql: &str) {
        match &self.place {
            Place::File(data) => {
                let sql = format!("pragma busy_timeout = 60000; begin immediate; {sql}; commit");
                let done = data.open().await.execute_batch(&sql).await;
                drop(done.expect("executed"));
            }
            Place::Servers(servers) => {
                let db = open_remote(servers.gateway.url()).await;
                let done = db.execute_transactional_batch(sql).await;
                drop(done.expect("executed"));
            }
        }
    }

    /// Adds messages of the keeper to the archive behind the hosts' backs; returns their ids.
    async fn archive(&self, archive: i64) -> RangeInclusive<i64> {
        let add = format!(
            "with recursive n(n) as (select 1 union all select n + 1 from n where n < {ARCHIVED})
             insert into messages (sender_id, conversation_id, sent_at, content, rev)
             select u.id, c.id, 0, 'archive ' || n || ' user' || n % 5, c.rev + n
             from conversations c cross join users u cross join n
             where c.id = {archive} and u.username = 'keeper' order by n;
             update conversations set rev = rev + {ARCHIVED} where id = {archive}"
        );
        self.execute(&add).await;
        let last = "select max(m.id) from messages m join users u on u.id = m.sender_id where u.username = 'keeper'";
        let rows = self.rows(last).await;
        let last = rows[0].columns().integer();
        last + 1 - ARCHIVED as i64..=last
    }

    /// The last of the messages that the index of the search holds.
    async fn last_indexed(&self) -> i64 {
        let rows = self.rows("select high from search_state").await;
        rows[0].columns().integer()
    }

    async fn rows(&self, select: &'static str) -> Vec<handler::Row> {
        match &self.place {
            Place::File(data) => rows(&data.open().await, select).await,
            Place::Servers(servers) => {
                let db = open_remote(servers.gateway.url()).await;
                let select = handler::Statement::new(select, []);
                let mut results = handler::run_batch(&db, [&select]).await.expect("rows");
                results.pop().expect("one result").0
            }
        }
    }

    /// The members of a conversation in the database, in the order of joining.
    async fn members(&self, conversation_id: i64) -> Vec<String> {
        let select = "select conversation_id, cast(u.username as blob)
            from members m join users u on u.id = m.user_id order by m.rowid";
        let rows = self.rows(select).await;
        let members = rows.iter().map(|row| {
            let mut columns = row.columns();
            (columns.integer(), columns.text())
        });
        let members = members.filter(|(id, _)| *id == conversation_id);
        members.map(|(_, username)| username).collect()
    }

    /// Whether the index of the search holds all messages as they are.
    async fn is_indexed(&self) -> bool {
        let select =
            "select high >= (select max(id) from messages) and low < (select min(id) from messages)
                and not exists (select 1 from search_stale)
            from search_state";
        let rows = self.rows(select).await;
        rows.first().is_some_and(|row| row.columns().flag())
    }

    /// The messages of each conversation in the database, by id: rev and content.
    async fn stored(&self) -> BTreeMap<i64, BTreeMap<i64, (i64, String)>> {
        let select = "select conversation_id, id, coalesce(changed_rev, rev), cast(content as blob) from messages";
        let rows = self.rows(select).await;
        let mut all: BTreeMap<i64, BTreeMap<_, _>> = BTreeMap::new();
        for row in &rows {
            let mut columns = row.columns();
            all.entry(columns.integer())
                .or_default()
                .insert(columns.integer(), (columns.integer(), columns.text()));
        }
        all
    }
}

/// A client of the first backend, which knows no ref, rev or client_id. It sends and listens until
/// its connection ends. Returns what it received in replies and pushes, as (id, content).
async fn plain(
    mut client: Client,
    conversation_id: i64,
    name: String,
    answered: Arc<AtomicUsize>,
) -> Vec<(i64, String)> {
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
        // Its own reply is the next send_message with its content; everything before it is from
        // others.
        loop {
            let Some(Ok(frame)) = soon("a frame or the end", client.socket.next()).await else {
                return heard;
            };
            let Message::Text(text) = frame else {
                continue;
            };
            let event: Value = serde_json::from_str(&text).expect("JSON");
            if event["code"] == "unavailable" {
                return heard;
            }
            assert_eq!(event["success"], true, "{event}");
            if event["type"] != "send_message" {
                continue;
            }
            let data = &event["data"];
            let told = data["content"].as_str().expect("content").to_owned();
            let is_reply = told == content;
            heard.push((data["id"].as_i64().expect("an id"), told));
            if is_reply {
                answered.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Edits and deletes messages of the archive until its connection ends.
async fn change_archive(
    mut client: Client,
    ids: RangeInclusive<i64>,
    mut random: Rng,
    changed: Arc<AtomicUsize>,
) {
    loop {
        let id = random.i64(ids.clone());
        let event = match random.u8(..4) {
            0 => json!({ "type": "delete_message", "message_id": id }),
            _ => json!({
                "type": "edit_message", "message_id": id, "content": format!("archive {id}{EDITED}"),
            }),
        };
        let sent = client.socket.send(Message::text(event.to_string())).await;
        if sent.is_err() {
            return;
        }
        loop {
            let Some(Ok(frame)) = soon("a frame or the end", client.socket.next()).await else {
                return;
            };
            let Message::Text(text) = frame else {
                continue;
            };
            let reply: Value = serde_json::from_str(&text).expect("JSON");
            if reply["type"] == event["type"] {
                let code = reply["code"].as_str().unwrap_or_default();
                // It may have been deleted.
                assert!(["", "conflict", "unavailable"].contains(&code), "{reply}");
                changed.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_comes_twice() {
    torture(Form::File, Library::Reference).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_with_two_hosts_a_bus_and_a_server_that_fall() {
    torture(Form::Cluster, Library::Reference).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_with_the_client_library() {
    torture(Form::File, Library::Sdk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_with_the_library_two_hosts_a_bus_and_a_server_that_fall() {
    torture(Form::Cluster, Library::Sdk).await;
}

/// Something that this user does to one of the messages that the user's client holds, if there is one
/// left: the user edits or deletes an own message, or reacts to one of somebody else. Not in the
/// club, which the user may have left.
fn change(
    random: &mut Rng,
    user: &str,
    memory: &Memory,
    club: i64,
    deleted: &mut BTreeSet<i64>,
) -> Option<Value> {
    let conversations = memory.conversations.iter();
    let conversations = conversations.filter(|(id, _)| **id != club);
    let messages = conversations.flat_map(|(_, conversation)| conversation.messages.values());
    let messages: Vec<_> = messages.collect();
    let message = random.choice(messages)?;
    let id = message["id"].as_i64()?;
    if message["sender_username"] != user {
        let on = random.u8(..4) > 0;
        return Some(json!({ "type": "react", "message_id": id, "emoji": "👍", "on": on }));
    }
    if deleted.contains(&id) {
        return None;
    }
    if random.u8(..4) == 0 {
        deleted.insert(id);
        return Some(json!({ "type": "delete_message", "message_id": id }));
    }
    let content = message["content"].as_str()?.trim_end_matches(EDITED);
    let content = format!("{content}{EDITED}");
    Some(json!({ "type": "edit_message", "message_id": id, "content": content }))
}

/// Whether a content has the words of a query: a phrase if it is in quotation marks. Otherwise the
/// last one may be the beginning of a word.
fn has(content: &str, query: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        let words = text.split(|c: char| !c.is_alphanumeric());
        let words = words.filter(|word| !word.is_empty());
        words.map(str::to_lowercase).collect()
    };
    let (content, wanted) = (words(content), words(query));
    if query.starts_with('"') {
        return content.windows(wanted.len()).any(|window| window == wanted);
    }
    let (last, others) = wanted.split_last().expect("a word");
    content.iter().any(|word| word.starts_with(last))
        && others.iter().all(|other| content.contains(other))
}

/// Searches for many things. It must find what a scan of the user's messages finds.
async fn find_all(mut client: Client, user: &str, own: &BTreeMap<i64, (i64, String)>) {
    for query in [
        "edited",
        "user1",
        "\"user1\"",
        "user2 edited",
        "\"user3 1\"",
        "club 2",
        "10",
        "archive 77",
    ] {
        let hits = own.iter().filter(|(_, (_, content))| has(content, query));
        let expected: Vec<_> = hits.map(|(id, _)| *id).rev().collect();
        let found = client.search(query).await;
        assert_eq!(found, expected, "{user} searches for {query}");
    }
}

/// What a client knows about its conversations, in the form of `Stage::stored`.
fn known(memory: &Memory) -> BTreeMap<i64, BTreeMap<i64, (i64, String)>> {
    let text = |message: &Value| message["content"].as_str().expect("content").to_owned();
    let rev = |message: &Value| message["rev"].as_i64().expect("a rev");
    let of = |conversation: &Conversation| {
        let messages = conversation.messages.iter();
        messages.map(|(id, m)| (*id, (rev(m), text(m)))).collect()
    };
    let conversations = memory.conversations.iter();
    conversations.map(|(id, c)| (*id, of(c))).collect()
}

/// The messages that mention this user, the latest first, as `get_mentions` pages through them. They must be those
/// that a scan of the user's messages finds. Each begins with the name of its sender.
async fn find_mentions(client: &mut Client, user: &str, own: &BTreeMap<i64, (i64, String)>) {
    let name = format!("@{user}");
    let is_mention = |content: &str| {
        let mut words = content.trim_end_matches(EDITED).split(' ');
        words.next() != Some(user) && words.any(|word| word == name)
    };
    let expected = own.iter().filter(|(_, (_, content))| is_mention(content));
    let expected: Vec<_> = expected.map(|(id, _)| *id).rev().collect();
    let mut found = Vec::new();
    loop {
        let before = found.last().copied().unwrap_or(i64::MAX);
        let event = json!({ "type": "get_mentions", "before": before, "limit": 10 });
        let page = client.ok(event).await;
        let messages = page["messages"].as_array().expect("messages").iter();
        found.extend(messages.map(|message| message["id"].as_i64().expect("an id")));
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!(found, expected, "what mentions {user}");
}

/// Lets members of the club come and go, and sends a message each time. `manager` is an owner of it. One
/// of the members leaves by itself.
async fn change_members(
    manager: &mut Client,
    mut leaver: Client,
    club: i64,
    names: &[String],
    random: &mut Rng,
    round: usize,
) {
    let mut change = async |kind: &str, field: &str, value: Value| {
        let event = json!({ "type": kind, "conversation_id": club, field: value });
        let code = manager.request(event).await["code"].clone();
        // Somebody may be removed twice.
        assert!(code.is_null() || code == "not_found", "{kind}: {code}");
    };
    let leave = json!({ "type": "leave_conversation", "conversation_id": club });
    let code = leaver.request(leave).await["code"].clone();
    assert!(code.is_null() || code == "not_found", "{code}");
    for step in 0..8 {
        let mut name = || json!(names[random.usize(..names.len())]);
        match step % 4 {
            0 | 1 => change("remove_member", "username", name()).await,
            2 => change("add_members", "members", json!([name(), name()])).await,
            _ => {
                change(
                    "rename_conversation",
                    "name",
                    json!(format!("{round} {step}")),
                )
                .await
            }
        }
        let content = json!(format!("club {round} {step}"));
        change("send_message", "content", content).await;
    }
    for role in ["owner", "admin", "member"] {
        let name = &names[random.usize(..names.len())];
        let event =
            json!({ "type": "set_role", "conversation_id": club, "username": name, "role": role });
        let code = manager.request(event).await["code"].clone();
        assert!(code.is_null() || code == "not_found", "{code}");
    }
}

/// Which clients the story is about.
#[derive(Clone, Copy, PartialEq)]
enum Library {
    /// The model: `tests/src/reference_client.rs`.
    Reference,
    /// The client library: `host/web/sdk`.
    Sdk,
}

async fn torture(form: Form, library: Library) {
    let seed = std::env::var("SEED").map_or(SEED, |seed| seed.parse().expect("SEED is a number"));
    let mut random = Rng::with_seed(seed);
    let mut stage = Stage::start(form).await;
    let names: Vec<String> = (0..CLIENTS).map(|index| format!("user{index}")).collect();
    let mut cookies = Vec::new();
    for name in &names {
        register(stage.address(0), name).await;
        cookies.push(login(stage.address(0), name).await);
    }
    // Conversation 1 has all users as members, the others have some.
    let mut founder = Client::connect(stage.address(0), &cookies[0]).await;
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
    // Two users begin their direct conversation at once.
    let [first, second] = [0, 1].map(async |index| {
        let mut client = Client::connect(stage.address(index), &cookies[index]).await;
        let other = &names[1 - index];
        let create = json!({ "type": "create_conversation", "members": [other], "direct": true });
        client.ok(create).await["id"].as_i64().expect("an id")
    });
    let (direct, same) = tokio::join!(first, second);
    assert_eq!(direct, same, "one direct conversation");
    members.insert(direct, vec![0, 1]);
    // Its members come and go.
    register(stage.address(0), "manager").await;
    let manager_cookie = login(stage.address(0), "manager").await;
    let mut manager = Client::connect(stage.address(0), &manager_cookie).await;
    let usernames: Vec<_> = names.iter().map(String::as_str).collect();
    let club = manager.converse(&usernames).await;
    manager.close().await;
    for name in ["plain0", "plain1"] {
        register(stage.address(0), name).await;
    }
    let plain_cookie = login(stage.address(0), "plain0").await;
    let mut plain_founder = Client::connect(stage.address(0), &plain_cookie).await;
    let plain_conversation = plain_founder.converse(&["plain1"]).await;
    plain_founder.close().await;
    // It has so many messages that its hosts die while they fill the index of the search.
    register(stage.address(0), "keeper").await;
    let keeper_cookie = login(stage.address(0), "keeper").await;
    let mut keeper = Client::connect(stage.address(0), &keeper_cookie).await;
    let archive = keeper.converse(&[]).await;
    keeper.close().await;

    let mut proxies = Vec::new();
    for (index, host) in stage.hosts.iter().enumerate() {
        proxies.push(Proxy::start(host.address, seed + index as u64).await);
    }
    let mut sdk = match library {
        Library::Reference => None,
        Library::Sdk => Some(SdkClients::start().await),
    };
    let clients: Vec<_> = cookies
        .iter()
        .enumerate()
        .map(|(index, cookie)| {
            let proxy = &proxies[index % proxies.len()];
            let seed = seed + index as u64;
            match &mut sdk {
                None => ReferenceClient::start(proxy.address, cookie.clone(), seed),
                Some(sdk) => sdk.client(proxy.address, cookie, seed),
            }
        })
        .collect();
    // A client gets only the latest hundred messages of a conversation that it has never seen. So
    // each client syncs before anyone writes.
    for client in &clients {
        soon("the first sync", client.settle()).await;
    }
    let mut expected: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    let mut plain_heard = Vec::new();
    let mut deleted = vec![BTreeSet::new(); CLIENTS];
    let mut changes: BTreeMap<String, usize> = BTreeMap::new();
    let mut interrupted = 0;
    for round in 0..ROUNDS {
        let answered: [Arc<AtomicUsize>; 2] = Default::default();
        let talking = [0, 1].map(|index| {
            // On the host that is going to be killed.
            let (address, name) = (stage.address(round), format!("plain{index}"));
            let answered = answered[index].clone();
            tokio::spawn(async move {
                let cookie = login(address, &name).await;
                let client = Client::connect(address, &cookie).await;
                let name = format!("{name} {round}");
                plain(client, plain_conversation, name, answered).await
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
                let mentioned = random.usize(..CLIENTS);
                let content = format!("user{index} {round} {message} @user{mentioned}");
                expected
                    .entry(conversation_id)
                    .or_default()
                    .insert(content.clone());
                client.send(conversation_id, content);
                if random.bool() {
                    let memory = client.look().await;
                    let change = change(
                        &mut random,
                        &names[index],
                        &memory,
                        club,
                        &mut deleted[index],
                    );
                    if let Some(event) = change {
                        *changes.entry(event["type"].to_string()).or_default() += 1;
                        client.change(event);
                    }
                }
            }
            // Spreads the sends over the life of the host. No assertion depends on this time.
            sleep(Duration::from_millis(random.u64(10..60))).await;
        }
        // Through the other host, if there are two, and right before the disaster.
        let mut manager = Client::connect(stage.address(round + 1), &manager_cookie).await;
        let leaver = &cookies[random.usize(..CLIENTS)];
        let leaver = Client::connect(stage.address(round + 1), leaver).await;
        change_members(&mut manager, leaver, club, &names, &mut random, round).await;
        until("plain clients took part", async || {
            let mut counts = answered.iter().map(|count| count.load(Ordering::Relaxed));
            counts.all(|count| count > 20)
        })
        .await;
        let backlog = stage.archive(archive).await;
        let changed = Arc::new(AtomicUsize::new(0));
        let keeper = Client::connect(stage.address(round), &keeper_cookie).await;
        let changing = change_archive(keeper, backlog.clone(), random.fork(), changed.clone());
        let changing = tokio::spawn(changing);
        until("the archive is changed", async || {
            changed.load(Ordering::Relaxed) > 10
        })
        .await;
        let indexed = stage.disaster(round).await;
        interrupted += usize::from(indexed < *backlog.end());
        changing.await.expect("no panic");
        for talk in talking {
            plain_heard.push(talk.await.expect("no panic"));
        }
        for (index, proxy) in proxies.iter().enumerate() {
            proxy.aim_at(stage.address(index));
        }
    }
    proxies.iter().for_each(Proxy::calm);
    // First every message is sent, then every client knows all of them.
    for client in &clients {
        soon("sending all", client.settle()).await;
    }
    let mut all = stage.stored().await;
    let archived = all.remove(&archive).expect("an archive");
    let in_club = stage.members(club).await;
    let (mut connections, mut gaps, mut duplicates) = (0, 0, 0);
    for (index, client) in clients.iter().enumerate() {
        let own: BTreeMap<_, _> = members
            .iter()
            .filter(|(_, members)| members.contains(&index))
            .map(|(id, _)| *id)
            .chain(in_club.contains(&names[index]).then_some(club))
            .map(|id| (id, all[&id].clone()))
            .collect();
        let mut memory = soon("knowing all", client.settle()).await;
        // A host may have died before it told the other host of a commit. The other host finds out
        // soon.
        let told = async {
            while form == Form::Cluster && known(&memory) != own {
                sleep(Duration::from_millis(50)).await;
                memory = client.settle().await;
            }
        };
        let _ = tokio::time::timeout(tests::PATIENCE, told).await;
        assert_eq!(known(&memory), own, "what user{index} knows");
        if let Some(known) = memory.conversations.get(&club) {
            assert_eq!(
                known.members, in_club,
                "who user{index} believes is in the club"
            );
        }
        assert_eq!(memory.refused, 0);
        connections += memory.connections;
        gaps += memory.gaps;
        duplicates += memory.duplicates;
    }
    until("the index holds all", async || stage.is_indexed().await).await;
    for (index, cookie) in cookies.iter().enumerate() {
        let own = members
            .iter()
            .filter(|(_, members)| members.contains(&index));
        let own = own.map(|(id, _)| *id);
        let own = own.chain(in_club.contains(&names[index]).then_some(club));
        let own: BTreeMap<_, _> = own.flat_map(|id| all[&id].clone()).collect();
        let mut client = Client::connect(stage.address(index), cookie).await;
        find_mentions(&mut client, &names[index], &own).await;
        find_all(client, &names[index], &own).await;
    }
    let select = "select cast(u.username as blob), mb.role from members mb join users u on u.id = mb.user_id
        where mb.role > 0 and u.username like 'user%' and mb.conversation_id = (
            select mb.conversation_id from members mb join users u on u.id = mb.user_id where u.username = 'manager')";
    let roles = stage.rows(select).await;
    let mut manager = Client::connect(stage.address(1), &manager_cookie).await;
    let info = json!({ "type": "get_conversation_info", "id": club });
    let info = manager.ok(info).await;
    for row in &roles {
        let mut columns = row.columns();
        let (username, role) = (columns.text(), columns.integer());
        let role = ["member", "admin", "owner"][role as usize];
        assert_eq!(info["roles"][&username], role, "{username}");
    }
    let keeper = Client::connect(stage.address(0), &keeper_cookie).await;
    find_all(keeper, "keeper", &archived).await;
    for (id, contents) in &expected {
        let stored = &all[id];
        let count = stored.len();
        assert_eq!(
            count,
            contents.len(),
            "conversation {id}: each message once"
        );
        let left = stored.values().map(|(_, content)| content);
        let left: Vec<_> = left.filter(|content| !content.is_empty()).collect();
        let sent: BTreeSet<_> = left
            .iter()
            .map(|content| content.trim_end_matches(EDITED).to_owned())
            .collect();
        assert_eq!(
            sent.len(),
            left.len(),
            "conversation {id}: each message once"
        );
        assert!(sent.is_subset(contents));
        let gone: Vec<_> = stored.iter().filter(|(_, m)| m.1.is_empty()).collect();
        let is_deleted = |id| deleted.iter().any(|deleted| deleted.contains(id));
        assert!(gone.iter().all(|(id, _)| is_deleted(*id)));
        let revs: BTreeSet<_> = stored.values().map(|(rev, _)| *rev).collect();
        assert_eq!(revs.len(), count, "each change has its rev");
    }
    let gone = all.values().flat_map(|messages| messages.values());
    let gone = gone.filter(|(_, content)| content.is_empty()).count();
    let to_delete: usize = deleted.iter().map(BTreeSet::len).sum();
    assert_eq!(gone, to_delete, "what was to be deleted is");
    // Everything that the plain clients received is stored and came once, in order.
    let plain_stored = &all[&plain_conversation];
    for heard in &plain_heard {
        assert!(
            form == Form::Cluster || heard.is_sorted_by(|a, b| a.0 < b.0),
            "{heard:?}"
        );
        for (id, content) in heard {
            assert_eq!(&plain_stored[id].1, content);
        }
    }
    // Check that the test did cause faults.
    println!(
        "{connections} connections, {gaps} gaps, {duplicates} messages sent again after they were stored, {changes:?}, \
         {interrupted} hosts killed before the index was filled"
    );
    assert!(interrupted > 0, "no host died while the index was filled");
    assert!(
        connections > 2 * CLIENTS && duplicates > 0,
        "{connections} connections, {duplicates} duplicates"
    );
}
