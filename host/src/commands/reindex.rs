//! `chatapp reindex`: makes the index of the search anew.

use std::thread;

use anyhow::{Context, bail, ensure};
use handler::schema::VERSION;
use handler::search::clear::{ClearIndex, SwitchSearch};
use handler::search::index::{Batch, FindUnindexed, IndexWork};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::commands::progress::Progress;
use crate::config::Config;
use crate::store::location::Database;
use crate::store::offline_database::OfflineDatabase;

/// Empties the index and fills it again. Progress goes to standard error. Returns a line that says
/// what was done. SIGTERM and SIGINT end it, and SIGKILL does no harm either: a server that starts
/// on the database goes on where this has stopped.
pub async fn reindex(config: &Config) -> anyhow::Result<String> {
    ensure!(config.search, "SEARCH is off: there is no index");
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, outcome) = oneshot::channel();
    let database = config.database.clone();
    // After a signal, the program does not wait for this thread, which may wait for a database.
    thread::Builder::new()
        .name("reindex".into())
        .spawn(move || {
            let done = reindex_all(&database);
            let _ = sender.send(done.with_context(|| format!("DBPATH: {database}")));
        })?;
    let count = tokio::select! {
        outcome = outcome => outcome.context("this failed because of a bug in this program")??,
        _ = terminate.recv() => bail!("stopped: {GO_ON}"),
        _ = interrupt.recv() => bail!("stopped: {GO_ON}"),
    };
    let database = &config.database;
    Ok(format!("{database}: {count} messages can be searched"))
}

const GO_ON: &str = "the server goes on from here, or run the same command again";

fn reindex_all(database: &Database) -> anyhow::Result<i64> {
    if let Database::File(path) = database {
        ensure!(path.exists(), "there is no such file");
    }
    let database = OfflineDatabase::open_to_write(database)?;
    let version = database.check()?;
    ensure!(
        version == VERSION,
        "the database has schema version {version}, but this program needs {VERSION}: start this server on it once"
    );
    database.check_not_served()?;
    database.make_durable()?;
    database.erase_removed()?;
    database.run(&SwitchSearch { is_on: true })?;
    let mut progress = Progress::new("removing the old index".into(), "parts", 0, None);
    while !database.run(&ClearIndex)? {
        progress.add(1);
    }
    progress.clear();
    let all = database.read("select count(*) from messages")?;
    let all = all.first().map_or(0, |row| row.columns().integer());
    index_all(
        &database,
        Progress::new("search".into(), "messages", 0, Some(all)),
    )?;
    Ok(all)
}

/// Does all that the index of a database needs, from where it stands.
pub fn index_all(database: &OfflineDatabase, mut progress: Progress) -> anyhow::Result<()> {
    let find = FindUnindexed {
        // No server runs, so nobody else fills it.
        host_id: "".into(),
        lease_seconds: 0,
        batch: Batch::ALONE,
    };
    loop {
        match database.run(&find)? {
            IndexWork::Nothing => {
                progress.end();
                return Ok(());
            }
            IndexWork::Clear => drop(database.run(&ClearIndex)?),
            IndexWork::Change(changes) => database.run(&changes)?,
            IndexWork::Add(messages) => {
                database.run(&messages)?;
                progress.add(messages.count());
            }
        }
    }
}
