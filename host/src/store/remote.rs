//! A remote libSQL server: a group of operations is one request, and a lost answer is asked for
//! again.
//!
//! Every group of changes begins with a fence: a statement that fails if the group has been
//! committed already. So a group whose outcome is unknown can be sent again until the outcome is
//! known, and a group that arrives twice is stored once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use handler::cluster::lease;
use handler::schema::{self, SchemaError};
use handler::{Rows, Statement, run_batch, run_script};
use libsql::{Builder, Connection};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::awake;
use crate::clock;
use crate::store::failures::Failure;
use crate::store::location::RemoteUrl;
use crate::store::request_times::{Ran, RequestTimes};

/// The pause between two tries of a request: doubled each time, from the first value to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// A migration may rewrite every row.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(600);
/// For a program that works alone: the time for one try of a request, and for all its tries.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(30);
const SCRIPT_PATIENCE: Duration = Duration::from_secs(60);

/// A connection. libsql's client works on the calling thread.
struct Client {
    connection: Connection,
    runtime: Runtime,
    /// How long one request may take.
    timeout: Duration,
}

/// Why a request brought no rows.
#[derive(Debug)]
enum Fault {
    /// Nothing was stored, and the same request may succeed later.
    Refused(String),
    /// The server does not accept the token.
    Unauthorized(String),
    /// The request may have been stored.
    Unknown(String),
    /// The fence has stopped the request, which stored nothing.
    Fenced,
    /// A statement failed on the data; nothing was stored.
    Statement(String),
    /// The request or its answer is larger than the server allows; nothing was stored.
    TooLarge(String),
}

impl Client {
    fn connect(url: &RemoteUrl, timeout: Duration) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let remote = Builder::new_remote(url.address.clone(), url.token.clone());
        let connection = runtime
            .block_on(async { remote.build().await?.connect() })
            .with_context(|| format!("DBPATH: cannot use {url}"))?;
        Ok(Client {
            connection,
            runtime,
            timeout,
        })
    }

    /// One request, one transaction.
    fn run<'a>(
        &self,
        statements: impl IntoIterator<Item = &'a Statement>,
    ) -> Result<Vec<Rows>, Fault> {
        self.wait(self.timeout, run_batch(&self.connection, statements))
    }

    /// Waits for one request.
    fn wait(
        &self,
        patience: Duration,
        request: impl Future<Output = Result<Vec<Rows>, libsql::Error>>,
    ) -> Result<Vec<Rows>, Fault> {
        let running = async { awake::timeout(patience, request).await };
        // libsql panics on an answer that is not UTF-8, for example a proxy's page.
        match catch_unwind(AssertUnwindSafe(|| self.runtime.block_on(running))) {
            Ok(Some(Ok(rows))) => Ok(rows),
            Ok(Some(Err(error))) => Err(Fault::of(&error)),
            Ok(None) => Err(Fault::Unknown("no answer in time".into())),
            Err(_) => Err(Fault::Unknown("a panic in libsql".into())),
        }
    }
}

impl Fault {
    /// libsql's own error type is private, so this looks at the texts. An error that is not
    /// recognised counts as unknown, which is always safe.
    fn of(error: &libsql::Error) -> Self {
        let text = error.to_string();
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if has(&["NOT NULL constraint failed: hosts.batch"]) {
            Fault::Fenced
        } else if has(&["status=413", "RESPONSE_TOO_LARGE", "Response is too large"]) {
            Fault::TooLarge(text)
        } else if has(&["status=401", "status=403"]) {
            Fault::Unauthorized(text)
        } else if has(&[
            "error trying to connect",
            "status=4",
            "database is locked",
            "database table is locked",
            "unable to open database file",
            "SQLITE_BUSY",
            "TRANSACTION_TIMEOUT",
            "database or disk is full",
            "SQLITE_FULL",
            "SQLITE_READONLY",
            "BLOCKED",
        ]) {
            Fault::Refused(text)
        } else if has(&["disk I/O error"]) {
            // If the commit failed, its outcome is unknown.
            Fault::Unknown(text)
        } else if has(&["SQLite error", "SQLite input error"])
            || !matches!(error, libsql::Error::Hrana(_))
        {
            Fault::Statement(text)
        } else {
            Fault::Unknown(text)
        }
    }

