//! `chatapp copy`: moves a chat from one database to another, from a file to a server or back.
//!
//! The tables and their columns are read from the database, so that tables of later migrations are
//! copied too. Rows are copied in the order of their rowids, one batch in a transaction, so that TO
//! always has the beginning of a table. Until the copy is complete and verified, TO has a table
//! `copying`, which keeps servers from starting on it.

use std::fmt::Write as _;
use std::io::{Write, stdout};
use std::thread;

use anyhow::{Context, bail, ensure};
use handler::schema::{SchemaError, VERSION};
use handler::{Row, literal, text_literal};
use libsql::Value;
use sha2::{Digest, Sha256};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::commands::data_file::{Unfinished, check_room};
use crate::commands::progress::Progress;
use crate::commands::reindex::index_all;
use crate::store::location::Database;
use crate::store::offline_database::OfflineDatabase;

/// Rows in a batch.
const BATCH_ROWS: usize = 2000;
/// Bytes of the values in a batch, without its last row.
const BATCH_BYTES: usize = 1024 * 1024;
/// Longest row, in bytes, that is sent to a server: sqld accepts 5 MiB (its `max_row_size`), and
/// turns longer text into null.
const REMOTE_ROW_BYTES_MAX: usize = 5_000_000;
/// Tables that say who serves the chat now: nobody serves the copy.
const OF_HOSTS: [&str; 2] = ["hosts", "presence"];
/// The index of the search, which is made anew in TO: FTS5's table, and those that FTS5 and the
/// handlers keep beside it.
const SEARCH: &str = "search";
const OF_FTS5: [&str; 3] = ["search_data", "search_idx", "search_config"];
const OF_SEARCH: [&str; 2] = ["search_state", "search_stale"];
/// What an index needs that holds nothing yet.
const NEW_INDEX: &str = "insert into search (search, rank) values ('secure-delete', 1);
    insert into search_state (id, low, high) values (1, 0, 0)";
/// Tables that have rows even without users.
const OF_ALL_CHATS: [&str; 3] = ["migrations", "community", "deleted_accounts"];

/// Copies all lasting data of a chat, and prints each table with its number of rows and checksum to
/// standard output; progress goes to standard error. With `restart`, an incomplete copy in `to` is
/// dropped first. SIGTERM and SIGINT end the copy; SIGKILL does no harm either.
pub async fn copy(from: Database, to: Database, restart: bool) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, outcome) = oneshot::channel();
    // After a signal, the program does not wait for this thread, which may wait for a database.
    thread::Builder::new().name("copy".into()).spawn(move || {
        let _ = sender.send(copy_all(&from, &to, restart));
    })?;
    tokio::select! {
        outcome = outcome => outcome.context("the copy failed because of a bug in this program")?,
        _ = terminate.recv() => bail!("stopped: {GO_ON}"),
        _ = interrupt.recv() => bail!("stopped: {GO_ON}"),
    }
}

const GO_ON: &str = "run the same command again to continue";

