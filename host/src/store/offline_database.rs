//! A whole database, in a file or on a server, for a program that copies it with SQL of its own.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use handler::cluster::lease::CountHosts;
use handler::schema::{self, SchemaError};
use handler::{Context, Error, Operation, Outbox, Rows};
use libsql::{Builder, Connection, OpenFlags};
use tokio::runtime::Runtime;

use crate::store::local;
use crate::store::location::Database;
use crate::store::remote::RemoteScripts;

/// How long a statement waits for another program's lock on a file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Errors do not name the database: the caller knows which it is.
pub enum OfflineDatabase {
    File(LockedFile),
    Server(RemoteScripts),
}

/// A file on which no server runs meanwhile.
pub struct LockedFile {
    connection: Connection,
    /// libsql is async; on a local file its futures are ready at once.
    runtime: Runtime,
    _lock: local::Lock,
}

impl OfflineDatabase {
    /// Opens a database to read from. A file is seen as it is now until this is dropped. A missing
    /// file is an error.
    pub fn open_to_read(database: &Database) -> anyhow::Result<Self> {
        match database {
            Database::File(path) => {
                ensure!(path.exists(), "there is no such file");
                let file = LockedFile::open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
                file.execute("begin")?;
                Ok(OfflineDatabase::File(file))
            }
            Database::Remote(url) => Ok(OfflineDatabase::Server(RemoteScripts::connect(url)?)),
        }
    }

    /// Opens a database to write to. A missing file is created, with its folder.
    pub fn open_to_write(database: &Database) -> anyhow::Result<Self> {
        match database {
            Database::File(path) => {
                local::create_folder_of(path)?;
                if !path.exists() {
                    // For its owner alone: it will hold password hashes.
                    let mut new = OpenOptions::new();
                    let new = new.write(true).create_new(true).mode(0o600).open(path)?;
                    local::give_to_owner_of_folder(&new, path)?;
                }
                let file = LockedFile::open(path, OpenFlags::default())?;
                Ok(OfflineDatabase::File(file))
            }
            Database::Remote(url) => Ok(OfflineDatabase::Server(RemoteScripts::connect(url)?)),
        }
    }

    /// The same as `schema::check`.
    pub fn check(&self) -> Result<i64, SchemaError> {
        match self {
            OfflineDatabase::File(file) => file.runtime.block_on(schema::check(&file.connection)),
            OfflineDatabase::Server(scripts) => scripts.check(),
        }
    }

    /// Fails if a server runs on the database, which has to have the table `hosts`. For a file its
    /// lock has already ensured that.
    pub fn check_not_served(&self) -> anyhow::Result<()> {
        if let OfflineDatabase::Server(_) = self {
            let ctx = Context::anonymous(0);
            let statements = CountHosts.statements(&ctx);
            let rows = statements.iter().map(|count| self.read(count.sql));
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            let hosts = CountHosts.conclude(&ctx, &rows, &mut Outbox::new());
            ensure!(hosts? == 0, IS_SERVED);
        }
        Ok(())
    }

    /// The rows of one statement that changes nothing.
    pub fn read(&self, sql: &str) -> anyhow::Result<Rows> {
        match self {
            OfflineDatabase::File(file) => {
                let reading = async {
                    let mut statement = file.connection.prepare(sql).await?;
                    handler::run(&mut statement, Vec::new()).await
                };
                Ok(file.runtime.block_on(reading)?)
            }
            OfflineDatabase::Server(scripts) => Ok(scripts.repeat(sql)?.pop().unwrap_or_default()),
        }
    }

    /// Runs an operation that may be run twice with the same result.
    pub fn run<O: Operation>(&self, operation: &O) -> anyhow::Result<O::Output> {
        let (ctx, mut out) = (Context::anonymous(0), Outbox::new());
        let outcome = match self {
            OfflineDatabase::File(file) => {
                let running = handler::handle(&file.connection, &ctx, operation, &mut out);
                file.runtime.block_on(running)
            }
            OfflineDatabase::Server(scripts) => {
                let mut script = String::new();
                for statement in operation.statements(&ctx) {
                    handler::render(&statement, &mut script);
                    script.push_str(";\n");
                }
                operation.conclude(&ctx, &scripts.repeat(&script)?, &mut out)
            }
        };
        outcome.map_err(|error| match error {
            Error::Internal(detail) => anyhow!(detail),
            error => error.into(),
        })
    }

    /// Commits one statement that may be run twice with the same result.
    pub fn write(&self, sql: &str) -> anyhow::Result<()> {
        match self {
            OfflineDatabase::File(file) => file.execute(sql),
            OfflineDatabase::Server(scripts) => scripts.repeat(sql).map(drop),
        }
    }

    /// Commits a whole script or nothing. It may take minutes. After an error this must not be used
    /// any more.
    pub fn change(&self, script: &str) -> anyhow::Result<()> {
        match self {
            OfflineDatabase::File(file) => {
                file.execute(&format!("begin immediate; {script}; commit"))
            }
            OfflineDatabase::Server(scripts) => scripts.run(script),
        }
    }

    /// From now on a commit to a file is on disk when it returns. On a server, durability depends
    /// on the server.
    pub fn make_durable(&self) -> anyhow::Result<()> {
        if let OfflineDatabase::File(file) = self {
            file.runtime
                .block_on(local::make_durable(&file.connection))?;
        }
        Ok(())
    }

    /// From now on what is removed from a file is overwritten.
    pub fn erase_removed(&self) -> anyhow::Result<()> {
        match self {
            OfflineDatabase::File(file) => file.execute("pragma secure_delete = on"),
            OfflineDatabase::Server(_) => Ok(()),
        }
    }

    /// Moves the write-ahead log of a file into the file.
    pub fn checkpoint(&self) -> anyhow::Result<()> {
        match self {
            OfflineDatabase::File(file) => file.execute("pragma wal_checkpoint(truncate)"),
            OfflineDatabase::Server(_) => Ok(()),
        }
    }
}

const IS_SERVED: &str =
    "a server is running on it: stop it first, because its further changes would be lost";

impl LockedFile {
    fn open(path: &Path, flags: OpenFlags) -> anyhow::Result<Self> {
        ensure!(!path.is_dir(), "it is a folder, expected a file");
        local::check_format(path)?;
        let lock = local::try_lock(path)?.context(IS_SERVED)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let opening = Builder::new_local(path).flags(flags).build();
        let connection = runtime.block_on(opening)?.connect()?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let file = LockedFile {
            connection,
            runtime,
            _lock: lock,
        };
        file.execute(&format!("pragma cache_size = -{}", local::PAGE_CACHE_KIB))?;
        Ok(file)
    }

    fn execute(&self, script: &str) -> anyhow::Result<()> {
        self.runtime
            .block_on(self.connection.execute_batch(script))?;
        Ok(())
    }
}
