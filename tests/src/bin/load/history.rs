//! Pages of history, and the same query without a server.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use handler::{Context, Event, Operation};
use serde_json::{Value, json};

use crate::floor::Floor;
use crate::frame::text;
use crate::measurement::{Goal, Measurement, interleave};
use crate::site::{Common, Crowd, Site, populate};
use crate::swarm::{PATIENCE, Swarm};

#[derive(Args)]
pub struct History {
    #[arg(long, default_value_t = 50)]
    sockets: usize,
    /// Messages of a page, at most 100.
    #[arg(long, default_value_t = 100)]
    messages: usize,
    #[command(flatten)]
    common: Common,
}

pub async fn history(arguments: History) -> Result<Vec<Measurement>> {
    let History {
        sockets,
        messages,
        common,
    } = arguments;
    ensure!(sockets > 0, "--sockets must be at least 1");
    ensure!(
        (1..=100).contains(&messages),
        "--messages must be from 1 to 100"
    );
    let crowd = Crowd {
        groups: sockets,
        members: 1,
        messages,
    };
    let site = Site::make(&common, crowd).await?;
    let copy = tempfile::TempDir::new()?;
    let file = copy.path().join("copy.db");
    let ids = populate(&file, crowd).await?;
    let mut readers = Readers::new(site.connected()?, &site, messages);
    let rounds = interleave(
        &common,
        site.pid,
        async |length| raw_pages(&file, &ids, messages, length),
        async |length| readers.round(length),
    )
    .await?;
    let name = format!("history, {sockets} sockets, pages of {messages}");
    let measurement = Measurement::new(name, "pages/s", rounds.figures)
        .against("raw queries", &rounds.floors)
        .aims(Goal::RatioAtLeast(0.6))
        .used(rounds.usage)
        .with("page_bytes", readers.pages[0].len());
    Ok(vec![measurement])
}

fn question(conversation_id: i64, messages: usize) -> Value {
    json!({ "type": "get_messages", "conversation_id": conversation_id, "limit": messages })
}

/// Sockets that ask for a page each, again and again.
pub struct Readers {
    swarm: Swarm,
    questions: Vec<Vec<u8>>,
    conversation_ids: Vec<i64>,
    messages: usize,
    /// The page that each socket gets every time.
    pages: Vec<Vec<u8>>,
}

impl Readers {
    pub fn new(swarm: Swarm, site: &Site, messages: usize) -> Self {
        let questions = site.conversation_ids.iter();
        let questions = questions.map(|id| text(&question(*id, messages).to_string()));
        Readers {
            swarm,
            questions: questions.collect(),
            conversation_ids: site.conversation_ids.clone(),
            messages,
            pages: vec![Vec::new(); site.conversation_ids.len()],
        }
    }

    pub fn round(&mut self, length: Duration) -> Result<f64> {
        let started = Instant::now();
        let end = started + length;
        let (mut missing, mut count) = (self.questions.len(), 0_u64);
        for (index, question) in self.questions.iter().enumerate() {
            self.swarm.send(index, question);
        }
        let is_done = self.swarm.run(end + PATIENCE, |swarm, index, payload| {
            let page = &mut self.pages[index];
            if page.is_empty() {
                check(payload, self.conversation_ids[index], self.messages)?;
                page.extend(payload);
            }
            ensure!(
                page == payload,
                "socket {index} got a different page than before"
            );
            count += 1;
            match Instant::now() < end {
                true => swarm.send(index, &self.questions[index]),
                false => missing -= 1,
            }
            Ok(missing == 0)
        })?;
        ensure!(is_done, "lost: {missing} pages");
        Ok(count as f64 / started.elapsed().as_secs_f64())
    }
}

/// Checks that a page has this many messages of the conversation, without gaps, newest first.
fn check(page: &[u8], conversation_id: i64, messages: usize) -> Result<()> {
    let page: Value = serde_json::from_slice(page)?;
    let list = page["data"]["messages"].as_array();
    let list = list.with_context(|| format!("not a page: {page}"))?;
    ensure!(list.len() == messages, "a page of {} messages", list.len());
    for pair in list.windows(2) {
        let number = |index: usize, name: &str| pair[index][name].as_i64().unwrap_or_default();
        ensure!(
            number(0, "id") > number(1, "id") && number(0, "rev") == number(1, "rev") + 1,
            "out of order: {} and {}",
            pair[0],
            pair[1]
        );
    }
    let is_other = |message: &Value| message["conversation_id"] != conversation_id;
    ensure!(
        !list.iter().any(is_other),
        "a message of another conversation"
    );
    Ok(())
}

/// Returns the pages a second through libsql alone, on as many threads as the host has readers. It
/// steps the statements and reads the values.
fn raw_pages(file: &Path, ids: &[i64], messages: usize, length: Duration) -> Result<f64> {
    let threads = std::thread::available_parallelism()?.get().clamp(1, 4);
    let read = |thread: usize| -> Result<f64> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(async {
            let db = Floor::open_file(file).await?;
            // A new file numbers users and conversations from 1, and each user has one
            // conversation.
            let operations = ids.iter().map(|id| {
                let operation = Event::parse(&question(*id, messages).to_string()).operation?;
                anyhow::Ok(operation.statements(&Context::new(*id, "".into(), 0)))
            });
            let operations = operations.collect::<Result<Vec<_>>>()?;
            let mut prepared = Vec::new();
            for statement in &operations[0] {
                prepared.push(db.prepare(statement.sql).await?);
            }
            let (started, mut count) = (Instant::now(), 0_u64);
            let turns = operations.iter().cycle().skip(thread * ids.len() / threads);
            for statements in turns {
                let mut rows = 0;
                for (prepared, statement) in prepared.iter_mut().zip(statements) {
                    rows = step(prepared, statement.parameters.clone()).await?;
                }
                ensure!(rows == messages, "a page of {rows}");
                count += 1;
                if started.elapsed() > length {
                    break;
                }
            }
            Ok(count as f64 / started.elapsed().as_secs_f64())
        })
    };
    std::thread::scope(|scope| {
        let read = &read;
        let running: Vec<_> = (0..threads)
            .map(|index| scope.spawn(move || read(index)))
            .collect();
        let mut rates = 0.0;
        for thread in running {
            rates += thread
                .join()
                .map_err(|_| anyhow::anyhow!("a reader panicked"))??;
        }
        Ok(rates)
    })
}

/// Runs the statement to its end and reads every value; returns the number of rows.
async fn step(statement: &mut libsql::Statement, parameters: Vec<libsql::Value>) -> Result<usize> {
    statement.reset();
    let mut found = statement.query(parameters).await?;
    let (columns, mut rows) = (found.column_count(), 0);
    while let Some(row) = found.next().await? {
        for column in 0..columns {
            std::hint::black_box(row.get_value(column)?);
        }
        rows += 1;
    }
    statement.reset();
    Ok(rows)
}
