//! The store: one writer that commits groups of operations, and readers beside it. Apart from the
//! commands that need no server, only the store knows where the data is.

pub mod failures;
mod group;
mod job;
mod job_queue;
pub mod local;
pub mod location;
pub mod offline_database;
mod readers;
mod reading_gate;
mod remote;
mod request_times;
mod sets;
pub mod single_connection;
pub mod snapshot;
pub mod source;
mod transactor;
mod writer;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use handler::{ANSWER_BYTES_MAX, Access, Context, Element, Error, Operation, Outbox};
use tokio::sync::{mpsc, oneshot};

use crate::awake::Moment;
use crate::clock;
use crate::delivery::{Delivery, Requester};
use crate::limits::client_address::ClientNetwork;
use crate::limits::memory::AllMemory;
use crate::limits::remembered::Remembered;
use crate::limits::spending::Payment;
use crate::store::job::{Job, Submitted, bytes};
use crate::store::job_queue::{Entry, Sender, queue};
use crate::store::local::LocalDatabase;
use crate::store::location::Database;
use crate::store::readers::Readers;
use crate::store::remote::{RemoteReader, RemoteWriter};
use crate::store::snapshot::Snapshots;
use crate::store::source::Source;
use crate::store::transactor::Transactor;
use crate::store::writer::write_groups;
use crate::threads::{contain, spawn};

/// Operations that may wait for the writer, fewer if they are large; further ones wait for room.
const WRITES_QUEUED_MAX: usize = 4096;
/// Operations that may wait for a reader.
const READS_QUEUED_MAX: usize = 1024;
/// Requests to a remote database that may be under way at once, and reads in one of them.
const READERS: usize = 16;
const READS_TOGETHER_MAX: usize = 32;
/// Large reads that may be under way besides, each in a request of its own: libsql takes 130 MiB to
/// read the 6,000 conversations of a user.
const LARGE_READERS: usize = 2;
const LARGE_READS_OF_HEAVY_SOURCES: usize = 1;

/// A handle to the database's threads.
#[derive(Clone)]
pub struct Store {
    writes: Sender,
    reads: Sender,
    /// Large reads and those of heavy sources, if the database is on a server.
    large_reads: Option<Sender>,
    /// The sources that were seen last.
    sources: Arc<Remembered<ClientNetwork, Source>>,
    /// The source of operations that come from no socket.
    own: Arc<Source>,
    memory: Arc<AllMemory>,
    /// The name of this host in the database.
    host_id: Arc<str>,
    /// The database is on a server: other hosts may use it, and its answers may get lost.
    is_shared: bool,
    /// The path of the data file, unless the database is on a server.
    file: Option<PathBuf>,
    /// `None` for a remote database.
    snapshots: Option<Arc<Snapshots>>,
    next_request_id: Arc<AtomicU64>,
}

/// The database's threads. Dropping the last `Store` ends them too.
pub struct StoreThreads {
    writer: JoinHandle<()>,
    readers: Vec<Readers>,
    exporter: Option<JoinHandle<()>>,
    store: Store,
}

impl StoreThreads {
    /// Commits what is queued, empties the write-ahead log and closes the database. Operations
    /// submitted later are refused as `Unavailable`. Blocks.
    pub fn stop(self) {
        // The writer closes last: SQLite removes the write-ahead log of a file when its last connection
        // closes while no other one is closing.
        self.readers.into_iter().for_each(Readers::stop);
        if let (Some(snapshots), Some(exporter)) = (&self.store.snapshots, self.exporter) {
            snapshots.stop();
            let _ = exporter.join();
        }
        let _ = self.store.writes.send(Entry::Stop);
        // A thread that panicked has logged why.
        let _ = self.writer.join();
    }
}

