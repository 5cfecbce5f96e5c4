//! What ordinary users experience while others go to every limit and beyond.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use handler::account::password;
use serde_json::{Value, json};
use tests::host::{LIMITS, Log, PASSWORD, SECRET, request};
use tests::memory::peak_resident_kib;
use tests::tokens::foreign_token;
use tests::{Process, soon};
use tokio::process::Command;
use tokio::time::{Instant, interval_at, sleep, sleep_until, timeout};

use crate::attackers::Attack;
use crate::floor::Floor;
use crate::machine::cpu_seconds;
use crate::measurement::{Latency, median};
use crate::order::Place;
use crate::socket::Socket;

#[derive(Args)]
pub struct Attacks {
    /// Length of a round, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds of each attack, each after a quiet round.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only this attack.
    #[arg(long)]
    only: Option<Attack>,
}

/// The number of pairs of ordinary users. One user of each sends to the other.
const PAIRS: usize = 8;
const SEND_INTERVAL: Duration = Duration::from_millis(50);
/// The number of attackers. Each has a conversation of its own; the first 100 are also in the busy
/// and the long one.
pub const ATTACKERS: usize = 1000;
pub const BUSY_CONVERSATION: i64 = 2001;
/// A page of its history is 100 messages of 10 KB.
pub const LONG_CONVERSATION: i64 = 2002;
/// All attackers are in it.
pub const CROWDED_CONVERSATION: i64 = 2003;
/// Users who are in many conversations with a long last message.
pub const LIST_USERS: usize = 3;
/// As many members as a conversation may have.
pub const CROWD: usize = 9_999;
/// The user whose password is guessed, and who logs in meanwhile.
pub const VISITOR: &str = "visitor";
/// The time from the start of an attack until it is assumed to have its full effect.
const BUILD_UP: Duration = Duration::from_secs(2);
/// What has been sent and has not arrived after this time is lost.
const PATIENCE: Duration = Duration::from_secs(15);

pub fn cookie(username: &str) -> String {
    format!("login-token={}", foreign_token(SECRET, username))
}

pub async fn attacks(arguments: Attacks) -> anyhow::Result<()> {
    println!(
        "{PAIRS} pairs send 20 messages a second each, whatever comes back. Times are milliseconds from when a message is due. \
         Attackers run on the same machine at the lowest priority (nice 19), so that the figures are those of the host."
    );
    let chosen = Attack::value_variants().iter();
    let chosen = chosen.filter(|attack| arguments.only.is_none_or(|only| only == **attack));
    for attack in chosen {
        let (mut quiet, mut attacked) = (Rounds::default(), Rounds::default());
        // Each attack has a file of its own, so that it does not suffer from what another has
        // stored.
        let host = AttackedHost::start(*attack).await?;
        for _ in 0..arguments.rounds {
            let length = Duration::from_secs(arguments.seconds);
            quiet.add(host.round(None, length).await?);
            attacked.add(host.round(Some(*attack), length).await?);
        }
        println!("{}", attack.name());
        for (name, rounds) in [("quiet", &mut quiet), ("attack", &mut attacked)] {
            println!("    {name:6} {}", rounds.text());
        }
        println!("    seen by the host: {}", attacked.seen_text());
        println!(
            "{}",
            json!({ "attack": attack.name(), "quiet": quiet.json(), "attacked": attacked.json() })
        );
    }
    Ok(())
}

/// What ordinary users experienced in a round.
#[derive(Default)]
struct Round {
    replies: Vec<Duration>,
    pushes: Vec<Duration>,
    visits: Visits,
    failures: BTreeMap<String, usize>,
    host_cpus: f64,
    /// The highest so far.
    host_mib: f64,
    /// By which the data file and its log grew, per second.
    disk_mib: f64,
    /// The host's metrics that have risen.
    seen: BTreeMap<String, f64>,
}

/// The same figures of several rounds.
#[derive(Default)]
struct Rounds {
    figures: BTreeMap<&'static str, Vec<f64>>,
    failures: BTreeMap<String, usize>,
    seen: BTreeMap<String, f64>,
}

