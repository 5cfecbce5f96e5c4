//! A small chat for scripts and tables that test the handlers, without a host or a clock.

use std::collections::BTreeSet;
use std::path::PathBuf;

use handler::account::register::Register;
use handler::{
    Access, Audience, Context, Event, Operation, Outbox, Output, Rows, Statement, handle,
    handle_remote, run_batch, schema,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::servers::shared_sqld;
use crate::{Gateway, schema as protocol};

/// The time in every world, in Unix seconds.
pub const NOW: i64 = 1_000_000;

/// The host counts no answer that is not larger: see `host/src/limits/answer_room.rs`.
const FREE_ANSWER_BYTES: usize = 1024;

/// Where a world's database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a file, which need not survive the machine.
    File,
    /// On a libSQL server.
    Remote,
}

/// Where tests of the handlers have their worlds: at each place, or at the one that the variable
/// `PLACE` names, as tests/quick does it.
pub fn places() -> &'static [Place] {
    match std::env::var("PLACE").as_deref() {
        Err(_) => &[Place::File, Place::Remote],
        Ok("file") => &[Place::File],
        Ok(other) => panic!("PLACE is {other:?}: expected file"),
    }
}

/// Users alice (1), bob (2), carol (3), dave (4). alice and bob are contacts. Conversation 1,
/// "pair", of alice and bob, has messages 1 ("one", from alice) and 2 ("two", from bob).
/// Conversation 2, "other", of bob and carol, has message 3.
pub struct World {
    pub db: libsql::Connection,
    /// Counts requests to a remote database.
    pub gateway: Option<Gateway>,
    _database: libsql::Database,
    folder: Option<TempDir>,
}

/// The file of a world, from which more of the same are made in less time than by events.
#[derive(Clone)]
pub struct SavedWorld(Vec<u8>);

impl World {
    /// A database with only its schema.
    pub async fn empty() -> Self {
        Self::empty_at(Place::File).await
    }

    pub async fn empty_at(place: Place) -> Self {
        match place {
            Place::File => {
                let world = Self::of(&SavedWorld(Vec::new())).await;
                schema::migrate(&world.db, NOW).await.expect("a schema");
                world
            }
            Place::Remote => {
                let gateway = Gateway::start(shared_sqld().await).await;
                let database = libsql::Builder::new_remote(gateway.url(), String::new());
                let database = database.build().await.expect("a database");
                let db = database.connect().expect("a connection");
                schema::migrate_remote(&db, NOW).await.expect("a schema");
                World {
                    db,
                    gateway: Some(gateway),
                    _database: database,
                    folder: None,
                }
            }
        }
    }

    /// Another world as it was saved.
    pub async fn of(saved: &SavedWorld) -> Self {
        let folder = TempDir::new().expect("a folder");
        let file = Self::file(&folder);
        std::fs::write(&file, &saved.0).expect("written");
        let database = libsql::Builder::new_local(file).build().await;
        let database = database.expect("a database");
        let db = database.connect().expect("a connection");
        let quick = "pragma journal_mode = memory; pragma synchronous = off";
        db.execute_batch(quick).await.expect("set");
        World {
            db,
            gateway: None,
            _database: database,
            folder: Some(folder),
        }
    }

    /// Saves a world that is in a file.
    pub fn save(&self) -> SavedWorld {
        let folder = self.folder.as_ref().expect("a world in a file");
        SavedWorld(std::fs::read(Self::file(folder)).expect("read"))
    }

    fn file(folder: &TempDir) -> PathBuf {
        folder.path().join("chat.db")
    }

    pub async fn new() -> Self {
        Self::new_at(Place::File).await
    }

    pub async fn new_at(place: Place) -> Self {
        static NEW: OnceCell<SavedWorld> = OnceCell::const_new();
        match place {
            Place::File => {
                let new = NEW.get_or_init(async || Self::make(place).await.save());
                Self::of(new.await).await
            }
            Place::Remote => Self::make(place).await,
        }
    }

    async fn make(place: Place) -> Self {
        let world = Self::empty_at(place).await;
        for username in ["alice", "bob", "carol", "dave"] {
            let register = Register {
                username: username.into(),
                fullname: format!("{username} example"),
                password_hash: "none".into(),
            };
            world.run("", &register).await.0.expect("registered");
        }
        for (user, event) in [
            (
                "alice",
                json!({ "type": "add_contact", "contact_username": "bob" }),
            ),
            (
                "alice",
                json!({ "type": "create_conversation", "members": ["bob"], "name": "pair" }),
            ),
            (
                "alice",
                json!({ "type": "send_message", "conversation_id": 1, "content": "one" }),
            ),
            (
                "bob",
                json!({ "type": "send_message", "conversation_id": 1, "content": "two" }),
            ),
            (
                "bob",
                json!({ "type": "create_conversation", "members": ["carol"], "name": "other" }),
            ),
            (
                "bob",
                json!({ "type": "send_message", "conversation_id": 2, "content": "three" }),
            ),
        ] {
            let (reply, _) = world.event(user, &event.to_string()).await;
            assert_eq!(reply["success"], true, "{reply}");
        }
        world
    }

    /// The context of a caller; an empty name means nobody.
    pub async fn context(&self, username: &str) -> Context {
        let id = format!("select coalesce(max(id), 0) from users where username = '{username}'");
        Context::new(self.integer(&id).await, username.into(), NOW)
    }

    /// Runs any operation. If it fails, it must have changed nothing and told nobody.
    pub async fn run<O: Operation>(
        &self,
        username: &str,
        operation: &O,
    ) -> (Result<O::Output, handler::Error>, Outbox) {
        self.run_as(&self.context(username).await, operation).await
    }

