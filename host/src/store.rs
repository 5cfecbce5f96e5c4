//! The store: one writer that commits groups of operations, readers beside it, and nobody else who knows where the
//! data is.

mod local;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use handler::{Access, Context, Error, Operation, Outbox, Rows, Statement};
use tokio::sync::{mpsc, oneshot};

use crate::registry::Delivery;
use crate::socket::Socket;
use local::LocalDatabase;
pub use local::{is_served, make_ready};

/// Operations that wait for the writer; more wait outside, see `QUEUE_WAIT`.
const WRITES_QUEUED_MAX: usize = 4096;
/// Operations that wait for a reader.
const READS_QUEUED_MAX: usize = 1024;
/// How long an operation waits for room in a queue before it is refused as `Unavailable`.
const QUEUE_WAIT: Duration = Duration::from_secs(2);
/// Operations in one commit.
const GROUP_MAX: usize = 64;
const RETRY_AFTER_SECONDS: u32 = 1;

/// An operation on its way through the store, its type forgotten.
struct Job {
    statements: Vec<Statement>,
    /// What to do with the rows, once they are committed.
    finish: Box<Finish>,
}

type Finish = dyn FnOnce(Result<Vec<Rows>, Error>) -> Option<Delivery> + Send;

enum Message {
    Run(Job),
    /// The thread that receives it ends.
    Stop,
}

/// A handle to the database's threads.
#[derive(Clone)]
pub struct Store {
    writes: mpsc::Sender<Message>,
    reads: mpsc::Sender<Message>,
}

/// The database's threads. Dropping the last `Store` ends them too.
pub struct StoreThreads {
    writer: JoinHandle<()>,
    readers: Vec<JoinHandle<()>>,
    store: Store,
}

impl StoreThreads {
    /// Commits what is queued, empties the write-ahead log and closes the database. Operations submitted after it are
    /// refused as `Unavailable`. Blocks.
    pub fn stop(self) {
        for _ in &self.readers {
            let _ = self.store.reads.blocking_send(Message::Stop);
        }
        let _ = self.store.writes.blocking_send(Message::Stop);
        for thread in self.readers.into_iter().chain([self.writer]) {
            // A thread that panicked has printed why.
            let _ = thread.join();
        }
    }
}

impl Store {
    /// Opens the database file (created, with its folder, where it does not exist), brings its schema up to date and
    /// starts the threads. What commits tell the world goes to `deliveries`, in commit order, a batch for each commit.
    pub fn open(
        path: &Path,
        now: i64,
        deliveries: mpsc::Sender<Vec<Delivery>>,
    ) -> anyhow::Result<(Store, StoreThreads)> {
        let writer = LocalDatabase::open_writer(path, now)?;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let readers = (0..cores.clamp(1, 4))
            .map(|_| LocalDatabase::open_reader(path))
            .collect::<Result<Vec<_>, _>>()?;

        let (writes, queue) = mpsc::channel(WRITES_QUEUED_MAX);
        let commits = deliveries.clone();
        let writer = spawn("writer", move || write_groups(writer, queue, &commits))?;
        let (reads, queue) = mpsc::channel(READS_QUEUED_MAX);
        let queue = Arc::new(Mutex::new(queue));
        let readers = readers.into_iter().map(|reader| {
            let (queue, deliveries) = (queue.clone(), deliveries.clone());
            spawn("reader", move || read_all(reader, &queue, &deliveries))
        });
        let readers = readers.collect::<Result<_, _>>()?;
        let store = Store { writes, reads };
        let threads = StoreThreads {
            writer,
            readers,
            store: store.clone(),
        };
        Ok((store, threads))
    }

    /// Runs an operation of no socket; returns when others have been told, in commit order.
    pub async fn run<O>(&self, ctx: Context, operation: O) -> Result<O::Output, Error>
    where
        O: Operation + 'static,
        O::Output: Send + 'static,
    {
        self.run_for(None, ctx, operation).await
    }

    /// Runs an operation of a socket, which is told nothing of what others are told.
    pub async fn run_for<O>(
        &self,
        origin: Option<Arc<Socket>>,
        ctx: Context,
        operation: O,
    ) -> Result<O::Output, Error>
    where
        O: Operation + 'static,
        O::Output: Send + 'static,
    {
        let (done, result) = oneshot::channel();
        self.submit(ctx, operation, move |outcome, outbox| {
            // The caller goes on when others have been told: what it does next cannot overtake this.
            let done = move || drop(done.send(outcome));
            if outbox.is_empty() {
                done();
                return None;
            }
            Some(Delivery::pushes(origin, outbox, done))
        })
        .await?;
        result
            .await
            .map_err(|_| Error::Internal("the operation was dropped".into()))?
    }

