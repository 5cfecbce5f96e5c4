//! A statement, the rows it returns, and the one safe way to run it on a libsql connection.

use std::borrow::Cow;

use libsql::Value;
use libsql::params::Params;

/// SQL with its parameters (`?1`, …). The text is static, so that a store may keep it prepared.
///
/// Text columns are selected as `cast(… as blob)`: libsql 0.10 reads a text value up to its first NUL and panics on
/// invalid UTF-8, where a blob arrives whole. Integer columns that a file of the first backend may have filled with
/// anything are selected as `cast(… as integer)`.
#[derive(Debug, Clone)]
pub struct Statement {
    pub sql: &'static str,
    pub parameters: Vec<Value>,
}

impl Statement {
    pub fn new<const N: usize>(sql: &'static str, parameters: [Value; N]) -> Self {
        Statement {
            sql,
            parameters: parameters.into(),
        }
    }
}

/// What one statement returned.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows(pub Vec<Row>);

impl Rows {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn first(&self) -> Option<&Row> {
        self.0.first()
    }

    /// Column 0 of every row, as integers.
    pub fn integers(&self) -> Vec<i64> {
        self.0.iter().map(|row| row.integer(0)).collect()
    }

    /// Column 0 of every row, as text.
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(|row| row.text(0)).collect()
    }
}

/// One row. Reading never fails: what is not there or not of the type reads as 0 or as empty text.
#[derive(Debug, Clone, PartialEq)]
pub struct Row(pub Vec<Value>);

impl Row {
    pub fn integer(&self, column: usize) -> i64 {
        self.optional_integer(column).unwrap_or(0)
    }

    pub fn optional_integer(&self, column: usize) -> Option<i64> {
        match self.0.get(column) {
            Some(Value::Integer(value)) => Some(*value),
            Some(Value::Real(value)) => Some(*value as i64),
            _ => None,
        }
    }

    pub fn flag(&self, column: usize) -> bool {
        self.integer(column) != 0
    }

    pub fn text(&self, column: usize) -> String {
        self.str(column).into_owned()
    }

    /// As `text`, borrowed where it is valid.
    pub fn str(&self, column: usize) -> Cow<'_, str> {
        self.optional_str(column).unwrap_or_default()
    }

    pub fn optional_str(&self, column: usize) -> Option<Cow<'_, str>> {
        match self.0.get(column) {
            // Mostly it is valid, which this finds out some times faster than the other.
            Some(Value::Blob(bytes)) => Some(match std::str::from_utf8(bytes) {
                Ok(text) => text.into(),
                Err(_) => String::from_utf8_lossy(bytes),
            }),
            Some(Value::Text(text)) => Some(text.into()),
            _ => None,
        }
    }
}

/// Runs a prepared statement to its end and leaves it reset, whatever happens.
///
/// Without the reset before, a statement keeps its old parameters; without stepping to the end, the row of an
/// `insert … returning` stays uncommitted; without the reset after, a `select` pins its snapshot.
pub async fn run(
    statement: &mut libsql::Statement,
    parameters: Vec<Value>,
) -> Result<Rows, libsql::Error> {
    let statement = ResetOnDrop(statement);
    statement.0.reset();
    // As a list of any other type it would be copied.
    let parameters = Params::Positional(parameters);
    let mut found = statement.0.query(parameters).await?;
    let columns = found.column_count();
    let mut rows = Vec::new();
    while let Some(row) = found.next().await? {
        let values = (0..columns).map(|column| row.get_value(column));
        rows.push(Row(values.collect::<Result<_, _>>()?));
    }
    Ok(Rows(rows))
}

struct ResetOnDrop<'a>(&'a mut libsql::Statement);

impl Drop for ResetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.reset();
    }
}
