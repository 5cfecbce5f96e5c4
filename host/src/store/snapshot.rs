//! Documents of one moment, longer than an answer: many operations read them in one transaction, into
//! a file that has no name.
//!
//! While a transaction reads, the write-ahead log grows. So the document is read as fast as the disk
//! takes it, whatever its client does. One is read at a time, on a connection of its own: the readers
//! are not in its way, nor it in theirs.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use handler::{Context, Error, Operation, Outbox};
use rustix::fs::fstatvfs;
use tokio::sync::{mpsc, oneshot};

use crate::awake::Moment;
use crate::store::failures::{Failure, busy};
use crate::store::local::{LOG_BYTES_MAX, LocalDatabase};
use crate::threads::{contain, spawn};

/// Time to read a document.
const TIME_MAX: Duration = Duration::from_secs(300);
/// Room that documents leave on the disk: for a write-ahead log as long as it may be, and as much
/// again for the data.
const ROOM_LEFT_BYTES: u64 = 2 * LOG_BYTES_MAX;
/// Bytes of a document that are read from its file at once.
const PIECE_BYTES: u64 = 256 * 1024;

pub struct Snapshots {
    /// The folder of the documents. It is that of the data, which has a disk meant for it.
    folder: PathBuf,
    time_max: Duration,
    /// To the thread that has the connection.
    jobs: mpsc::Sender<Job>,
    is_stopping: Arc<AtomicBool>,
}

type Job = Box<dyn FnOnce(&mut LocalDatabase) + Send>;

/// The database as it was when the first operation ran.
pub struct Snapshot<'a> {
    database: &'a mut LocalDatabase,
    check: &'a dyn Fn() -> Result<(), Error>,
}

/// A document. Its file is deleted as soon as it is there, so nothing is left of it, not even after a
/// crash.
pub struct Document(File);

impl Snapshots {
    /// Starts the thread, which ends with the last `Snapshots`, too. The writer has to be opened before
    /// this. `path` leads to the file itself, not to a link.
    pub fn open(path: &Path) -> anyhow::Result<(Self, JoinHandle<()>)> {
        let mut database = LocalDatabase::open_reader(path)?;
        let folder = path.parent().context("a file is in a folder")?;
        let (jobs, mut asked) = mpsc::channel::<Job>(1);
        let is_stopping = Arc::new(AtomicBool::new(false));
        let stopping = is_stopping.clone();
        let thread = spawn("exporter", move || {
            while let Some(job) = asked.blocking_recv() {
                if stopping.load(Ordering::Relaxed) {
                    return;
                }
                job(&mut database);
            }
        })?;
        let snapshots = Snapshots {
            folder: folder.to_owned(),
            time_max: TIME_MAX,
            jobs,
            is_stopping,
        };
        Ok((snapshots, thread))
    }

    /// Lets `write` make a document, after those that others have asked for. If the future is dropped,
    /// or the store stops, that ends with the next operation. `Unavailable` if it takes too long,
    /// or if the disk has no room.
    pub async fn write(
        &self,
        write: impl FnOnce(&mut Snapshot, &mut Document) -> Result<(), Error> + Send + 'static,
    ) -> Result<Document, Error> {
        let (folder, time_max) = (self.folder.clone(), self.time_max);
        let is_stopping = self.is_stopping.clone();
        let (done, document) = oneshot::channel();
        let job: Job = Box::new(move |database| {
            let started = Moment::now();
            let check = || {
                if started.elapsed() >= time_max {
                    tracing::warn!(?time_max, "reading a document takes too long");
                    return Err(busy());
                }
                match done.is_closed() || is_stopping.load(Ordering::Relaxed) {
                    true => Err(busy()),
                    false => Ok(()),
                }
            };
            let written = contain(|| {
                let mut document = Document::create(&folder)?;
                let begun = database.begin_reading();
                begun.map_err(|error| Failure::of_local(&error).answer())?;
                let mut snapshot = Snapshot {
                    database,
                    check: &check,
                };
                write(&mut snapshot, &mut document)?;
                document.0.rewind().map_err(lost)?;
                Ok(document)
            });
            database.end_reading();
            let _ = done.send(written);
        });
        // Both fail if the thread has ended.
        self.jobs.send(job).await.map_err(|_| busy())?;
        document.await.unwrap_or_else(|_| Err(busy()))
    }

    /// Lets the thread end, and the document that it writes. Blocks.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        // It may wait for a job.
        let _ = self.jobs.blocking_send(Box::new(|_| {}));
    }
}

impl Snapshot<'_> {
    /// Runs an operation that only reads.
    pub fn run<O: Operation>(&mut self, ctx: &Context, operation: &O) -> Result<O::Output, Error> {
        (self.check)()?;
        let rows = self.database.read(operation.statements(ctx));
        let rows = rows.map_err(|error| Failure::of_local(&error).answer())?;
        operation.conclude(ctx, &rows, &mut Outbox::new())
    }
}

impl Document {
    fn create(folder: &Path) -> Result<Self, Error> {
        let file = tempfile::tempfile_in(folder).map_err(lost)?;
        Ok(Document(file))
    }

    pub fn write(&mut self, text: &str) -> Result<(), Error> {
        self.check_room()?;
        self.0.write_all(text.as_bytes()).map_err(lost)
    }