impl Rounds {
    fn add(&mut self, mut round: Round) {
        let [replies, pushes, logins, connects, reads] = [
            &mut round.replies,
            &mut round.pushes,
            &mut round.visits.logins,
            &mut round.visits.connects,
            &mut round.visits.reads,
        ]
        .map(|times| Latency::of(std::mem::take(times)));
        for (name, figure) in [
            ("reply p50", replies.p50),
            ("reply p99", replies.p99),
            ("reply max", replies.max),
            ("push p50", pushes.p50),
            ("push p99", pushes.p99),
            ("push max", pushes.max),
            ("login", logins.p50),
            ("connect", connects.p50),
            ("read", reads.p50),
            ("host CPUs", round.host_cpus),
            ("host MiB", round.host_mib),
            ("disk MiB/s", round.disk_mib),
        ] {
            self.figures.entry(name).or_default().push(figure);
        }
        for (what, count) in round.failures {
            *self.failures.entry(what).or_default() += count;
        }
        for (what, count) in round.seen {
            // The number of open connections is not a counter.
            let is_gauge = what == "http_connections";
            let seen = self.seen.entry(what).or_default();
            *seen = match is_gauge {
                true => count.max(*seen),
                false => count + *seen,
            };
        }
    }

    fn median(&self, name: &str) -> f64 {
        self.figures
            .get(name)
            .map_or(0.0, |figures| median(figures))
    }

    fn text(&self) -> String {
        let figures = |names: [&str; 3]| names.map(|name| format!("{:.1}", self.median(name)));
        format!(
            "reply p50, p99, max {}; push {}; login {:.0}, new socket {:.1}, first read {:.1}; host: {:.2} CPUs, {:.0} MiB, disk {:.1} MiB/s; failures: {}",
            figures(["reply p50", "reply p99", "reply max"]).join(", "),
            figures(["push p50", "push p99", "push max"]).join(", "),
            self.median("login"),
            self.median("connect"),
            self.median("read"),
            self.median("host CPUs"),
            self.median("host MiB"),
            self.median("disk MiB/s"),
            match self.failures.is_empty() {
                true => "none".into(),
                false => format!("{:?}", self.failures),
            }
        )
    }

    fn seen_text(&self) -> String {
        let seen = self
            .seen
            .iter()
            .map(|(what, count)| format!("{what} {count}"));
        seen.collect::<Vec<_>>().join(", ")
    }

    fn json(&self) -> Value {
        let medians = self.figures.keys().map(|name| (*name, self.median(name)));
        let medians: BTreeMap<_, _> = medians.collect();
        json!({ "medians": medians, "rounds": self.figures, "failures": self.failures, "seen": self.seen })
    }
}

