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
//!     load attacks --seconds 5 --rounds 3
//!
//! What a few ordinary users get while others go to every limit and beyond, in turns with quiet rounds. It starts the host,
//! with the limits that it has by itself. `--only` one of the attacks.
//!
//! All print lines for people and a line of JSON; figures are medians.

mod attackers;
mod attacks;
mod floor;
mod growth;
mod socket;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use attackers::{Attackers, attack};
use attacks::{Attacks, attacks};
use clap::{Args, Parser};
use floor::{Floor, raw_batches, raw_commits};
use growth::{Growth, growth};
use handler::{Context, handle_remote, schema};
use serde_json::{Value, json};
use socket::Socket;
use tests::host::{login, register};
use tests::{Gateway, Nats, Process, Sqld};

#[derive(Parser)]
enum Arguments {
    /// Durable sends a second of a running host.
    Sends(Sends),
    /// Durable sends a second over a libSQL server.
    Remote(Remote),
    /// The cost of operations as the database grows.
    Growth(Growth),
    /// What ordinary users get while others go to every limit.
    Attacks(Attacks),
    /// One of those attacks, for ever.
    #[command(hide = true)]
    Attack(Attackers),
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

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse() {
        Arguments::Sends(arguments) => sends(arguments).await,
        Arguments::Remote(arguments) => remote(arguments).await,
        Arguments::Growth(arguments) => growth(arguments).await,
        Arguments::Attacks(arguments) => attacks(arguments).await,
        Arguments::Attack(attackers) => {
            attack(attackers).await;
            Ok(())
        }
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
        let (started, used) = (Instant::now(), cpu_seconds(None)?);
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
        cpu.push((cpu_seconds(None)? - used) / elapsed);
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

/// CPU time of a process, or of this one, so far, from proc_pid_stat(5); ticks are hundredths of a second on Linux.
fn cpu_seconds(id: Option<u32>) -> anyhow::Result<f64> {
    let id = id.unwrap_or_else(std::process::id);
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
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