    /// The next piece; empty at the end. Fails if others have filled the disk: then what clients send
    /// counts for more. Blocks.
    pub fn read(&mut self) -> Result<Bytes, Error> {
        self.check_room()?;
        let mut piece = Vec::new();
        let read = (&self.0).take(PIECE_BYTES).read_to_end(&mut piece);
        read.map_err(lost)?;
        Ok(piece.into())
    }

    fn check_room(&self) -> Result<(), Error> {
        let disk = fstatvfs(&self.0).map_err(|error| lost(error.into()))?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM_LEFT_BYTES {
            return Err(lost(io::ErrorKind::StorageFull.into()));
        }
        Ok(())
    }
}

/// Logs an error of the disk. Returns the error for the client.
fn lost(error: io::Error) -> Error {
    tracing::warn!(
        %error,
        "an export needs a file beside the data, and leaves {} MB of the disk free",
        ROOM_LEFT_BYTES / 1_000_000
    );
    busy()
}

#[cfg(test)]
mod tests {
    use handler::account::export::BeginExport;
    use tempfile::TempDir;
    use tokio::task::spawn_blocking;

    use super::*;
    use crate::store::local::Emptied;

    const BEGIN: BeginExport = BeginExport {
        username: String::new(),
    };

    /// Like what an export does; this one is of nobody.
    fn run(snapshot: &mut Snapshot) -> Error {
        let outcome = snapshot.run(&Context::anonymous(0), &BEGIN);
        outcome.expect_err("nobody has this name")
    }

    /// What keeps a write-ahead log, and what reads it.
    struct Open {
        folder: TempDir,
        snapshots: Arc<Snapshots>,
        thread: JoinHandle<()>,
    }

    impl Open {
        async fn new(time_max: Duration) -> Self {
            let folder = TempDir::new().expect("a folder");
            let path = folder.path().join("chat.db");
            let open = move || {
                drop(LocalDatabase::open_writer(&path, 0).expect("a writer"));
                Snapshots::open(&path).expect("a reader")
            };
            let (mut snapshots, thread) = spawn_blocking(open).await.expect("no panic");
            snapshots.time_max = time_max;
            Open {
                folder,
                snapshots: snapshots.into(),
                thread,
            }
        }

        /// Fails if a transaction is open.
        async fn stop(self) {
            let path = self.folder.path().join("chat.db");
            let stop = move || {
                let mut writer = LocalDatabase::open_writer(&path, 0).expect("a writer");
                let emptied = writer.empty_log(Duration::from_secs(1));
                assert_eq!(emptied.expect("a checkpoint"), Emptied::Done);
                self.snapshots.stop();
                self.thread.join().expect("no panic");
            };
            spawn_blocking(stop).await.expect("no panic");
        }
    }

    fn code<T>(outcome: Result<T, Error>) -> Option<&'static str> {
        outcome.err().map(|error| error.code())
    }

    /// However a document ends, nothing keeps the write-ahead log from being emptied.
    #[tokio::test]
    async fn no_document_leaves_a_transaction_open() {
        let open = Open::new(TIME_MAX).await;
        let found = open.snapshots.write(|snapshot, document| {
            assert_eq!(run(snapshot).code(), "unauthorized");
            document.write("text")
        });
        let mut document = found.await.expect("a document");
        assert_eq!(document.read().expect("a piece"), "text");
        assert_eq!(document.read().expect("the end"), "");
        let failed = open.snapshots.write(|snapshot, _| Err(run(snapshot)));
        assert_eq!(code(failed.await), Some("unauthorized"));
        let panicked = open
            .snapshots
            .write(|snapshot, _| panic!("{:?}", run(snapshot)));
        assert_eq!(code(panicked.await), Some("internal"));
        open.stop().await;
    }

    #[tokio::test]
    async fn a_document_that_takes_too_long_ends() {
        let open = Open::new(Duration::ZERO).await;
        let late = open.snapshots.write(|snapshot, _| Err(run(snapshot)));
        assert_eq!(code(late.await), Some("unavailable"));
        open.stop().await;
    }

    #[tokio::test]
    async fn without_a_client_a_document_ends() {
        let open = Open::new(TIME_MAX).await;
        let (begin, begun) = oneshot::channel();
        let (go_on, goes_on) = oneshot::channel::<()>();
        let (tell, told) = oneshot::channel();
        let snapshots = open.snapshots.clone();
        let writing = tokio::spawn(async move {
            let write = |snapshot: &mut Snapshot, _: &mut Document| {
                let before = run(snapshot).code();
                let _ = begin.send(());
                let _ = goes_on.blocking_recv();
                let _ = tell.send((before, run(snapshot).code()));
                Ok(())
            };
            snapshots.write(write).await.map(drop)
        });
        begun.await.expect("begun");
        writing.abort();
        assert!(writing.await.is_err(), "aborted");
        go_on.send(()).expect("it waits");
        let codes = told.await.expect("told");
        assert_eq!(codes, ("unauthorized", "unavailable"));
        let snapshots = open.snapshots.clone();
        assert_eq!(code(snapshots.write(|_, _| Ok(())).await), None);
        open.stop().await;
        let late = snapshots.write(|_, _| Ok(())).await;
        assert_eq!(code(late), Some("unavailable"));
    }
}