    fn text(self) -> String {
        match self {
            Fault::Fenced => "stopped by the fence".into(),
            Fault::Unauthorized(text) => format!("DB_AUTH_TOKEN is refused: {text}"),
            Fault::Refused(text)
            | Fault::Unknown(text)
            | Fault::Statement(text)
            | Fault::TooLarge(text) => text,
        }
    }
}

/// The pauses between tries.
struct Backoff {
    next: Duration,
    deadline: Instant,
}

impl Backoff {
    fn until(deadline: Instant) -> Self {
        Backoff {
            next: BACKOFF.0,
            deadline,
        }
    }

    /// Waits before the next try; `false` if the time is over.
    fn wait(&mut self) -> bool {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left <= self.next {
            return false;
        }
        sleep(self.next);
        self.next = (self.next * 2).min(BACKOFF.1);
        true
    }
}

/// The connection that writes for this host.
pub struct RemoteWriter {
    client: Client,
    url: RemoteUrl,
    host_id: Arc<str>,
    /// The number of the last group that was sent.
    batch: i64,
    is_ready: Arc<AtomicBool>,
    lease: Lease,
    /// A new lease that `take_new_lease` has not returned yet.
    new_lease: Option<i64>,
    /// How long the server worked on the last group.
    worked: Duration,
    pub request_times: RequestTimes,
}

/// The lease under which a host commits and counts who is online.
enum Lease {
    Held,
    /// Another host has ended the lease, or the counts under it are not known. The next lease may
    /// have been taken already, with its answer lost.
    Lost {
        is_forced: bool,
    },
}

impl RemoteWriter {
    /// Connects and brings the schema up to date. If the server cannot be reached yet, every group
    /// tries again. If its database cannot be used, that is an error.
    pub fn open(
        url: &RemoteUrl,
        host_id: Arc<str>,
        timeout: Duration,
        is_ready: Arc<AtomicBool>,
    ) -> anyhow::Result<Self> {
        let mut writer = RemoteWriter {
            client: Client::connect(url, timeout)?,
            url: url.clone(),
            host_id,
            batch: 0,
            is_ready,
            lease: Lease::Held,
            new_lease: None,
            worked: Duration::ZERO,
            request_times: RequestTimes::default(),
        };
        match writer.make_ready() {
            Ok(()) => {}
            Err(Unready::Unusable(error)) => bail!(error),
            Err(Unready::Unavailable(text)) => {
                tracing::warn!("DBPATH: {url} cannot be used yet, retrying: {text}");
            }
        }
        Ok(writer)
    }

