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
    contents.await.with_context(|| name.to_string())
}

async fn open_read_only(path: &Path) -> anyhow::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let db = Builder::new_local(path).flags(flags).build().await?;
    let db = db.connect()?;
    db.busy_timeout(local::BUSY_TIMEOUT)?;
    Ok(db)
}

/// Copies a database, as one reader sees it, to the file `to`, which only the owner may read,
/// because it holds password hashes. A file of that name from an interrupted copy is replaced.
/// Progress goes to standard error if that is a terminal, and begins with `what`.
pub async fn copy(from: &Path, to: &Path, what: &str) -> anyhow::Result<()> {
    let writing = || format!("cannot write {}", to.display());
    if to.exists() {
        fs::remove_file(to).with_context(writing)?;
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .with_context(writing)?;
    let db = open_read_only(from).await?;
    let pages = "select (select page_count from pragma_page_count) - (select freelist_count from pragma_freelist_count),
                     (select page_size from pragma_page_size)";
    let pages = handler::run(&mut db.prepare(pages).await?, Vec::new()).await?;
    let bytes = pages.first().map_or(0, |row| {
        let mut columns = row.columns();
        columns.integer() * columns.integer()
    });
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
    Ok(())
}

/// Gives a complete file its final name. A file that has the name is replaced, so that at any
/// moment one of the two exists.
pub fn publish(file: &Path, name: &Path) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", name.display());
    File::open(file)
        .and_then(|file| file.sync_all())
        .with_context(context)?;
    fs::rename(file, name).with_context(context)?;
    let folder = name
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))
        .and_then(|folder| folder.sync_all())
        .with_context(context)
}

/// The name of a file beside this one.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
