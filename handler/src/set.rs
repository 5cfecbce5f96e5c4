//! Several operations of one kind as one set, in statements that take all of them as a list.
//!
//! A server spends its time on statements, not on data, and a page that many changes share is written
//! once for all of them. So operations that wait for a server together run as a set. They end as if
//! they had run one after the other.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use libsql::Value;
use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use crate::reply::json;
use crate::sql::{Row, Rows, Statement};

/// How several operations of one kind become one.
pub struct Set {
    /// The statements that do what all these do.
    pub statements: fn(elements: &[&Element]) -> Vec<Statement>,
    /// If the set stores messages: the statements that find what it has done if the answer was lost,
    /// with the ids of the latest message before and after. They return the same rows. Without them,
    /// each operation finds that for itself.
    pub repeated: Option<Repeated>,
    /// The rows that each element would have got from statements of its own.
    pub rows: fn(elements: &[&Element], rows: &[Rows]) -> Vec<Vec<Rows>>,
}

/// See [`Set::repeated`].
pub type Repeated = fn(elements: &[&Element], before: i64, after: i64) -> Vec<Statement>;

/// An operation as a part of a set.
pub struct Element {
    pub set: &'static Set,
    /// Elements with the same key are not in one set: the second one has to find what the first one did.
    pub key: Option<u64>,
    /// Numbers, text and nulls.
    pub(crate) values: Vec<Value>,
}

impl Element {
    /// Returns `None` if a text has a NUL, at which SQLite ends a text of a list.
    pub(crate) fn new(
        set: &'static Set,
        key: Option<impl Hash>,
        values: Vec<Value>,
    ) -> Option<Self> {
        let has_nul = |value: &Value| matches!(value, Value::Text(text) if text.contains('\0'));
        if values.iter().any(has_nul) {
            return None;
        }
        let hash = |key| {
            let mut hasher = DefaultHasher::new();
            Hash::hash(&key, &mut hasher);
            hasher.finish()
        };
        Some(Element {
            set,
            key: key.map(hash),
            values,
        })
    }

    /// The bytes of its values, approximately.
    pub fn bytes(&self) -> usize {
        let sizes = self.values.iter().map(|value| match value {
            Value::Text(text) => text.len(),
            _ => 8,
        });
        sizes.sum()
    }

    pub(crate) fn integer(&self, index: usize) -> Option<i64> {
        match self.values.get(index) {
            Some(Value::Integer(number)) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn str(&self, index: usize) -> Option<&str> {
        match self.values.get(index) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }
}

/// The first values of each element, so many, as a list of lists in JSON.
pub(crate) fn list(elements: &[&Element], columns: usize) -> Value {
    let rows = elements
        .iter()
        .map(|element| Values(&element.values[..columns]));
    json(&rows.collect::<Vec<_>>()).into()
}

struct Values<'a>(&'a [Value]);

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for value in self.0 {
            match value {
                Value::Integer(number) => list.serialize_element(number)?,
                Value::Text(text) => list.serialize_element(text)?,
                _ => list.serialize_element(&())?,
            }
        }
        list.end()
    }
}

/// The rows by their first column, without it.
pub(crate) fn rows_by_key(rows: &Rows) -> HashMap<i64, Row> {
    let row = |row: &Row| {
        let key = row.columns().integer();
        (key, Row(row.0[1..].to_vec()))
    };
    rows.0.iter().map(row).collect()
}
