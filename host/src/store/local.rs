//! A local SQLite file through libsql, with the statements kept prepared.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use handler::{Access, Rows, Statement, schema};
use libsql::{Builder, Connection, OpenFlags};
use tokio::runtime::Runtime;

use crate::threads::spawn;

/// Calls take no mutex of the connection (sqlite.org/c3ref/open.html): it belongs to one thread.
const SQLITE_OPEN_NOMUTEX: i32 = 0x8000;
/// Pages that a connection keeps. SQLite's own 2 MB are too few for the inner pages of a large file's indexes.
pub const PAGE_CACHE_KIB: u32 = 32 * 1024;
/// How long a statement waits for another process's lock.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// A write-ahead log that is longer is emptied. Checkpoints move into the file what they can, and the log begins anew only
/// where nobody happens to read it.
pub const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Commits between two looks at the log.
const COMMITS_PER_LOOK: u32 = 16;
/// Looks between two checkpoints.
const LOOKS_PER_CHECKPOINT: u32 = 4;
/// Pages in the log from which on it is to begin anew: the longer it is, the more often a page changes before it is moved.
const LOG_PAGES: i64 = 4096;
/// How long emptying it waits for readers, while nothing is written, and how soon it is tried again after one that did not go.
const READERS_TIMEOUT: Duration = Duration::from_millis(100);
const EMPTY_RETRY: Duration = Duration::from_secs(2);

/// One connection. libsql blocks the calling thread on a local file: each of these belongs to a thread of its own.
pub struct LocalDatabase {
    connection: Connection,
    /// By the address of their static text.
    prepared: HashMap<usize, libsql::Statement>,
    /// libsql is async; on a local file its futures are ready at once.
    runtime: Runtime,
    /// Keeps a second server off the file; `None` for readers.
    _lock: Option<File>,
    log: Log,
}

