//! What the chat does: pure functions from requests to replies and pushes.
//!
//! No sockets, clock, randomness, threads or environment: the host gives time, salts and the caller, and applies the
//! outbox. An [`Operation`] is decided in two steps around one round trip to the database; [`handle`] runs one on a
//! libsql connection, and the host's store runs groups of them.

pub mod account;
mod batch;
pub mod contact;
pub mod conversation;
mod error;
mod event;
mod fields;
pub mod hosts;
pub mod message;
mod operation;
mod outbox;
pub mod password;
pub mod presence;
pub mod schema;
mod statement;
pub mod sync;
pub mod token;
pub mod typing;
pub mod user;

pub use batch::{literal, render, run_batch, run_script, text_literal};
pub use error::Error;
pub use event::{Envelope, Event, EventOperation, REF_CHARS_MAX, Reply, events};
pub use operation::{Access, Context, Operation, RequestId};
pub use outbox::{Audience, Outbox, Output};
pub use statement::{Row, Rows, Statement, run};

/// Runs one operation on a local database, in a transaction of its own. The database has been migrated, and the
/// connection is not in a transaction. `out` receives what others are to be told; it is true only if `Ok`.
///
/// An error of the database arrives as `Error::Internal` with its text.
pub async fn handle<O: Operation + ?Sized>(
    db: &libsql::Connection,
    ctx: &Context,
    operation: &O,
    out: &mut Outbox,
) -> Result<O::Output, Error> {
    let internal = |error: libsql::Error| Error::Internal(error.to_string());
    let begin = match operation.access() {
        Access::None => return operation.conclude(ctx, &[], out),
        Access::Read => "begin",
        Access::Write => "begin immediate",
    };
    db.execute_batch(begin).await.map_err(internal)?;
    match run_all(db, operation.statements(ctx)).await {
        Ok(rows) => operation.conclude(ctx, &rows, out),
        Err(error) => {
            // The error is what matters; SQLite may have rolled back by itself.
            let _ = db.execute_batch("rollback").await;
            Err(internal(error))
        }
    }
}

/// As [`handle`], on a remote database: one request.
pub async fn handle_remote<O: Operation + ?Sized>(
    db: &libsql::Connection,
    ctx: &Context,
    operation: &O,
    out: &mut Outbox,
) -> Result<O::Output, Error> {
    if operation.access() == Access::None {
        return operation.conclude(ctx, &[], out);
    }
    let rows = run_batch(db, &operation.statements(ctx))
        .await
        .map_err(|error| Error::Internal(error.to_string()))?;
    operation.conclude(ctx, &rows, out)
}

async fn run_all(
    db: &libsql::Connection,
    statements: Vec<Statement>,
) -> Result<Vec<Rows>, libsql::Error> {
    let mut results = Vec::with_capacity(statements.len());
    for Statement { sql, parameters } in statements {
        results.push(run(&mut db.prepare(sql).await?, parameters).await?);
    }
    db.execute_batch("commit").await?;
    Ok(results)
}