fn copy_all(from: &Database, to: &Database, restart: bool) -> anyhow::Result<()> {
    ensure!(!is_same(from, to), "FROM and TO are the same database");
    let from = Side::new("FROM", from, OfflineDatabase::open_to_read(from))?;
    let version = from.of(from.database.check())?;
    ensure!(
        version == VERSION,
        "{from}: the database has schema version {version}, but this program needs {VERSION}: start this server on it once"
    );
    from.of(from.database.check_not_served())?;
    let chat_id = from.text("select cast(id as blob) from community")?;
    let tables = from.tables()?;
    let copied = || tables.iter().filter(|table| table.is_copied());
    for table in copied() {
        let any = format!("select max(rowid) from {}", quoted(&table.name));
        let why = || {
            format!(
                "the table {} has no rowids and cannot be copied",
                table.name
            )
        };
        from.number(&any).with_context(why)?;
    }

    let to_file = match to {
        Database::File(path) => Some(path),
        Database::Remote(_) => None,
    };
    if let (Some(path), OfflineDatabase::File(_)) = (to_file, &from.database) {
        let size = "select page_count * page_size from pragma_page_count, pragma_page_size";
        let there = path.metadata().map_or(0, |file| file.len());
        let bytes = from.number(size)?.unwrap_or(0) as u64;
        check_room(path, bytes.saturating_sub(there))?;
    }
    let to = Side::new("TO", to, OfflineDatabase::open_to_write(to))?;
    let is_complete = match to.find(&chat_id)? {
        Found::Nothing(left) => {
            begin(&to, &left, &tables, &chat_id)?;
            false
        }
        Found::Incomplete(left) if restart => {
            begin(&to, &left, &tables, &chat_id)?;
            false
        }
        Found::Incomplete(left) => {
            let is_alike = |table: &Table| left.iter().any(|other| table.is_alike(other));
            ensure!(
                tables.iter().all(is_alike),
                "{to}: the incomplete copy was begun when FROM had other tables: {RESTART}"
            );
            to.of(to.database.make_durable())?;
            false
        }
        Found::Complete => true,
    };
    if !is_complete {
        let filled = fill(&from, &to, &tables);
        if let (Err(error), Some(path)) = (&filled, to_file)
            && format!("{error:#}").contains("database or disk is full")
        {
            // A server may store its data on the same disk.
            drop(to);
            drop(Unfinished::new(path.clone()));
            return filled.context("the incomplete copy was removed");
        }
        filled?;
    }
    let mut different = Vec::new();
    writeln!(stdout(), "{:16} {:>12}  sha256", "table", "rows")?;
    for table in copied() {
        let (before, after) = (from.checksum(table)?, to.checksum(table)?);
        writeln!(stdout(), "{:16} {before}", table.name)?;
        if before != after {
            writeln!(stdout(), "{:16} {after}  in TO", "")?;
            different.push(table.name.as_str());
        }
    }
    // A server may have been started meanwhile.
    from.of(from.database.check_not_served())?;
    if is_complete {
        ensure!(
            different.is_empty(),
            "{to}: this chat is in it already, but differs from FROM in: {}. It is left as it is",
            different.join(", ")
        );
        writeln!(stdout(), "{to} was complete already")?;
        return Ok(());
    }
    ensure!(
        different.is_empty(),
        "{to}: not the same as in FROM: {}. FROM or TO has changed since the copy was begun, so no server starts on TO: {RESTART}",
        different.join(", ")
    );
    // Last, because it takes longest and needs what was verified.
    index(&from, &to)?;
    to.of(to.database.change("drop table copying"))?;
    to.of(to.database.checkpoint())?;
    writeln!(stdout(), "{to} is complete")?;
    Ok(())
}

/// Copies the rows that TO does not have yet, then makes the indexes.
fn fill(from: &Side, to: &Side, tables: &[Table]) -> anyhow::Result<()> {
    for table in tables.iter().filter(|table| table.is_copied()) {
        copy_table(from, to, table).with_context(|| format!("{}; {GO_ON}", table.name))?;
    }
    let there = to.definitions()?;
    for (name, definition) in from.definitions()? {
        if !there.iter().any(|(other, _)| *other == name) {
            to.of(to.database.change(&definition))?;
        }
    }
    Ok(())
}

/// Fills the index of the search in TO, unless the operator does not want it.
fn index(from: &Side, to: &Side) -> anyhow::Result<()> {
    if from.number("select is_off from search_state")? == Some(1) {
        return Ok(());
    }
    let all = from.number("select count(*) from messages")?;
    let progress = Progress::new(SEARCH.into(), "messages", 0, all);
    to.of(index_all(&to.database, progress)).context(GO_ON)
}

const RESTART: &str = "start again with --restart";

/// Whether both are the same database. A file may have several names.
fn is_same(from: &Database, to: &Database) -> bool {
    match (from, to) {
        (Database::File(from), Database::File(to)) => {
            let paths = (from.canonicalize().ok(), to.canonicalize().ok());
            paths.0.is_some() && paths.0 == paths.1
        }
        (Database::Remote(from), Database::Remote(to)) => from.address == to.address,
        _ => false,
    }
}

/// One of the two databases.
struct Side {
    database: OfflineDatabase,
    /// Its name in messages.
    shown: String,
    /// Users of the source count as offline, whatever it says.
    is_source: bool,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

/// What TO holds before anything is changed.
enum Found {
    /// No chat, or a chat without a single row of its own, in these tables.
    Nothing(Vec<Table>),
    /// The tables of an interrupted copy of the same chat, `copying` included.
    Incomplete(Vec<Table>),
    /// The same chat, not marked as incomplete.
    Complete,
}

impl Side {
    fn new(
        name: &str,
        at: &Database,
        opened: anyhow::Result<OfflineDatabase>,
    ) -> anyhow::Result<Self> {
        let shown = format!("{name}, {at}");
        Ok(Side {
            database: opened.with_context(|| shown.clone())?,
            shown,
            is_source: name == "FROM",
        })
    }

