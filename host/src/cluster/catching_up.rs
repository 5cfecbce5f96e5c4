//! What the bus has lost is found in the database.

use std::time::Duration;

use handler::sync::FindMembers;
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

use crate::cluster::retry::until_done;
use crate::metrics::METRICS;
use crate::registry::{RegistryCommand, list_users};
use crate::store::Store;

/// What is missed comes in bursts, and users who are just connecting are to be registered first.
const CATCH_UP_DELAY: Duration = Duration::from_millis(500);
/// Clients are told to catch up in so many groups, one after the other, so that they do not ask all at once.
const CATCH_UP_SLOTS: u64 = 20;
const CATCH_UP_SLOT_TIME: Duration = Duration::from_millis(50);
/// Users whom one read asks about.
const USERS_LOOKED_UP: usize = 100;

/// When something may have been missed: reads who is in which conversation, then tells the clients to ask.
pub async fn catch_up(store: &Store, commands: &mpsc::Sender<RegistryCommand>, missed: &Notify) {
    loop {
        missed.notified().await;
        sleep(CATCH_UP_DELAY).await;
        tracing::warn!("something may have been missed: clients are told to catch up");
        METRICS.catch_ups.inc();
        for users in list_users(commands).await.chunks(USERS_LOOKED_UP) {
            let find = || FindMembers {
                user_ids: users.iter().map(|(id, _)| *id).collect(),
            };
            let members = until_done(|| store.run_now(find())).await;
            // The registry lives as long as the server.
            let _ = commands.send(RegistryCommand::Members(members)).await;
        }
        for slot in 0..CATCH_UP_SLOTS {
            let slots = CATCH_UP_SLOTS;
            let _ = commands
                .send(RegistryCommand::CatchUp { slot, slots })
                .await;
            sleep(CATCH_UP_SLOT_TIME).await;
        }
    }
}
