//! What the chat does: pure functions from requests to replies and pushes.
//!
//! This crate has no sockets, clock, randomness, threads or environment. The host supplies the
//! time, the salts and the caller, and applies the outbox. An [`Operation`] is two steps around one
//! round trip to the database. [`handle`] runs one operation on a libsql connection; the host's
//! store runs groups of them.
//!
//! | To find | look in |
//! |---|---|
//! | an event | its file, by its name: `message/send.rs`; [`EVENTS`] lists them |
//! | how an event is read, and what it declares | `events.rs`, `declaration.rs`, `fields.rs`, `field.rs`, `data.rs` |
//! | who may do what in a conversation | `member.rs`, `role.rs` |
//! | what leaves | `reply.rs`, `outbox.rs`, `error.rs` |
//! | accounts and login tokens | `account/` |
//! | reports and bans | `moderation/` |
//! | what is searched for, and the index of all words | `message/search.rs`, `search/` |
//! | who is online, and the hosts over one database | `presence.rs`, `cluster/` |
//! | statements, rows and the schema | `sql/` |
//! | how several operations become one | `set.rs` |

pub mod account;
mod answer_budget;
pub mod cluster;
pub mod conversation;
mod data;
mod declaration;
mod error;
mod events;
mod field;
mod fields;
mod member;
pub mod message;
pub mod moderation;
mod operation;
mod outbox;
mod ping;
pub mod presence;
mod reply;
mod role;
pub mod search;
mod set;
mod sql;
pub mod sync;
pub mod user;

pub use answer_budget::{ANSWER_BYTES_MAX, SMALL_ANSWER_BYTES_MAX};
pub use data::{Data, DataType};
pub use declaration::{Declaration, EventOperation, Push, Who};
pub use error::Error;
pub use events::{EVENTS, Event, PUSHES, REF_CHARS_MAX, acting_as};
pub use field::{Field, Kind, Length, Presence, Unit};
pub use operation::{Access, Context, Operation, RequestId};
pub use outbox::{Audience, MembersChange, Outbox, Output};
pub use reply::{Envelope, Reply};
pub use role::Role;
pub use set::{Element, Set};
pub use sql::{
    Columns, Row, Rows, Statement, is_left_out, literal, render, run, run_batch, run_script,
    schema, text_literal,
};

/// Runs one operation on a local database, in a transaction of its own. The database must be
/// migrated, and the connection must not be in a transaction. `out` receives what others are to be
/// told, which is valid only if the result is `Ok`.
///
/// A database error is returned as `Error::Internal` with its text.
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
            // The first error is what matters; SQLite may already have rolled back.
            let _ = db.execute_batch("rollback").await;
            Err(internal(error))
        }
    }
}

/// Like [`handle`], but on a remote database, in one request.
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
    for statement in statements {
        results.push(match is_left_out(&statement, &results) {
            true => Rows::default(),
            false => run(&mut db.prepare(statement.sql).await?, statement.parameters).await?,
        });
    }
    db.execute_batch("commit").await?;
    Ok(results)
}