    /// Adds the name of this database to an error.
    fn of<T, E>(&self, result: Result<T, E>) -> anyhow::Result<T>
    where
        Result<T, E>: Context<T, E>,
    {
        result.with_context(|| self.shown.clone())
    }

    fn read(&self, sql: &str) -> anyhow::Result<Vec<Row>> {
        Ok(self.of(self.database.read(sql))?.0)
    }

    /// The first column of the first row.
    fn text(&self, sql: &str) -> anyhow::Result<String> {
        let rows = self.read(sql)?;
        Ok(rows
            .first()
            .map(|row| row.columns().text())
            .unwrap_or_default())
    }

    /// The first column of the first row, as a number.
    fn number(&self, sql: &str) -> anyhow::Result<Option<i64>> {
        let rows = self.read(sql)?;
        Ok(rows
            .first()
            .and_then(|row| row.columns().optional_integer()))
    }

    /// Finds out what TO holds. Fails unless TO is empty or holds a copy of this chat.
    fn find(&self, chat_id: &str) -> anyhow::Result<Found> {
        let is_incomplete = match self.database.check() {
            Ok(_) => false,
            Err(SchemaError::Copying) => true,
            Err(error) => return self.of(Err(error)),
        };
        let tables = self.tables()?;
        let has = |name: &str| tables.iter().any(|table| table.name == name);
        if has("hosts") {
            self.of(self.database.check_not_served())?;
        }
        if is_incomplete {
            let begun = self.text("select cast(community as blob) from copying")?;
            ensure!(
                begun == chat_id,
                "{self}: it has an incomplete copy of another chat, not of FROM, and is left as it is"
            );
            return Ok(Found::Incomplete(tables));
        }
        let of_this_chat = tables
            .iter()
            .filter(|table| table.is_copied() && !OF_ALL_CHATS.contains(&table.name.as_str()));
        for table in of_this_chat {
            let any = format!("select exists (select 1 from {})", quoted(&table.name));
            if self.number(&any)? == Some(0) {
                continue;
            }
            let is_same =
                has("community") && self.text("select cast(id as blob) from community")? == chat_id;
            ensure!(
                is_same,
                "{self}: there is another chat in it, which is left as it is"
            );
            return Ok(Found::Complete);
        }
        Ok(Found::Nothing(tables))
    }

    /// Its tables, in the order in which they were created.
    fn tables(&self) -> anyhow::Result<Vec<Table>> {
        let rows = self.read(
            r"select cast(t.name as blob), cast(t.sql as blob), t.rootpage, cast(c.name as blob)
              from sqlite_master t join pragma_table_info(t.name) c
              where t.type = 'table' and t.name not like 'sqlite\_%' escape '\' and t.name not like 'libsql\_%' escape '\'
              order by t.rowid, c.cid",
        )?;
        let mut tables: Vec<Table> = Vec::new();
        for row in &rows {
            let mut columns = row.columns();
            let (name, definition) = (columns.text(), columns.text());
            let (root_page, column) = (columns.integer(), columns.text());
            if OF_FTS5.contains(&name.as_str()) {
                continue;
            }
            ensure!(
                root_page != 0 || name == SEARCH,
                "{self}: the table {name} is virtual, so it is not part of a chat and is not copied: drop it first"
            );
            match tables.last_mut() {
                Some(table) if table.name == name => table.columns.push(column),
                _ => tables.push(Table {
                    name,
                    definition,
                    columns: vec![column],
                }),
            }
        }
        Ok(tables)
    }

    /// Names and definitions of its indexes, and of everything else that is not a table.
    fn definitions(&self) -> anyhow::Result<Vec<(String, String)>> {
        let rows = self.read(
            "select cast(name as blob), cast(sql as blob) from sqlite_master
             where type <> 'table' and sql is not null order by rowid",
        )?;
        Ok(rows
            .iter()
            .map(|row| {
                let mut columns = row.columns();
                (columns.text(), columns.text())
            })
            .collect())
    }

