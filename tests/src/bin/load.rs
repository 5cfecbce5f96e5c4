//! Figures of a running host and of its operations, each beside something it is measured against.
//!
//!     load sends --address 127.0.0.1:8000 --pairs 100 --seconds 5 --rounds 3
//!
//! Durable sends a second. Each pair is a sender and a receiver in a conversation of their own. The sender keeps one
//! message in flight: it sends the next when the reply to the last, and so its commit, has come. Checked of every
//! message: that the receiver gets it once, in order. Beside it: the same statements in bare group commits of 64.
//!
//!     load remote --pairs 100 --hosts 2 --delay-ms 20
//!
//! The same over a libSQL server that it starts, with hosts that it starts, and a bus where they are several; the sender is
//! on the first host and the receiver on the last. The delay is put before every request to the server. Beside it: the same
//! statements in bare batches of 64, one request each, through the same delay.
//!
//!     load growth --small 10000 --large 5000000
//!
//! What operations cost a user in 5,000 conversations, in a database of few messages and in one of many. No host needed.
//!
//! All print lines for people and a line of JSON; figures are medians.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Parser};
use handler::account::Register;
use handler::{Context, Event, Operation, handle, handle_remote, schema};
use serde_json::{Value, json};
use tests::host::{login, register};
use tests::{Gateway, Nats, Process, Sqld};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Parser)]
enum Arguments {
    /// Durable sends a second of a running host.
    Sends(Sends),
    /// Durable sends a second over a libSQL server.
    Remote(Remote),
    /// The cost of operations as the database grows.
    Growth(Growth),
}

#[derive(Args)]
struct Sends {
    /// A running host.
    #[arg(long, default_value = "127.0.0.1:8000")]
    address: SocketAddr,
    #[command(flatten)]
    load: Load,
}

#[derive(Args)]
struct Remote {
    #[arg(long, default_value_t = 1)]
    hosts: usize,
    /// Put before every request to the database.
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    #[command(flatten)]
    load: Load,
}

#[derive(Args)]
struct Load {
    #[arg(long, default_value_t = 100)]
    pairs: usize,
    /// Length of a round.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Length of a message, in bytes.
    #[arg(long, default_value_t = 64)]
    bytes: usize,
}

#[derive(Args)]
struct Growth {
    /// Messages in the small database.
    #[arg(long, default_value_t = 10_000)]
    small: i64,
    /// Messages in the large one.
    #[arg(long, default_value_t = 5_000_000)]
    large: i64,
    /// Each operation is run so often.
    #[arg(long, default_value_t = 21)]
    rounds: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse() {
        Arguments::Sends(arguments) => sends(arguments).await,
        Arguments::Remote(arguments) => remote(arguments).await,
        Arguments::Growth(arguments) => growth(arguments).await,
    }
}

async fn sends(arguments: Sends) -> anyhow::Result<()> {
    let address = arguments.address;
    let floor = |content: String, length| raw_commits(length, content);
    measure(arguments.load, address, address, "raw commits of 64", floor).await
}

async fn remote(arguments: Remote) -> anyhow::Result<()> {
    ensure!(arguments.hosts > 0, "--hosts is at least 1");
    let sqld = Sqld::start().await;
    let gateway = Gateway::start(&sqld).await;
    let nats = match arguments.hosts {
        1 => None,
        _ => Some(Nats::start().await),
    };
    let mut hosts = Vec::new();
    for _ in 0..arguments.hosts {
        hosts.push(Process::start_on(&gateway, nats.as_ref(), 30).await);
    }
    let (first, last) = (hosts[0].address, hosts[arguments.hosts - 1].address);
    // A database of its own for what is measured beside.
    let beside = Gateway::start(&sqld).await;
    for gateway in [&gateway, &beside] {
        gateway.delay(Duration::from_millis(arguments.delay_ms));
    }
    let remote = libsql::Builder::new_remote(beside.url(), String::new());
    let db = remote.build().await?.connect()?;
    schema::migrate_remote(&db, 0).await?;
    for register in Floor::users() {
        let anonymous = Context::anonymous(0);
        handle_remote(&db, &anonymous, &register, &mut Vec::new()).await?;
    }
    let create = Floor::conversation()?;
    handle_remote(&db, &Floor::context(), &create, &mut Vec::new()).await?;
    let floor = |content: String, length| raw_batches(&db, length, content);
    measure(arguments.load, first, last, "raw batches of 64", floor).await
}

