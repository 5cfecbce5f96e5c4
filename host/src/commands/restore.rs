//! `chatapp restore`: a backup in the place of the data file.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use libsql::Builder;
use rustix::fs::OFlags;

use crate::clock;
use crate::commands::data_file::{Contents, copy, inspect, with_suffix};
use crate::config::Config;
use crate::store::local;
use crate::store::location::Database;

/// Replaces the data file by the backup `from`. No server may be running on the data file. The
/// backup is verified first. It gets the present schema and an epoch of its own, which tells
/// clients that keep data to forget it. The replaced file stays beside the new one, under the name
/// that is returned.
pub async fn restore(config: &Config, from: &Path) -> anyhow::Result<(Contents, Option<PathBuf>)> {
    let Database::File(path) = &config.database else {
        bail!(
            "DBPATH: {} is on a server: see chatapp copy --help",
            config.database
        );
    };
    inspect(from).await?;
    local::create_folder_of(path)?;
    // Replaces the file itself, not a link to it.
    let path = match path.canonicalize() {
        Ok(path) => path,
        Err(_) => path.clone(),
    };
    ensure!(
        from.canonicalize()? != path,
        "{} is the data file itself",
        from.display()
    );
    let _lock = local::try_lock(&path)?.with_context(|| {
        format!(
            "DBPATH: a server is running on {}: stop it first",
            path.display()
        )
    })?;
    let restored = with_suffix(&path, ".restoring");
    let restored = copy(from, restored, "restore").await?;
    {
        let db = Builder::new_local(restored.path())
            .build()
            .await?
            .connect()?;
        local::make_ready(&db, clock::now()).await?;
        db.execute(handler::cluster::chat_id::NEW_CHAT_ID, ())
            .await?;
        db.query("pragma journal_mode = delete", ())
            .await?
            .next()
            .await?;
    }
    let contents = inspect(restored.path()).await?;
    let no_link = OFlags::NOFOLLOW.bits() as i32;
    let mut open = OpenOptions::new();
    let file = open.write(true).custom_flags(no_link).open(restored.path());
    file.and_then(|file| local::give_to_owner(&file, &path))
        .with_context(|| format!("cannot give away {}", path.display()))?;
    let replaced = match path.exists() {
        true => Some(set_aside(&path).await?),
        false => None,
    };
    restored.publish(&path)?;
    Ok((contents, replaced))
}

/// Gives the data file a second name, under which it stays when another file takes its place.
async fn set_aside(path: &Path) -> anyhow::Result<PathBuf> {
    // Moves the write-ahead log into the file that it belongs to. A damaged file keeps its log as
    // it is.
    let emptied = async {
        let db = Builder::new_local(path).build().await?.connect()?;
        db.query("pragma busy_timeout = 2000", ()).await?;
        let mut rows = db.query("pragma wal_checkpoint(truncate)", ()).await?;
        let row = rows.next().await?.context("no answer")?;
        anyhow::Ok(row.get::<i64>(0)? == 0)
    };
    // A file with only a part of its log is damaged, and this command may be killed before the restored file
    // has its name.
    ensure!(
        emptied.await.unwrap_or(true),
        "another process reads {}: end it, and try again; nothing has changed",
        path.display()
    );
    let mut at = clock::now();
    let name = loop {
        let name = with_suffix(path, &format!(".replaced-{at}"));
        match fs::hard_link(path, &name) {
            Ok(()) => break name,
            // Another file was replaced in this second.
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
