//! A local SQLite file through libsql, which keeps prepared statements.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, DirEntry, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use handler::schema::{self, SchemaError};
use handler::{Access, Rows, Statement, is_left_out};
use libsql::{Builder, Connection, OpenFlags};
use rustix::process::geteuid;
use tokio::runtime::Runtime;

use crate::store::location::beside;
use crate::store::reading_gate::{Found, ReadingGate};
use crate::threads::spawn;

/// Calls take no mutex of the connection (sqlite.org/c3ref/open.html): it belongs to one thread.
const SQLITE_OPEN_NOMUTEX: i32 = 0x8000;
/// The primary code of errors about a file that cannot be written (sqlite.org/rescode.html).
const SQLITE_READONLY: i32 = 8;
/// The page cache of a connection. SQLite's default of 2 MB is too small for the inner pages of a
/// large file's indexes.
pub const PAGE_CACHE_KIB: u32 = 32 * 1024;
/// How long a statement waits for another process's lock.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// A longer write-ahead log is emptied. Checkpoints move what they can into the file, but the log
/// starts again from its beginning only if nobody happens to read it.
pub const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Commits between two looks at the log.
const COMMITS_PER_LOOK: u32 = 16;
/// Looks between two checkpoints.
const LOOKS_PER_CHECKPOINT: u32 = 4;
/// With this many pages the log should start again: the longer it is, the more often a page changes
/// before it is moved.
const LOG_PAGES: i64 = 4096;
/// What Linux adds to the name of an open file that was removed.
const REMOVED: &str = " (deleted)";
/// How long emptying the log waits for readers, while nothing is written, and when a failed attempt
/// is repeated.
const READERS_TIMEOUT: Duration = Duration::from_millis(100);
/// Until the next try, which makes the writer wait again; after each that fails twice as long, up to the
/// longest.
const EMPTY_RETRY: Duration = Duration::from_secs(2);
const EMPTY_RETRY_MAX: Duration = Duration::from_secs(60);

/// One connection. libsql blocks the calling thread on a local file, so each connection belongs to
/// a thread of its own.
pub struct LocalDatabase {
    connection: Connection,
    /// By the address of their static text.
    prepared: HashMap<usize, libsql::Statement>,
    /// libsql is async; on a local file its futures are ready at once.
    runtime: Runtime,
    log: Log,
    /// What SQLite has open; `None` for readers.
    files: Option<OpenFiles>,
    /// Keeps a second server off the file; `None` for readers. The last field, because closing a
    /// file drops SQLite's locks on it.
    _lock: Option<Lock>,
}

/// The state of the write-ahead log that its writer keeps.
struct Log {
    path: PathBuf,
    checkpointer: Option<Checkpointer>,
    /// Commits since the last look.
    commits: u32,
    /// Looks since the last checkpoint.
    looks: u32,
    /// When emptying the log last failed, and the pause until the next try; `None` after a success.
    held: Option<(Instant, Duration)>,
    /// The reads of this process.
    gate: Arc<ReadingGate>,
    /// The gate is closed, so that the log can be emptied.
    is_gate_closed: bool,
}

impl Log {
    fn bytes(&self) -> u64 {
        self.path.metadata().map_or(0, |log| log.len())
    }
}

impl LocalDatabase {
    /// The connection that writes. It creates and migrates the file. Each file has only one, over
    /// all processes that serve it.
    pub fn open_writer(path: &Path, now: i64) -> anyhow::Result<Self> {
        create_folder_of(path)?;
        ensure!(
            !path.is_dir(),
            "DBPATH: {} is a folder, expected a file",
            path.display()
        );
        check_not_gone(path)?;
        if path.exists() {
            check_format(path).with_context(|| format!("DBPATH: {}", path.display()))?;
        }
        create_missing(path)?;
        let lock = lock(path)?;
        let mut database = Self::open(path)?;
        database
            .runtime
            .block_on(async {
                make_ready(&database.connection, now).await?;
                // If the file cannot be written, this finds out now, with the reason.
                let probe =
                    "begin; delete from hosts where false; rollback; pragma wal_autocheckpoint = 0";
                anyhow::Ok(database.connection.execute_batch(probe).await?)
            })
            .map_err(explain_read_only)
            .with_context(|| format!("DBPATH: cannot use the database {}", path.display()))?;
        database.log.checkpointer = Some(Checkpointer::start(path)?);
        lock.mark()?;
        database._lock = Some(lock);
        let files = OpenFiles::find(path);
        database.files = Some(files.with_context(|| format!("DBPATH: {}", path.display()))?);
        Ok(database)
    }

