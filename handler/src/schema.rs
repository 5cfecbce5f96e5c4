//! The database's tables, brought up to date by numbered migrations.

use std::fmt;

use libsql::Connection;

/// In order; the first is version 1. A shipped migration is never edited.
const MIGRATIONS: [&str; 2] = [
    include_str!("../migrations/0001_chat.sql"),
    include_str!("../migrations/0002_revs.sql"),
];

/// The tables that a file of the first backend has, and the columns that this one needs of them.
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

/// Why a database cannot be used; nothing in it was changed.
#[derive(Debug)]
pub enum SchemaError {
    /// A later version of this program wrote it.
    Newer {
        found: i64,
        known: i64,
    },
    /// It has tables, and this one of ours is not among them or lacks this column: some other program's.
    Foreign {
        table: &'static str,
        column: &'static str,
    },
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
            SchemaError::Database(error) => error.fmt(f),
        }
    }
}

/// The database's error is in the text, so it is not its source as well.
impl std::error::Error for SchemaError {}

impl From<libsql::Error> for SchemaError {
    fn from(error: libsql::Error) -> Self {
        SchemaError::Database(error)
    }
}

/// Whether this program can use the database: empty, the first backend's, or its own. Changes nothing.
pub async fn check(db: &Connection) -> Result<(), SchemaError> {
    let known = MIGRATIONS.len() as i64;
    let found = version(db).await?;
    if found > known {
        return Err(SchemaError::Newer { found, known });
    }
    let tables = "select count(*) from sqlite_master where type = 'table'";
    if integer(db, tables).await? == 0 {
        return Ok(());
    }
    for (table, columns) in ADOPTED {
        for column in columns {
            let count = format!(
                "select count(*) from pragma_table_info('{table}') where name = '{column}'"
            );
            if integer(db, &count).await? == 0 {
                return Err(SchemaError::Foreign { table, column });
            }
        }
    }
    Ok(())
}

/// Brings the database to the version this program knows: each migration in a transaction of its own, recorded in the
/// table `migrations`. `now` is Unix seconds. Any number of processes may do it at once.
pub async fn migrate(db: &Connection, now: i64) -> Result<(), SchemaError> {
    check(db).await?;
    while migrate_once(db, now).await? {}
    Ok(())
}

/// Applies the next migration. `false`: there is none left.
async fn migrate_once(db: &Connection, now: i64) -> Result<bool, SchemaError> {
    if version(db).await? >= MIGRATIONS.len() as i64 {
        return Ok(false);
    }
    db.execute_batch("begin immediate").await?;
    match apply_next(db, now).await {
        Ok(()) => {
            db.execute_batch("commit").await?;
            Ok(true)
        }
        Err(error) => {
            // The error is what matters; a rollback that fails leaves the transaction to end with the connection.
            let _ = db.execute_batch("rollback").await;
            Err(error)
        }
    }
}

async fn apply_next(db: &Connection, now: i64) -> Result<(), SchemaError> {
    // Read again under the write lock: another process may have been faster.
    let found = version(db).await?;
    let Some(migration) = MIGRATIONS.get(found as usize) else {
        return Ok(());
    };
    if found == 0 {
        db.execute_batch(
            "create table migrations (version integer primary key, applied_at integer not null)",
        )
        .await?;
    }
    db.execute_batch(migration).await?;
    db.execute(
        "insert into migrations (version, applied_at) values (?1, ?2)",
        [found + 1, now],
    )
    .await?;
    Ok(())
}

/// 0: never migrated.
async fn version(db: &Connection) -> Result<i64, libsql::Error> {
    let table = "select count(*) from sqlite_master where type = 'table' and name = 'migrations'";
    match integer(db, table).await? {
        0 => Ok(0),
        _ => {
            integer(
                db,
                "select cast(coalesce(max(version), 0) as integer) from migrations",
            )
            .await
        }
    }
}

async fn integer(db: &Connection, sql: &str) -> Result<i64, libsql::Error> {
    let mut rows = db.query(sql, ()).await?;
    let row = rows
        .next()
        .await?
        .ok_or(libsql::Error::QueryReturnedNoRows)?;
    let value = row.get(0)?;
    while rows.next().await?.is_some() {}
    Ok(value)
}
