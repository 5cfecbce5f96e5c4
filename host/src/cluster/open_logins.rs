//! Closes the sockets of logins that have ended, if the bus has lost the news, and deletes the
//! sessions that nobody can use any more.

use std::time::Duration;

use handler::Error;
use handler::account::open_login::{
    CheckLogins, FindExpired, LOGINS_AT_ONCE, OpenLogin, SeeSessions, SweepSessions,
};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::registry::{RegistryCommand, list_logins};
use crate::store::Store;

/// Checks the logins of all open sockets, once in each period, and then sweeps: sessions with a socket
/// on this host have been seen by then.
pub async fn watch_logins(
    store: &Store,
    commands: &mpsc::Sender<RegistryCommand>,
    period: Duration,
) {
    loop {
        sleep(period).await;
        let mut is_checked = true;
        for logins in list_logins(commands).await.chunks(LOGINS_AT_ONCE) {
            // The store has logged a failure; the next check finds the same logins.
            is_checked &= check(store, commands, logins).await.is_ok();
        }
        if is_checked {
            let _ = sweep(store).await;
        }
    }
}

async fn check(
    store: &Store,
    commands: &mpsc::Sender<RegistryCommand>,
    logins: &[OpenLogin],
) -> Result<(), Error> {
    let logins = logins.to_vec();
    let checked = store.run_now(CheckLogins { logins }).await?;
    if !checked.ended.is_empty() {
        let logins = checked.ended.len();
        tracing::info!(target: "security", logins, "logins have ended: their sockets are closed");
        // The registry lives as long as the server.
        let close = RegistryCommand::CloseLogins(checked.ended);
        let _ = commands.send(close).await;
    }
    if !checked.seen_late.is_empty() {
        let ids = checked.seen_late;
        store.run_now(SeeSessions { ids }).await?;
    }
    Ok(())
}

async fn sweep(store: &Store) -> Result<(), Error> {
    loop {
        let numbers = store.run_now(FindExpired).await?;
        let is_last = numbers.len() < LOGINS_AT_ONCE;
        if !numbers.is_empty() {
            store.run_now(SweepSessions { numbers }).await?;
        }
        if is_last {
            return Ok(());
        }
    }
}
