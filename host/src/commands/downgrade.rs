//! `chatapp downgrade`: the schema of the previous release.

use anyhow::ensure;

use crate::clock;
use crate::config::Config;
use crate::store::single_connection::SingleConnection;

/// Takes the schema back by one version, for the previous release, which would refuse the present
/// one. Returns the version after that. No server may be running on the database, because it would
/// use what is removed.
pub async fn downgrade(config: &Config) -> anyhow::Result<i64> {
    let database = &config.database;
    let db = SingleConnection::open(database, clock::now()).await?;
    ensure!(
        !db.is_served,
        "DBPATH: a server is running on {database}: stop it first"
    );
    Ok(db.downgrade().await?)
}