    fn make_ready(&mut self) -> Result<(), Unready> {
        let url = &self.url;
        // A migration takes several requests, so this first checks that the server answers.
        match self.client.run([&Statement::new("select 1", [])]) {
            Ok(_) => {}
            Err(fault @ Fault::Unauthorized(_)) => {
                let text = fault.text();
                return Err(Unready::Unusable(format!("DBPATH: {url}: {text}")));
            }
            Err(fault) => return Err(Unready::Unavailable(fault.text())),
        }
        let migrating = schema::migrate_remote(&self.client.connection, clock::now());
        let migrated = self
            .client
            .runtime
            .block_on(async { timeout(MIGRATION_TIMEOUT, migrating).await });
        match migrated {
            Ok(Ok(())) => {}
            Ok(Err(SchemaError::Database(error))) => {
                return Err(match Fault::of(&error) {
                    Fault::Statement(text) => Unready::Unusable(format!("DBPATH: {url}: {text}")),
                    fault => Unready::Unavailable(fault.text()),
                });
            }
            Ok(Err(error)) => return Err(Unready::Unusable(format!("DBPATH: {url}: {error}"))),
            Err(_) => return Err(Unready::Unavailable("the migration took too long".into())),
        }
        let statements = lease::take_lease(&self.host_id, self.batch, false);
        self.client
            .run(&statements)
            .map_err(|fault| Unready::Unavailable(fault.text()))?;
        self.is_ready.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes a new lease, for the groups that follow, if the last one was lost.
    fn hold_lease(&mut self) -> Result<(), Fault> {
        let Lease::Lost { is_forced } = self.lease else {
            return Ok(());
        };
        let statements = lease::take_lease(&self.host_id, self.batch, is_forced);
        self.client.run(&statements)?;
        self.lease = Lease::Held;
        self.new_lease = Some(self.batch);
        Ok(())
    }

    /// Commits a group. Sends it again until it is stored or refused for good, or the deadline has
    /// passed.
    pub fn transact(
        &mut self,
        operations: &[Vec<Statement>],
        deadline: Instant,
    ) -> Result<Vec<Vec<Rows>>, Failure> {
        let mut backoff = Backoff::until(deadline);
        while !self.is_ready.load(Ordering::Acquire) {
            match self.make_ready() {
                Ok(()) => tracing::info!("{} can be used now", self.url),
                Err(Unready::Unusable(text) | Unready::Unavailable(text)) => {
                    if !backoff.wait() {
                        return Err(Failure::Unavailable(text));
                    }
                }
            }
        }
        loop {
            match self.hold_lease() {
                Ok(()) => break,
                Err(fault) if !backoff.wait() => return Err(Failure::Unavailable(fault.text())),
                Err(_) => {}
            }
        }
        self.batch += 1;
        let fence = lease::fence(&self.host_id, self.batch);
        let time = lease::server_time();
        let mut is_unknown = false;
        loop {
            let all = std::iter::once(&fence).chain(operations.iter().flatten());
            let fault = match self.client.run(all.chain([&time])) {
                Ok(rows) => {
                    let times = [rows.first(), rows.last()].map(|rows| rows.map(Rows::integers));
                    if let [Some(began), Some(ended)] = times {
                        let worked = ended.iter().sum::<i64>() - began.iter().sum::<i64>();
                        self.worked = Duration::from_millis(worked.try_into().unwrap_or_default());
                    }
                    return Ok(distribute(rows.into_iter().skip(1), operations));
                }
                Err(Fault::Fenced) => match self.is_committed() {
                    Ok(true) => return Err(Failure::AnswerLost),
                    Ok(false) => {
                        tracing::warn!(
                            "other hosts considered this host dead: its users are counted again"
                        );
                        self.lease = Lease::Lost { is_forced: false };
                        if is_unknown {
                            // The lease may have been lost before or after the group was stored.
                            return Err(self.unknown("the lease was lost".into()));
                        }
                        return self.transact(operations, deadline);
                    }
                    Err(fault) => fault,
                },
                Err(fault) => fault,
            };
            tracing::debug!(?fault, batch = self.batch, "a group was not stored");
            match fault {
                // The statements failed, so this try has stored nothing. If an earlier try had
                // stored the group, the fence would have stopped this one.
                Fault::Statement(text) => return Err(Failure::Statement(text)),
                Fault::TooLarge(text) => return Err(Failure::TooLarge(text)),
                Fault::Unknown(_) => is_unknown = true,
                Fault::Refused(_) | Fault::Unauthorized(_) | Fault::Fenced => {}
            }
            if !backoff.wait() {
                return Err(match is_unknown {
                    true => self.unknown(fault.text()),
                    false => Failure::Unavailable(fault.text()),
                });
            }
        }
    }

    /// The counts in a group that may have been stored are not known. They are made again under a
    /// new lease, which also keeps the group from being stored later.
    fn unknown(&mut self, text: String) -> Failure {
        self.doubt_lease();
        Failure::Unknown(text)
    }

    /// The next group takes a new lease, under which everything is counted again.
    pub fn doubt_lease(&mut self) {
        if matches!(self.lease, Lease::Held) {
            self.lease = Lease::Lost { is_forced: true };
        }
    }

    /// After the fence has stopped a group: whether an earlier try of it was committed. If not, the
    /// lease was lost.
    fn is_committed(&self) -> Result<bool, Fault> {
        let rows = self.client.run([&lease::committed_batch(&self.host_id)])?;
        let committed = rows.first().and_then(Rows::first);
        Ok(committed.is_some_and(|row| row.columns().integer() == self.batch))
    }

    /// Notes what the operations of the last group have taken, of which all took so long.
    pub fn note_times(&mut self, operations: &[Ran], total: Duration) {
        self.request_times.note(operations, self.worked, total);
    }

    pub fn note_latest(&self) -> Statement {
        lease::note_latest(&self.host_id)
    }

    /// The ids that were noted in the last group.
    pub fn noted_ids(&self, deadline: Instant) -> Result<Vec<i64>, Failure> {
        let mut backoff = Backoff::until(deadline);
        loop {
            match self.client.run([&lease::noted_ids(&self.host_id)]) {
                Ok(rows) => return Ok(rows.first().map_or_else(Vec::new, Rows::integers)),
                Err(Fault::Statement(text)) => return Err(Failure::Statement(text)),
                Err(fault) if !backoff.wait() => return Err(Failure::Unavailable(fault.text())),
                Err(_) => {}
            }
        }
    }

    /// Returns once each lease that was taken because the last one was lost.
    pub fn take_new_lease(&mut self) -> Option<i64> {
        self.new_lease.take()
    }
}

enum Unready {
    /// Trying again cannot help.
    Unusable(String),
    Unavailable(String),
}

/// The way to the server may have become longer by this part with each request.
const WAY_GROWS: u32 = 64;

/// A connection that reads.
pub struct RemoteReader {
    client: Client,
    is_ready: Arc<AtomicBool>,
    /// How long the shortest request took lately.
    way: Option<Duration>,
}

impl RemoteReader {
    pub fn connect(
        url: &RemoteUrl,
        timeout: Duration,
        is_ready: Arc<AtomicBool>,
    ) -> anyhow::Result<Self> {
        Ok(RemoteReader {
            client: Client::connect(url, timeout)?,
            is_ready,
            way: None,
        })
    }

