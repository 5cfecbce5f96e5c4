//! The store: one writer that commits groups of operations, readers beside it, and nobody else who knows where the
//! data is.

mod direct;
pub(crate) mod local;
mod queue;
mod remote;
mod whole;

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use handler::{Access, Context, Error, Operation, Outbox, Rows, Statement};
use lru::LruCache;
use tokio::sync::{mpsc, oneshot};

use crate::config;
use crate::limits::{Origin, REMEMBERED_MAX, Rate};
use crate::metrics::METRICS;
use crate::registry::Delivery;
use crate::socket::Socket;
pub use direct::Direct;
pub use local::LocalDatabase;
pub use queue::Source;
use queue::{Receiver, Room, Sender, queue};
use remote::{RemoteReader, RemoteWriter};
pub use whole::Whole;

/// Operations that wait for the writer, or fewer where they are large; more wait outside, see `QUEUE_WAIT`.
const WRITES_QUEUED_MAX: usize = 4096;
/// Operations that wait for a reader.
const READS_QUEUED_MAX: usize = 1024;
/// How long an operation waits for room in a queue before it is refused as `Unavailable`.
const QUEUE_WAIT: Duration = Duration::from_secs(2);
/// Operations in one commit.
const GROUP_MAX: usize = 256;
/// Bytes of parameters in one commit, unless a single operation has more.
const GROUP_BYTES_MAX: usize = 1024 * 1024;
/// The longest that a request to a remote database waits for others to share it, and how often it looks.
const GATHER_MAX: Duration = Duration::from_millis(5);
const GATHER_STEP: Duration = Duration::from_micros(200);
/// Reads of a remote database that may be under way at once.
const REMOTE_READERS: usize = 16;
const RETRY_AFTER_SECONDS: u32 = 1;

/// An operation on its way through the store.
struct Job {
    /// Those to run first; empty once they are taken.
    statements: Vec<Statement>,
    /// Of its parameters.
    bytes: usize,
    submitted_at: Instant,
    work: Box<dyn Work>,
    room: Room,
}

impl Job {
    fn take_statements(&mut self) -> Vec<Statement> {
        match std::mem::take(&mut self.statements) {
            taken if taken.is_empty() => self.work.statements(),
            first => first,
        }
    }
}

/// Of the parameters, about.
fn bytes(statements: &[Statement]) -> usize {
    let parameters = statements.iter().flat_map(|s| &s.parameters);
    let sizes = parameters.map(|value| match value {
        libsql::Value::Text(text) => text.len(),
        libsql::Value::Blob(bytes) => bytes.len(),
        _ => 8,
    });
    sizes.sum()
}

/// An operation, its type forgotten.
trait Work: Send {
    fn statements(&self) -> Vec<Statement>;

    /// It was committed, and its rows were lost: from here on its statements find what it did.
    fn repeat(&mut self);

    /// What to do with the rows, once they are committed.
    fn finish(self: Box<Self>, rows: Result<Vec<Rows>, Error>) -> Option<Delivery>;
}

struct Submitted<O, F> {
    ctx: Context,
    operation: O,
    then: F,
}

impl<O, F> Work for Submitted<O, F>
where
    O: Operation,
    F: FnOnce(Result<O::Output, Error>, Outbox) -> Option<Delivery> + Send,
{
    fn statements(&self) -> Vec<Statement> {
        self.operation.statements(&self.ctx)
    }

    fn repeat(&mut self) {
        self.ctx.is_repeat = true;
    }

    fn finish(self: Box<Self>, rows: Result<Vec<Rows>, Error>) -> Option<Delivery> {
        let Submitted {
            ctx,
            operation,
            then,
        } = *self;
        let mut outbox = Outbox::new();
        let conclude = || operation.conclude(&ctx, &rows?, &mut outbox);
        let outcome = contain(conclude);
        if outcome.is_err() {
            outbox.clear();
        }
        then(outcome, outbox)
    }
}

enum Message {
    Run(Job),
    /// The thread that receives it ends.
    Stop,
}