    /// A connection that cannot write. The writer has to be opened before it.
    pub fn open_reader(path: &Path) -> anyhow::Result<Self> {
        let database = Self::open(path)?;
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

    fn open(path: &Path) -> anyhow::Result<Self> {
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
            log: Log {
                path: beside(path, "-wal"),
                checkpointer: None,
                commits: 0,
                looks: 0,
                held: None,
                gate: Arc::default(),
                is_gate_closed: false,
            },
            files: None,
            _lock: None,
        })
    }

    /// Runs each operation's statements, all in one transaction. After an error nothing is stored.
    pub fn transact(
        &mut self,
        access: Access,
        operations: Vec<Vec<Statement>>,
    ) -> Result<Vec<Vec<Rows>>, libsql::Error> {
        self.transact_while(access, operations, |_, _| true)
    }

    /// Like `transact`, but may commit only the first of the operations: after each one, the next begins
    /// only if `goes_on` says so of the rows, and of the bytes in them, that those before it have
    /// returned. Returns the rows of those that were committed.
    pub fn transact_while(
        &mut self,
        access: Access,
        operations: Vec<Vec<Statement>>,
        goes_on: impl Fn(usize, usize) -> bool,
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
            begin(connection, prepared, access).await?;
            let result = run_operations(connection, prepared, operations, goes_on).await;
            if result.is_err() {
                roll_back(connection, prepared).await;
            }
            result
        })
    }

    /// Begins a transaction for `read`. It sees the file as it is at the first statement.
    pub fn begin_reading(&mut self) -> Result<(), libsql::Error> {
        let begin = begin(&self.connection, &mut self.prepared, Access::Read);
        self.runtime.block_on(begin)
    }

    /// Runs statements in the transaction that `begin_reading` has begun.
    pub fn read(&mut self, statements: Vec<Statement>) -> Result<Vec<Rows>, libsql::Error> {
        let run = run_statements(&self.connection, &mut self.prepared, statements);
        self.runtime.block_on(run)
    }

    /// Ends the transaction, if there is one, and frees the page cache.
    pub fn end_reading(&mut self) {
        self.runtime.block_on(async {
            roll_back(&self.connection, &mut self.prepared).await;
            let shrink = Statement::new("pragma shrink_memory", []);
            let _ = run_prepared(&self.connection, &mut self.prepared, shrink).await;
        });
    }

    /// Why nothing can be stored: a file that SQLite has open no longer has its name, so that it goes
    /// with this process, or a start does not find it.
    pub fn lost_file(&self) -> Option<String> {
        self.files.as_ref()?.lost()
    }

    /// Has the write-ahead log moved into the file, and empties it if it has grown long
    /// nevertheless. While another process reads in one transaction, the log keeps growing.
    pub fn keep_log_short(&mut self) {
        if self.log.is_gate_closed {
            self.empty_long_log();
        }
        if self.log.commits < COMMITS_PER_LOOK {
            return;
        }
        self.log.commits = 0;
        self.log.looks += 1;
        if let Some(checkpointer) = &self.log.checkpointer {
            if checkpointer.is_log_long.swap(false, Ordering::Relaxed) {
                // This moves the little that has come since. Then all of the log is in the file,
                // and the next commit starts the log again.
                if let Err(error) = self.runtime.block_on(checkpoint(&self.connection)) {
                    tracing::debug!(%error, "checkpoint");
                }
            } else if self.log.looks >= LOOKS_PER_CHECKPOINT {
                self.log.looks = 0;
                checkpointer.ask();
            }
        }
        let is_held = |(at, pause): (Instant, Duration)| at.elapsed() < pause;
        if self.log.bytes() > LOG_BYTES_MAX && !self.log.held.is_some_and(is_held) {
            self.log.gate.close();
            self.log.is_gate_closed = true;
            self.empty_long_log();
        }
    }

    /// Empties the log once no thread of this process reads it.
    fn empty_long_log(&mut self) {
        let result = match self.log.gate.find() {
            Found::Reading => return,
            Found::Idle => match self.empty_log(Duration::ZERO) {
                Ok(Emptied::NotNow) => return,
                result => result,
            },
            Found::Opened => Ok(Emptied::Held),
        };
        self.log.gate.open();
        self.log.is_gate_closed = false;
        let held = self.log.held;
        let pause = held.map_or(EMPTY_RETRY, |(_, pause)| (2 * pause).min(EMPTY_RETRY_MAX));
        let is_held = !matches!(result, Ok(Emptied::Done));
        self.log.held = is_held.then(|| (Instant::now(), pause));
        let bytes = self.log.bytes();
        match (held, result) {
            (None, Ok(_)) if is_held => {
                tracing::warn!(bytes, "the write-ahead log grows: a reader does not end");
            }
            (None, Err(error)) => tracing::warn!(%error, bytes, "the write-ahead log grows"),
            (Some(_), Ok(Emptied::Done)) => tracing::info!("the write-ahead log is empty again"),
            _ => {}
        }
    }

    /// Reads of the same process pass this gate.
    pub fn gate(&self) -> Arc<ReadingGate> {
        self.log.gate.clone()
    }

    /// Moves the write-ahead log into the file and empties it. If another process is reading, the
    /// next start does that.
    ///
    /// A file that was moved gets the log too: it is whole then, and a log that stayed would be applied to
    /// the file that has the name now (sqlite.org/howtocorrupt.html).
    pub fn checkpoint(&mut self) {
        // The checkpointer's connection must not be the last one that closes.
        drop(self.log.checkpointer.take());
        match self.empty_log(READERS_TIMEOUT) {
            Ok(Emptied::Done) => {}
            Ok(_) => tracing::warn!("the write-ahead log stays: another process is reading"),
            Err(error) => tracing::warn!(%error, "the write-ahead log stays until the next start"),
        }
        if let Some(text) = self.files.as_ref().and_then(OpenFiles::left_behind) {
            tracing::error!("{text}");
        }
    }

    /// Empties the log. Waits so long for readers.
    pub fn empty_log(&mut self, patience: Duration) -> Result<Emptied, libsql::Error> {
        self.connection.busy_timeout(patience)?;
        let pragma = Statement::new("pragma wal_checkpoint(truncate)", []);
        let run = run_prepared(&self.connection, &mut self.prepared, pragma);
        let result = self.runtime.block_on(run);
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        // Whether it was prevented, and the length of the log: -1 if the checkpoint has not begun.
        let outcome = result?.first().map(|row| {
            let mut columns = row.columns();
            (columns.flag(), columns.integer())
        });
        Ok(match outcome {
            Some((false, _)) => Emptied::Done,
            Some((true, 0..)) => Emptied::Held,
            _ => Emptied::NotNow,
        })
    }
}