/// The write-ahead log, as far as its writer looks after it.
struct Log {
    path: PathBuf,
    checkpointer: Option<Checkpointer>,
    /// Since the last look.
    commits: u32,
    /// Since the last checkpoint.
    looks: u32,
    /// The last time that readers kept it from being emptied, and it is still long.
    held_at: Option<Instant>,
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
        let mut database = Self::open(path, Some(lock))?;
        database
            .runtime
            .block_on(async {
                make_ready(&database.connection, now).await?;
                // A file that cannot be written is found out now, with its reason.
                let probe =
                    "begin; delete from hosts where false; rollback; pragma wal_autocheckpoint = 0";
                anyhow::Ok(database.connection.execute_batch(probe).await?)
            })
            .with_context(|| format!("DBPATH: cannot use the database {}", path.display()))?;
        database.log.checkpointer = Some(Checkpointer::start(path)?);
        Ok(database)
    }

    /// A connection that cannot write. To be opened after the writer.
    pub fn open_reader(path: &Path) -> anyhow::Result<Self> {
        let database = Self::open(path, None)?;
        let pragmas = format!(
            "pragma busy_timeout = {};
             pragma cache_size = -{PAGE_CACHE_KIB};
             pragma query_only = on;",
            BUSY_TIMEOUT.as_millis()
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
            .block_on(async {
                let flags = OpenFlags::default() | OpenFlags::from_bits_retain(SQLITE_OPEN_NOMUTEX);
                Builder::new_local(path)
                    .flags(flags)
                    .build()
                    .await?
                    .connect()
            })
            .with_context(|| format!("DBPATH: cannot open the database {}", path.display()))?;
        Ok(LocalDatabase {
            connection,
            prepared: HashMap::new(),
            runtime,
            _lock: lock,
            log: Log {
                path: beside(path, "-wal"),
                checkpointer: None,
                commits: 0,
                looks: 0,
                held_at: None,
            },
        })
    }

    /// Runs each operation's statements, all in one transaction. After an error nothing of it is stored.
    pub fn transact(
        &mut self,
        access: Access,
        operations: Vec<Vec<Statement>>,
    ) -> Result<Vec<Vec<Rows>>, libsql::Error> {
        let LocalDatabase {
            connection,
            prepared,
            runtime,
            log,
            ..
        } = self;
        log.commits += 1;
        runtime.block_on(async {
            if !connection.is_autocommit() {
                // A panic has left a transaction behind.
                run_prepared(connection, prepared, Statement::new("rollback", [])).await?;
            }
            // "immediate": a transaction that begins by reading cannot become a writing one beside other writers.
            let begin = match access {
                Access::Write => "begin immediate",
                Access::Read | Access::None => "begin",
            };
            run_prepared(connection, prepared, Statement::new(begin, [])).await?;
            let result = run_operations(connection, prepared, operations).await;
            if result.is_err() && !connection.is_autocommit() {
                let rollback = Statement::new("rollback", []);
                if let Err(error) = run_prepared(connection, prepared, rollback).await {
                    tracing::error!(%error, "rollback");
                }
            }
            result
        })
    }

    /// Has the write-ahead log moved into the file, and empties it where it has grown long all the same. Where another process
    /// reads for long, it goes on growing until that one has finished.
    pub fn keep_log_short(&mut self) {
        if self.log.commits < COMMITS_PER_LOOK {
            return;
        }
        self.log.commits = 0;
        self.log.looks += 1;
        if let Some(checkpointer) = &self.log.checkpointer {
            if checkpointer.is_log_long.swap(false, Ordering::Relaxed) {
                // With the little that has come since, all of it is in the file, and the next commit begins the log anew.
                if let Err(error) = self.runtime.block_on(checkpoint(&self.connection)) {
                    tracing::debug!(%error, "checkpoint");
                }
            } else if self.log.looks >= LOOKS_PER_CHECKPOINT {
                self.log.looks = 0;
                checkpointer.ask();
            }
        }
        let bytes = self.log.path.metadata().map_or(0, |log| log.len());
        let held_at = self.log.held_at;
        if bytes <= LOG_BYTES_MAX || held_at.is_some_and(|at| at.elapsed() < EMPTY_RETRY) {
            return;
        }
        let result = self.empty_log();
        let is_held = !matches!(result, Ok(true));
        self.log.held_at = is_held.then(Instant::now);
        match (held_at, result) {
            (None, Ok(false)) => {
                tracing::warn!(bytes, "the write-ahead log grows: a reader does not end");
            }
            (None, Err(error)) => tracing::warn!(%error, bytes, "the write-ahead log grows"),
            (Some(_), Ok(true)) => tracing::info!("the write-ahead log is empty again"),
            _ => {}
        }
    }

    /// Moves the write-ahead log into the file and empties it, unless another process is reading: then the next start
    /// does.
    pub fn checkpoint(&mut self) {
        // Its connection is not to be the last one that closes.
        drop(self.log.checkpointer.take());
        match self.empty_log() {
            Ok(true) => {}
            Ok(false) => tracing::warn!("the write-ahead log stays: another process is reading"),
            Err(error) => tracing::warn!(%error, "the write-ahead log stays until the next start"),
        }
    }

    /// Whether it is done: a reader may prevent it.
    fn empty_log(&mut self) -> Result<bool, libsql::Error> {
        self.connection.busy_timeout(READERS_TIMEOUT)?;
        let pragma = Statement::new("pragma wal_checkpoint(truncate)", []);
        let run = run_prepared(&self.connection, &mut self.prepared, pragma);
        let result = self.runtime.block_on(run);
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        // The first column: whether it was kept from it.
        Ok(result?.first().is_some_and(|row| !row.columns().flag()))
    }
}

/// A thread that moves the write-ahead log into the file beside the writer, which would wait for the disk.
struct Checkpointer {
    /// `None` when it is to end.
    asked: Option<SyncSender<()>>,
    /// There is so much in the log that it is to begin anew.
    is_log_long: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    fn start(path: &Path) -> anyhow::Result<Self> {
        let database = LocalDatabase::open(path, None)?;
        database.connection.busy_timeout(Duration::ZERO)?;
        let (asked, asks) = sync_channel(1);
        let is_log_long = Arc::new(AtomicBool::new(false));
        let is_long = is_log_long.clone();
        let thread = spawn("checkpointer", move || {
            for () in asks {
                match database.runtime.block_on(checkpoint(&database.connection)) {
                    Ok(pages) => is_long.store(pages >= LOG_PAGES, Ordering::Relaxed),
                    // What is wrong with the disk shows at the next commit too.
                    Err(error) => tracing::debug!(%error, "checkpoint"),
                }
            }
        })?;
        Ok(Checkpointer {
            asked: Some(asked),
            is_log_long,
            thread: Some(thread),
        })
    }

