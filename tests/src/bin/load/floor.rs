//! What sends are measured against: the same statements without a host.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use handler::account::register::Register;
use handler::{Context, Event, Operation, Rows, handle, schema};
use serde_json::json;

/// A database with two users in a conversation, on the disk of temporary files.
pub struct Floor {
    pub db: libsql::Connection,
}

impl Floor {
    pub async fn open(folder: &tempfile::TempDir) -> anyhow::Result<Self> {
        let db = Self::open_file(&folder.path().join("floor.db")).await?;
        for register in Self::users() {
            handle(&db, &Context::anonymous(0), &register, &mut Vec::new()).await?;
        }
        let create = Self::conversation()?;
        handle(&db, &Self::context(), &create, &mut Vec::new()).await?;
        Ok(Floor { db })
    }

    /// A database with only its schema.
    pub async fn open_file(path: &Path) -> anyhow::Result<libsql::Connection> {
        let db = libsql::Builder::new_local(path).build().await?.connect()?;
        // The same settings as in the host's store.
        db.execute_batch(
            "pragma busy_timeout = 2000; pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = off;
             pragma cache_size = -32768;",
        )
        .await?;
        schema::migrate(&db, 0).await?;
        Ok(db)
    }

    pub fn users() -> [Register; 2] {
        ["a", "b"].map(|username| Register {
            username: username.into(),
            fullname: username.into(),
            password_hash: String::new(),
        })
    }

    /// The operation that creates a conversation of both users.
    pub fn conversation() -> Result<handler::EventOperation, handler::Error> {
        let create = json!({ "type": "create_conversation", "members": ["b"] });
        Event::parse(&create.to_string()).operation
    }

    pub fn context() -> Context {
        Context::new(1, "a".into(), 0)
    }
}

/// The most messages in a request of `raw_sets`, as in the host's.
const SET_MAX: usize = 1024;

/// Runs the statements of a set of `send_message` alone, one message to each of these conversations
/// in a request; returns the messages a second.
pub async fn raw_sets(
    db: &libsql::Connection,
    conversations: usize,
    length: Duration,
    content: String,
) -> anyhow::Result<f64> {
    let mut elements = Vec::new();
    for id in 1..=conversations.min(SET_MAX) {
        let send = json!({ "type": "send_message", "conversation_id": id, "content": content });
        let element = Event::parse(&send.to_string())
            .operation?
            .element(&Floor::context());
        elements.push(element.context("send_message is no part of a set")?);
    }
    let elements: Vec<_> = elements.iter().collect();
    let set = elements.first().context("no conversations")?.set;
    let statements = (set.statements)(&elements);
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed() < length {
        handler::run_batch(db, &statements).await?;
        count += elements.len();
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

/// Runs the prepared statements of `send_message` alone, so many messages a commit; returns the
/// messages a second. They go to this many conversations in turn, because each conversation has its own
/// pages to change.
pub async fn raw_commits(
    conversations: usize,
    group: usize,
    length: Duration,
    content: String,
) -> anyhow::Result<f64> {
    let folder = tempfile::TempDir::new()?;
    let db = Floor::open(&folder).await?.db;
    for _ in 1..conversations {
        let create = Floor::conversation()?;
        handle(&db, &Floor::context(), &create, &mut Vec::new()).await?;
    }
    let mut sends = Vec::new();
    for id in 1..=conversations {
        let send = json!({ "type": "send_message", "conversation_id": id, "content": content });
        let operation = Event::parse(&send.to_string()).operation?;
        sends.push(operation.statements(&Floor::context()));
    }
    let mut prepared = Vec::new();
    for statement in sends.iter().take(1).flatten() {
        prepared.push(db.prepare(statement.sql).await?);
    }
    let mut sends = sends.iter().cycle();
    let mut begin = db.prepare("begin immediate").await?;
    let mut commit = db.prepare("commit").await?;
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed() < length {
        handler::run(&mut begin, vec![]).await?;
        for statements in sends.by_ref().take(group) {
            let mut rows = Vec::new();
            for (prepared, statement) in prepared.iter_mut().zip(statements) {
                rows.push(match handler::is_left_out(statement, &rows) {
                    true => Rows::default(),
                    false => handler::run(prepared, statement.parameters.clone()).await?,
                });
            }
        }
        handler::run(&mut commit, vec![]).await?;
        count += group;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}
