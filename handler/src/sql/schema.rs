//! The database's tables, brought up to date by numbered migrations.

use std::collections::HashSet;
use std::fmt;

use libsql::Connection;

use crate::sql::batch::run_batch;
use crate::sql::column_types;
use crate::sql::row::Rows;
use crate::sql::statement::{Statement, run};

/// The migrations in order; the first leads to version 1. A shipped migration is never edited.
const MIGRATIONS: [&str; 10] = [
    include_str!("../../migrations/0001_chat.sql"),
    include_str!("../../migrations/0002_revs.sql"),
    include_str!("../../migrations/0003_hosts.sql"),
    include_str!("../../migrations/0004_one_order.sql"),
    include_str!("../../migrations/0005_changes.sql"),
    include_str!("../../migrations/0006_people.sql"),
    include_str!("../../migrations/0007_keys.sql"),
    include_str!("../../migrations/0008_sets.sql"),
    include_str!("../../migrations/0009_conversation_counts.sql"),
    include_str!("../../migrations/0010_mentions_by_message.sql"),
];

/// The schema version that this program brings a database to.
pub const VERSION: i64 = MIGRATIONS.len() as i64;

/// Undo the last migrations, the latest first, for a program that does not know them. No message is
/// lost, but what that program has no place for is.
const UNDO: [&str; 5] = [
    include_str!("../../migrations/0010_undo.sql"),
    include_str!("../../migrations/0009_undo.sql"),
    include_str!("../../migrations/0008_undo.sql"),
    include_str!("../../migrations/0007_undo.sql"),
    include_str!("../../migrations/0006_undo.sql"),
];

/// The tables that a file of the first backend has, and the columns of them that this program
/// needs.
const ADOPTED: [(&str, &[&str]); 5] = [
    (
        "users",
        &[
            "id",
            "username",
            "fullname",
            "password",
            "is_online",
            "last_online",
            "created_at",
        ],
    ),
    ("contacts", &["user_id", "contact_id"]),
    ("conversations", &["id", "name"]),
    ("members", &["conversation_id", "user_id"]),
    (
        "messages",
        &[
            "id",
            "sender_id",
            "conversation_id",
            "reply_id",
            "sent_at",
            "content",
        ],
    ),
];

/// Why a database cannot be used. Nothing in it was changed.
#[derive(Debug)]
pub enum SchemaError {
    /// A later version of this program wrote it.
    Newer {
        found: i64,
        known: i64,
    },
    /// It has tables, but this one is missing or lacks this column: it is another program's
    /// database.
    Foreign {
        table: &'static str,
        column: &'static str,
    },
    /// It has the table `copying`: a copy into this database was started and is not complete.
    Copying,
    Database(libsql::Error),
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SchemaError::Newer { found, known } => write!(
                f,
                "the database has schema version {found}, and this program knows versions up to {known}: \
                 a newer version of the program wrote it, use that one"
            ),
            SchemaError::Foreign { table, column } => write!(
                f,
                "the database is not a chat database: it has no table {table} with a column {column}"
            ),
            SchemaError::Copying => f.write_str(
                "the database is an incomplete copy: run the same `chatapp copy` again, and it goes on",
            ),
            SchemaError::Database(error) => error.fmt(f),
        }
    }
}

/// The database's error is in the text, so it is not also the `source`.
impl std::error::Error for SchemaError {}

impl From<libsql::Error> for SchemaError {
    fn from(error: libsql::Error) -> Self {
        SchemaError::Database(error)
    }
}

/// Checks whether this program can use the database: it must be empty, the first backend's, or this
/// program's own. Returns its version, or 0 if it is not this program's yet. Changes nothing.
pub async fn check(db: &Connection) -> Result<i64, SchemaError> {
    found_version(&Local(db)).await
}

/// Like [`check`], for a remote database.
pub async fn check_remote(db: &Connection) -> Result<i64, SchemaError> {
    found_version(&Remote(db)).await
}

/// Brings a local database to the version that this program knows. Each migration runs in a
/// transaction of its own and is recorded in the table `migrations`. `now` is in Unix seconds. Any
/// number of processes may do this at the same time.
pub async fn migrate(db: &Connection, now: i64) -> Result<(), SchemaError> {
    // Not in a database of something else.
    found_version(&Local(db)).await?;
    column_types::declare(db).await?;
    migrate_through(&Local(db), now).await
}

