//! Closes the sockets of deleted accounts.

use std::time::Duration;

use handler::account::deleted::FindDeletedAccounts;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::registry::{RegistryCommand, list_users};
use crate::store::Store;

/// Users that one read looks up.
const USERS_LOOKED_UP: usize = 100;

/// Closes the sockets of deleted accounts, once in each period.
pub async fn close_sockets(
    store: &Store,
    commands: &mpsc::Sender<RegistryCommand>,
    period: Duration,
) {
    loop {
        sleep(period).await;
        for users in list_users(commands).await.chunks(USERS_LOOKED_UP) {
            let find = FindDeletedAccounts {
                users: users.to_vec(),
            };
            // The store has logged a failure; the next read finds the same accounts.
            match store.run_now(find).await {
                Ok(gone) if !gone.is_empty() => {
                    tracing::info!(target: "security", users = gone.len(), "accounts are gone: sockets are closed");
                    // The registry lives as long as the server.
                    let _ = commands.send(RegistryCommand::EndSessions(gone)).await;
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
}