    /// Reads in one transaction. Tries again until there is an answer or the deadline has passed.
    /// `ends` gets when each operation had run, without the way to the server: the server does not
    /// say it, so it is estimated by the sizes of the answers.
    pub fn transact(
        &mut self,
        operations: &[Vec<Statement>],
        deadline: Instant,
        ends: &mut Vec<Duration>,
    ) -> Result<Vec<Vec<Rows>>, Failure> {
        if !self.is_ready.load(Ordering::Acquire) {
            return Err(Failure::Unavailable("the database is not ready".into()));
        }
        let mut backoff = Backoff::until(deadline);
        loop {
            let started = Instant::now();
            let fault = match self.client.run(operations.iter().flatten()) {
                Ok(rows) => {
                    let found = distribute(rows.into_iter(), operations);
                    let elapsed = started.elapsed();
                    // It may have become longer.
                    let way = self.way.map_or(elapsed, |way| way + way / WAY_GROWS);
                    let way = way.min(elapsed);
                    self.way = Some(way);
                    ends.extend(shares(&found, elapsed - way));
                    return Ok(found);
                }
                Err(Fault::Statement(text)) => return Err(Failure::Statement(text)),
                Err(Fault::TooLarge(text)) => return Err(Failure::TooLarge(text)),
                Err(fault) => fault,
            };
            if !backoff.wait() {
                return Err(Failure::Unavailable(fault.text()));
            }
        }
    }
}

/// The most that a row of an answer may cost, and each `ROW_BYTES` of its texts: several times what
/// they cost on a server that is idle. If it takes longer, others are the reason.
const ROW_COST: Duration = Duration::from_micros(25);
const ROW_BYTES: usize = 4 * 1024;

/// When each of these operations had run, if together they took so long.
fn shares(found: &[Vec<Rows>], elapsed: Duration) -> Vec<Duration> {
    let cost = |rows: &Rows| ROW_COST * (rows.0.len() + rows.bytes() / ROW_BYTES) as u32;
    let costs = found
        .iter()
        .map(|rows| rows.iter().map(cost).sum::<Duration>());
    let costs: Vec<_> = costs.collect();
    let all = costs.iter().sum::<Duration>().max(ROW_COST);
    let part = elapsed.div_duration_f64(all).min(1.0);
    let mut end = Duration::ZERO;
    let end = costs.into_iter().map(|cost| {
        end += cost.mul_f64(part);
        end
    });
    end.collect()
}

/// A connection for a program that works alone.
pub struct RemoteScripts {
    client: Client,
}

impl RemoteScripts {
    /// Fails at once if the server does not answer.
    pub fn connect(url: &RemoteUrl) -> anyhow::Result<Self> {
        let scripts = RemoteScripts {
            client: Client::connect(url, SCRIPT_TIMEOUT)?,
        };
        match scripts.client.run([&Statement::new("select 1", [])]) {
            Ok(_) => Ok(scripts),
            Err(fault) => bail!(text_for_any(fault)),
        }
    }

