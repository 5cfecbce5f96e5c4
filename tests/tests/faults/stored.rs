//! Compares what a data file holds with what clients were told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;
use tests::Data;

/// A message that a client received in a reply or a push: its id, conversation, rev and content.
pub type Heard = (i64, i64, i64, String);

pub fn heard(data: &Value) -> Heard {
    let integer = |name: &str| data[name].as_i64().expect("an integer");
    let content = data["content"].as_str().expect("content").to_owned();
    (
        integer("id"),
        integer("conversation_id"),
        integer("rev"),
        content,
    )
}

pub async fn rows(db: &libsql::Connection, sql: &'static str) -> Vec<handler::Row> {
    let mut statement = db.prepare(sql).await.expect("a query");
    handler::run(&mut statement, Vec::new())
        .await
        .expect("rows")
        .0
}

/// Checks a data file and its write-ahead log: SQLite finds nothing wrong, every message that a
/// client heard of is stored once, and neither ids nor revs have gaps. Returns the contents of all
/// messages. It opens a copy, so that recovery is left to the next host.
pub async fn check(file: &Path, heard: &[Heard]) -> BTreeSet<String> {
    let copy = Data::create();
    fs::copy(file, copy.file()).expect("copied");
    let wal = file.with_extension("db-wal");
    if wal.exists() {
        fs::copy(wal, copy.wal()).expect("copied");
    }
    let db = copy.open().await;
    let found = rows(&db, "pragma integrity_check").await;
    assert_eq!(found[0].columns().text(), "ok");
    let select = "select id, conversation_id, rev, cast(content as blob) from messages order by id";
    let mut stored = BTreeMap::new();
    let mut revs: BTreeMap<i64, i64> = BTreeMap::new();
    for row in rows(&db, select).await {
        let mut columns = row.columns();
        let (id, conversation, rev) = (columns.integer(), columns.integer(), columns.integer());
        assert_eq!(id, stored.len() as i64 + 1, "ids without gaps");
        let last = revs.entry(conversation).or_insert(1);
        *last += 1;
        assert_eq!(
            rev, *last,
            "revs of conversation {conversation} without gaps"
        );
        stored.insert(id, (id, conversation, rev, columns.text()));
    }
    for message in heard {
        assert_eq!(
            stored.get(&message.0),
            Some(message),
            "a message that was heard is lost"
        );
    }
    let contents: BTreeSet<_> = stored.values().map(|message| message.3.clone()).collect();
    assert_eq!(contents.len(), stored.len(), "each message once");
    contents
}