/// The real program with its default limits.
struct AttackedHost {
    process: Process,
    metrics: SocketAddr,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl AttackedHost {
    async fn start(attack: Attack) -> anyhow::Result<Self> {
        let folder = tempfile::TempDir::new()?;
        let (file, log) = (folder.path().join("chat.db"), folder.path().join("log"));
        populate(&file, attack).await?;
        let variables = [
            ("DBPATH", file.as_os_str()),
            ("METRICS_ADDR", OsStr::new("127.0.0.1:0")),
            // Clients from other addresses of this machine are not proxies.
            ("TRUSTED_PROXIES", OsStr::new("127.0.0.1")),
            ("LOG_LEVEL", OsStr::new("info")),
        ];
        // Tests turn these limits off.
        let script = format!(r#"unset {}; exec "$0" "$@""#, LIMITS.join(" "));
        let process = Process::start_in(&script, &variables, Log::File(log.clone())).await;
        let metrics = soon("the address of the metrics", async {
            loop {
                let log = tokio::fs::read_to_string(&log).await.unwrap_or_default();
                let address = log.split_once("metrics on http://");
                if let Some((address, _)) = address.and_then(|(_, rest)| rest.split_once('/')) {
                    return address.parse();
                }
                sleep(Duration::from_millis(10)).await;
            }
        });
        Ok(AttackedHost {
            metrics: metrics.await?,
            process,
            file,
            _folder: folder,
        })
    }

    async fn round(&self, attack: Option<Attack>, length: Duration) -> anyhow::Result<Round> {
        let address = self.process.address;
        let mut pairs = Vec::new();
        for index in 0..PAIRS {
            let (first, second) = (format!("pair-{index}-a"), format!("pair-{index}-b"));
            pairs.push(Pair::meet(address, &first, &second).await?);
        }
        let before = self.counted().await?;
        let attackers = attack.map(|attack| self.attackers(attack)).transpose()?;
        sleep(BUILD_UP).await;
        let (id, started) = (Some(self.process.id()), Instant::now());
        let (used, end) = (cpu_seconds(id)?, started + length);
        let stored = self.file_mib();
        let chats = pairs.into_iter().enumerate().map(|(index, pair)| {
            // The pairs do not all send at the same time.
            let first = started + SEND_INTERVAL * index as u32 / PAIRS as u32;
            tokio::spawn(chat(pair, first, end))
        });
        let chats: Vec<_> = chats.collect();
        let visits = tokio::spawn(visit(address, end));
        sleep_until(end).await;
        let mut round = Round {
            host_cpus: (cpu_seconds(id)? - used) / length.as_secs_f64(),
            host_mib: peak_resident_kib(self.process.id())? / 1024.0,
            disk_mib: (self.file_mib() - stored) / length.as_secs_f64(),
            ..Round::default()
        };
        // This is read during the attack, because the number of open connections is not a counter.
        let after = self.counted().await?;
        for (what, count) in after {
            let risen = count - before.get(&what).copied().unwrap_or_default();
            if risen > 0.0 {
                round.seen.insert(what, risen);
            }
        }
        let mut failed = |what: String| *round.failures.entry(what).or_default() += 1;
        for chat in chats {
            match chat.await? {
                Ok((replies, pushes, refused)) => {
                    round.replies.extend(replies);
                    round.pushes.extend(pushes);
                    refused.into_iter().for_each(&mut failed);
                }
                Err(error) => failed(format!("a pair: {error:#}")),
            }
        }
        let (visits, failures) = visits.await?;
        failures.into_iter().for_each(&mut failed);
        round.visits = visits;
        if let Some(mut attackers) = attackers {
            attackers.kill().await?;
        }
        // Give the host time to deal with what the attackers have left behind.
        sleep(Duration::from_secs(1)).await;
        Ok(round)
    }

    /// The size of the data file and its write-ahead log.
    fn file_mib(&self) -> f64 {
        let mut log = self.file.clone().into_os_string();
        log.push("-wal");
        let bytes = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
        (bytes(&self.file) + bytes(log.as_ref())) as f64 / (1024.0 * 1024.0)
    }

    /// Starts this program again as the attackers, at the lowest priority.
    fn attackers(&self, attack: Attack) -> anyhow::Result<tokio::process::Child> {
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(std::env::current_exe()?);
        command.args(["attack", &attack.name(), &self.process.address.to_string()]);
        Ok(command.kill_on_drop(true).spawn()?)
    }

    /// The metrics that show refusals.
    async fn counted(&self) -> anyhow::Result<HashMap<String, f64>> {
        const TOLD: [&str; 5] = [
            "chat_events_total",
            "chat_http_requests_total",
            "chat_http_connections",
            "chat_refusals_total",
            "chat_socket_closes_total",
        ];
        let answer = request(self.metrics, "GET", "/metrics", &[], "").await;
        ensure!(answer.status == 200, "metrics: {}", answer.body);
        let lines = answer.body.lines();
        let lines = lines.filter(|line| TOLD.iter().any(|name| line.starts_with(name)));
        let samples = lines.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let series = series.replace("chat_", "").replace("_total", "");
            Some((series.replace('"', ""), value.parse().ok()?))
        });
        Ok(samples.collect())
    }
}

