//! A local SQLite file through libsql, with the statements kept prepared.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use handler::{Access, Rows, Statement, schema};
use libsql::{Builder, Connection};
use tokio::runtime::Runtime;

/// Pages that a connection keeps. SQLite's own 2 MB are too few for the inner pages of a large file's indexes.
const PAGE_CACHE_KIB: u32 = 32 * 1024;
/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT_MS: u32 = 2000;

/// One connection. libsql blocks the calling thread on a local file: each of these belongs to a thread of its own.
pub struct LocalDatabase {
    connection: Connection,
    /// By the address of their static text.
    prepared: HashMap<usize, libsql::Statement>,
    /// libsql is async; on a local file its futures are ready at once.
    runtime: Runtime,
    /// Keeps a second server off the file; `None` for readers.
    _lock: Option<File>,
}

impl LocalDatabase {
    /// The connection that writes: it creates and migrates the file. There is one for each file, in all processes
    /// that serve it.
    pub fn open_writer(path: &Path, now: i64) -> anyhow::Result<Self> {
        create_folder_of(path)?;
        ensure!(
            !path.is_dir(),
            "DBPATH: {} is a folder, expected a file",
            path.display()
        );
        let lock = lock(path)?;
        let database = Self::open(path, Some(lock))?;
        database
            .runtime
            .block_on(async {
                make_ready(&database.connection, now).await?;
                // A file that cannot be written is found out now, with its reason.
                let probe = "begin immediate; rollback";
                anyhow::Ok(database.connection.execute_batch(probe).await?)
            })
            .with_context(|| format!("DBPATH: cannot use the database {}", path.display()))?;
        Ok(database)
    }

    /// A connection that cannot write. To be opened after the writer.
    pub fn open_reader(path: &Path) -> anyhow::Result<Self> {
        let database = Self::open(path, None)?;
        let pragmas = format!(
            "pragma busy_timeout = {BUSY_TIMEOUT_MS};
             pragma cache_size = -{PAGE_CACHE_KIB};
             pragma query_only = on;"
        );
        database
            .runtime
            .block_on(database.connection.execute_batch(&pragmas))
            .with_context(|| format!("DBPATH: cannot read the database {}", path.display()))?;
        Ok(database)
    }

    fn open(path: &Path, lock: Option<File>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let connection = runtime
            .block_on(async { Builder::new_local(path).build().await?.connect() })
            .with_context(|| format!("DBPATH: cannot open the database {}", path.display()))?;
        Ok(LocalDatabase {
            connection,
            prepared: HashMap::new(),
            runtime,
            _lock: lock,
        })
    }

    /// Runs each operation's statements, all in one transaction. After an error nothing of it is stored.
    pub fn transact(
        &mut self,
        access: Access,
        operations: &[&[Statement]],
    ) -> Result<Vec<Vec<Rows>>, libsql::Error> {
        let LocalDatabase {
            connection,
            prepared,
            runtime,
            ..
        } = self;
        runtime.block_on(async {
            if !connection.is_autocommit() {
                // A panic has left a transaction behind.
                run_prepared(connection, prepared, &Statement::new("rollback", [])).await?;
            }
            // "immediate": a transaction that begins by reading cannot become a writing one beside other writers.
            let begin = match access {
                Access::Write => "begin immediate",
                Access::Read | Access::None => "begin",
            };
            run_prepared(connection, prepared, &Statement::new(begin, [])).await?;
            let result = run_operations(connection, prepared, operations).await;
            if result.is_err() && !connection.is_autocommit() {
                let rollback = Statement::new("rollback", []);
                if let Err(error) = run_prepared(connection, prepared, &rollback).await {
                    tracing::error!(%error, "rollback");
                }
            }
            result
        })
    }

    /// Moves the write-ahead log into the file and empties it, unless another process is reading: then the next start
    /// does.
    pub fn checkpoint(&mut self) {
        let result = self.runtime.block_on(async {
            for sql in [
                "pragma busy_timeout = 100",
                "pragma wal_checkpoint(truncate)",
            ] {
                let pragma = Statement::new(sql, []);
                run_prepared(&self.connection, &mut self.prepared, &pragma).await?;
            }
            Ok::<_, libsql::Error>(())
        });
        if let Err(error) = result {
            tracing::warn!(%error, "the write-ahead log stays until the next start");
        }
    }
}

async fn run_operations(
    connection: &Connection,
    prepared: &mut HashMap<usize, libsql::Statement>,
    operations: &[&[Statement]],
) -> Result<Vec<Vec<Rows>>, libsql::Error> {
    let mut results = Vec::with_capacity(operations.len());
    for statements in operations {
        let mut rows = Vec::with_capacity(statements.len());
        for statement in *statements {
            rows.push(run_prepared(connection, prepared, statement).await?);
        }
        results.push(rows);
    }
    run_prepared(connection, prepared, &Statement::new("commit", [])).await?;
    Ok(results)
}

async fn run_prepared(
    connection: &Connection,
    prepared: &mut HashMap<usize, libsql::Statement>,
    statement: &Statement,
) -> Result<Rows, libsql::Error> {
    use std::collections::hash_map::Entry;
    let cached = match prepared.entry(statement.sql.as_ptr().addr()) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(connection.prepare(statement.sql).await?),
    };
    handler::run(cached, statement.parameters.clone()).await
}

/// Makes a connection one that writes: a commit that has returned is on disk. A database that is not ours is left as it
/// is; one that is gets the present schema.
pub async fn make_ready(connection: &Connection, now: i64) -> anyhow::Result<()> {
    let pragmas =
        format!("pragma busy_timeout = {BUSY_TIMEOUT_MS}; pragma cache_size = -{PAGE_CACHE_KIB};");
    connection.execute_batch(&pragmas).await?;
    schema::check(connection).await?;
    // libsql enforces foreign keys unless told otherwise; in a file that has some, they are what they were to the
    // first backend: not enforced.
    connection
        .execute_batch(
            "pragma journal_mode = wal;
             pragma synchronous = full;
             pragma foreign_keys = off;",
        )
        .await?;
    schema::migrate(connection, now).await?;
    Ok(())
}

/// A folder of our own making is the owner's alone: the file holds password hashes.
fn create_folder_of(path: &Path) -> anyhow::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("DBPATH: cannot create the folder {}", folder.display())),
        _ => Ok(()),
    }
}

/// Whether a server is running on this file.
pub fn is_served(path: &Path) -> anyhow::Result<bool> {
    Ok(try_lock(path)?.is_none())
}

/// Two servers on one file would each think the other's users offline.
fn lock(path: &Path) -> anyhow::Result<File> {
    try_lock(path)?.with_context(|| {
        let path = path.display();
        format!("DBPATH: another server is running on {path}")
    })
}

/// Locks a file beside the database; `None` where another process has. It is named after the file that symbolic links
/// lead to.
fn try_lock(path: &Path) -> anyhow::Result<Option<File>> {
    let mut name = path
        .canonicalize()
        .unwrap_or_else(|_| path.to_owned())
        .into_os_string();
    name.push("-lock");
    let name = PathBuf::from(name);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .with_context(|| {
            format!(
                "DBPATH: cannot write beside the database: {}",
                name.display()
            )
        })?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("DBPATH: cannot lock {}", name.display()))
        }
    }
}
