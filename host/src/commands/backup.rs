//! `chatapp backup`: a copy of the data file, made while a server goes on writing.

use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::commands::data_file::{Contents, copy, inspect, with_suffix};
use crate::config::Config;
use crate::store::location::Database;

/// Copies the data file as it is now to the new file `to`, while a server goes on writing, and
/// verifies the copy. The copy is named `to` with `.part` until it is whole and on disk; after an
/// error it is removed. Progress goes to standard error if that is a terminal.
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
    let part = copy(path, part, "backup").await?;
    let contents = inspect(part.path()).await;
    let contents = contents.context("the data file cannot be backed up")?;
    part.publish(to)?;
    Ok(contents)
}