/// Runs the rounds, each after one of the floor.
async fn measure(
    load: Load,
    from: SocketAddr,
    to: SocketAddr,
    floor_name: &str,
    floor: impl AsyncFn(String, Duration) -> anyhow::Result<f64>,
) -> anyhow::Result<()> {
    let mut pairs = Vec::new();
    // Names of this run alone, so that it can run again on the same database.
    let run = std::process::id();
    // First the logins, which take their time, then the sockets, which have to answer pings.
    let mut logins = Vec::new();
    for index in 0..load.pairs {
        logins.push(Logins::make(from, &format!("load-{run}-{index}")).await);
    }
    for logins in logins {
        pairs.push(Pair::meet(from, to, &logins).await?);
    }
    let length = Duration::from_secs(load.seconds);
    let (mut floors, mut rates, mut cpu) = (vec![], vec![], vec![]);
    let (mut replies, mut pushes) = (vec![], vec![]);
    for _ in 0..load.rounds {
        let content = "x".repeat(load.bytes);
        floors.push(floor(content.clone(), length).await?);
        let (started, used) = (Instant::now(), cpu_seconds()?);
        let running = pairs.into_iter().map(|mut pair| {
            let content = content.clone();
            tokio::spawn(async move {
                let latencies = pair.talk(started + length, &content).await?;
                anyhow::Ok((pair, latencies))
            })
        });
        let mut sends = 0;
        pairs = Vec::new();
        for running in running.collect::<Vec<_>>() {
            let (pair, latencies) = running.await??;
            pairs.push(pair);
            sends += latencies.len();
            for (reply, push) in latencies {
                replies.push(reply);
                pushes.push(push);
            }
        }
        let elapsed = started.elapsed().as_secs_f64();
        rates.push(sends as f64 / elapsed);
        cpu.push((cpu_seconds()? - used) / elapsed);
    }
    let (sends, floor) = (median(&mut rates), median(&mut floors));
    let [reply_p50, reply_p99] = percentiles(&mut replies);
    let [push_p50, push_p99] = percentiles(&mut pushes);
    println!(
        "{} pairs, one in flight: {sends:.0} durable sends/s; to the reply p50 {reply_p50:.2} ms, p99 {reply_p99:.2} ms, \
         to the receiver's push p50 {push_p50:.2} ms, p99 {push_p99:.2} ms; {floor_name}: {floor:.0}/s, ratio {:.2}; \
         CPUs used by this program: {:.2}",
        load.pairs,
        sends / floor,
        median(&mut cpu)
    );
    println!(
        "{}",
        json!({
            "pairs": load.pairs, "sends_per_second": sends, "rounds": rates,
            "reply_p50_ms": reply_p50, "reply_p99_ms": reply_p99, "push_p50_ms": push_p50, "push_p99_ms": push_p99,
            "floor_per_second": floor, "floor_rounds": floors,
        })
    );
    Ok(())
}

/// p50 and p99, in milliseconds.
fn percentiles(latencies: &mut [Duration]) -> [f64; 2] {
    latencies.sort_unstable();
    [0.5, 0.99].map(|share| {
        let index = (latencies.len() as f64 * share) as usize;
        latencies
            .get(index)
            .map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    })
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// CPU time of this process so far, from proc_pid_stat(5); ticks are hundredths of a second on Linux.
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, after_name) = stat.rsplit_once(") ").context("no name in stat")?;
    let ticks = after_name
        .split(' ')
        .skip(11)
        .take(2)
        .map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

