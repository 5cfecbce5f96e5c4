//! This host as one of several on a database: renews its lease, takes users of dead hosts offline,
//! finds what it and its clients have missed, and fills the index of the search.

pub mod bus;
mod catching_up;
mod erasing;
mod lease;
mod open_logins;
pub mod peers;
mod retry;
mod search_index;
pub mod unpaid;
pub mod wanted;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use handler::Error;
use handler::cluster::chat_id::FindChatId;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::sleep;

use crate::accounts::{add_skeletons, add_words};
use crate::cluster::bus::Bus;
use crate::cluster::catching_up::catch_up;
use crate::cluster::erasing::erase_deleted_accounts;
use crate::cluster::lease::Lease;
use crate::cluster::open_logins::watch_logins;
use crate::cluster::retry::{RETRY, until_done};
use crate::cluster::search_index::SearchIndex;
use crate::config::Config;
use crate::registry::{Notices, PresenceLost, RegistryCommand};
use crate::socket::presence::Presence;
use crate::store::Store;

pub struct Cluster {
    store: Store,
    presence: Arc<Presence>,
    commands: mpsc::Sender<RegistryCommand>,
    lease: Lease,
    notices: Notices,
    /// Time between two checks whether the logins of open sockets still hold.
    account_interval: Duration,
    search_index: SearchIndex,
    /// Told when an account was deleted on this host.
    deleted: Arc<Notify>,
}

impl Cluster {
    pub fn new(
        config: &Config,
        presence: Arc<Presence>,
        commands: mpsc::Sender<RegistryCommand>,
        notices: Notices,
        deleted: Arc<Notify>,
    ) -> Self {
        let store = presence.store.clone();
        Cluster {
            lease: Lease {
                store: store.clone(),
                duration: config.lease,
                has_bus: config.bus.is_some(),
            },
            search_index: SearchIndex {
                store: store.clone(),
                is_on: config.search,
                lease: config.lease,
            },
            store,
            presence,
            commands,
            notices,
            account_interval: config.account_interval,
            deleted,
        }
    }

    /// Registers the host, without sockets.
    pub async fn start(&self) -> Result<(), Error> {
        self.lease.start().await
    }

    /// Takes the host's users offline at an orderly stop.
    pub async fn stop(&self) -> Result<(), Error> {
        self.lease.stop().await
    }

    /// Runs everything that goes on beside the requests. `lost` brings users whom the database no
    /// longer counts.
    pub async fn run(&self, lost: watch::Receiver<PresenceLost>) {
        if self.store.is_shared() {
            until_done(|| self.start()).await;
        }
        tokio::join!(
            self.lease.renew(),
            self.retry_departures(),
            self.complete_accounts(),
            self.lease.count_again(lost),
            catch_up(&self.store, &self.commands, &self.notices),
            watch_logins(&self.store, &self.commands, self.account_interval),
            self.search_index.keep(),
            erase_deleted_accounts(&self.store, &self.deleted)
        );
    }

    /// After an upgrade: see `account::skeleton` and `user::words`. Accounts that another host of the
    /// previous release stores later get theirs with the next registration.
    async fn complete_accounts(&self) {
        while until_done(|| add_skeletons(&self.store)).await {}
        while until_done(|| add_words(&self.store)).await {}
    }

    async fn retry_departures(&self) {
        loop {
            sleep(RETRY).await;
            self.presence.retry().await;
        }
    }

    /// Joins the bus of this chat, once its id has been read from the database, and runs the bus to
    /// its end.
    pub async fn join_bus(&self, bus: Bus) {
        let chat_id = until_done(|| self.store.run_now(FindChatId)).await;
        let joined = bus.run(&chat_id, self.commands.clone(), self.notices.missed.clone());
        if let Err(error) = joined.await {
            tracing::error!("NATS_URL: {error:#}");
        }
    }
}
