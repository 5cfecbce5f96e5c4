//! The rows that a statement returned.

use std::borrow::Cow;
use std::slice::Iter;

use libsql::Value;

/// The rows that one statement returned.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows(pub Vec<Row>);

impl Rows {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn first(&self) -> Option<&Row> {
        self.0.first()
    }

    /// The bytes of all texts and blobs.
    pub fn bytes(&self) -> usize {
        let values = self.0.iter().flat_map(|row| &row.0);
        let bytes = values.map(|value| match value {
            Value::Text(text) => text.len(),
            Value::Blob(bytes) => bytes.len(),
            _ => 0,
        });
        bytes.sum()
    }

    /// The first column of every row, as integers.
    pub fn integers(&self) -> Vec<i64> {
        self.0.iter().map(|row| row.columns().integer()).collect()
    }

    /// The first column of every row, as text.
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(|row| row.columns().text()).collect()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Row(pub Vec<Value>);

impl Row {
    /// The columns of the row, starting with the first.
    pub fn columns(&self) -> Columns<'_> {
        Columns(self.0.iter())
    }
}

/// The columns of a row, read one after the other in the order in which the statement names them.
/// So the list of columns and the code that reads it can stand side by side.
///
/// Reading never fails: a value that is missing or has the wrong type reads as 0 or as empty text.
pub struct Columns<'a>(Iter<'a, Value>);

impl<'a> Columns<'a> {
    pub fn integer(&mut self) -> i64 {
        self.optional_integer().unwrap_or(0)
    }

    pub fn optional_integer(&mut self) -> Option<i64> {
        match self.0.next() {
            Some(Value::Integer(value)) => Some(*value),
            Some(Value::Real(value)) => Some(*value as i64),
            _ => None,
        }
    }

    pub fn flag(&mut self) -> bool {
        self.integer() != 0
    }

    pub fn text(&mut self) -> String {
        self.str().into_owned()
    }

    /// Like `text`, but borrowed if it is valid UTF-8.
    pub fn str(&mut self) -> Cow<'a, str> {
        self.optional_str().unwrap_or_default()
    }

    pub fn optional_str(&mut self) -> Option<Cow<'a, str>> {
        match self.0.next() {
            // It is usually valid, and this check is several times faster than the lossy
            // conversion.
            Some(Value::Blob(bytes)) => Some(match std::str::from_utf8(bytes) {
                Ok(text) => text.into(),
                Err(_) => String::from_utf8_lossy(bytes),
            }),
            Some(Value::Text(text)) => Some(text.into()),
            _ => None,
        }
    }
}
