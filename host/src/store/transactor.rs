//! A connection to the database, wherever it is: groups of operations, each group in one transaction.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use handler::{Access, Rows, Statement};

use crate::store::failures::Failure;
use crate::store::local::LocalDatabase;
use crate::store::remote::{RemoteReader, RemoteWriter};

pub enum Transactor {
    Local(LocalDatabase),
    RemoteWriter(RemoteWriter),
    RemoteReader(RemoteReader),
}

impl Transactor {
    /// Runs operations in one transaction: the rows of each. libsql panics on some values that a file may hold, text that
    /// is not UTF-8 for one.
    pub fn transact(
        &mut self,
        access: Access,
        operations: Vec<Vec<Statement>>,
        deadline: Instant,
    ) -> Result<Vec<Vec<Rows>>, Failure> {
        let transact = || match self {
            Transactor::Local(database) => database
                .transact(access, operations)
                .map_err(|error| Failure::of_local(&error)),
            Transactor::RemoteWriter(writer) => writer.transact(&operations, deadline),
            Transactor::RemoteReader(reader) => reader.transact(&operations, deadline),
        };
        catch_unwind(AssertUnwindSafe(transact))
            .unwrap_or_else(|_| Err(Failure::Statement("a panic in libsql".into())))
    }

    /// What was counted under the present lease is not known.
    pub fn doubt_lease(&mut self) {
        if let Transactor::RemoteWriter(writer) = self {
            writer.doubt_lease();
        }
    }

    /// A lease that was taken because the one before was lost.
    pub fn take_new_lease(&mut self) -> Option<i64> {
        match self {
            Transactor::RemoteWriter(writer) => writer.take_new_lease(),
            _ => None,
        }
    }
}