    /// The batch of rows after this rowid.
    fn batch(&self, table: &Table, after: Option<i64>) -> anyhow::Result<Vec<Row>> {
        let rows = self.read(&table.select(after, self.is_source));
        rows.with_context(|| match after {
            Some(after) => format!("the rows of {} after {after}", table.name),
            None => format!("the first rows of {}", table.name),
        })
    }

    fn checksum(&self, table: &Table) -> anyhow::Result<Checksum> {
        let side = if self.is_source { "FROM" } else { "TO" };
        let mut progress = Progress::new(
            format!("verifying {} in {side}", table.name),
            "rows",
            0,
            None,
        );
        let (mut rows, mut hash) = (0, Sha256::new());
        let mut after = None;
        loop {
            let batch = self.batch(table, after)?;
            let Some(last) = batch.last() else {
                progress.clear();
                return Ok(Checksum {
                    rows,
                    sha256: hash.finalize().into(),
                });
            };
            after = Some(last.columns().integer());
            rows += batch.len() as u64;
            for row in &batch {
                hash.update(row.columns().integer().to_le_bytes());
                for cell in cells(row)? {
                    cell.add_to(&mut hash);
                }
            }
            progress.add(batch.len());
        }
    }
}

struct Table {
    name: String,
    definition: String,
    columns: Vec<String>,
}

impl Table {
    fn is_copied(&self) -> bool {
        let name = self.name.as_str();
        !OF_HOSTS.contains(&name) && !OF_SEARCH.contains(&name) && name != SEARCH
    }

    fn is_alike(&self, other: &Table) -> bool {
        (&self.name, &self.columns) == (&other.name, &other.columns)
    }

    /// Each row of a batch has its rowid, a text with a letter for the type of each column, and the
    /// columns. Text is read as blobs: see `handler::Statement`.
    fn select(&self, after: Option<i64>, is_source: bool) -> String {
        let columns = self.columns.iter().map(|column| {
            match is_source && self.name == "users" && column == "is_online" {
                true => "0".to_owned(),
                false => format!("t.{}", quoted(column)),
            }
        });
        let columns: Vec<String> = columns.collect();
        let list = |each: &dyn Fn(&String) -> String, separator: &str| {
            columns.iter().map(each).collect::<Vec<_>>().join(separator)
        };
        let types = list(&|c| format!("substr(typeof({c}), 1, 1)"), " || ");
        let values = list(
            &|c| format!("iif(typeof({c}) = 'text', cast({c} as blob), {c})"),
            ", ",
        );
        let bytes = list(&|c| format!("coalesce(octet_length({c}), 0)"), " + ");
        let table = quoted(&self.name);
        let condition = match after {
            None => "true".to_owned(),
            Some(rowid) => {
                let mut condition = "t.rowid > ".to_owned();
                literal(&Value::Integer(rowid), &mut condition);
                condition
            }
        };
        format!(
            "with some as materialized (
                 select t.rowid as k, {bytes} as bytes from {table} t where {condition} order by t.rowid limit {BATCH_ROWS}
             ), batch as materialized (
                 select k, sum(bytes) over (order by k rows unbounded preceding) - bytes as taken from some
             )
             select t.rowid, {types}, {values} from batch cross join {table} t on t.rowid = batch.k
             where batch.taken < {BATCH_BYTES} order by t.rowid"
        )
    }

