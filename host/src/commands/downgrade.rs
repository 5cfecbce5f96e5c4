//! `chatapp downgrade`: the schema of the previous release.

use anyhow::ensure;

use crate::clock;
use crate::config::Config;
use crate::store::single_connection::SingleConnection;

/// Takes the schema back, for the previous release, which would refuse the present
/// one. Returns a line that says what version the database has now. One that is older already stays
/// as it is. No server may be running on the database, because it would use what is removed.
pub async fn downgrade(config: &Config) -> anyhow::Result<String> {
    let database = &config.database;
    let db = SingleConnection::open(database, clock::now()).await?;
    ensure!(
        !db.is_served,
        "DBPATH: a server is running on {database}: stop it first"
    );
    let version = db.downgrade().await?;
    Ok(match version == db.schema_version {
        true => format!("{database}: schema version {version} already, nothing was changed"),
        false => format!("{database}: schema version {version}"),
    })
}