    /// Like `run`, in any context.
    pub async fn run_as<O: Operation>(
        &self,
        ctx: &Context,
        operation: &O,
    ) -> (Result<O::Output, handler::Error>, Outbox) {
        let mut outbox = Outbox::new();
        let outcome = match &self.gateway {
            None => {
                let before = self.db.total_changes();
                let outcome = handle(&self.db, ctx, operation, &mut outbox).await;
                let has_changed = self.db.total_changes() != before;
                assert!(
                    outcome.is_ok() || !has_changed,
                    "a refused operation has changed the database"
                );
                outcome
            }
            Some(gateway) => {
                let before = gateway.requests();
                let outcome = handle_remote(&self.db, ctx, operation, &mut outbox).await;
                let expected = usize::from(operation.access() != Access::None);
                assert_eq!(gateway.requests() - before, expected, "requests");
                outcome
            }
        };
        if outcome.is_err() {
            assert_eq!(outbox, [], "a refused operation has told somebody");
        }
        (outcome, outbox)
    }

    /// Runs one event; returns its reply as sent, and its other outputs.
    pub async fn answer(&self, username: &str, event: &str) -> (String, Outbox) {
        let Event {
            envelope,
            operation,
            ..
        } = Event::parse(event);
        let mut room = FREE_ANSWER_BYTES;
        let (outcome, outbox) = match operation {
            Ok(operation) => {
                room = room.max(event.len() + operation.answer_bytes_max());
                self.run(username, &operation).await
            }
            Err(error) => (Err(error), Outbox::new()),
        };
        let reply = envelope.reply(&outcome);
        // Only what is larger has room that can grow, and can be refused if it has changed nothing.
        let is_counted = room > FREE_ANSWER_BYTES && outbox.is_empty();
        let (kind, bytes) = (envelope.kind, reply.len());
        let fits = outcome.is_err() || is_counted || bytes <= room;
        assert!(fits, "{kind}: {bytes} bytes, with room for {room}");
        let json = |text: &str| serde_json::from_str(text).expect("JSON");
        protocol::check_answered(event, &json(&reply));
        for output in &outbox {
            if let Output::Push { event, .. } = output {
                protocol::check_received(&json(event));
            }
        }
        (reply, outbox)
    }

    /// Like `answer`, with each push as `[the usernames of its audience, the push]`, and without
    /// joins.
    pub async fn event(&self, username: &str, event: &str) -> (Value, Vec<Value>) {
        let (reply, outbox) = self.answer(username, event).await;
        let reply = serde_json::from_str(&reply).expect("JSON");
        let mut pushes = Vec::new();
        for output in &outbox {
            if let Output::Push { to, event, .. } = output {
                let event: Value = serde_json::from_str(event).expect("JSON");
                pushes.push(json!([self.usernames(to).await, event]));
            }
        }
        (reply, pushes)
    }

    /// The usernames of an audience, in the order of their ids.
    pub async fn usernames(&self, audience: &Audience) -> Vec<String> {
        let ids = match audience {
            Audience::Users(ids) => ids.iter().map(i64::to_string).collect::<Vec<_>>().join(","),
            Audience::Conversation { id, .. } => {
                format!("select user_id from members where conversation_id = {id}")
            }
            Audience::MembersExcept { id, except, .. } => {
                let except = except.iter().map(i64::to_string).collect::<Vec<_>>();
                format!(
                    "select user_id from members where conversation_id = {id} and user_id not in ({})",
                    except.join(",")
                )
            }
        };
        let sql = format!("select username from users where id in ({ids}) order by id");
        self.rows(&sql).await.texts()
    }

    /// The single integer that a query returns.
    pub async fn integer(&self, sql: &str) -> i64 {
        let rows = self.rows(sql).await;
        rows.first().expect("a row").columns().integer()
    }

    /// Every row of every table. FTS5 keeps the index of the search in tables of its own; its virtual
    /// table has no rows to read.
    pub async fn dump(&self) -> BTreeSet<String> {
        let tables = "select name from sqlite_master where type = 'table' and name <> 'search'";
        let tables = self.rows(tables).await.texts();
        let queries: Vec<_> = tables
            .iter()
            .map(|table| match table.as_str() {
                // `seen_at` is the database's clock.
                "hosts" => "select id, batch, lease, returned from hosts".into(),
                _ => format!("select * from {table}"),
            })
            .collect();
        let found = self.query(&queries).await;
        let tables = tables.iter().zip(&found);
        tables
            .flat_map(|(table, rows)| rows.0.iter().map(move |row| format!("{table} {:?}", row.0)))
            .collect()
    }

    async fn rows(&self, sql: &str) -> Rows {
        let mut results = self.query(&[sql.to_owned()]).await;
        results.pop().expect("one result")
    }

    /// The rows of each query. On a remote database, all run in one request.
    async fn query(&self, queries: &[String]) -> Vec<Rows> {
        let statements = queries.iter().map(|sql| Statement {
            sql: String::leak(sql.clone()),
            parameters: Vec::new(),
            reason_for: None,
        });
        let statements: Vec<_> = statements.collect();
        if self.gateway.is_some() {
            return run_batch(&self.db, &statements).await.expect("rows");
        }
        let mut results = Vec::new();
        for statement in &statements {
            let mut prepared = self.db.prepare(statement.sql).await.expect("a query");
            results.push(handler::run(&mut prepared, Vec::new()).await.expect("rows"));
        }
        results
    }
}