impl Store {
    /// Opens the database and brings its schema up to date. If a file does not exist, it is created
    /// with its folder. While a remote server cannot be reached yet, operations are refused as
    /// `Unavailable`. What commits deliver goes to `deliveries`, in commit order, a batch for each
    /// commit. An operation is refused after `timeout`.
    pub fn open(
        database: &Database,
        now: i64,
        timeout: Duration,
        deliveries: mpsc::Sender<Vec<Delivery>>,
    ) -> anyhow::Result<(Store, StoreThreads)> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        let random = u128::from_be_bytes(random);
        let start = |readers, gate: Option<&_>, together_max, heavy_max| {
            let queue = queue(READS_QUEUED_MAX, heavy_max);
            Readers::start(readers, gate, together_max, queue, timeout, &deliveries)
        };
        let (host_id, writer, readers): (Arc<str>, _, Vec<_>);
        match database {
            Database::File(path) => {
                // A file has one host.
                host_id = "local".into();
                let opened = LocalDatabase::open_writer(path, now)?;
                let gate = opened.gate();
                writer = Transactor::Local(opened);
                let cores = thread::available_parallelism().map_or(1, usize::from);
                let count = cores.clamp(1, 4);
                let connections = (0..count)
                    .map(|_| LocalDatabase::open_reader(path).map(Transactor::Local))
                    .collect::<Result<_, _>>()?;
                let heavy_max = (count - 1).max(1);
                readers = vec![start(connections, Some(&gate), 1, Some(heavy_max))?];
            }
            Database::Remote(url) => {
                host_id = format!("{:016x}", (random >> 64) as u64).into();
                let is_ready = Arc::new(AtomicBool::new(false));
                // Leaves time for a second try.
                let patience = timeout / 2;
                let opened = RemoteWriter::open(url, host_id.clone(), patience, is_ready.clone())?;
                writer = Transactor::RemoteWriter(opened);
                let connections = |count| {
                    let connect = |_| RemoteReader::connect(url, patience, is_ready.clone());
                    let connections = (0..count).map(connect);
                    let connections =
                        connections.map(|reader| reader.map(Transactor::RemoteReader));
                    connections.collect::<anyhow::Result<Vec<_>>>()
                };
                // Heavy sources have readers of their own.
                readers = vec![
                    start(connections(READERS)?, None, READS_TOGETHER_MAX, None)?,
                    start(
                        connections(LARGE_READERS)?,
                        None,
                        1,
                        Some(LARGE_READS_OF_HEAVY_SOURCES),
                    )?,
                ];
            }
        }
        let file = match database {
            // SQLite keeps the log beside the file itself, not beside a link to it.
            Database::File(path) => Some(path.canonicalize()?),
            Database::Remote(_) => None,
        };
        let snapshots = file.as_deref().map(Snapshots::open).transpose()?;
        let (snapshots, exporter) = snapshots.unzip();

