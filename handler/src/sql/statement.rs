//! A statement, and the only safe way to run it on a libsql connection.

use libsql::Value;
use libsql::params::Params;

use crate::sql::row::{Row, Rows};

/// SQL with its parameters (`?1`, …). The text is static, so that a store may keep the statement
/// prepared.
///
/// Text columns are selected as `cast(… as blob)`: libsql 0.10 reads a text value only up to its
/// first NUL and panics on invalid UTF-8, but a blob arrives whole. Integer columns in which a file
/// of the first backend may hold anything are selected as `cast(… as integer)`.
///
/// A limit is written as `limit +?1`. With a bare parameter, SQLite 3.47 makes its plan for
/// that very number, and plans the statement anew each time it is run.
///
/// A hot statement has no `returning`: SQLite makes a temporary table for the rows, which costs as
/// much as storing two messages. A select after it can go by `changes()`, which stays as it is.
#[derive(Debug, Clone)]
pub struct Statement {
    pub sql: &'static str,
    pub parameters: Vec<Value>,
    /// It only finds out why the operation's statement with this number, counted from 0, returned no
    /// row, and changes nothing. If that one has returned a row, this one may be left out, and nobody
    /// looks at its rows. A local database leaves it out; a remote one gets all statements at once.
    pub reason_for: Option<usize>,
}

impl Statement {
    pub fn new<const N: usize>(sql: &'static str, parameters: [Value; N]) -> Self {
        Statement {
            sql,
            parameters: parameters.into(),
            reason_for: None,
        }
    }

    /// Says that the statement only finds out why the operation's statement with this number, counted
    /// from 0, returned no row.
    pub(crate) fn explaining(self, number: usize) -> Self {
        Statement {
            reason_for: Some(number),
            ..self
        }
    }
}

/// Whether a statement may be left out, after the operation's statements before it have returned
/// these rows.
pub fn is_left_out(statement: &Statement, rows: &[Rows]) -> bool {
    let found = statement.reason_for.and_then(|number| rows.get(number));
    found.is_some_and(|rows| !rows.is_empty())
}

/// Runs a prepared statement to its end and leaves it reset, whatever happens.
///
/// Without the reset before, a statement keeps its old parameters. Without stepping to the end, the
/// row of an `insert … returning` stays uncommitted. Without the reset after, a `select` keeps its
/// snapshot open.
pub async fn run(
    statement: &mut libsql::Statement,
    parameters: Vec<Value>,
) -> Result<Rows, libsql::Error> {
    let statement = ResetOnDrop(statement);
    statement.0.reset();
    // A list of any other type would be copied.
    let parameters = Params::Positional(parameters);
    let mut found = statement.0.query(parameters).await?;
    let columns = found.column_count();
    let mut rows = Vec::new();
    while let Some(row) = found.next().await? {
        // Collecting a `Result` would not know how many values come.
        let mut values = Vec::with_capacity(columns.max(0) as usize);
        for column in 0..columns {
            values.push(row.get_value(column)?);
        }
        rows.push(Row(values));
    }
    Ok(Rows(rows))
}

struct ResetOnDrop<'a>(&'a mut libsql::Statement);

impl Drop for ResetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.reset();
    }
}