/// Fills a file with the users and the conversations that the attackers use.
async fn populate(path: &Path, attack: Attack) -> anyhow::Result<()> {
    let db = Floor::open_file(path).await?;
    let hash = password::hash(PASSWORD, [7; 16]);
    let content = "x".repeat(10_000);
    let mut names = vec![VISITOR.to_owned()];
    for index in 0..PAIRS {
        names.extend([format!("pair-{index}-a"), format!("pair-{index}-b")]);
    }
    names.extend((0..ATTACKERS).map(|index| format!("attacker-{index}")));
    let names = json!(names);
    db.execute_batch(&format!(
        "begin;
         insert into users (username, fullname, password) select value, value, '{hash}' from json_each('{names}');
         insert into conversations (id, name) values ({BUSY_CONVERSATION}, 'busy'), ({LONG_CONVERSATION}, 'long');
         insert into members (conversation_id, user_id)
             select c.id, u.id from conversations c, users u where c.id > 2000 and u.username like 'attacker%'
                 and cast(substr(u.username, 10) as integer) < 100;
         with recursive n(i) as (select 0 union all select i + 1 from n where i + 1 < {ATTACKERS})
             insert into conversations (id, name) select 1 + i, 'own' from n;
         with recursive n(i) as (select 0 union all select i + 1 from n where i + 1 < {ATTACKERS})
             insert into members (conversation_id, user_id)
             select 1 + i, (select id from users where username = 'attacker-' || i) from n;
         with recursive n(i) as (select 1 union all select i + 1 from n where i < 100)
             insert into messages (sender_id, conversation_id, content, rev)
             select (select id from users where username = 'attacker-0'), {LONG_CONVERSATION}, '{content}', i from n;
         update conversations set member_count = (select count(*) from members where conversation_id = conversations.id);
         update conversations set rev = 100, activity = 100 where id = {LONG_CONVERSATION};
         commit;"
    ))
    .await?;
    // A table of the numbers below `count`.
    let numbers = |count: usize| {
        format!(
            "(with recursive n(value) as (select 0 union all select value + 1 from n where value + 1 < {count})
              select value from n)"
        )
    };
    let more = match attack {
        Attack::UnreadLists | Attack::HardlyReadLists => format!(
            "insert into conversations (id, name, rev) select 10000 + value, 'list', 1 from {lists};
             insert into members (conversation_id, user_id)
                 select 10000 + value, (select id from users where username = 'attacker-' || (value % {LIST_USERS})) from {lists};
             insert into messages (sender_id, conversation_id, content, rev)
                 select 1, 10000 + value, hex(zeroblob(32 * 1024)), 1 from {lists};
             update conversations set activity = (select id from messages where conversation_id = conversations.id) where id >= 10000;",
            lists = numbers(255 * LIST_USERS),
        ),
        Attack::LargeConnects | Attack::HeavyReads => format!("
             insert into conversations (id, name, rev) select 10000 + value, 'many', 1 from {many};
             insert into members (conversation_id, user_id)
                 select 10000 + value, u.id from users u, {many} where username in (
                     select 'attacker-' || value from {few});", many = numbers(10_000), few = numbers(20)),
        Attack::LargeCreations => format!(
            "insert into users (username, fullname, password) select 'member-' || value, 'member', '' from {others};",
            others = numbers(CROWD),
        ),
        Attack::Crowd | Attack::Bursts => format!(
            "insert into conversations (id, name) values ({CROWDED_CONVERSATION}, 'crowded');
             insert into members (conversation_id, user_id)
                 select {CROWDED_CONVERSATION}, id from users where username like 'attacker%';"
        ),
        _ => String::new(),
    };
    db.execute_batch(&format!("begin; {more} commit;")).await?;
    Ok(())
}

/// Two users in a conversation.
struct Pair {
    sender: Socket,
    receiver: Socket,
    conversation_id: i64,
}

