//! Finds in the database what the bus has lost or not delivered yet.

use std::time::Duration;

use handler::cluster::USERS_AT_ONCE;
use handler::cluster::memberships::FindMemberships;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::cluster::retry::until_done;
use crate::metrics::METRICS;
use crate::registry::{Notices, RegistryCommand};
use crate::store::Store;

/// Losses come in bursts, and users who are just connecting should be registered first.
const CATCH_UP_DELAY: Duration = Duration::from_millis(500);
/// By then a change of members that is not lost has arrived.
const DOUBT_DELAY: Duration = Duration::from_millis(50);
/// Clients are told to catch up in this many groups, one after the other, so that they do not all
/// ask at once.
const CATCH_UP_SLOTS: u64 = 20;
const CATCH_UP_SLOT_TIME: Duration = Duration::from_millis(50);

/// If something may have been missed: reads who is in which conversation, then tells the clients to
/// catch up. If only some users are in doubt: reads which conversations they are in.
pub async fn catch_up(store: &Store, commands: &mpsc::Sender<RegistryCommand>, notices: &Notices) {
    loop {
        tokio::select! {
            () = notices.missed.notified() => {
                sleep(CATCH_UP_DELAY).await;
                tracing::warn!("something may have been missed: clients are told to catch up");
                METRICS.catch_ups.inc();
                read_members(store, commands, true).await;
                tell_clients(commands).await;
            }
            () = notices.doubted.notified() => {
                sleep(DOUBT_DELAY).await;
                read_members(store, commands, false).await;
            }
        }
    }
}

async fn read_members(store: &Store, commands: &mpsc::Sender<RegistryCommand>, is_of_all: bool) {
    let (answer, users) = oneshot::channel();
    // The registry lives as long as the server.
    let begin = RegistryCommand::BeginReading { is_of_all, answer };
    let _ = commands.send(begin).await;
    for user_ids in users.await.unwrap_or_default().chunks(USERS_AT_ONCE) {
        let find = || FindMemberships {
            user_ids: user_ids.to_vec(),
        };
        let members = until_done(|| store.run_now(find())).await;
        let _ = commands.send(RegistryCommand::Members(members)).await;
    }
    let _ = commands.send(RegistryCommand::EndReading).await;
}

async fn tell_clients(commands: &mpsc::Sender<RegistryCommand>) {
    for slot in 0..CATCH_UP_SLOTS {
        let slots = CATCH_UP_SLOTS;
        let _ = commands
            .send(RegistryCommand::CatchUp { slot, slots })
            .await;
        sleep(CATCH_UP_SLOT_TIME).await;
    }
}
