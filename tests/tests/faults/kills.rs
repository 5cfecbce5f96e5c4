//! Hosts that are killed or terminated: every message that they acknowledged is stored.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tests::host::{login, register, run_in};
use tests::{Client, Data, Process, soon};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;

use crate::stored::{Heard, check, heard};

/// A client that sends without a pause, with several messages unanswered.
struct Streamer {
    name: String,
    cookie: String,
    conversation: i64,
    /// The client sends client_ids, and sends unanswered messages again.
    has_client_ids: bool,
    count: usize,
    unanswered: VecDeque<String>,
}

impl Streamer {
    const WINDOW: usize = 10;

    /// Sends at most `count` new messages, until all are answered or the connection ends. Every
    /// message that it receives, as a reply or a push, goes to `told`. Returns the code of the
    /// close frame, if there was one.
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
                // If the host has closed the socket or is gone, what it sent before is still read.
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

/// Streamers for a new database. Each two in turn share a conversation.
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

/// Connects all streamers, then lets them stream until they have their answers or the host is gone.
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

/// A random generator. If the test fails, its output shows the seed.
fn random() -> Rng {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    Rng::with_seed(seed)
}

#[tokio::test]
async fn killed_at_any_moment_it_has_what_it_acknowledged() {
    const ROUNDS: usize = 50;
    let mut random = random();
    let data = Data::create();
    let mut host = data.start().await;
    let mut streamers = streamers(host.address, 4).await;
    let mut acknowledged = Vec::new();
    for _ in 0..ROUNDS {
        let (running, mut told) = start(streamers, host.address, usize::MAX / 2).await;
        for _ in 0..random.usize(0..200) {
            acknowledged.push(soon("an answer", told.recv()).await.expect("they stream"));
        }
        // A commit takes less than this, so the kill may come at any moment of it.
        sleep(Duration::from_micros(random.u64(0..5_000))).await;
        host.kill().await;
        streamers = running
            .join_all()
            .await
            .into_iter()
            .map(|(s, _)| s)
            .collect();
        while told.recv_many(&mut acknowledged, 1000).await > 0 {}
        check(&data.file(), &acknowledged).await;
        host = data.start().await;
    }
    let (running, _told) = start(streamers, host.address, 0).await;
    let streamers = running.join_all().await;
    let contents = check(&data.file(), &acknowledged).await;
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
    let mut random = random();
    for _ in 0..10 {
        let data = Data::create();
        let file = data.beside("data/chat.db");
        let script = format!(
            r#"exec timeout --signal=KILL 0.{:03} "$0" "$@""#,
            random.u32(1..100)
        );
        run_in(&script, &[], &[("DBPATH", file.to_str().expect("text"))]).await;
        let host = Process::start(&file).await;
        register(host.address, "alice").await;
        host.stop().await;
        check(&file, &[]).await;
    }
}

#[tokio::test]
async fn terminated_under_load_it_answers_closes_and_leaves_a_whole_file() {
    let data = Data::create();
    let host = data.start().await;
    let streamers = streamers(host.address, 20).await;
    let (running, mut told) = start(streamers, host.address, usize::MAX / 2).await;
    let mut acknowledged = Vec::new();
    for _ in 0..1000 {
        acknowledged.push(soon("an answer", told.recv()).await.expect("they stream"));
    }
    host.stop().await;
    for (streamer, code) in running.join_all().await {
        assert_eq!(code, Some(1001), "{}", streamer.name);
    }
    while told.recv_many(&mut acknowledged, 1000).await > 0 {}
    assert!(!data.wal().exists(), "checkpointed");
    check(&data.file(), &acknowledged).await;
}
