//! A connection to a local or remote database: groups of operations, each group in one transaction.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use handler::{Access, Rows, Statement};

use crate::store::failures::Failure;
use crate::store::local::LocalDatabase;
use crate::store::remote::{RemoteReader, RemoteWriter};
use crate::store::request_times::{Ran, RequestTimes};

/// A commit to a file takes no further operations after this time, or this many returned rows or
/// bytes in them: one operation may store 10,000 members, or be answered with a long message, and all
/// others wait for it and for its answer.
const COMMIT_TIME: Duration = Duration::from_millis(10);
pub const COMMIT_ROWS: usize = 4_000;
const COMMIT_ROW_BYTES: usize = 256 * 1024;

pub enum Transactor {
    Local(LocalDatabase),
    RemoteWriter(RemoteWriter),
    RemoteReader(RemoteReader),
}

impl Transactor {
    /// Runs operations in one transaction; returns the rows of each. On a file, those after the first
    /// may be left out if they took long: then there are rows of fewer. `ends` gets the times at which
    /// each of them had run, if that is known, from the beginning. libsql panics on some values that a
    /// file may hold, for example text that is not UTF-8.
    pub fn transact(
        &mut self,
        access: Access,
        operations: Vec<Vec<Statement>>,
        deadline: Instant,
        ends: &mut Vec<Duration>,
    ) -> Result<Vec<Vec<Rows>>, Failure> {
        ends.clear();
        let ends = RefCell::new(ends);
        let transact = || match self {
            Transactor::Local(database) => {
                // A look before is enough: a file that goes during the commit may as well go after it.
                if let Some(lost) = database.lost_file() {
                    return Err(Failure::Unavailable(lost));
                }
                let started = Instant::now();
                let goes_on = |rows, bytes| {
                    let end = started.elapsed();
                    ends.borrow_mut().push(end);
                    rows < COMMIT_ROWS && bytes < COMMIT_ROW_BYTES && end < COMMIT_TIME
                };
                database
                    .transact_while(access, operations, goes_on)
                    .map_err(|error| Failure::of_local(&error))
            }
            Transactor::RemoteWriter(writer) => writer.transact(&operations, deadline),
            Transactor::RemoteReader(reader) => {
                reader.transact(&operations, deadline, &mut ends.borrow_mut())
            }
        };
        catch_unwind(AssertUnwindSafe(transact))
            .unwrap_or_else(|_| Err(Failure::Statement("a panic in libsql".into())))
    }

    /// Whether the jobs of a group are put together in sets.
    pub fn takes_sets(&self) -> bool {
        matches!(self, Transactor::RemoteWriter(_))
    }

    /// Notes the id of the latest message, before and after a set that stores messages.
    pub fn note_latest(&self) -> Option<Statement> {
        match self {
            Transactor::RemoteWriter(writer) => Some(writer.note_latest()),
            _ => None,
        }
    }

    /// The ids that were noted in the last group.
    pub fn noted_ids(&self, deadline: Instant) -> Result<Vec<i64>, Failure> {
        match self {
            Transactor::RemoteWriter(writer) => writer.noted_ids(deadline),
            _ => Ok(Vec::new()),
        }
    }

    /// If each group is a request to a server: what its operations take there.
    pub fn request_times(&self) -> Option<&RequestTimes> {
        match self {
            Transactor::RemoteWriter(writer) => Some(&writer.request_times),
            _ => None,
        }
    }

    /// Notes what the operations of the last group have taken, of which all took so long.
    pub fn note_times(&mut self, operations: impl Iterator<Item = Ran>, total: Duration) {
        if let Transactor::RemoteWriter(writer) = self {
            writer.note_times(&operations.collect::<Vec<_>>(), total);
        }
    }

    /// The counts under the present lease are not known.
    pub fn doubt_lease(&mut self) {
        if let Transactor::RemoteWriter(writer) = self {
            writer.doubt_lease();
        }
    }

    /// Returns once each lease that was taken because the last one was lost.
    pub fn take_new_lease(&mut self) -> Option<i64> {
        match self {
            Transactor::RemoteWriter(writer) => writer.take_new_lease(),
            _ => None,
        }
    }
}
