//! Statements as one transactional batch: the only way to run them on a remote database in a single
//! request.
//!
//! libsql's batch takes no parameters, so they are rendered as literals.

use libsql::Connection;

use crate::sql::literal::render;
use crate::sql::row::{Row, Rows};
use crate::sql::statement::Statement;

/// Runs statements in one transaction, in one request, and returns the rows of each. After an error
/// nothing is stored or, if only the answer got lost, everything is.
pub async fn run_batch<'a>(
    db: &Connection,
    statements: impl IntoIterator<Item = &'a Statement>,
) -> Result<Vec<Rows>, libsql::Error> {
    let mut sql = String::new();
    for statement in statements {
        render(statement, &mut sql);
        sql.push_str(";\n");
    }
    run_script(db, &sql).await
}

/// Like [`run_batch`], for statements that are already one text, separated by semicolons.
pub async fn run_script(db: &Connection, sql: &str) -> Result<Vec<Rows>, libsql::Error> {
    let mut batch = db.execute_transactional_batch(sql).await?;
    let mut results = Vec::new();
    while let Some(found) = batch.next_stmt_row() {
        // If a statement was not run, the batch has failed, so `None` is a statement without rows.
        let mut rows = Vec::new();
        if let Some(mut found) = found {
            let columns = found.column_count();
            while let Some(row) = found.next().await? {
                let values = (0..columns).map(|column| row.get_value(column));
                rows.push(Row(values.collect::<Result<_, _>>()?));
            }
        }
        results.push(Rows(rows));
    }
    Ok(results)
}