impl Pair {
    async fn meet(address: SocketAddr, first: &str, second: &str) -> anyhow::Result<Self> {
        let mut sender = Socket::connect(address, &cookie(first)).await?;
        let mut receiver = Socket::connect(address, &cookie(second)).await?;
        let create = json!({ "type": "create_conversation", "members": [second] });
        // When the host has answered, it knows the receiver.
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
}

type Chatted = (Vec<Duration>, Vec<Duration>, Vec<String>);

/// The sender of a pair sends on time, whether or not the last message was answered. Returns the
/// times to the replies and to the pushes, and the refusals.
async fn chat(mut pair: Pair, first: Instant, end: Instant) -> anyhow::Result<Chatted> {
    let event = json!({
        "type": "send_message", "conversation_id": pair.conversation_id, "content": "x".repeat(64),
    });
    let event = event.to_string();
    let mut ticks = interval_at(first, SEND_INTERVAL);
    let (mut due, mut replied, mut refused) = (vec![], HashMap::new(), vec![]);
    let (mut replies, mut pushed, mut last_id) = (vec![], HashMap::new(), 0);
    while Instant::now() < end || replies.len() < due.len() || pushed.len() < replied.len() {
        tokio::select! {
            at = ticks.tick(), if Instant::now() < end => {
                due.push(at);
                pair.sender.send(&event).await?;
            }
            reply = pair.sender.receive() => {
                let reply = reply?;
                let sent = *due.get(replies.len()).context("a reply without a request")?;
                replies.push(sent.elapsed());
                match Place::of(reply) {
                    Ok(place) => drop(replied.insert(place.id, sent)),
                    Err(error) => refused.push(error.to_string()),
                }
            }
            push = pair.receiver.receive() => {
                let id = Place::of(push?)?.id;
                ensure!(id > last_id, "{id} after {last_id}");
                last_id = id;
                pushed.insert(id, Instant::now());
            }
            () = sleep_until(end), if Instant::now() < end => {}
            () = sleep_until(end + PATIENCE) => {
                let (sent, answered, heard) = (due.len(), replies.len(), pushed.len());
                anyhow::bail!("lost: {sent} sent, {answered} answered, {heard} delivered");
            }
        }
    }
    let mut pushes = Vec::new();
    for (id, sent) in replied {
        let pushed = pushed
            .get(&id)
            .context("a different message was delivered")?;
        pushes.push(*pushed - sent);
    }
    Ok((replies, pushes, refused))
}

/// The times that a visitor's steps took.
#[derive(Default)]
struct Visits {
    logins: Vec<Duration>,
    connects: Vec<Duration>,
    reads: Vec<Duration>,
}

/// Twice a second, a user logs in, opens a socket and reads. Returns the times of these, and the
/// failures.
async fn visit(address: SocketAddr, end: Instant) -> (Visits, Vec<String>) {
    let (mut visits, mut failures) = (Visits::default(), vec![]);
    let get = json!({ "type": "get_conversations", "limit": 20 }).to_string();
    let body = json!({ "username": VISITOR, "password": PASSWORD }).to_string();
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    while Instant::now() < end {
        ticks.tick().await;
        let from = format!("198.51.100.{}", fastrand::u8(..));
        let started = Instant::now();
        let headers = [("x-forwarded-for", &*from)];
        let login = request(address, "POST", "/auth/login", &headers, body.clone());
        match timeout(PATIENCE, login).await {
            Ok(answer) if answer.status == 202 => visits.logins.push(started.elapsed()),
            Ok(answer) => failures.push(format!("login: {}", answer.status)),
            Err(_) => failures.push(format!("login: no answer in {PATIENCE:?}")),
        }
        let started = Instant::now();
        let connect = async {
            let mut socket = Socket::connect(address, &cookie(VISITOR)).await?;
            socket.send(r#"{"type": "ping"}"#).await?;
            socket.receive().await?;
            let connected = started.elapsed();
            socket.send(&get).await?;
            let answer = String::from_utf8_lossy(socket.receive().await?).into_owned();
            ensure!(answer.contains(r#""success":true"#), "{answer}");
            anyhow::Ok((connected, started.elapsed() - connected))
        };
        match timeout(PATIENCE, connect).await {
            Ok(Ok((connect, read))) => {
                visits.connects.push(connect);
                visits.reads.push(read);
            }
            Ok(Err(error)) => failures.push(format!("new socket: {error}")),
            Err(_) => failures.push(format!("new socket: no answer in {PATIENCE:?}")),
        }
    }
    (visits, failures)
}
