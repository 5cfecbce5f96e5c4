//! `chatapp backup`: a copy of the data file, made while a server goes on writing.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::commands::data_file::{Contents, copy, inspect, publish, with_suffix};
use crate::config::Config;
use crate::store::location::Database;

/// Copies the data file as it is now to the new file `to`, while a server goes on writing, and
/// verifies the copy. The copy is named `to` with `.part` until it is whole and on disk. Progress
/// goes to standard error if that is a terminal.
pub async fn backup(config: &Config, to: &Path) -> anyhow::Result<Contents> {
    let Database::File(path) = &config.database else {
        bail!(
            "DBPATH: {} is on a server, which has its own means for backups; for a copy in a file, with the hosts \
             stopped, see: chatapp copy --help",
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
