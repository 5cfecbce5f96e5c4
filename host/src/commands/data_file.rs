//! Inspects, copies and replaces whole data files.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal, Write, stderr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use handler::{Statement, schema};
use libsql::{Builder, Connection, OpenFlags};
use rustix::fs::statvfs;
use tokio::task::spawn_blocking;
use tokio::time::interval;

use crate::store::local;

/// Time between two updates of the progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// What a data file holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Contents {
    pub schema_version: i64,
    pub users: i64,
    pub conversations: i64,
    pub messages: i64,
    pub bytes: u64,
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "schema version {}", self.schema_version)?;
        for (count, thing) in [
            (self.users, "user"),
            (self.conversations, "conversation"),
            (self.messages, "message"),
        ] {
            let plural = if count == 1 { "" } else { "s" };
            write!(f, ", {count} {thing}{plural}")?;
        }
        match self.bytes {
            0..1_000_000 => write!(f, ", {} kB", self.bytes.div_ceil(1000)),
            _ => write!(f, ", {:.1} MB", self.bytes as f64 / 1e6),
        }
    }
}

/// Reads and checks a whole data file; an error says what is wrong with it.
pub async fn inspect(path: &Path) -> anyhow::Result<Contents> {
    let name = path.display();
    ensure!(path.is_file(), "{name}: there is no such file");
    let contents = async {
        local::check_format(path)?;
        let db = open_read_only(path).await?;
        let schema_version = schema::check(&db).await?;
        ensure!(
            schema_version > 0,
            "no host has used it yet, so it has no schema"
        );
        let mut problems = Vec::new();
        let mut rows = db.query("pragma integrity_check(10)", ()).await?;
        while let Some(row) = rows.next().await? {
            problems.push(row.get::<String>(0)?);
        }
        ensure!(problems == ["ok"], "damaged: {}", problems.join("; "));
        let count = "select (select count(*) from users), (select count(*) from conversations),
                         (select count(*) from messages)";
        let rows = handler::run(&mut db.prepare(count).await?, Vec::new()).await?;
        let mut counts = rows.first().context("a row of counts")?.columns();
        anyhow::Ok(Contents {
            schema_version,
            users: counts.integer(),
            conversations: counts.integer(),
            messages: counts.integer(),
            bytes: path.metadata()?.len(),
        })
    };
    // If the pages of the schema are damaged, no statement runs at all.
    let is_damaged = |error: &anyhow::Error| error.to_string().contains("malformed");
    let contents = contents.await.map_err(|error| match is_damaged(&error) {
        true => error.context("damaged: the schema cannot be read"),
        false => error,
    });
    contents.with_context(|| name.to_string())
}

async fn open_read_only(path: &Path) -> anyhow::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let db = Builder::new_local(path).flags(flags).build().await?;
    let db = db.connect()?;
    db.busy_timeout(local::BUSY_TIMEOUT)?;
    Ok(db)
}

/// A data file that is being made. It is removed, with what SQLite has put beside it, unless it is
/// published: what fails must not leave a full disk behind, on which a server can store nothing.
pub struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        for suffix in ["", "-journal", "-wal", "-shm"] {
            // Most of them never existed.
            let _ = fs::remove_file(with_suffix(&self.0, suffix));
        }
    }
}

impl Unfinished {
    pub fn new(path: PathBuf) -> Self {
        Unfinished(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Gives the complete file its final name. A file that has the name is replaced, so that at any
    /// moment one of the two exists.
    pub fn publish(self, name: &Path) -> anyhow::Result<()> {
        let context = || format!("cannot write {}", name.display());
        File::open(&self.0)
            .and_then(|file| file.sync_all())
            .with_context(context)?;
        fs::rename(&self.0, name).with_context(context)?;
        File::open(folder_of(name))
            .and_then(|folder| folder.sync_all())
            .with_context(context)
    }
}

/// Room that must be left on a disk on which a file is made: a server may store its data there.
const ROOM_LEFT_BYTES: u64 = 16 * 1024 * 1024;

/// Fails if the disk of the file `to` has no room for this many bytes.
pub fn check_room(to: &Path, bytes: u64) -> anyhow::Result<()> {
    let folder = folder_of(to);
    let disk = statvfs(folder).with_context(|| format!("cannot write {}", to.display()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let needed = bytes.saturating_add(ROOM_LEFT_BYTES);
    ensure!(
        free >= needed,
        "cannot write {}: it needs {:.1} MB, and {:.1} MB more that stay free; the disk of {} has {:.1} MB free",
        to.display(),
        bytes as f64 / 1e6,
        ROOM_LEFT_BYTES as f64 / 1e6,
        folder.display(),
        free as f64 / 1e6
    );
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent();
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// Copies a database, as one reader sees it, to the file `to`, which only the owner may read,
/// because it holds password hashes. A file of that name from an interrupted copy is replaced.
/// Progress goes to standard error if that is a terminal, and begins with `what`. If the copy does
/// not fit, nothing is written.
pub async fn copy(from: &Path, to: PathBuf, what: &str) -> anyhow::Result<Unfinished> {
    let unfinished = Unfinished(to);
    let to = unfinished.path();
    let writing = || format!("cannot write {}", to.display());
    if to.exists() {
        fs::remove_file(to).with_context(writing)?;
    }
    let db = open_read_only(from).await?;
    let pages = "select (select page_count from pragma_page_count) - (select freelist_count from pragma_freelist_count),
                     (select page_size from pragma_page_size)";
    let pages = handler::run(&mut db.prepare(pages).await?, Vec::new()).await?;
    let bytes = pages.first().map_or(0, |row| {
        let mut columns = row.columns();
        columns.integer() * columns.integer()
    });
    check_room(to, bytes as u64)?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .with_context(writing)?;
    let name = to.to_str().context("the name of a file is not UTF-8")?;
    let vacuum = Statement::new("vacuum into ?1", [name.into()]);
    // libsql blocks.
    let runtime = tokio::runtime::Handle::current();
    let copied = spawn_blocking(move || {
        runtime.block_on(async { db.execute(vacuum.sql, vacuum.parameters).await })
    });
    let mut copied = std::pin::pin!(copied);
    let mut ticks = interval(PROGRESS_INTERVAL);
    let is_shown = stderr().is_terminal();
    let show = |percent: u64| {
        let megabytes = bytes as f64 / 1e6;
        let _ = write!(stderr(), "\r{what}: {percent} % of {megabytes:.1} MB");
    };
    let copied = loop {
        tokio::select! {
            copied = &mut copied => break copied?,
            _ = ticks.tick(), if is_shown => {
                let done = to.metadata().map_or(0, |file| file.len());
                show((done * 100).checked_div(bytes as u64).unwrap_or_default().min(99));
            }
        }
    };
    copied.with_context(writing)?;
    if is_shown {
        show(100);
        let _ = writeln!(stderr());
    }
    Ok(unfinished)
}

/// The name of a file beside this one.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