    /// Queues an operation. `then` gets its outcome and outbox after the commit, on a thread of the store: its
    /// delivery is handed on in commit order. Where the operation could not be queued, `then` is not called.
    pub async fn submit<O>(
        &self,
        ctx: Context,
        operation: O,
        then: impl FnOnce(Result<O::Output, Error>, Outbox) -> Option<Delivery> + Send + 'static,
    ) -> Result<(), Error>
    where
        O: Operation + 'static,
    {
        let queue = match operation.access() {
            Access::Write => &self.writes,
            Access::Read | Access::None => &self.reads,
        };
        let job = Job {
            statements: operation.statements(&ctx),
            finish: Box::new(move |rows| {
                let mut outbox = Outbox::new();
                let conclude = AssertUnwindSafe(|| operation.conclude(&ctx, &rows?, &mut outbox));
                let outcome = catch_unwind(conclude)
                    .unwrap_or_else(|_| Err(Error::Internal("a panic in conclude".into())));
                if let Err(Error::Internal(detail)) = &outcome {
                    tracing::error!(detail, "an operation failed");
                }
                if outcome.is_err() {
                    outbox.clear();
                }
                then(outcome, outbox)
            }),
        };
        let busy = Error::Unavailable {
            retry_after_seconds: RETRY_AFTER_SECONDS,
        };
        match queue.try_send(Message::Run(job)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(message)) => queue
                .send_timeout(message, QUEUE_WAIT)
                .await
                .map_err(|_| busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(busy),
        }
    }
}

/// A thread without which the store would be half dead: should it ever panic, the process ends, to be started again.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(move || {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            tracing::error!("a thread of the store has panicked");
            std::process::abort();
        }
    })
}

/// The writer thread: whatever has queued while the last commit was under way becomes the next one.
fn write_groups(
    mut database: LocalDatabase,
    mut queue: mpsc::Receiver<Message>,
    deliveries: &mpsc::Sender<Vec<Delivery>>,
) {
    let mut messages = Vec::with_capacity(GROUP_MAX);
    let mut is_stopping = false;
    while !is_stopping && queue.blocking_recv_many(&mut messages, GROUP_MAX) > 0 {
        let mut group = Vec::with_capacity(messages.len());
        let mut finishes = Vec::with_capacity(messages.len());
        for message in messages.drain(..) {
            match message {
                Message::Run(job) => {
                    group.push(job.statements);
                    finishes.push(job.finish);
                }
                Message::Stop => is_stopping = true,
            }
        }
        let results = write_group(&mut database, &group);
        let told = results.into_iter().zip(finishes);
        let told: Vec<_> = told.filter_map(|(rows, finish)| finish(rows)).collect();
        tell(deliveries, told);
    }
    database.checkpoint();
}

fn tell(deliveries: &mpsc::Sender<Vec<Delivery>>, told: Vec<Delivery>) {
    if !told.is_empty() && deliveries.blocking_send(told).is_err() {
        tracing::error!("the registry is gone: nothing is delivered any more");
    }
}

/// One transaction for all; where a statement fails, one for each, so that an operation that cannot be stored harms no
/// other. A condition of the database (it is locked, or full) is all the operations' failure at once.
fn write_group(
    database: &mut LocalDatabase,
    group: &[Vec<Statement>],
) -> Vec<Result<Vec<Rows>, Error>> {
    if group.is_empty() {
        return Vec::new();
    }
    match transact(database, Access::Write, group) {
        Ok(results) => results.into_iter().map(Ok).collect(),
        Err(error) if group.len() == 1 || may_pass(&error) => {
            let answer = answer(&error);
            group.iter().map(|_| Err(answer.clone())).collect()
        }
        Err(error) => {
            tracing::debug!(%error, events = group.len(), "group failed, retrying one by one");
            group
                .chunks(1)
                .flat_map(|single| write_group(database, single))
                .collect()
        }
    }
}

/// A reader thread.
fn read_all(
    mut database: LocalDatabase,
    queue: &Mutex<mpsc::Receiver<Message>>,
    deliveries: &mpsc::Sender<Vec<Delivery>>,
) {
    while let Some(Message::Run(Job { statements, finish })) = next(queue) {
        let group = std::slice::from_ref(&statements);
        let result = transact(&mut database, Access::Read, group);
        let told = finish(match result {
            Ok(results) => Ok(results.into_iter().flatten().collect()),
            Err(error) => Err(answer(&error)),
        });
        tell(deliveries, told.into_iter().collect());
    }
}

