//! `chatapp check`: whether the database can be used.

use std::path::Path;

use anyhow::Context;
use handler::schema;
use libsql::Builder;

use crate::commands::data_file::inspect;
use crate::config::Config;
use crate::store::location::Database;

/// Checks whether a data file is whole: `path`, or DBPATH if there is none. Changes nothing. Only
/// the schema of a remote database is checked.
pub async fn check(config: &Config, path: Option<&Path>) -> anyhow::Result<String> {
    let path = match (path, &config.database) {
        (Some(path), _) => path,
        (None, Database::File(path)) if !path.exists() => {
            return Ok(format!(
                "{}: not there yet, the server creates it",
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
                0 => format!("{url}: empty, the server creates its tables"),
                _ => format!("{url}: schema version {version}"),
            });
        }
    };
    let contents = inspect(path).await?;
    Ok(format!("{}: whole, {contents}", path.display()))
}