        let (writes, queued) = queue(WRITES_QUEUED_MAX, None);
        let commits = deliveries.clone();
        let writer = spawn("writer", move || {
            write_groups(writer, queued, timeout, &commits)
        })?;
        let memory = Arc::new(AllMemory::new());
        let store = Store {
            writes,
            reads: readers[0].jobs(),
            large_reads: readers.get(1).map(Readers::jobs),
            sources: Arc::new(Remembered::new()),
            own: Arc::new(Source::own(memory.clone())),
            memory,
            host_id,
            is_shared: database.is_shared(),
            file,
            snapshots: snapshots.map(Arc::new),
            next_request_id: Arc::new(AtomicU64::new(random as u64)),
        };
        let threads = StoreThreads {
            writer,
            readers,
            exporter,
            store: store.clone(),
        };
        Ok((store, threads))
    }

    /// The name of this host in the database. A file has one host, whose name is always the same;
    /// on a server each process has a new name.
    pub fn host_id(&self) -> Arc<str> {
        self.host_id.clone()
    }

    /// Whether other hosts may use the same database.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Writes documents of one moment; `None` for a remote database. Its transactions end with their
    /// request: one that stays open would keep the log of the server from being moved, for all hosts.
    pub fn snapshots(&self) -> Option<&Snapshots> {
        self.snapshots.as_deref()
    }

    /// The source of operations that come from this address.
    pub fn source(&self, address: IpAddr) -> Arc<Source> {
        let address = ClientNetwork::from(address);
        self.sources
            .of(address, || Source::of(address, self.memory.clone()))
    }

    pub fn memory(&self) -> &Arc<AllMemory> {
        &self.memory
    }

    /// Runs an operation of the host itself; returns when its pushes are delivered, in commit
    /// order.
    pub async fn run<O>(&self, ctx: Context, operation: O) -> Result<O::Output, Error>
    where
        O: Operation + 'static,
        O::Output: Send + 'static,
    {
        let running = self.run_from(&self.own, (None, None), ctx, operation);
        let outcome = running.await;
        if let Err(Error::Internal(detail)) = &outcome {
            tracing::error!(detail, "an operation failed");
        }
        outcome
    }

    /// Runs an operation of the host itself at the present time, without a caller.
    pub async fn run_now<O>(&self, operation: O) -> Result<O::Output, Error>
    where
        O: Operation + 'static,
        O::Output: Send + 'static,
    {
        self.run(Context::anonymous(clock::now()), operation).await
    }

    /// Runs an operation of this source. The requester gets none of its pushes, and the payment is for
    /// them. The caller logs a failure.
    pub async fn run_from<O>(
        &self,
        source: &Source,
        caller: (Requester, Option<Payment>),
        ctx: Context,
        operation: O,
    ) -> Result<O::Output, Error>
    where
        O: Operation + 'static,
        O::Output: Send + 'static,
    {
        let (done, result) = oneshot::channel();
        self.submit(source, ctx, operation, move |outcome, outbox| {
            // The caller continues after the pushes, so that its next step cannot overtake them.
            let done = move || drop(done.send(outcome));
            if outbox.is_empty() {
                done();
                return None;
            }
            Some(Delivery::pushes(caller, outbox, done))
        })
        .await?;
        let outcome = result.await;
        outcome.unwrap_or_else(|_| Err(Error::Internal("the operation was dropped".into())))
    }

    /// Operations that wait or are under way: writes, and reads.
    pub fn queued(&self) -> (usize, usize) {
        let large_reads = self.large_reads.as_ref().map_or(0, Sender::jobs);
        (self.writes.jobs(), self.reads.jobs() + large_reads)
    }

    /// The sizes in bytes of the data file and its write-ahead log; empty for a remote database.
    pub fn file_bytes(&self) -> Vec<(&'static str, u64)> {
        let Some(path) = &self.file else {
            return Vec::new();
        };
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let bytes = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
        vec![("main", bytes(path)), ("wal", bytes(log.as_ref()))]
    }

    /// Queues an operation. `then` gets its outcome and outbox after the commit, on a thread of the
    /// store. What it returns is delivered in commit order. If the operation cannot be queued,
    /// `then` is not called.
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
            Access::Read | Access::None => {
                let is_large =
                    operation.answer_bytes_max() > ANSWER_BYTES_MAX || operation.takes_long();
                let large = self.large_reads.as_ref();
                let large = large.filter(|_| is_large || source.heaviness.is_heavy());
                (large.unwrap_or(&self.reads), source.reads())
            }
        };
        if self.is_shared {
            let id = self.next_request_id.fetch_add(1, Ordering::Relaxed);
            ctx.request_id = Some(id.to_be_bytes());
        }
        let submitted_at = Moment::now();
        let (element, statements) = contain(|| {
            let element = self.is_shared.then(|| operation.element(&ctx)).flatten();
            Ok(match element {
                Some(_) => (element, Vec::new()),
                None => (None, operation.statements(&ctx)),
            })
        })?;
        let bytes = bytes(&statements) + element.as_ref().map_or(0, Element::bytes);
        queue.send(Entry::Job(Job {
            statements,
            element,
            user_id: ctx.user_id,
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

#[cfg(test)]
mod tests {
    use handler::{Rows, Statement};

    use super::*;
    use crate::delivery::Change;
    use crate::store::local;
    use crate::store::writer::GROUP_MAX;

    /// Runs this SQL, and panics if it is told to.
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

    /// The outcomes of probes submitted at once, so that they meet in groups: a number of rows, or
    /// a code.
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
        let database = Database::File(folder.path().join("chat.db"));
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
            // Nobody receives the deliveries, so the writer waits.
            let then = move |outcome: Result<usize, Error>, _| {
                let _ = finished.send(outcome);
                Some(Change::Missed.into())
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
        // Readers are not affected, and accepted operations are done.
        let read = outcomes(&store, vec![probe("select 1", Access::Read)]).await;
        assert_eq!(read, [Ok(1)]);
        let drain = tokio::spawn(async move { while delivered.recv().await.is_some() {} });
        for _ in 0..accepted {
            assert_eq!(finished.recv().await, Some(Ok(1)));
        }
        drain.abort();
    }

    /// One operation of many rows does not share its commit with many others like it.
    #[tokio::test]
    async fn a_group_ends_when_it_has_many_rows() {
        let rows = commits_of(
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000)
             insert into conversations (name) select 'x' from n returning id",
        );
        rows.await;
    }

    /// Nor does one that returns many bytes.
    #[tokio::test]
    async fn a_group_ends_when_it_has_many_bytes() {
        commits_of("select zeroblob(200000)").await;
    }

    /// Each commit takes at most two of 40 operations like this one.
    async fn commits_of(sql: &'static str) {
        let folder = tempfile::TempDir::new().expect("a folder");
        let (deliveries, mut delivered) = mpsc::channel(1000);
        let (store, threads) = open_in(&folder, deliveries).await;
        // While the first one waits for the receiver, the others queue.
        let submit = || {
            let then =
                |outcome: Result<usize, Error>, _| outcome.is_ok().then(|| Change::Missed.into());
            store.submit(
                &store.own,
                Context::anonymous(0),
                probe(sql, Access::Write),
                then,
            )
        };
        for _ in 0..40 {
            submit().await.expect("submitted");
        }
        let (mut commits, mut operations) = (0, 0);
        while operations < 40 {
            let batch = delivered.recv().await.expect("a commit");
            // The second operation of a commit passes the limit, so there is no third.
            assert!((1..=2).contains(&batch.len()), "{}", batch.len());
            commits += 1;
            operations += batch.len();
        }
        assert!(commits >= 20);
        tokio::task::spawn_blocking(|| threads.stop())
            .await
            .expect("no panic");
    }

    #[tokio::test]
    async fn what_fails_fails_alone() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let (deliveries, _delivered) = mpsc::channel(1);
        let (store, threads) = open_in(&folder, deliveries).await;
        // More bad reads than there are readers: none of the readers may end because of them.
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

    /// This happens long before the log is so long that the writer has to empty it.
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

    /// On a file, a long read is always under way, on one thread or the other.
    #[tokio::test(flavor = "multi_thread")]
    async fn long_reads_that_overlap_do_not_make_the_log_long() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let (deliveries, _delivered) = mpsc::channel(1);
        let (store, threads) = open_in(&folder, deliveries).await;
        let long =
            "with recursive n (x) as (select 1 union all select x + 1 from n where x < 500000)
                    select count(*) + (select count(*) from users) from n";
        let readers = [0, 100].map(|ms| {
            let store = store.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                loop {
                    outcomes(&store, vec![probe(long, Access::Read)]).await;
                }
            })
        });
        let large = "insert into conversations (name) values (hex(zeroblob(262144))) returning id";
        // 200 MiB.
        for _ in 0..400 {
            let outcome = outcomes(&store, vec![probe(large, Access::Write)]).await;
            assert_eq!(outcome, [Ok(1)]);
        }
        // Another commit may begin an empty log, or overwrite a long one from its beginning.
        let length = store
            .file_bytes()
            .into_iter()
            .nth(1)
            .map_or(0, |(_, bytes)| bytes);
        assert!(length < local::LOG_BYTES_MAX * 5 / 2, "{length} bytes");
        readers.iter().for_each(|reader| reader.abort());
        drop(readers);
        tokio::task::spawn_blocking(|| threads.stop())
            .await
            .expect("no panic");
    }
}