/// A handle to the database's threads.
#[derive(Clone)]
pub struct Store {
    writes: Sender,
    reads: Sender,
    /// Those that were seen last.
    sources: Arc<Mutex<LruCache<Origin, Arc<Source>>>>,
    /// Of operations of no socket.
    own: Arc<Source>,
    /// The name of this host in the database.
    host_id: Arc<str>,
    /// The database is on a server: other hosts may use it, and its answers may get lost.
    is_shared: bool,
    /// The data file.
    file: Option<PathBuf>,
    next_request_id: Arc<AtomicU64>,
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
            let _ = self.store.reads.send(Message::Stop);
        }
        // A thread that panicked has printed why. The writer is the last: SQLite removes the write-ahead log of a file when
        // its last connection closes, and no other one is closing.
        for reader in self.readers {
            let _ = reader.join();
        }
        let _ = self.store.writes.send(Message::Stop);
        let _ = self.writer.join();
    }
}

impl Store {
    /// Opens the database: a file is created, with its folder, where it does not exist, and its schema is brought up to
    /// date. A remote server that cannot be reached yet is waited for while operations are refused as `Unavailable`. What
    /// commits tell the world goes to `deliveries`, in commit order, a batch for each commit. An operation is refused
    /// after `timeout`.
    pub fn open(
        database: &config::Database,
        now: i64,
        timeout: Duration,
        deliveries: mpsc::Sender<Vec<Delivery>>,
    ) -> anyhow::Result<(Store, StoreThreads)> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        let random = u128::from_be_bytes(random);
        let (host_id, writer, readers): (Arc<str>, _, Vec<_>);
        match database {
            config::Database::File(path) => {
                // A file has one host.
                host_id = "local".into();
                writer = Database::Local(LocalDatabase::open_writer(path, now)?);
                let cores = thread::available_parallelism().map_or(1, usize::from);
                readers = (0..cores.clamp(1, 4))
                    .map(|_| LocalDatabase::open_reader(path).map(Database::Local))
                    .collect::<Result<_, _>>()?;
            }
            config::Database::Remote(url) => {
                host_id = format!("{:016x}", (random >> 64) as u64).into();
                let is_ready = Arc::new(AtomicBool::new(false));
                // Time for a second try.
                let patience = timeout / 2;
                let opened = RemoteWriter::open(url, host_id.clone(), patience, is_ready.clone())?;
                writer = Database::RemoteWriter(opened);
                readers = (0..REMOTE_READERS)
                    .map(|_| RemoteReader::connect(url, patience, is_ready.clone()))
                    .map(|reader| reader.map(Database::RemoteReader))
                    .collect::<Result<_, _>>()?;
            }
        }
        let is_shared = matches!(database, config::Database::Remote(_));
        let file = match database {
            config::Database::File(path) => Some(path.clone()),
            config::Database::Remote(_) => None,
        };

