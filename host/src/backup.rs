//! `host backup`, `host restore` and `host check`: the data file as a whole.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, IsTerminal, Write, stderr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use handler::{Statement, schema};
use libsql::{Builder, Connection, OpenFlags};
use tokio::task::spawn_blocking;
use tokio::time::interval;

use crate::clock;
use crate::config::{Config, Database};
use crate::store::local;

/// Between two lines of progress.
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
        write!(
            f,
            "schema version {}, {} users, {} conversations, {} messages, {:.1} MB",
            self.schema_version,
            self.users,
            self.conversations,
            self.messages,
            self.bytes as f64 / 1e6
        )
    }
}

/// Writes the data file as it is at this moment to the new file `to`, while a server goes on writing, and verifies it. The file
/// appears under its name when it is whole and on disk; until then it is `to` with `.part`. Progress goes to standard
/// error, where that is a terminal.
pub async fn backup(config: &Config, to: &Path) -> anyhow::Result<Contents> {
    let Database::File(path) = &config.database else {
        bail!(
            "DBPATH: {} is on a server, which has its own means for backups; for a copy in a file, with the hosts \
             stopped, see: host copy --help",
            config.database
        );
    };
    ensure!(
        path.is_file(),
        "DBPATH: there is no database {}",
        path.display()
    );
    ensure!(!to.exists(), "{} exists already", to.display());
    let part = with_suffix(to, ".part");
    copy(path, &part, "backup").await?;
    let contents = inspect(&part).await;
    if contents.is_err() {
        let _ = fs::remove_file(&part);
    }
    let contents = contents.context("the data file cannot be backed up")?;
    publish(&part, to)?;
    Ok(contents)
}

/// Puts the backup `from` in the place of the data file, which no server may be running on. It is verified before, and gets
/// the present schema and an epoch of its own, by which clients that keep data learn that they have to forget it. The file that
/// was there stays beside it, under the name that is returned.
pub async fn restore(config: &Config, from: &Path) -> anyhow::Result<(Contents, Option<PathBuf>)> {
    let Database::File(path) = &config.database else {
        bail!(
            "DBPATH: {} is on a server: see host copy --help",
            config.database
        );
    };
    inspect(from).await?;
    local::create_folder_of(path)?;
    // The file itself is to be replaced, not a link to it.
    let path = match path.canonicalize() {
        Ok(path) => path,
        Err(_) => path.clone(),
    };
    ensure!(
        from.canonicalize()? != path,
        "{} is the data file itself",
        from.display()
    );
    let _lock = local::lock(&path)?;
    let restored = with_suffix(&path, ".restoring");
    copy(from, &restored, "restore").await?;
    {
        let db = Builder::new_local(&restored).build().await?.connect()?;
        local::make_ready(&db, clock::now()).await?;
        db.execute(handler::cluster::chat_id::NEW_CHAT_ID, ())
            .await?;
        db.query("pragma journal_mode = delete", ())
            .await?
            .next()
            .await?;
    }
    let contents = inspect(&restored).await?;
    let replaced = match path.exists() {
        true => Some(set_aside(&path).await?),
        false => None,
    };
    publish(&restored, &path)?;
    Ok((contents, replaced))
}

/// Says whether a data file is whole: `path`, or DBPATH where there is none. Changes nothing. A remote database is asked for
/// its schema alone.
pub async fn check(config: &Config, path: Option<&Path>) -> anyhow::Result<String> {
    let path = match (path, &config.database) {
        (Some(path), _) => path,
        (None, Database::File(path)) if !path.exists() => {
            return Ok(format!(
                "{}: not there yet, a host makes it",
                path.display()
            ));
        }
        (None, Database::File(path)) => path,
        (None, Database::Remote(url)) => {
            let remote = Builder::new_remote(url.address.clone(), url.token.clone());
            let db = remote.build().await?.connect()?;
            let version = schema::check_remote(&db)
                .await
                .with_context(|| format!("DBPATH: cannot use the database {url}"))?;
            return Ok(match version {
                0 => format!("{url}: empty, a host makes its tables"),
                _ => format!("{url}: schema version {version}"),
            });
        }
    };
    let contents = inspect(path).await?;
    Ok(format!("{}: whole, {contents}", path.display()))
}

/// Reads all of a data file: an error says what is wrong with it.
async fn inspect(path: &Path) -> anyhow::Result<Contents> {
    let name = path.display();
    ensure!(path.is_file(), "{name}: there is no such file");
    let contents = async {
        let db = open_read_only(path).await?;
        let schema_version = schema::check(&db).await?;
        ensure!(
            schema_version > 0,
            "no host has used it yet, so it has no schema of ours"
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

/// Copies a database, as one reader sees it, to the file `to`, which only the owner may read: it holds password hashes. A
/// file of that name, left by a copy that was interrupted, is replaced.
async fn copy(from: &Path, to: &Path, what: &str) -> anyhow::Result<()> {
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

/// Gives a file that is whole its name, in place of one that has it, so that either is there at any moment.
fn publish(file: &Path, name: &Path) -> anyhow::Result<()> {
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

/// Gives the data file a second name, under which it stays when another one takes its place.
async fn set_aside(path: &Path) -> anyhow::Result<PathBuf> {
    // What is in the write-ahead log belongs to it. A file that is damaged takes it along as it is.
    let emptied = async {
        let db = Builder::new_local(path).build().await?.connect()?;
        db.query("pragma wal_checkpoint(truncate)", ())
            .await?
            .next()
            .await?;
        anyhow::Ok(())
    };
    let _ = emptied.await;
    let mut at = clock::now();
    let name = loop {
        let name = with_suffix(path, &format!(".replaced-{at}"));
        match fs::hard_link(path, &name) {
            Ok(()) => break name,
            // One was replaced in this second already.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => at += 1,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot keep {}", path.display()));
            }
        }
    };
    let log = with_suffix(path, "-wal");
    if log.exists() {
        fs::rename(log, with_suffix(&name, "-wal"))?;
    }
    let index = with_suffix(path, "-shm");
    if index.exists() {
        fs::remove_file(index)?;
    }
    Ok(name)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
