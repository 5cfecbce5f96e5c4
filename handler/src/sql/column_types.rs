//! The first backend declared columns without a type. SQLite compares such a column with an `integer primary
//! key` by a rule under which it cannot use an index of the column, so that every join reads the whole table.

use libsql::{Builder, Connection};

use crate::sql::row::Rows;
use crate::sql::statement::{Statement, run};

/// The columns that hold integers, by table.
const INTEGERS: [(&str, &[&str]); 3] = [
    ("contacts", &["user_id", "contact_id"]),
    ("members", &["conversation_id", "user_id"]),
    ("messages", &["sender_id", "conversation_id", "reply_id"]),
];

/// Declares the columns of a file as integers that have no type yet. Changes the declarations only, so it
/// takes no time, however many rows there are, unless some are not integers.
pub async fn declare(db: &Connection) -> Result<(), libsql::Error> {
    for (table, columns) in INTEGERS {
        let (declared, sql) = declaration(db, table).await?;
        let is_untyped = |column: &&str| declared.contains(&(column.to_string(), String::new()));
        let untyped: Vec<_> = columns.iter().copied().filter(is_untyped).collect();
        if untyped.is_empty() {
            continue;
        }
        let typed = untyped.iter().fold(sql, |sql, column| typed(&sql, column));
        if declares(&typed, table, &declared, &untyped).await {
            apply(db, table, &typed, &untyped).await?;
        }
    }
    Ok(())
}

/// The columns of a table, each with its type, and the statement that has created it.
async fn declaration(
    db: &Connection,
    table: &str,
) -> Result<(Vec<(String, String)>, String), libsql::Error> {
    let columns = "select cast(name as blob), cast(type as blob) from pragma_table_info(?1)";
    let columns = rows(db, Statement::new(columns, [table.into()])).await?;
    let columns = columns.0.iter().map(|row| {
        let mut columns = row.columns();
        (columns.text(), columns.text())
    });
    let sql = "select cast(sql as blob) from sqlite_schema where type = 'table' and name = ?1";
    let sql = rows(db, Statement::new(sql, [table.into()])).await?;
    let sql = sql.first().map(|row| row.columns().text());
    Ok((columns.collect(), sql.unwrap_or_default()))
}

async fn rows(db: &Connection, statement: Statement) -> Result<Rows, libsql::Error> {
    let mut prepared = db.prepare(statement.sql).await?;
    run(&mut prepared, statement.parameters).await
}

/// With the type behind the first place that has the name of the column.
fn typed(sql: &str, column: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let is_word = |at: &usize| {
        !sql[..*at].ends_with(is_part) && !sql[at + column.len()..].starts_with(is_part)
    };
    let mut places = sql.match_indices(column).map(|(at, _)| at);
    match places.find(is_word) {
        Some(at) => {
            let end = at + column.len();
            let is_quoted = sql[end..].starts_with(['"', '`', ']', '\'']);
            let (before, after) = sql.split_at(end + usize::from(is_quoted));
            format!("{before} integer{after}")
        }
        None => sql.to_owned(),
    }
}

/// Whether this statement creates the table with the same columns, of which these are integers now.
async fn declares(
    sql: &str,
    table: &str,
    declared: &[(String, String)],
    integers: &[&str],
) -> bool {
    let try_it = async {
        let scratch = Builder::new_local(":memory:").build().await?.connect()?;
        scratch.execute(sql, ()).await?;
        declaration(&scratch, table).await
    };
    let expected = declared.iter().map(|(name, kind)| match integers {
        integers if integers.contains(&name.as_str()) => (name.clone(), "INTEGER".to_owned()),
        _ => (name.clone(), kind.clone()),
    });
    let expected: Vec<_> = expected.collect();
    try_it.await.is_ok_and(|(columns, _)| columns == expected)
}

async fn apply(
    db: &Connection,
    table: &str,
    sql: &str,
    columns: &[&str],
) -> Result<(), libsql::Error> {
    // A value that is no integer stays as it is: it is nobody's id.
    let integers = columns.iter().map(|column| {
        format!(
            "update or replace {table} set {column} = cast({column} as integer)
             where typeof({column}) = 'text' and cast(cast({column} as integer) as text) = {column}
                 or typeof({column}) = 'real' and cast({column} as integer) = {column};"
        )
    });
    let integers: String = integers.collect();
    let sql = sql.replace('\'', "''");
    // The last two statements change the schema's version, so that other connections read it again.
    let script = format!(
        "pragma writable_schema = on;
         begin immediate;
         {integers}
         update sqlite_schema set sql = '{sql}' where type = 'table' and name = '{table}';
         create table column_types (id integer);
         drop table column_types;
         commit;
         pragma writable_schema = reset;"
    );
    let applied = db.execute_batch(&script).await.map(drop);
    if applied.is_err() {
        if !db.is_autocommit() {
            // The first error is what matters.
            let _ = db.execute_batch("rollback").await;
        }
        let _ = db.execute_batch("pragma writable_schema = reset").await;
    }
    applied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_is_the_name_gets_the_type() {
        for (sql, expected) in [
            (
                "create table t (a, user_id, primary key (a, user_id))",
                "create table t (a, user_id integer, primary key (a, user_id))",
            ),
            (
                "create table t (old_user_id, \"user_id\" not null)",
                "create table t (old_user_id, \"user_id\" integer not null)",
            ),
            ("create table t (user_ids)", "create table t (user_ids)"),
        ] {
            assert_eq!(typed(sql, "user_id"), expected);
        }
    }
}