        let (writes, queued) = queue(WRITES_QUEUED_MAX);
        let commits = deliveries.clone();
        let writer = spawn("writer", move || {
            write_groups(writer, queued, timeout, &commits)
        })?;
        let (reads, queued) = queue(READS_QUEUED_MAX);
        let queued = Arc::new(Mutex::new(queued));
        let readers = readers.into_iter().map(|reader| {
            let (queued, deliveries) = (queued.clone(), deliveries.clone());
            spawn("reader", move || {
                read_all(reader, &queued, timeout, &deliveries)
            })
        });
        let readers = readers.collect::<Result<_, _>>()?;
        let store = Store {
            writes,
            reads,
            // With a capacity it would take the memory at once.
            sources: Arc::new(Mutex::new(LruCache::unbounded())),
            own: Arc::new(Source::own()),
            host_id,
            is_shared,
            file,
            next_request_id: Arc::new(AtomicU64::new(random as u64)),
        };
        let threads = StoreThreads {
            writer,
            readers,
            store: store.clone(),
        };
        Ok((store, threads))
    }

    /// The name of this host in the database: of a file's one host always the same, else a new one for each process.
    pub fn host_id(&self) -> Arc<str> {
        self.host_id.clone()
    }

    /// Whether other hosts may use the same database.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// The source of operations that come from this address.
    pub fn source(&self, address: IpAddr) -> Arc<Source> {
        let address = Origin::from(address);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let source = sources.get_or_insert(address, || Arc::new(Source::of(address)));
        let source = source.clone();
        if sources.len() > REMEMBERED_MAX {
            sources.pop_lru();
        }
        source
    }

    /// Runs an operation of no socket; returns when others have been told, in commit order.
    pub async fn run<O>(&self, ctx: Context, operation: O) -> Result<O::Output, Error>
    where
        O: Operation + 'static,
        O::Output: Send + 'static,
    {
        self.run_for(&self.own, None, ctx, operation).await
    }

    /// Runs an operation of a socket, which is told nothing of what others are told.
    pub async fn run_for<O>(
        &self,
        source: &Source,
        origin: Option<Arc<Socket>>,
        ctx: Context,
        operation: O,
    ) -> Result<O::Output, Error>
    where
        O: Operation + 'static,
        O::Output: Send + 'static,
    {
        // An event says itself why it failed.
        let is_own = origin.is_none();
        let (done, result) = oneshot::channel();
        self.submit(source, ctx, operation, move |outcome, outbox| {
            // The caller goes on when others have been told: what it does next cannot overtake this.
            let done = move || drop(done.send(outcome));
            if outbox.is_empty() {
                done();
                return None;
            }
            Some(Delivery::pushes(origin, outbox, done))
        })
        .await?;
        let outcome = result
            .await
            .unwrap_or_else(|_| Err(Error::Internal("the operation was dropped".into())));
        if let (Err(Error::Internal(detail)), true) = (&outcome, is_own) {
            tracing::error!(detail, "an operation failed");
        }
        outcome
    }

    /// Operations that wait or are under way: writes, and reads.
    pub fn queued(&self) -> (usize, usize) {
        (self.writes.jobs(), self.reads.jobs())
    }

    /// The sizes in bytes of the data file and its write-ahead log; nothing of a remote database.
    pub fn file_bytes(&self) -> Vec<(&'static str, u64)> {
        let Some(path) = &self.file else {
            return Vec::new();
        };
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let bytes = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
        vec![("main", bytes(path)), ("wal", bytes(log.as_ref()))]
    }

    /// Queues an operation. `then` gets its outcome and outbox after the commit, on a thread of the store: its
    /// delivery is handed on in commit order. Where the operation could not be queued, `then` is not called.
    pub async fn submit<O>(
        &self,
        source: &Source,
        mut ctx: Context,
        operation: O,
        then: impl FnOnce(Result<O::Output, Error>, Outbox) -> Option<Delivery> + Send + 'static,
    ) -> Result<(), Error>
    where
        O: Operation + 'static,
    {
        let (queue, share) = match operation.access() {
            Access::Write => (&self.writes, source.writes()),
            Access::Read | Access::None => (&self.reads, source.reads()),
        };
        if self.is_shared {
            let id = self.next_request_id.fetch_add(1, Ordering::Relaxed);
            ctx.request_id = Some(id.to_be_bytes());
        }
        let submitted_at = Instant::now();
        let statements = contain(|| Ok(operation.statements(&ctx)))?;
        let bytes = bytes(&statements);
        queue.send(Message::Run(Job {
            statements,
            bytes,
            submitted_at,
            room: queue.room(source, share, bytes).await?,
            work: Box::new(Submitted {
                ctx,
                operation,
                then,
            }),
        }))
    }
}

/// Too many wait already.
fn busy() -> Error {
    Error::Unavailable {
        retry_after_seconds: RETRY_AFTER_SECONDS,
    }
}

/// Runs what may have a fault: a panic, which is logged where it happens, fails this alone.
pub fn contain<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Error::Internal("a panic".into())))
}

/// A thread without which the server would be half dead: should it ever panic, the process ends, to be started again.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(move || {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            // Time for the log to say why.
            thread::sleep(Duration::from_millis(100));
            std::process::abort();
        }
    })
}

/// The writer thread: whatever has queued while the last commit was under way becomes the next one.
fn write_groups(
    mut database: Database,
    mut queue: Receiver,
    timeout: Duration,
    deliveries: &mpsc::Sender<Vec<Delivery>>,
) {
    let is_remote = !matches!(database, Database::Local(_));
    // The last group, and how long it took.
    let (mut last_size, mut last_time) = (0, Duration::ZERO);
    while queue.wait() > 0 {
        if is_remote {
            gather(&mut queue, last_size, last_time);
        }
        let jobs = std::iter::from_fn(|| queue.take());
        let mut jobs: Vec<_> = jobs.take(GROUP_MAX).collect();
        let started = Instant::now();
        last_size = jobs.len();
        while !jobs.is_empty() {
            let rest = jobs.split_off(fitting(&jobs));
            let mut told = Vec::new();
            let jobs_in_time = refuse_late(jobs, timeout, &mut told);
            run_group(
                &mut database,
                Access::Write,
                jobs_in_time,
                timeout,
                &mut told,
            );
            tell(deliveries, told);
            jobs = rest;
        }
        last_time = started.elapsed();
        if let Database::Local(database) = &mut database {
            database.keep_log_short();
        }
    }
    if let Database::Local(database) = &mut database {
        database.checkpoint();
    }
}