/// Like [`migrate`], for a remote database.
pub async fn migrate_remote(db: &Connection, now: i64) -> Result<(), SchemaError> {
    migrate_through(&Remote(db), now).await
}

/// Takes a local database back to the version before the migrations that can be undone. Returns its
/// version afterwards.
pub async fn downgrade(db: &Connection) -> Result<i64, SchemaError> {
    downgrade_through(&Local(db)).await
}

/// Like [`downgrade`], for a remote database.
pub async fn downgrade_remote(db: &Connection) -> Result<i64, SchemaError> {
    downgrade_through(&Remote(db)).await
}

async fn downgrade_through(db: &impl Database) -> Result<i64, SchemaError> {
    let version = found_version(db).await?;
    let downgraded = VERSION - UNDO.len() as i64;
    if version <= downgraded {
        return Ok(version);
    }
    let undo = UNDO[(VERSION - version) as usize..].join("\n");
    let script = format!("delete from migrations where version > {downgraded};\n{undo}");
    db.apply(&script).await?;
    Ok(downgraded)
}

async fn migrate_through(db: &impl Database, now: i64) -> Result<(), SchemaError> {
    loop {
        let version = found_version(db).await?;
        let Some(migration) = MIGRATIONS.get(version as usize) else {
            return Ok(());
        };
        // The script starts with a statement that succeeds in only one process.
        let create = match version {
            0 => {
                "create table migrations (version integer primary key, applied_at integer not null);"
            }
            _ => "",
        };
        let next = version + 1;
        let script = format!(
            "{create} insert into migrations (version, applied_at) values ({next}, {now});\n{migration}"
        );
        if let Err(error) = db.apply(&script).await
            && found_version(db).await? == version
        {
            return Err(error.into());
        }
    }
}

/// The version of a database that this program can use; 0 if it was never migrated.
async fn found_version(db: &impl Database) -> Result<i64, SchemaError> {
    let columns = db
        .read(Statement::new(
            "select cast(t.name as blob), cast(c.name as blob)
             from sqlite_master t join pragma_table_info(t.name) c where t.type = 'table'",
            [],
        ))
        .await?;
    let columns = columns.0.iter().map(|row| {
        let mut columns = row.columns();
        (columns.text(), columns.text())
    });
    let columns: HashSet<_> = columns.collect();
    let has = |table: &str, column: &str| columns.contains(&(table.into(), column.into()));
    if has("copying", "community") {
        return Err(SchemaError::Copying);
    }
    if has("migrations", "version") {
        let version = "select cast(coalesce(max(version), 0) as integer) from migrations";
        let rows = db.read(Statement::new(version, [])).await?;
        let found = rows.first().map_or(0, |row| row.columns().integer());
        if found > VERSION {
            return Err(SchemaError::Newer {
                found,
                known: VERSION,
            });
        }
        if found > 0 {
            return Ok(found);
        }
    }
    if !columns.is_empty() {
        for (table, needed) in ADOPTED {
            if let Some(column) = needed.iter().find(|column| !has(table, column)) {
                return Err(SchemaError::Foreign { table, column });
            }
        }
    }
    Ok(0)
}

/// The operations that migrations need from a database.
trait Database {
    async fn read(&self, statement: Statement) -> Result<Rows, libsql::Error>;

    /// Runs a script in one transaction.
    async fn apply(&self, script: &str) -> Result<(), libsql::Error>;
}

struct Local<'a>(&'a Connection);

impl Database for Local<'_> {
    async fn read(&self, statement: Statement) -> Result<Rows, libsql::Error> {
        run(
            &mut self.0.prepare(statement.sql).await?,
            statement.parameters,
        )
        .await
    }

    async fn apply(&self, script: &str) -> Result<(), libsql::Error> {
        let script = format!("begin immediate; {script}; commit");
        let applied = self.0.execute_batch(&script).await;
        if applied.is_err() && !self.0.is_autocommit() {
            // The first error is what matters. If the rollback fails, the transaction ends with the
            // connection.
            let _ = self.0.execute_batch("rollback").await;
        }
        applied.map(drop)
    }
}

struct Remote<'a>(&'a Connection);

impl Database for Remote<'_> {
    async fn read(&self, statement: Statement) -> Result<Rows, libsql::Error> {
        let mut results = run_batch(self.0, [&statement]).await?;
        Ok(results.pop().unwrap_or_default())
    }

    async fn apply(&self, script: &str) -> Result<(), libsql::Error> {
        self.0.execute_transactional_batch(script).await.map(drop)
    }
}