struct Pair {
    sender: Socket,
    receiver: Socket,
    conversation_id: i64,
}

/// The cookies of two users, and the name of the second.
struct Logins {
    cookies: [String; 2],
    second: String,
}

impl Logins {
    async fn make(address: SocketAddr, name: &str) -> Self {
        let (first, second) = (format!("{name}-a"), format!("{name}-b"));
        for username in [&first, &second] {
            register(address, username).await;
        }
        let cookies = [login(address, &first).await, login(address, &second).await];
        Logins { cookies, second }
    }
}

impl Pair {
    async fn meet(from: SocketAddr, to: SocketAddr, logins: &Logins) -> anyhow::Result<Self> {
        let mut sender = Socket::connect(from, &logins.cookies[0]).await?;
        let mut receiver = Socket::connect(to, &logins.cookies[1]).await?;
        let create = json!({ "type": "create_conversation", "members": [logins.second] });
        // The receiver's host knows of it when it has answered.
        receiver.send(r#"{"type": "ping"}"#).await?;
        receiver.receive().await?;
        sender.send(&create.to_string()).await?;
        let created: Value = serde_json::from_slice(sender.receive().await?)?;
        receiver.receive().await?;
        let conversation_id = created["data"]["id"].as_i64().context("no conversation")?;
        Ok(Pair {
            sender,
            receiver,
            conversation_id,
        })
    }

    /// Sends until `end`; returns the time from each send to its reply, and to its push.
    async fn talk(
        &mut self,
        end: Instant,
        content: &str,
    ) -> anyhow::Result<Vec<(Duration, Duration)>> {
        let event = json!({
            "type": "send_message", "conversation_id": self.conversation_id, "content": content,
        });
        let event = event.to_string();
        let mut latencies = Vec::new();
        let mut last_id = 0;
        while Instant::now() < end {
            let started = Instant::now();
            self.sender.send(&event).await?;
            let id = async |socket: &mut Socket| {
                let id = id_of(socket.receive().await?)?;
                anyhow::Ok((id, started.elapsed()))
            };
            let (replied, pushed) = tokio::try_join!(id(&mut self.sender), id(&mut self.receiver))?;
            latencies.push((replied.1, pushed.1));
            let (replied, pushed) = (replied.0, pushed.0);
            ensure!(
                replied == pushed,
                "sent {replied}, and the receiver got {pushed}"
            );
            ensure!(replied > last_id, "{replied} after {last_id}");
            last_id = replied;
        }
        Ok(latencies)
    }
}

/// The id of a message event, without parsing more than it takes: this program shares the machine with the host.
fn id_of(event: &[u8]) -> anyhow::Result<i64> {
    let text = std::str::from_utf8(event)?;
    let (_, rest) = text
        .split_once("\"success\":true,\"data\":{\"id\":")
        .with_context(|| format!("not a message: {text}"))?;
    let (id, _) = rest.split_once(',').context("nothing after the id")?;
    Ok(id.parse()?)
}

/// A WebSocket client that does no more than it must: frames with a mask of zeros, whole text frames back.
struct Socket {
    stream: TcpStream,
    input: Vec<u8>,
    /// Bytes at the start of `input` that belong to the frame returned last.
    taken: usize,
}

impl Socket {
    async fn connect(address: SocketAddr, cookie: &str) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let handshake = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(handshake.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await?);
        }
        ensure!(
            answer.starts_with(b"HTTP/1.1 101"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        Ok(Socket {
            stream,
            input: Vec::new(),
            taken: 0,
        })
    }

    async fn send(&mut self, text: &str) -> anyhow::Result<()> {
        let mut frame = vec![0x81];
        match text.len() {
            length @ ..=125 => frame.push(0x80 | length as u8),
            length @ ..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => bail!("{length} bytes are too many for this client"),
        }
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.stream.write_all(&frame).await?;
        Ok(())
    }

    /// The payload of the next text frame; answers pings.
    async fn receive(&mut self) -> anyhow::Result<&[u8]> {
        self.input.drain(..self.taken);
        self.taken = 0;
        loop {
            let (opcode, head, length) = match self.input[..] {
                [first, length @ ..=125, ..] => (first & 15, 2, usize::from(length)),
                [first, 126, high, low, ..] => {
                    (first & 15, 4, usize::from(u16::from_be_bytes([high, low])))
                }
                [_, 127, ..] => bail!("a frame of more than 64 KiB"),
                _ => (0, 0, usize::MAX),
            };
            if length == usize::MAX || self.input.len() < head + length {
                let read = self.stream.read_buf(&mut self.input).await?;
                ensure!(read > 0, "the host closed the socket");
                continue;
            }
            match opcode {
                1 => {
                    self.taken = head + length;
                    return Ok(&self.input[head..head + length]);
                }
                9 => {
                    self.stream.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await?;
                    self.input.drain(..head + length);
                }
                _ => bail!("the host sent {:?}", String::from_utf8_lossy(&self.input)),
            }
        }
    }
}

/// Conversations of the user in `growth`.
const CONVERSATIONS: i64 = 5_000;

async fn growth(arguments: Growth) -> anyhow::Result<()> {
    let small = costs(arguments.small, arguments.rounds).await?;
    let large = costs(arguments.large, arguments.rounds).await?;
    let mut lines = Vec::new();
    for ((name, small), (_, large)) in small.iter().zip(&large) {
        println!(
            "{name:40} {small:9.3} ms {large:9.3} ms   × {:.2}",
            large / small
        );
        lines.push(json!({ "operation": name, "small_ms": small, "large_ms": large }));
    }
    let (small, large) = (arguments.small, arguments.large);
    println!(
        "{}",
        json!({ "small": small, "large": large, "operations": lines })
    );
    Ok(())
}

/// The median milliseconds of each operation, for a user in `CONVERSATIONS` conversations with these messages in all.
async fn costs(messages: i64, rounds: usize) -> anyhow::Result<Vec<(&'static str, f64)>> {
    let folder = tempfile::TempDir::new()?;
    let db = Floor::open(&folder).await?.db;
    let content = "a message of a usual length, of some sixty bytes in all.....";
    // One conversation has a full page of history, whatever the size; all is read.
    let populate = format!(
        "begin;
         with recursive n(i) as (select 2 union all select i + 1 from n where i <= {CONVERSATIONS})
             insert into conversations (id, name) select i, 'conversation ' || i from n;
         insert or ignore into members (conversation_id, user_id) select id, 1 from conversations;
         insert or ignore into members (conversation_id, user_id) select id, 2 from conversations;
         with recursive n(i) as (select 0 union all select i + 1 from n where i + 1 < {messages})
             insert into messages (sender_id, conversation_id, content, rev)
             select 2, 1 + i % {CONVERSATIONS}, '{content}', 2 + i / {CONVERSATIONS} from n;
         with recursive n(i) as (select 1 union all select i + 1 from n where i < 100)
             insert into messages (sender_id, conversation_id, content, rev)
             select 2, 17, '{content}', i + (select max(rev) from messages where conversation_id = 17) from n;
         update conversations set rev = latest.rev, activity = latest.id
             from (select conversation_id, max(rev) as rev, max(id) as id from messages group by conversation_id) as latest
             where latest.conversation_id = conversations.id;
         update members set read_id = (select activity from conversations where id = conversation_id);
         commit;"
    );
    db.execute_batch(&populate).await?;
    let mut revs = serde_json::Map::new();
    let mut rows = db
        .query("select id, rev from conversations where id <= 5000", ())
        .await?;
    while let Some(row) = rows.next().await? {
        let (id, rev): (i64, i64) = (row.get(0)?, row.get(1)?);
        // Three have changed since.
        let missed = i64::from([17, 1_700, 4_900].contains(&id));
        revs.insert(id.to_string(), json!(rev - missed));
    }
    drop(rows);
    let ctx = Floor::context();
    let mut costs = Vec::new();
    for (name, event) in [
        (
            "sync, 3 of 5,000 conversations changed",
            json!({ "type": "sync", "revs": revs }),
        ),
        ("sync, the first page of all", json!({ "type": "sync" })),
        (
            "get_conversations, all 5,000",
            json!({ "type": "get_conversations" }),
        ),
        (
            "get_conversations, 50",
            json!({ "type": "get_conversations", "limit": 50 }),
        ),
        (
            "get_messages",
            json!({ "type": "get_messages", "conversation_id": 17 }),
        ),
        (
            "send_message, its commit included",
            json!({ "type": "send_message", "conversation_id": 17, "content": "x" }),
        ),
    ] {
        let operation = Event::parse(&event.to_string()).operation?;
        let mut times = Vec::new();
        for _ in 0..rounds {
            let started = Instant::now();
            handle(&db, &ctx, &operation, &mut Vec::new()).await?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        costs.push((name, median(&mut times)));
    }
    Ok(costs)
}

/// A database with two users in a conversation, on the disk of temporary files.
struct Floor {
    db: libsql::Connection,
}

impl Floor {
    async fn open(folder: &tempfile::TempDir) -> anyhow::Result<Self> {
        let database = libsql::Builder::new_local(folder.path().join("floor.db"))
            .build()
            .await?;
        let db = database.connect()?;
        // As the host's store sets them.
        db.execute_batch(
            "pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = off; pragma cache_size = -32768;",
        )
        .await?;
        schema::migrate(&db, 0).await?;
        for register in Self::users() {
            handle(&db, &Context::anonymous(0), &register, &mut Vec::new()).await?;
        }
        let create = Self::conversation()?;
        handle(&db, &Self::context(), &create, &mut Vec::new()).await?;
        Ok(Floor { db })
    }

    fn users() -> [Register; 2] {
        ["a", "b"].map(|username| Register {
            username: username.into(),
            fullname: username.into(),
            password_hash: String::new(),
        })
    }

    /// Of both.
    fn conversation() -> Result<handler::EventOperation, handler::Error> {
        let create = json!({ "type": "create_conversation", "members": ["b"] });
        Event::parse(&create.to_string()).operation
    }

    fn context() -> Context {
        Context::new(1, "a".into(), 0)
    }
}

/// The statements of `send_message`, 64 to a request, with nothing around them.
async fn raw_batches(
    db: &libsql::Connection,
    length: Duration,
    content: String,
) -> anyhow::Result<f64> {
    let send = json!({ "type": "send_message", "conversation_id": 1, "content": content });
    let statements = Event::parse(&send.to_string())
        .operation?
        .statements(&Floor::context());
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed() < length {
        let batch = std::iter::repeat_n(&statements, 64).flatten();
        handler::run_batch(db, batch).await?;
        count += 64;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// The statements of `send_message`, kept prepared, 64 to a commit, with nothing around them.
async fn raw_commits(length: Duration, content: String) -> anyhow::Result<f64> {
    let folder = tempfile::TempDir::new()?;
    let db = Floor::open(&folder).await?.db;
    let send = json!({ "type": "send_message", "conversation_id": 1, "content": content });
    let statements = Event::parse(&send.to_string())
        .operation?
        .statements(&Floor::context());
    let mut prepared = Vec::new();
    for statement in &statements {
        prepared.push(db.prepare(statement.sql).await?);
    }
    let mut begin = db.prepare("begin immediate").await?;
    let mut commit = db.prepare("commit").await?;
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed() < length {
        handler::run(&mut begin, vec![]).await?;
        for _ in 0..64 {
            for (prepared, statement) in prepared.iter_mut().zip(&statements) {
                handler::run(prepared, statement.parameters.clone()).await?;
            }
        }
        handler::run(&mut commit, vec![]).await?;
        count += 64;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}