    /// Rows that exist already stay as they are. If they differ, the checksums show it.
    fn insert(&self, batch: &[Row]) -> anyhow::Result<String> {
        let columns: Vec<_> = self.columns.iter().map(|column| quoted(column)).collect();
        let (table, columns) = (quoted(&self.name), columns.join(", "));
        let mut sql = format!("insert into {table} (rowid, {columns}) values ");
        for (index, row) in batch.iter().enumerate() {
            sql.push_str(if index == 0 { "(" } else { ", (" });
            literal(&Value::Integer(row.columns().integer()), &mut sql);
            for cell in cells(row)? {
                sql.push_str(", ");
                cell.render(&mut sql);
            }
            sql.push(')');
        }
        sql.push_str(" on conflict do nothing");
        Ok(sql)
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A value as it is stored.
enum Cell<'a> {
    Text(&'a [u8]),
    Other(&'a Value),
}

/// The values in a row of `Table::select`.
fn cells(row: &Row) -> anyhow::Result<Vec<Cell<'_>>> {
    let mut columns = row.columns();
    let _rowid = columns.integer();
    let types = columns.str();
    let columns = types.bytes().zip(row.0.iter().skip(2));
    let cells = columns.map(|(letter, value)| match (letter, value) {
        (b't', Value::Blob(bytes)) => Ok(Cell::Text(bytes)),
        // libsql reads a value without bytes as null.
        (b't', Value::Null) => Ok(Cell::Text(&[])),
        (b'b', Value::Null) => Ok(Cell::Other(const { &Value::Blob(Vec::new()) })),
        (b'i', Value::Integer(_))
        | (b'r', Value::Real(_))
        | (b'b', Value::Blob(_))
        | (b'n', Value::Null) => Ok(Cell::Other(value)),
        _ => bail!(
            "row {} has a value that cannot be read",
            row.columns().integer()
        ),
    });
    cells.collect()
}

impl Cell<'_> {
    fn render(&self, sql: &mut String) {
        match self {
            Cell::Text(bytes) => text_literal(bytes, sql),
            Cell::Other(value) => literal(value, sql),
        }
    }

    /// Different lists of values give different bytes.
    fn add_to(&self, hash: &mut Sha256) {
        let mut bytes = |letter: u8, bytes: &[u8]| {
            hash.update([letter]);
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        match self {
            Cell::Text(text) => bytes(b't', text),
            Cell::Other(Value::Null) => bytes(b'n', &[]),
            Cell::Other(Value::Integer(number)) => bytes(b'i', &number.to_le_bytes()),
            Cell::Other(Value::Real(number)) => bytes(b'r', &number.to_bits().to_le_bytes()),
            Cell::Other(Value::Text(text)) => bytes(b't', text.as_bytes()),
            Cell::Other(Value::Blob(blob)) => bytes(b'b', blob),
        }
    }
}

#[derive(PartialEq, Eq)]
struct Checksum {
    rows: u64,
    sha256: [u8; 32],
}

impl std::fmt::Display for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>12}  ", self.rows)?;
        self.sha256
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Replaces the tables `left` in TO by the tables of FROM, all empty, and by the table `copying`,
/// which marks an incomplete copy.
fn begin(to: &Side, left: &[Table], tables: &[Table], chat_id: &str) -> anyhow::Result<()> {
    let mut script = String::new();
    for table in left {
        writeln!(script, "drop table {};", quoted(&table.name))?;
    }
    script
        .push_str("create table copying (community text not null);\ninsert into copying values (");
    text_literal(chat_id.as_bytes(), &mut script);
    script.push(')');
    for table in tables {
        write!(script, ";\n{}", table.definition)?;
    }
    write!(script, ";\n{NEW_INDEX}")?;
    to.of(to.database.make_durable())?;
    to.of(to.database.change(&script))
}

/// Continues after the last row that TO has.
fn copy_table(from: &Side, to: &Side, table: &Table) -> anyhow::Result<()> {
    let name = quoted(&table.name);
    let count = format!("select count(*) from {name}");
    let (all, done) = (from.number(&count)?, to.number(&count)?);
    let mut after = to.number(&format!("select max(rowid) from {name}"))?;
    let mut progress = Progress::new(table.name.clone(), "rows", done.unwrap_or(0), all);
    loop {
        let batch = from.batch(table, after)?;
        let Some(last) = batch.last() else {
            progress.end();
            return Ok(());
        };
        after = Some(last.columns().integer());
        if let OfflineDatabase::Server(_) = to.database {
            check_sizes(&batch)?;
        }
        to.of(to.database.write(&table.insert(&batch)?))?;
        progress.add(batch.len());
    }
}

fn check_sizes(batch: &[Row]) -> anyhow::Result<()> {
    for row in batch {
        let sizes = row.0.iter().map(|value| match value {
            Value::Blob(bytes) => bytes.len(),
            _ => 8,
        });
        let bytes: usize = sizes.sum();
        ensure!(
            bytes <= REMOTE_ROW_BYTES_MAX,
            "row {} has {bytes} bytes, but a server accepts at most {REMOTE_ROW_BYTES_MAX}: shorten it in FROM first",
            row.columns().integer()
        );
    }
    Ok(())
}