/// Those who were answered by the last request ask again at once: a request that leaves before they have done so makes them
/// wait for a whole one more. Waits for as many as there were, and a small part of the time that the request took.
fn gather(queue: &mut Receiver, last_size: usize, last_time: Duration) {
    let until = Instant::now() + (last_time / 8).min(GATHER_MAX);
    while queue.receive() < last_size && Instant::now() < until {
        thread::sleep(GATHER_STEP);
    }
}

/// How many of these make a group: at least one.
fn fitting(jobs: &[Job]) -> usize {
    let mut bytes = 0;
    let fits = |job: &&Job| {
        bytes += job.bytes;
        bytes <= GROUP_BYTES_MAX
    };
    jobs.iter().take_while(fits).count().max(1)
}

fn tell(deliveries: &mpsc::Sender<Vec<Delivery>>, told: Vec<Delivery>) {
    if !told.is_empty() && deliveries.blocking_send(told).is_err() {
        tracing::error!("the registry is gone: nothing is delivered any more");
    }
}

/// Runs operations and concludes them: what others are told is added to `told`, in the order of commits. One transaction
/// for all; where a statement fails, one for each, so that an operation that cannot be stored harms no other. A condition
/// of the database (it is locked, full, or gone) is all the operations' failure at once.
fn run_group(
    database: &mut Database,
    access: Access,
    mut jobs: Vec<Job>,
    timeout: Duration,
    told: &mut Vec<Delivery>,
) {
    let Some(oldest) = jobs.iter().map(|job| job.submitted_at).min() else {
        return;
    };
    // Those that have come late share what time there is with the oldest.
    let deadline = (oldest + timeout).max(Instant::now() + timeout / 4);
    let failure = match transact(database, access, &mut jobs, deadline) {
        Ok(results) => {
            // What was counted under the lease before is forgotten, this group not.
            told.extend(new_lease(database));
            finish(jobs, results.into_iter().map(Ok), told);
            return;
        }
        Err(failure) => failure,
    };
    match failure {
        Failure::AnswerLost => repeat(database, access, jobs, timeout, told),
        Failure::Statement(_) | Failure::TooLarge(_) if jobs.len() > 1 => {
            tracing::debug!(events = jobs.len(), "group failed, retrying in parts");
            let size = match failure {
                Failure::TooLarge(_) => jobs.len().div_ceil(2),
                _ => 1,
            };
            let mut rest = jobs;
            while !rest.is_empty() {
                let later = rest.split_off(size.min(rest.len()));
                run_group(database, access, rest, timeout, told);
                rest = later;
            }
        }
        failure => {
            if let Failure::Unknown(_) = failure {
                // Others may have to be told of what is not known to be stored.
                told.push(Delivery::missed());
            }
            refuse(jobs, failure, told);
        }
    }
}

/// The group was committed, and its rows were lost: asks what it did.
fn repeat(
    database: &mut Database,
    access: Access,
    mut jobs: Vec<Job>,
    timeout: Duration,
    told: &mut Vec<Delivery>,
) {
    tracing::warn!(
        events = jobs.len(),
        "a commit's answer was lost: it is found again"
    );
    for job in &mut jobs {
        job.work.repeat();
    }
    match transact(database, access, &mut jobs, Instant::now() + timeout / 2) {
        Ok(results) => {
            finish(jobs, results.into_iter().map(Ok), told);
            // What this group has counted is forgotten too, if the lease was lost since.
            told.extend(new_lease(database));
        }
        Err(failure) => {
            // It is stored, and nobody can be told how.
            database.doubt_lease();
            told.push(Delivery::missed());
            refuse(jobs, failure, told);
        }
    }
}

fn transact(
    database: &mut Database,
    access: Access,
    jobs: &mut [Job],
    deadline: Instant,
) -> Result<Vec<Vec<Rows>>, Failure> {
    let group = jobs.iter_mut().map(Job::take_statements).collect();
    let started = Instant::now();
    let result = database.transact(access, group, deadline);
    if access == Access::Write {
        let metrics = &*METRICS;
        let elapsed = started.elapsed();
        metrics.commit_seconds.observe(elapsed.as_secs_f64());
        metrics.commit_operations.observe(jobs.len() as f64);
    }
    if let Err(failure) = &result {
        let reason = failure.reason();
        METRICS.commit_failures.with_label_values(&[reason]).inc();
    }
    result
}

