//! Why an operation failed in the store, and what its caller is told.

use handler::Error;
use once_cell::sync::Lazy;

use crate::limits::rates::{Quota, Rate};

const RETRY_AFTER_SECONDS: u32 = 1;

/// The error for an operation that may succeed a little later.
pub fn busy() -> Error {
    Error::Unavailable {
        retry_after_seconds: RETRY_AFTER_SECONDS,
    }
}

/// Why a group of operations failed.
pub enum Failure {
    /// A statement failed on the data; nothing was stored.
    Statement(String),
    /// The database is not available now; nothing was stored.
    Unavailable(String),
    /// The connection was lost, and it is not known whether the group was stored.
    Unknown(String),
    /// The group was stored, but the answer with its rows was lost.
    AnswerLost,
    /// The group or its answer is larger than the database allows; nothing was stored.
    TooLarge(String),
}

impl Failure {
    /// Its name in the metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Failure::Statement(_) => "statement",
            Failure::Unavailable(_) => "unavailable",
            Failure::Unknown(_) => "unknown",
            Failure::AnswerLost => "answer_lost",
            Failure::TooLarge(_) => "too_large",
        }
    }

    /// A condition that may pass has one of SQLite's primary result codes (sqlite.org/rescode.html)
    /// BUSY, LOCKED, READONLY, IOERR, FULL and CANTOPEN.
    pub fn of_local(error: &libsql::Error) -> Self {
        const MAY_PASS: [i32; 6] = [5, 6, 8, 10, 13, 14];
        match error {
            libsql::Error::SqliteFailure(code, _) if MAY_PASS.contains(&(code & 0xff)) => {
                Failure::Unavailable(error.to_string())
            }
            _ => Failure::Statement(error.to_string()),
        }
    }

    /// Logs the failure, unless that is done later, and returns what the caller is told.
    pub fn answer(self) -> Error {
        match self {
            // The caller logs it with its operation.
            Failure::Statement(error) => Error::Internal(error),
            Failure::Unavailable(error) | Failure::Unknown(error) => {
                // Thousands of operations a second may fail for this reason.
                static LINES: Lazy<Rate> = Lazy::new(|| Rate::new(Quota::per_second(1, 1)));
                if LINES.check().is_ok() {
                    tracing::error!(error, "the database is not available");
                }
                busy()
            }
            Failure::AnswerLost => Error::Internal("an answer was lost".into()),
            Failure::TooLarge(error) => {
                tracing::error!(
                    error,
                    "an operation or its answer is too large for the database"
                );
                Error::TooLarge("this is more than the database takes at once".into())
            }
        }
    }
}