    /// The same as `schema::check_remote`.
    pub fn check(&self) -> Result<i64, SchemaError> {
        let checking = schema::check_remote(&self.client.connection);
        self.client.runtime.block_on(checking)
    }

    /// Runs statements in one transaction that takes no longer than others in the chat; returns the
    /// rows of each. If there is no answer, sends them again for a while, so they have to be safe
    /// to run twice.
    pub fn repeat(&self, script: &str) -> anyhow::Result<Vec<Rows>> {
        let mut backoff = Backoff::until(Instant::now() + SCRIPT_PATIENCE);
        loop {
            let request = run_script(&self.client.connection, script);
            let fault = match self.client.wait(SCRIPT_TIMEOUT, request) {
                Ok(rows) => return Ok(rows),
                Err(fault) => fault,
            };
            let may_pass = matches!(fault, Fault::Refused(_) | Fault::Unknown(_));
            if !may_pass || !backoff.wait() {
                bail!(text_for_any(fault));
            }
        }
    }

    /// Runs statements once, in one transaction that may take long.
    pub fn run(&self, script: &str) -> anyhow::Result<()> {
        let request = run_script(&self.client.connection, script);
        match self.client.wait(MIGRATION_TIMEOUT, request) {
            Ok(_) => Ok(()),
            Err(fault) => bail!(text_for_any(fault)),
        }
    }
}

/// The same as `Fault::text`, without the name of the variable that holds the token.
fn text_for_any(fault: Fault) -> String {
    match fault {
        Fault::Unauthorized(text) => format!("the token is refused: {text}"),
        fault => fault.text(),
    }
}

/// The rows of each operation.
fn distribute(
    mut rows: impl Iterator<Item = Rows>,
    operations: &[Vec<Statement>],
) -> Vec<Vec<Rows>> {
    operations
        .iter()
        .map(|statements| rows.by_ref().take(statements.len()).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use handler::Row;

    use super::*;

    #[test]
    fn a_request_is_paid_for_by_what_its_answers_have() {
        let rows = |count, bytes| {
            let row = || Row(vec!["x".repeat(bytes).into()]);
            vec![Rows((0..count).map(|_| row()).collect())]
        };
        let found = [rows(1, 10), rows(1_000, 10_000), rows(0, 0)];
        let took = Duration::from_millis(10);
        let ends = shares(&found, took);
        assert!(ends[0] < took / 1_000, "{ends:?}");
        assert!(
            ends[2] > took * 999 / 1_000 && ends[1] == ends[2],
            "{ends:?}"
        );
        // Others have used the server too.
        let ends = shares(&found[..1], took);
        assert_eq!(ends, [ROW_COST]);
        assert_eq!(shares(&[vec![]], Duration::ZERO), [Duration::ZERO]);
    }
}
