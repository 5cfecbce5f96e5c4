//! A data file in a folder of its own, used by the program, an operator and other tools.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::Process;
use crate::host::Log;

/// A folder for a data file and its log. The program makes the file when it starts.
pub struct Data {
    folder: TempDir,
}

impl Data {
    pub fn create() -> Self {
        Data {
            folder: TempDir::new().expect("a folder"),
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path of another file in the folder.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn file(&self) -> PathBuf {
        self.beside("chat.db")
    }

    /// SQLite's write-ahead log.
    pub fn wal(&self) -> PathBuf {
        self.beside("chat.db-wal")
    }

    /// What the program logs if it was started by `start_logging`, or with this as `Log::File`.
    pub fn log(&self) -> PathBuf {
        self.beside("log")
    }

    /// The number of lines of the log that contain this text.
    pub fn logged(&self, text: &str) -> usize {
        let log = std::fs::read_to_string(self.log()).expect("a log");
        log.lines().filter(|line| line.contains(text)).count()
    }

    /// Starts the program on the file and waits until it listens.
    pub async fn start(&self) -> Process {
        Process::start(&self.file()).await
    }

    /// Like `start`, with the log in a file.
    pub async fn start_logging(&self) -> Process {
        let file = self.file();
        let variables = [
            ("DBPATH", file.as_os_str()),
            ("LOG_LEVEL", OsStr::new("info")),
        ];
        Process::start_with(&variables, Log::File(self.log())).await
    }

    pub async fn open(&self) -> libsql::Connection {
        open(&self.file()).await
    }
}

/// Opens a file as another tool would.
pub async fn open(file: &Path) -> libsql::Connection {
    let database = libsql::Builder::new_local(file).build().await;
    let database = database.expect("a database");
    database.connect().expect("a connection")
}

/// Opens a remote database as another tool would.
pub async fn open_remote(url: String) -> libsql::Connection {
    let database = libsql::Builder::new_remote(url, String::new()).build();
    let database = database.await.expect("a client");
    database.connect().expect("a connection")
}