fn finish(
    jobs: Vec<Job>,
    results: impl Iterator<Item = Result<Vec<Rows>, Error>>,
    told: &mut Vec<Delivery>,
) {
    let finished = jobs.into_iter().zip(results);
    told.extend(finished.filter_map(|(job, rows)| job.work.finish(rows)));
}

/// Operations that have waited for their whole time behind others are not begun.
fn refuse_late(jobs: Vec<Job>, timeout: Duration, told: &mut Vec<Delivery>) -> Vec<Job> {
    let is_late = |job: &Job| job.submitted_at.elapsed() >= timeout;
    let (late, in_time): (Vec<_>, Vec<_>) = jobs.into_iter().partition(is_late);
    if !late.is_empty() {
        refuse(
            late,
            Failure::Unavailable("the queue is too long".into()),
            told,
        );
    }
    in_time
}

fn refuse(jobs: Vec<Job>, failure: Failure, told: &mut Vec<Delivery>) {
    let answer = failure.answer();
    finish(jobs, std::iter::repeat_with(|| Err(answer.clone())), told);
}

/// Where the host has a new lease because the one before was lost: what that has cost is not known.
fn new_lease(database: &mut Database) -> Vec<Delivery> {
    match database.take_new_lease() {
        Some(lease) => vec![Delivery::presence_lost(lease), Delivery::missed()],
        None => Vec::new(),
    }
}

/// A reader thread.
fn read_all(
    mut database: Database,
    queue: &Mutex<Receiver>,
    timeout: Duration,
    deliveries: &mpsc::Sender<Vec<Delivery>>,
) {
    while let Some(job) = next(queue) {
        let mut told = Vec::new();
        let jobs = refuse_late(vec![job], timeout, &mut told);
        run_group(&mut database, Access::Read, jobs, timeout, &mut told);
        tell(deliveries, told);
    }
}

/// The lock is held only while waiting, never while working.
fn next(queue: &Mutex<Receiver>) -> Option<Job> {
    let mut queue = queue.lock().ok()?;
    queue.wait();
    queue.take()
}

/// One connection to the database, wherever it is.
enum Database {
    Local(LocalDatabase),
    RemoteWriter(RemoteWriter),
    RemoteReader(RemoteReader),
}

/// Why a group has no rows.
enum Failure {
    /// A statement is wrong for the data; nothing was stored.
    Statement(String),
    /// The database cannot now; nothing was stored.
    Unavailable(String),
    /// The database is gone, and nobody knows whether it was stored.
    Unknown(String),
    /// It was stored, and the rows were lost on the way.
    AnswerLost,
    /// It is more than the database takes at once, or would answer with more; nothing was stored.
    TooLarge(String),
}

impl Failure {
    /// For the metrics.
    fn reason(&self) -> &'static str {
        match self {
            Failure::Statement(_) => "statement",
            Failure::Unavailable(_) => "unavailable",
            Failure::Unknown(_) => "unknown",
            Failure::AnswerLost => "answer_lost",
            Failure::TooLarge(_) => "too_large",
        }
    }

    /// By SQLite's primary result codes (sqlite.org/rescode.html), a condition that may pass is one of BUSY, LOCKED,
    /// READONLY, IOERR, FULL, CANTOPEN.
    fn of_local(error: &libsql::Error) -> Self {
        const MAY_PASS: [i32; 6] = [5, 6, 8, 10, 13, 14];
        match error {
            libsql::Error::SqliteFailure(code, _) if MAY_PASS.contains(&(code & 0xff)) => {
                Failure::Unavailable(error.to_string())
            }
            _ => Failure::Statement(error.to_string()),
        }
    }

    /// Logs it where that is not done later, and says what the caller may know of it.
    fn answer(self) -> Error {
        match self {
            // Logged with the operation that it is an answer to.
            Failure::Statement(error) => Error::Internal(error),
            Failure::Unavailable(error) | Failure::Unknown(error) => {
                // Thousands of operations a second may fail for it.
                static LINES: LazyLock<Rate> = LazyLock::new(|| Rate::per_second(1, 1));
                if LINES.check().is_ok() {
                    tracing::error!(error, "the database is not available");
                }
                Error::Unavailable {
                    retry_after_seconds: RETRY_AFTER_SECONDS,
                }
            }
            Failure::AnswerLost => Error::Internal("an answer was lost".into()),
            Failure::TooLarge(error) => {
                tracing::error!(error, "database");
                Error::TooLarge("this is more than the database takes at once".into())
            }
        }
    }
}

