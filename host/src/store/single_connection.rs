//! The database without threads or groups, for a program that runs one operation.

use anyhow::{Context as _, ensure};
use handler::cluster::lease::CountHosts;
use handler::schema::{SchemaError, VERSION};
use handler::{Context, Error, Operation, Outbox, handle, handle_remote, schema};
use libsql::{Builder, Connection};

use crate::store::local;
use crate::store::location::Database;

pub struct SingleConnection {
    db: Connection,
    is_remote: bool,
    /// 0 if no server has used the database yet.
    pub schema_version: i64,
    /// Whether a server runs on the database.
    pub is_served: bool,
}

impl SingleConnection {
    /// Opens a database that exists. Its schema stays as it is.
    pub async fn open(database: &Database, now: i64) -> anyhow::Result<Self> {
        let unusable = || format!("DBPATH: cannot use the database {database}");
        match database {
            Database::File(path) => {
                ensure!(path.exists(), "DBPATH: there is no database {database}");
                let is_served = local::is_served(path)?;
                let db = Builder::new_local(path).build().await?.connect()?;
                let schema_version = local::prepare(&db).await.with_context(unusable)?;
                Ok(SingleConnection {
                    db,
                    is_remote: false,
                    schema_version,
                    is_served,
                })
            }
            Database::Remote(url) => {
                let remote = Builder::new_remote(url.address.clone(), url.token.clone());
                let db = remote.build().await?.connect()?;
                let schema_version = schema::check_remote(&db).await.with_context(unusable)?;
                let mut single = SingleConnection {
                    db,
                    is_remote: true,
                    schema_version,
                    is_served: false,
                };
                let ctx = Context::anonymous(now);
                let hosts = single.run(&ctx, &CountHosts, &mut Outbox::new()).await?;
                single.is_served = hosts > 0;
                Ok(single)
            }
        }
    }

    /// Like `open`, for a database with the schema of this program. An upgrade is the server's work,
    /// and would also undo `chatapp downgrade`.
    pub async fn open_current(database: &Database, now: i64) -> anyhow::Result<Self> {
        let db = Self::open(database, now).await?;
        ensure!(
            db.schema_version == VERSION,
            "DBPATH: {database} has schema version {}, but this program needs {VERSION}: start the server on it once, or \
             use the program of that version",
            db.schema_version
        );
        Ok(db)
    }

    /// Takes the schema back to that before the latest migrations; returns the version it has then.
    pub async fn downgrade(&self) -> Result<i64, SchemaError> {
        match self.is_remote {
            true => schema::downgrade_remote(&self.db).await,
            false => schema::downgrade(&self.db).await,
        }
    }

    pub async fn run<O: Operation + ?Sized>(
        &self,
        ctx: &Context,
        operation: &O,
        out: &mut Outbox,
    ) -> Result<O::Output, Error> {
        match self.is_remote {
            true => handle_remote(&self.db, ctx, operation, out).await,
            false => handle(&self.db, ctx, operation, out).await,
        }
    }
}