    /// Once more, when it has done what it is doing.
    fn ask(&self) {
        if let Some(asked) = &self.asked {
            // It has been asked already where there is no room.
            let _ = asked.try_send(());
        }
    }
}

impl Drop for Checkpointer {
    /// Waits until it has closed its connection.
    fn drop(&mut self) {
        self.asked = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Moves what nobody reads any more from the write-ahead log into the file; returns the pages that are in the log.
async fn checkpoint(connection: &Connection) -> Result<i64, libsql::Error> {
    let mut pragma = connection.prepare("pragma wal_checkpoint(passive)").await?;
    let rows = handler::run(&mut pragma, Vec::new()).await?;
    Ok(rows.first().map_or(0, |row| {
        let mut columns = row.columns();
        let _is_blocked = columns.flag();
        columns.integer()
    }))
}

async fn run_operations(
    connection: &Connection,
    prepared: &mut HashMap<usize, libsql::Statement>,
    operations: Vec<Vec<Statement>>,
) -> Result<Vec<Vec<Rows>>, libsql::Error> {
    let mut results = Vec::with_capacity(operations.len());
    for statements in operations {
        let mut rows = Vec::with_capacity(statements.len());
        for statement in statements {
            rows.push(run_prepared(connection, prepared, statement).await?);
        }
        results.push(rows);
    }
    run_prepared(connection, prepared, Statement::new("commit", [])).await?;
    Ok(results)
}

async fn run_prepared(
    connection: &Connection,
    prepared: &mut HashMap<usize, libsql::Statement>,
    statement: Statement,
) -> Result<Rows, libsql::Error> {
    use std::collections::hash_map::Entry;
    let cached = match prepared.entry(statement.sql.as_ptr().addr()) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(connection.prepare(statement.sql).await?),
    };
    handler::run(cached, statement.parameters).await
}

/// Makes a connection one that writes: a commit that has returned is on disk. A database that is not ours is left as it
/// is; one that is gets the present schema.
pub async fn make_ready(connection: &Connection, now: i64) -> anyhow::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let pragma = format!("pragma cache_size = -{PAGE_CACHE_KIB}");
    connection.execute_batch(&pragma).await?;
    let found = schema::check(connection).await?;
    if (1..schema::VERSION).contains(&found) {
        let version = schema::VERSION;
        tracing::info!(
            found,
            version,
            "the schema is brought up to date, which takes a while where there is much"
        );
    }
    make_durable(connection).await?;
    schema::migrate(connection, now).await?;
    Ok(())
}

/// From here on a commit that has returned is on disk.
pub async fn make_durable(connection: &Connection) -> Result<(), libsql::Error> {
    // libsql enforces foreign keys unless told otherwise; in a file that has some, they are what they were to the
    // first backend: not enforced.
    let pragmas =
        "pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = off;";
    connection.execute_batch(pragmas).await.map(drop)
}

/// A folder of our own making is the owner's alone: the file holds password hashes.
pub fn create_folder_of(path: &Path) -> anyhow::Result<()> {
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
pub fn lock(path: &Path) -> anyhow::Result<File> {
    try_lock(path)?.with_context(|| {
        let path = path.display();
        format!("DBPATH: another server is running on {path}")
    })
}

/// SQLite's name for a file beside the database: it goes by the file that symbolic links lead to.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path
        .canonicalize()
        .unwrap_or_else(|_| path.to_owned())
        .into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

/// Locks a file beside the database; `None` where another process has.
pub fn try_lock(path: &Path) -> anyhow::Result<Option<File>> {
    let name = beside(path, "-lock");
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