/// The outcome of an attempt to empty the write-ahead log.
#[derive(Debug, PartialEq)]
pub enum Emptied {
    Done,
    /// Another checkpoint is under way.
    NotNow,
    /// A reader prevents it.
    Held,
}

/// A thread that moves the write-ahead log into the file, so that the writer need not wait for the
/// disk.
struct Checkpointer {
    /// `None` when the thread has to end.
    asked: Option<SyncSender<()>>,
    /// The log is so long that it should start again.
    is_log_long: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    fn start(path: &Path) -> anyhow::Result<Self> {
        let database = LocalDatabase::open(path)?;
        database.connection.busy_timeout(Duration::ZERO)?;
        let (asked, asks) = sync_channel(1);
        let is_log_long = Arc::new(AtomicBool::new(false));
        let is_long = is_log_long.clone();
        let thread = spawn("checkpointer", move || {
            for () in asks {
                match database.runtime.block_on(checkpoint(&database.connection)) {
                    Ok(pages) => is_long.store(pages >= LOG_PAGES, Ordering::Relaxed),
                    // A fault of the disk shows at the next commit too.
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

    /// Asks for a checkpoint, after the one that may be under way.
    fn ask(&self) {
        if let Some(asked) = &self.asked {
            // If the channel is full, a checkpoint is requested already.
            let _ = asked.try_send(());
        }
    }
}

impl Drop for Checkpointer {
    /// Waits until the thread has closed its connection.
    fn drop(&mut self) {
        self.asked = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Moves the pages that no reader needs any more from the write-ahead log into the file; returns
/// the number of pages in the log.
async fn checkpoint(connection: &Connection) -> Result<i64, libsql::Error> {
    let mut pragma = connection.prepare("pragma wal_checkpoint(passive)").await?;
    let rows = handler::run(&mut pragma, Vec::new()).await?;
    Ok(rows.first().map_or(0, |row| {
        let mut columns = row.columns();
        let _is_blocked = columns.flag();
        columns.integer()
    }))
}

async fn begin(
    connection: &Connection,
    prepared: &mut HashMap<usize, libsql::Statement>,
    access: Access,
) -> Result<(), libsql::Error> {
    if !connection.is_autocommit() {
        // A panic has left a transaction behind.
        run_prepared(connection, prepared, Statement::new("rollback", [])).await?;
    }
    // "immediate": a transaction that begins with a read may be unable to write beside other writers.
    let begin = match access {
        Access::Write => "begin immediate",
        Access::Read | Access::None => "begin",
    };
    run_prepared(connection, prepared, Statement::new(begin, [])).await?;
    Ok(())
}

/// Ends a transaction, if there is one.
async fn roll_back(connection: &Connection, prepared: &mut HashMap<usize, libsql::Statement>) {
    if connection.is_autocommit() {
        return;
    }
    let rollback = Statement::new("rollback", []);
    if let Err(error) = run_prepared(connection, prepared, rollback).await {
        tracing::error!(%error, "a rollback failed");
    }
}

async fn run_operations(
    connection: &Connection,
    prepared: &mut HashMap<usize, libsql::Statement>,
    operations: Vec<Vec<Statement>>,
    goes_on: impl Fn(usize, usize) -> bool,
) -> Result<Vec<Vec<Rows>>, libsql::Error> {
    let mut results: Vec<Vec<Rows>> = Vec::with_capacity(operations.len());
    let (mut row_count, mut byte_count) = (0, 0);
    for statements in operations {
        let rows = run_statements(connection, prepared, statements).await?;
        row_count += rows.iter().map(|rows| rows.0.len()).sum::<usize>();
        byte_count += rows.iter().map(Rows::bytes).sum::<usize>();
        results.push(rows);
        if !goes_on(row_count, byte_count) {
            break;
        }
    }
    run_prepared(connection, prepared, Statement::new("commit", [])).await?;
    Ok(results)
}

/// Runs the statements of one operation.
async fn run_statements(
    connection: &Connection,
    prepared: &mut HashMap<usize, libsql::Statement>,
    statements: Vec<Statement>,
) -> Result<Vec<Rows>, libsql::Error> {
    let mut rows = Vec::with_capacity(statements.len());
    for statement in statements {
        rows.push(match is_left_out(&statement, &rows) {
            true => Rows::default(),
            false => run_prepared(connection, prepared, statement).await?,
        });
    }
    Ok(rows)
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

/// Makes a connection ready to write: a commit that has returned is on disk. A chat's database gets
/// the present schema; any other is left as it is.
pub async fn make_ready(connection: &Connection, now: i64) -> anyhow::Result<()> {
    let found = prepare(connection).await?;
    if (1..schema::VERSION).contains(&found) {
        let version = schema::VERSION;
        tracing::info!(
            found,
            version,
            "the schema is brought up to date, which takes a while if there is much data"
        );
    }
    schema::migrate(connection, now).await?;
    Ok(())
}

/// Like [`make_ready`], but the schema stays as it is. Returns its version, or 0 if the file has none
/// yet. If it is not a chat's, the file stays as it is.
pub async fn prepare(connection: &Connection) -> anyhow::Result<i64> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // What a client deletes or edits away is overwritten with zeros, also in pages that become free.
    let pragmas = format!("pragma cache_size = -{PAGE_CACHE_KIB}; pragma secure_delete = on;");
    connection.execute_batch(&pragmas).await?;
    let version = schema::check(connection).await?;
    make_durable(connection).await?;
    Ok(version)
}

/// From now on a commit that has returned is on disk.
pub async fn make_durable(connection: &Connection) -> Result<(), libsql::Error> {
    // libsql enforces foreign keys by default. A file of the first backend has some, which were
    // never enforced.
    let pragmas =
        "pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = off;";
    connection.execute_batch(pragmas).await.map(drop)
}

/// Creates the folder of a database for its owner alone: the file holds password hashes.
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

/// The files that a connection has open, by their names and their devices and inodes.
struct OpenFiles {
    database: (PathBuf, (u64, u64)),
    /// The write-ahead log and its index. Where files cannot share memory, there are none.
    beside: Vec<(PathBuf, (u64, u64))>,
}

impl OpenFiles {
    fn find(path: &Path) -> std::io::Result<Self> {
        let known = |path: PathBuf| identity(&path).map(|identity| (path, identity));
        Ok(OpenFiles {
            // By the name that the next start uses, which may be a link.
            database: known(path.to_owned())?,
            beside: ["-wal", "-shm"]
                .iter()
                .filter_map(|suffix| known(beside(path, suffix)).ok())
                .collect(),
        })
    }

    /// Says what has lost its name, and what to do.
    fn lost(&self) -> Option<String> {
        let is_lost = |(path, known): &&(PathBuf, _)| identity(path).ok() != Some(*known);
        let process = std::process::id();
        if let Some((path, _)) = Some(&self.database).filter(is_lost) {
            let path = path.display();
            return Some(format!(
                "{path} was removed, moved or replaced, so nothing is stored any more: put the file back, or save it \
                 from /proc/{process}/fd before the server ends, see deploy/faults.md"
            ));
        }
        let (path, _) = self.beside.iter().find(is_lost)?;
        let path = path.display();
        Some(format!(
            "{path} was removed, moved or replaced, so nothing is stored any more: stop the server with SIGTERM, \
             never SIGKILL, and start it again; as it stops, it moves what it has into the database"
        ))
    }

    /// Says where everything is that was acknowledged, if the next start would not find it.
    fn left_behind(&self) -> Option<String> {
        let (path, known) = &self.database;
        if identity(path).ok() == Some(*known) {
            return None;
        }
        let path = path.display();
        let file = open_name(*known).map_or_else(String::new, |file| file.display().to_string());
        Some(match file.strip_suffix(REMOVED) {
            None => format!(
                "{path} is not the file that this server has written: all that it has acknowledged is in {file}, and \
                 perhaps nowhere else. Move that back (mv) before the next start, see deploy/faults.md"
            ),
            Some(_) => format!(
                "{path} was removed while this server ran: what it has acknowledged goes with the server, but for \
                 what was saved or is in a backup, see deploy/faults.md"
            ),
        })
    }
}

/// The present name of a file that this process has open. If it was removed, the name ends so.
fn open_name((device, inode): (u64, u64)) -> Option<PathBuf> {
    let mut open = std::fs::read_dir("/proc/self/fd").ok()?.flatten();
    let is_it = |file: &DirEntry| identity(&file.path()).ok() == Some((device, inode));
    std::fs::read_link(open.find(is_it)?.path()).ok()
}

/// The device and the inode that a path leads to.
fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    path.metadata().map(|file| (file.dev(), file.ino()))
}

/// Fails if there is no database, or an empty file, where a server has had one. A server must not go on
/// with an empty one, as if nobody had ever registered.
fn check_not_gone(path: &Path) -> anyhow::Result<()> {
    let is = match path.metadata() {
        Ok(file) if file.len() > 0 => return Ok(()),
        Ok(_) => "is empty",
        Err(_) => "is gone",
    };
    let is_of_database = |suffix: &&str| beside(path, suffix).metadata().is_ok_and(|f| f.len() > 0);
    let mut left = ["-lock", "-wal"].into_iter().filter(is_of_database);
    if let Some(suffix) = left.next() {
        let (path, left) = (path.display(), beside(path, suffix));
        let left = left.display();
        bail!(
            "DBPATH: the database {path} {is}; {left} says that there was one. Put it back, or restore a backup. \
             Only to begin with an empty database, remove {left}"
        );
    }
    Ok(())
}

/// Creates a database that does not exist, also where a symbolic link leads, as an empty file: only
/// a file that exists can be locked, and has one name for everybody.
fn create_missing(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let created = OpenOptions::new().create(true).append(true).open(path);
    created.with_context(|| format!("DBPATH: cannot create the database {}", path.display()))?;
    Ok(())
}

/// Keeps other servers off a database for as long as it exists.
pub struct Lock {
    /// A file beside the database, which releases before this one lock too. It may be removed.
    beside: File,
    /// The database itself, if it exists.
    _database: Option<File>,
}

impl Lock {
    /// Notes that the database exists from now on: see `check_not_gone`.
    fn mark(&self) -> anyhow::Result<()> {
        let text = b"chatapp has made or used the database beside this file\n";
        self.beside
            .write_all_at(text, 0)
            .context("DBPATH: cannot write beside the database")
    }
}

/// Whether a server is running on this file.
pub fn is_served(path: &Path) -> anyhow::Result<bool> {
    Ok(try_lock(path)?.is_none())
}

/// Locks a database against a second server: each would think that the other's users are offline.
pub fn lock(path: &Path) -> anyhow::Result<Lock> {
    try_lock(path)?.with_context(|| {
        let path = path.display();
        format!(
            "DBPATH: another server is running on {path}: stop that one, or set DBPATH to another file"
        )
    })
}

/// SQLite says of a file without write permission that it is a readonly database.
fn explain_read_only(error: anyhow::Error) -> anyhow::Error {
    let of_database = match error.downcast_ref() {
        Some(SchemaError::Database(error)) => Some(error),
        _ => error.downcast_ref(),
    };
    match of_database {
        Some(libsql::Error::SqliteFailure(code, _)) if code & 0xff == SQLITE_READONLY => {
            anyhow!(
                "the user of this program may not write the file, or it is on a read-only file system"
            )
        }
        _ => error,
    }
}

/// Fails if a file is not in SQLite's format (sqlite.org/fileformat.html, "The Database Header"), as
/// an empty one may be. This process must not have it open: closing a file drops all locks on it.
pub fn check_format(path: &Path) -> anyhow::Result<()> {
    let mut header = Vec::new();
    File::open(path)?.take(16).read_to_end(&mut header)?;
    let is_database = header.is_empty() || header == b"SQLite format 3\0";
    ensure!(is_database, "it is not a data file of chatapp");
    Ok(())
}

/// Locks a database and the file beside it; `None` if another process has locked one of them. SQLite
/// uses locks of another kind. Drop the lock after all connections: see `LocalDatabase`.
pub fn try_lock(path: &Path) -> anyhow::Result<Option<Lock>> {
    let name = beside(path, "-lock");
    let open = || match OpenOptions::new().write(true).create_new(true).open(&name) {
        Ok(file) => give_to_owner(&file, path).map(|()| file),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            OpenOptions::new().write(true).open(&name)
        }
        Err(error) => Err(error),
    };
    let file = open().with_context(|| {
        format!(
            "DBPATH: cannot write beside the database: {}",
            name.display()
        )
    })?;
    let locking = |path: &Path| format!("DBPATH: cannot lock {}", path.display());
    if !has_locked(&file).with_context(|| locking(&name))? {
        return Ok(None);
    }
    let database = match File::open(path) {
        Ok(database) => Some(database),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| locking(path)),
    };
    if let Some(database) = &database
        && !has_locked(database).with_context(|| locking(path))?
    {
        return Ok(None);
    }
    Ok(Some(Lock {
        beside: file,
        _database: database,
    }))
}

/// Gives a new file to the user who serves the data file beside it: to that file's owner, with its mode, or to the
/// folder's. Otherwise root would leave a file that the server cannot open.
pub fn give_to_owner(file: &File, data_file: &Path) -> std::io::Result<()> {
    let Ok(served) = fs::metadata(data_file) else {
        return give_to_owner_of_folder(file, data_file);
    };
    give(file, &served, Some(served.permissions()))
}

/// Gives a new data file, with this path, to the owner of its folder.
pub fn give_to_owner_of_folder(file: &File, path: &Path) -> std::io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    give(file, &fs::metadata(folder.unwrap_or(Path::new(".")))?, None)
}

/// The owner of the folder may have put a link to a file of root in the place of the new one, so this changes the
/// open file, and only one that is still its maker's, with no other name.
fn give(file: &File, example: &Metadata, mode: Option<Permissions>) -> std::io::Result<()> {
    let own = file.metadata()?;
    if !own.is_file() || own.nlink() > 1 || own.uid() != geteuid().as_raw() {
        return Err(std::io::Error::other("another file has taken its place"));
    }
    if let Some(mode) = mode {
        file.set_permissions(mode)?;
    }
    // Nobody else can give a file away, or needs to.
    let is_others = (own.uid(), own.gid()) != (example.uid(), example.gid());
    if is_others && geteuid().is_root() {
        fchown(file, Some(example.uid()), Some(example.gid()))?;
    }
    Ok(())
}

fn has_locked(file: &File) -> std::io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