/// The lock is held only while waiting, never while working.
fn next(queue: &Mutex<mpsc::Receiver<Message>>) -> Option<Message> {
    queue.lock().ok()?.blocking_recv()
}

/// libsql panics on some values that a file may hold, text that is not UTF-8 for one.
fn transact(
    database: &mut LocalDatabase,
    access: Access,
    group: &[Vec<Statement>],
) -> Result<Vec<Vec<Rows>>, libsql::Error> {
    catch_unwind(AssertUnwindSafe(|| database.transact(access, group)))
        .unwrap_or_else(|_| Err(libsql::Error::Misuse("a panic in libsql".into())))
}

/// Whether the error is of a condition that may pass, by SQLite's primary result codes (sqlite.org/rescode.html): BUSY,
/// LOCKED, READONLY, IOERR, FULL, CANTOPEN.
fn may_pass(error: &libsql::Error) -> bool {
    const CODES: [i32; 6] = [5, 6, 8, 10, 13, 14];
    matches!(error, libsql::Error::SqliteFailure(code, _) if CODES.contains(&(code & 0xff)))
}

/// Logs a database error, and says what the caller may know of it.
fn answer(error: &libsql::Error) -> Error {
    tracing::error!(%error, "database");
    if may_pass(error) {
        return Error::Unavailable {
            retry_after_seconds: RETRY_AFTER_SECONDS,
        };
    }
    Error::Internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs this SQL, and fails or panics on the way as it is told.
    struct Probe {
        sql: &'static str,
        access: Access,
        panics: bool,
    }

    impl Operation for Probe {
        type Output = usize;

        fn access(&self) -> Access {
            self.access
        }

        fn statements(&self, _: &Context) -> Vec<Statement> {
            vec![Statement::new(self.sql, [])]
        }

        /// The number of rows.
        fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<usize, Error> {
            assert!(!self.panics, "as it was told");
            Ok(rows[0].0.len())
        }
    }

    const INSERT: &str = "insert into conversations (name) values ('x') returning id";
    const SELECT: &str = "select id from conversations";

    fn probe(sql: &'static str, access: Access) -> Probe {
        Probe {
            sql,
            access,
            panics: false,
        }
    }

    /// The outcomes of probes submitted at once, so that they meet in groups: a number of rows, or a code.
    async fn outcomes(store: &Store, probes: Vec<Probe>) -> Vec<Result<usize, &'static str>> {
        let running = probes.into_iter().map(|probe| {
            let store = store.clone();
            tokio::spawn(async move { store.run(Context::anonymous(0), probe).await })
        });
        let mut outcomes = Vec::new();
        for outcome in running.collect::<Vec<_>>() {
            let outcome = outcome.await.expect("no panic reaches the caller");
            outcomes.push(outcome.map_err(|error| error.code()));
        }
        outcomes
    }

    #[tokio::test]
    async fn what_fails_fails_alone() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("chat.db");
        let (deliveries, _delivered) = mpsc::channel(1);
        let open = move || Store::open(&path, 0, deliveries);
        let (store, threads) = tokio::task::spawn_blocking(open)
            .await
            .expect("no panic")
            .expect("a store");
        // More bad reads than there are readers: none of them may be gone afterwards.
        let not_utf8 = "select cast(x'ff' as text)";
        let bad_reads = (0..20).map(|_| probe(not_utf8, Access::Read)).collect();
        let expected = vec![Err("internal"); 20];
        assert_eq!(outcomes(&store, bad_reads).await, expected);

        let mut writes = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..20 {
            writes.push(probe(INSERT, Access::Write));
            expected.push(Ok(1));
            // Violates "not null".
            writes.push(probe(
                "insert into conversations (name) values (null)",
                Access::Write,
            ));
            expected.push(Err("internal"));
            writes.push(probe(
                "insert into conversations (name) values ('y') returning cast(x'ff' as text)",
                Access::Write,
            ));
            expected.push(Err("internal"));
            writes.push(Probe {
                panics: true,
                ..probe(
                    "update conversations set name = 'z' where false",
                    Access::Write,
                )
            });
            expected.push(Err("internal"));
        }
        assert_eq!(outcomes(&store, writes).await, expected);
        let stored = outcomes(&store, vec![probe(SELECT, Access::Read)]).await;
        assert_eq!(stored, [Ok(20)]);
        tokio::task::spawn_blocking(|| threads.stop())
            .await
            .expect("no panic");
        let refused = outcomes(&store, vec![probe(SELECT, Access::Read)]).await;
        assert_eq!(refused, [Err("unavailable")]);
    }
}
