//! The search: its first pages over texts like those of people, the size of its index, and sends
//! while the index is filled.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use fastrand::Rng;
use handler::search::clear::ClearIndex;
use handler::search::index::{Batch, FindUnindexed, IndexWork};
use handler::{Access, Context, Event, Operation};
use host::LocalDatabase;
use serde_json::{Value, json};
use std::ffi::OsStr;
use tests::Process;
use tests::host::Log;

use crate::floor::Floor;
use crate::growth::{CALLERS, populate};
use crate::measurement::{Goal, Latency, Measurement, interleave};
use crate::sends::{Pairs, pairs_of, with_latencies};
use crate::site::{self, Common, Site};
use crate::zipf::Zipf;

#[derive(Args)]
pub struct Search {
    /// Messages in the file.
    #[arg(long, default_value_t = 1_000_000)]
    messages: i64,
    /// A file to use, and to keep for the next run. Without it, a temporary file is made.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Searches of each kind in a round, each for other words.
    #[arg(long, default_value_t = 500)]
    searches: usize,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// What is searched for: a name, and the words.
type Kind = (&'static str, fn(&Zipf, &mut Rng) -> String);

const KINDS: [Kind; 6] = [
    ("a rare word", |zipf, random| {
        zipf.word(random.usize(50_000..100_000)).to_owned()
    }),
    ("a common word", |zipf, random| {
        format!("\"{}\"", zipf.word(random.usize(..20)))
    }),
    ("two words", |zipf, random| {
        let common = zipf.word(random.usize(..100));
        let other = zipf.word(random.usize(100..20_000));
        format!("{common} \"{other}\"")
    }),
    ("two common words", |zipf, random| {
        let first = zipf.word(random.usize(..20));
        format!("{first} \"{}\"", zipf.word(random.usize(20..60)))
    }),
    ("a prefix", |zipf, random| {
        let word = zipf.word(random.usize(..10_000));
        let length = random.usize(1..=word.len());
        word[..length].to_owned()
    }),
    ("a phrase", |zipf, random| {
        let first = zipf.word(random.usize(..100));
        format!("\"{first} {}\"", zipf.word(random.usize(..2_000)))
    }),
];

pub async fn search(arguments: Search) -> Result<Vec<Measurement>> {
    let Search {
        messages,
        file,
        searches,
        rounds,
    } = arguments;
    ensure!(
        rounds > 0 && searches > 0 && messages > 0,
        "--rounds, --searches and --messages must be at least 1"
    );
    let folder = tempfile::TempDir::new()?;
    let file = file.unwrap_or_else(|| folder.path().join("search.db"));
    let zipf = Zipf::new();
    if !file.exists() {
        eprintln!("making a database of {messages} messages");
        populate(&file, messages).await?;
        write_texts(&file, &zipf).await?;
    }
    let mut measurements = tokio::task::block_in_place(|| fill(&file))?;
    let (data, index) = sizes(&file).await?;
    measurements.push(
        Measurement::new(
            format!("search, {messages} messages, the index beside the data"),
            "of the data's bytes",
            vec![index as f64 / data as f64],
        )
        .with("index_bytes", index)
        .with("data_bytes", data),
    );
    let pages = || first_pages(&file, &zipf, messages, searches, rounds);
    measurements.extend(tokio::task::block_in_place(pages)?);
    Ok(measurements)
}

/// Searches of each kind by each of the callers.
fn first_pages(
    file: &Path,
    zipf: &Zipf,
    messages: i64,
    searches: usize,
    rounds: usize,
) -> Result<Vec<Measurement>> {
    let mut measurements = Vec::new();
    let mut database = LocalDatabase::open_reader(file)?;
    for caller in CALLERS {
        for (name, words) in KINDS {
            let mut latencies = Vec::new();
            let mut hits = Vec::new();
            for round in 0..rounds {
                let mut random = Rng::with_seed(round as u64);
                let ctx = Context::new(caller.id, caller.name.into(), 0);
                let mut times = Vec::new();
                let mut found = 0;
                for _ in 0..searches {
                    let query = words(zipf, &mut random);
                    let (time, count) = first_page(&mut database, &ctx, &query)?;
                    times.push(time);
                    found += count;
                }
                latencies.push(Latency::of(times));
                hits.push(found as f64 / searches as f64);
            }
            let of = |figure: fn(&Latency) -> f64| latencies.iter().map(figure).collect::<Vec<_>>();
            let conversations = caller.conversations;
            let title = |what: &str| {
                format!(
                    "search, {messages} messages, {name}, {conversations} conversations, {what}"
                )
            };
            let mut p50 = Measurement::new(title("p50"), "ms", of(|latency| latency.p50));
            if name == "a rare word" {
                p50 = p50.aims(Goal::AtMost(2.0));
            }
            measurements.push(p50.beside("hits", &hits));
            let p99 = Measurement::new(title("p99"), "ms", of(|latency| latency.p99));
            measurements.push(
                p99.aims(Goal::AtMost(50.0))
                    .beside("max_ms", &of(|latency| latency.max)),
            );
        }
    }
    Ok(measurements)
}

/// The time of a search as a reader of the host runs it, and the number of its hits.
fn first_page(
    database: &mut LocalDatabase,
    ctx: &Context,
    query: &str,
) -> Result<(Duration, usize)> {
    let event = json!({ "type": "search_messages", "query": query, "limit": 50 }).to_string();
    let started = Instant::now();
    let operation = Event::parse(&event).operation?;
    let rows = database.transact(Access::Read, vec![operation.statements(ctx)])?;
    let reply = operation.conclude(ctx, &rows[0], &mut Vec::new())?;
    let time = started.elapsed();
    let reply: Value = serde_json::from_str(&reply.0)?;
    let hits = reply["messages"].as_array().context("a list of messages")?;
    Ok((time, hits.len()))
}

/// Gives each message of a file a text of its own.
async fn write_texts(file: &Path, zipf: &Zipf) -> Result<()> {
    let db = Floor::open_file(file).await?;
    db.execute_batch("pragma synchronous = off; pragma cache_size = -262144;")
        .await?;
    let mut random = Rng::with_seed(2);
    let mut last: i64 = 0;
    let mut rows = db.query("select max(id) from messages", ()).await?;
    if let Some(row) = rows.next().await? {
        last = row.get(0)?;
    }
    drop(rows);
    let mut update = db
        .prepare("update messages set content = ?2 where id = ?1")
        .await?;
    for start in (1..=last).step_by(100_000) {
        db.execute_batch("begin immediate").await?;
        for id in start..(start + 100_000).min(last + 1) {
            let parameters = vec![id.into(), zipf.text(&mut random).into()];
            handler::run(&mut update, parameters).await?;
        }
        db.execute_batch("commit").await?;
    }
    Ok(())
}

/// Fills the index as a host does that has nothing else to do.
fn fill(file: &Path) -> Result<Vec<Measurement>> {
    let mut database = LocalDatabase::open_writer(file, 0)?;
    let ctx = Context::anonymous(0);
    let (mut times, mut count) = (Vec::new(), 0);
    let started = Instant::now();
    loop {
        let find = FindUnindexed {
            host_id: "local".into(),
            lease_seconds: 0,
            batch: Batch::BESIDE_OTHERS,
        };
        let begun = Instant::now();
        match run(&mut database, &ctx, &find)? {
            IndexWork::Nothing => break,
            IndexWork::Clear => drop(run(&mut database, &ctx, &ClearIndex)?),
            IndexWork::Change(changes) => run(&mut database, &ctx, &changes)?,
            IndexWork::Add(messages) => {
                count += messages.count();
                run(&mut database, &ctx, &messages)?;
                times.push(begun.elapsed());
            }
        }
        database.keep_log_short();
    }
    let seconds = started.elapsed().as_secs_f64();
    database.checkpoint();
    if times.is_empty() {
        // The file was used before.
        return Ok(Vec::new());
    }
    let latency = Latency::of(times);
    let name = "search, messages put into the index";
    Ok(vec![
        Measurement::new(name, "messages/s", vec![count as f64 / seconds])
            .with("batch_p50_ms", latency.p50)
            .with("batch_p99_ms", latency.p99)
            .with("batch_max_ms", latency.max),
    ])
}

fn run<O: Operation>(
    database: &mut LocalDatabase,
    ctx: &Context,
    operation: &O,
) -> Result<O::Output> {
    let rows = database.transact(operation.access(), vec![operation.statements(ctx)])?;
    Ok(operation.conclude(ctx, &rows[0], &mut Vec::new())?)
}

/// The bytes of the pages of all other tables and indexes, and of those of the index of the search.
async fn sizes(file: &Path) -> Result<(i64, i64)> {
    let db = Floor::open_file(file).await?;
    let sizes = "select coalesce(sum(iif(name like 'search%', 0, pgsize)), 0),
            coalesce(sum(iif(name like 'search%', pgsize, 0)), 0)
        from dbstat where aggregate = true";
    let mut rows = db.query(sizes, ()).await?;
    let row = rows.next().await?.context("a row")?;
    Ok((row.get(0)?, row.get(1)?))
}

#[derive(Args)]
pub struct Indexing {
    #[arg(long, default_value_t = 100)]
    pairs: usize,
    /// Messages that each sender keeps unanswered.
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Messages of the file that are not in the index yet: so many that a round does not suffice.
    #[arg(long, default_value_t = 300_000)]
    messages: i64,
    #[command(flatten)]
    common: Common,
}

/// Sends beside the filling of the index, and without it: each round on a host of its own.
pub async fn indexing(arguments: Indexing) -> Result<Vec<Measurement>> {
    let Indexing {
        pairs,
        in_flight,
        messages,
        common,
    } = arguments;
    ensure!(
        pairs > 0 && in_flight > 0 && messages > 0,
        "--pairs, --in-flight and --messages must be at least 1"
    );
    ensure!(common.url.is_none(), "it starts hosts of its own");
    let rounds = interleave(
        &common,
        None,
        async |length| {
            let sent = sends_beside(&common, pairs, in_flight, messages, "off", length).await?;
            Ok(sent.per_second)
        },
        async |length| sends_beside(&common, pairs, in_flight, messages, "on", length).await,
    )
    .await?;
    let name = format!("sends while the index is filled, {pairs} pairs, {in_flight} in flight");
    let measurement = Measurement::new(name, "sends/s", rounds.each(|round| round.per_second))
        .against("without an index", &rounds.floors)
        .aims(Goal::RatioAtLeast(0.95))
        .used(rounds.usage);
    Ok(vec![with_latencies(measurement, &rounds.figures)])
}

/// Sends on a new host with this value of SEARCH, whose file has messages that are not indexed.
async fn sends_beside(
    common: &Common,
    pairs: usize,
    in_flight: usize,
    messages: i64,
    search: &str,
    length: Duration,
) -> Result<crate::sends::Sent> {
    let folder = tempfile::TempDir::new()?;
    let file = folder.path().join("chat.db");
    let crowd = pairs_of(pairs);
    let conversation_ids = site::populate(&file, crowd).await?;
    add_messages(&file, messages).await?;
    let variables = [
        ("DBPATH", file.as_os_str()),
        ("LOG_LEVEL", OsStr::new("info")),
        ("SEARCH", OsStr::new(search)),
    ];
    let host = Process::start_with(&variables, Log::File(folder.path().join("log"))).await;
    let site = Site::of(common, crowd, conversation_ids, &host);
    let mut talk = Pairs::new(site.connected()?, &site, 64);
    talk.closed(length, in_flight)
}

/// Adds messages to a conversation that nobody uses.
async fn add_messages(file: &Path, messages: i64) -> Result<()> {
    let db = Floor::open_file(file).await?;
    let (zipf, mut random) = (Zipf::new(), Rng::with_seed(3));
    let mut insert = db
        .prepare(
            "insert into messages (sender_id, conversation_id, content, rev) values (1, 0, ?1, ?2)",
        )
        .await?;
    db.execute_batch("begin immediate").await?;
    for rev in 1..=messages {
        let parameters = vec![zipf.text(&mut random).into(), rev.into()];
        handler::run(&mut insert, parameters).await?;
    }
    db.execute_batch("commit; pragma wal_checkpoint(truncate)")
        .await?;
    Ok(())
}