impl Database {
    /// Runs operations in one transaction: the rows of each. libsql panics on some values that a file may hold, text that
    /// is not UTF-8 for one.
    fn transact(
        &mut self,
        access: Access,
        operations: Vec<Vec<Statement>>,
        deadline: Instant,
    ) -> Result<Vec<Vec<Rows>>, Failure> {
        let transact = || match self {
            Database::Local(database) => database
                .transact(access, operations)
                .map_err(|error| Failure::of_local(&error)),
            Database::RemoteWriter(writer) => writer.transact(&operations, deadline),
            Database::RemoteReader(reader) => reader.transact(&operations, deadline),
        };
        catch_unwind(AssertUnwindSafe(transact))
            .unwrap_or_else(|_| Err(Failure::Statement("a panic in libsql".into())))
    }

    /// What was counted under the present lease is not known.
    fn doubt_lease(&mut self) {
        if let Database::RemoteWriter(writer) = self {
            writer.doubt_lease();
        }
    }

    /// A lease that was taken because the one before was lost.
    fn take_new_lease(&mut self) -> Option<i64> {
        match self {
            Database::RemoteWriter(writer) => writer.take_new_lease(),
            _ => None,
        }
    }
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

    /// A store on a file in this folder.
    async fn open_in(
        folder: &tempfile::TempDir,
        deliveries: mpsc::Sender<Vec<Delivery>>,
    ) -> (Store, StoreThreads) {
        let database = config::Database::File(folder.path().join("chat.db"));
        let open = move || Store::open(&database, 0, Duration::from_secs(10), deliveries);
        let opened = tokio::task::spawn_blocking(open).await;
        opened.expect("no panic").expect("a store")
    }

    #[tokio::test]
    async fn operations_beyond_a_full_queue_are_refused() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let (deliveries, mut delivered) = mpsc::channel(1);
        let (store, _threads) = open_in(&folder, deliveries).await;
        let (submitted, mut finished) = mpsc::unbounded_channel();
        let submit = || {
            let finished = submitted.clone();
            // Nobody takes what it has for others: the writer waits.
            let then = move |outcome: Result<usize, Error>, _| {
                let _ = finished.send(outcome);
                Some(Delivery::missed())
            };
            store.submit(
                &store.own,
                Context::anonymous(0),
                probe(INSERT, Access::Write),
                then,
            )
        };
        let mut accepted = 0;
        let refusal = loop {
            match submit().await {
                Ok(()) => accepted += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refusal.code(), "unavailable");
        assert!((WRITES_QUEUED_MAX..WRITES_QUEUED_MAX + 4 * GROUP_MAX).contains(&accepted));
        assert_eq!(store.queued().0, WRITES_QUEUED_MAX);
        // Readers are not concerned; and what was accepted is done.
        let read = outcomes(&store, vec![probe("select 1", Access::Read)]).await;
        assert_eq!(read, [Ok(1)]);
        let drain = tokio::spawn(async move { while delivered.recv().await.is_some() {} });
        for _ in 0..accepted {
            assert_eq!(finished.recv().await, Some(Ok(1)));
        }
        drain.abort();
    }

    #[tokio::test]
    async fn what_fails_fails_alone() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let (deliveries, _delivered) = mpsc::channel(1);
        let (store, threads) = open_in(&folder, deliveries).await;
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

    /// Long before the log is so long that the writer has to empty it.
    #[tokio::test]
    async fn what_is_committed_is_moved_into_the_file_meanwhile() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let (deliveries, _delivered) = mpsc::channel(1);
        let (store, threads) = open_in(&folder, deliveries).await;
        let sizes = || store.file_bytes().into_iter().map(|(_, bytes)| bytes);
        let large = "insert into conversations (name) values (hex(zeroblob(16384))) returning id";
        let mut commits = 0;
        while sizes().next() < Some(1024 * 1024) {
            let outcome = outcomes(&store, vec![probe(large, Access::Write)]).await;
            assert_eq!(outcome, [Ok(1)]);
            commits += 1;
            assert!(
                commits < 1000,
                "nothing was moved: {:?}",
                sizes().collect::<Vec<_>>()
            );
        }
        assert!(sizes().nth(1) < Some(local::LOG_BYTES_MAX));
        tokio::task::spawn_blocking(|| threads.stop())
            .await
            .expect("no panic");
    }
}
