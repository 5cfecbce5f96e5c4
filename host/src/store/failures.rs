//! Why the store has no rows for an operation, and what its caller may know of it.

use handler::Error;
use once_cell::sync::Lazy;

use crate::limits::rates::Rate;

const RETRY_AFTER_SECONDS: u32 = 1;

/// Too many wait already.
pub fn busy() -> Error {
    Error::Unavailable {
        retry_after_seconds: RETRY_AFTER_SECONDS,
    }
}

/// Why a group has no rows.
pub enum Failure {
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
    pub fn reason(&self) -> &'static str {
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
    pub fn of_local(error: &libsql::Error) -> Self {
        const MAY_PASS: [i32; 6] = [5, 6, 8, 10, 13, 14];
        match error {
            libsql::Error::SqliteFailure(code, _) if MAY_PASS.contains(&(code & 0xff)) => {
                Failure::Unavailable(error.to_string())
            }
            _ => Failure::Statement(error.to_string()),
        }
    }

    /// Logs it where that is not done later, and says what the caller may know of it.
    pub fn answer(self) -> Error {
        match self {
            // Logged with the operation that it is an answer to.
            Failure::Statement(error) => Error::Internal(error),
            Failure::Unavailable(error) | Failure::Unknown(error) => {
                // Thousands of operations a second may fail for it.
                static LINES: Lazy<Rate> = Lazy::new(|| Rate::per_second(1, 1));
                if LINES.check().is_ok() {
                    tracing::error!(error, "the database is not available");
                }
                busy()
            }
            Failure::AnswerLost => Error::Internal("an answer was lost".into()),
            Failure::TooLarge(error) => {
                tracing::error!(error, "database");
                Error::TooLarge("this is more than the database takes at once".into())
            }
        }
    }
}
