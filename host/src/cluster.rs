//! This host as one of those over its database: its sign of life, what it does for hosts that have died, and how it and its
//! clients find what they have missed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use handler::account::deleted::FindDeletedAccounts;
use handler::cluster::USERS_AT_ONCE;
use handler::cluster::chat_id::FindChatId;
use handler::cluster::gone::{FindHostUsers, Gone, HostGone};
use handler::cluster::lease::{HostAlive, HostStarted, TryWrite};
use handler::cluster::memberships::FindMemberships;
use handler::cluster::returned::HostReturned;
use handler::cluster::sweep::{FindUncounted, SweepOffline};
use handler::{Context, Error, Operation};
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc, oneshot, watch};
use tokio::time::{interval, sleep, timeout};

use crate::bus::{Bus, BusStatus};
use crate::clock;
use crate::metrics::METRICS;
use crate::registry::{Command, PresenceLost};
use crate::socket::Departure;
use crate::store::Store;

/// Between two tries of what has to be done in the end.
const RETRY: Duration = Duration::from_secs(1);
/// What is missed comes in bursts, and users who are just connecting are to be registered first.
const CATCH_UP_DELAY: Duration = Duration::from_millis(500);
/// Clients are told to catch up in so many groups, one after the other, so that they do not ask all at once.
const CATCH_UP_SLOTS: u64 = 20;
const CATCH_UP_SLOT_TIME: Duration = Duration::from_millis(50);
/// Sockets whose end is stored in one go, after it could not be.
const DEPARTURES: usize = 256;
/// Users whom one read asks about.
const USERS_LOOKED_UP: usize = 100;
/// How long an answer to "are you ready?" is good for, and how long it may take.
const READINESS_AGE: Duration = Duration::from_secs(1);
const READINESS_TIMEOUT: Duration = Duration::from_secs(2);

pub struct Cluster {
    pub store: Store,
    pub commands: mpsc::Sender<Command>,
    pub lease: Duration,
    /// Something may have been missed.
    pub missed: Arc<Notify>,
    pub has_bus: bool,
    /// Time between two looks whether the accounts of open sockets are still there.
    pub account_interval: Duration,
    /// Sockets that are closed, which the database does not know yet.
    pub departed: Mutex<Vec<Departure>>,
}

impl Cluster {
    async fn run_operation<O>(&self, operation: O) -> Result<O::Output, Error>
    where
        O: Operation + 'static,
        O::Output: Send + 'static,
    {
        let ctx = Context::anonymous(clock::now());
        self.store.run(ctx, operation).await
    }

    /// Takes the users of a host offline who are online through it alone.
    async fn gone(&self, host_id: Arc<str>, why: Gone) -> Result<(), Error> {
        loop {
            let find = FindHostUsers {
                host_id: host_id.clone(),
                why,
            };
            let user_ids = self.run_operation(find).await?;
            let is_last = user_ids.is_empty();
            let gone = HostGone {
                host_id: host_id.clone(),
                why,
                user_ids,
            };
            self.run_operation(gone).await?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Takes offline whom no host has: a host has died while it counted again, or a socket was counted that never opened.
    async fn sweep(&self) -> Result<(), Error> {
        loop {
            let user_ids = self.run_operation(FindUncounted).await?;
            if user_ids.is_empty() {
                return Ok(());
            }
            self.run_operation(SweepOffline { user_ids }).await?;
        }
    }

    /// The host begins, with no sockets. On a file it is the same host as the one before.
    pub async fn start(&self) -> Result<(), Error> {
        let host_id = self.store.host_id();
        if !self.store.is_shared() {
            self.gone(host_id.clone(), Gone::Restarted).await?;
        }
        self.run_operation(HostStarted { host_id }).await
    }

    /// The host ends, in good order.
    pub async fn stop(&self) -> Result<(), Error> {
        self.gone(self.store.host_id(), Gone::Stopped).await?;
        self.sweep().await
    }

    /// Everything that goes on beside the requests. `lost`: users whom the database has forgotten.
    pub async fn run(&self, lost: watch::Receiver<PresenceLost>) {
        if self.store.is_shared() {
            while self.start().await.is_err() {
                sleep(RETRY).await;
            }
        }
        tokio::join!(
            self.live(),
            self.retry_departures(),
            self.make_known(lost),
            self.catch_up(),
            self.end_sessions()
        );
    }

    /// Closes the sockets of accounts that are gone.
    async fn end_sessions(&self) {
        loop {
            sleep(self.account_interval).await;
            for users in self.users().await.chunks(USERS_LOOKED_UP) {
                let find = FindDeletedAccounts {
                    users: users.to_vec(),
                };
                // The store has logged a failure; the next look finds the same.
                match self.run_operation(find).await {
                    Ok(gone) if !gone.is_empty() => {
                        tracing::info!(target: "security", users = gone.len(), "accounts are gone: sockets are closed");
                        // The registry lives as long as the server.
                        let _ = self.commands.send(Command::EndSessions(gone)).await;
                    }
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }

    /// Those with open sockets here, by id and name.
    async fn users(&self) -> Vec<(i64, Arc<str>)> {
        let (answer, users) = oneshot::channel();
        let _ = self.commands.send(Command::ListUsers(answer)).await;
        users.await.unwrap_or_default()
    }

    async fn live(&self) {
        let lease_seconds = self.lease.as_secs() as i64;
        let mut is_warned = self.has_bus;
        // After a crash it is the error of `last_online`.
        let mut ticks = interval(self.lease / 3);
        loop {
            ticks.tick().await;
            let alive = HostAlive {
                host_id: self.store.host_id(),
                lease_seconds,
            };
            // The store has logged a failure; the next one may succeed.
            let Ok(others) = self.run_operation(alive).await else {
                continue;
            };
            if others.alive > 0 && !is_warned {
                is_warned = true;
                tracing::warn!(
                    "another host serves this database: without NATS_URL their clients do not hear each other"
                );
            }
            for host_id in others.expired {
                tracing::info!(host_id, "a host has died: its users are offline");
                let expired = Gone::Expired { lease_seconds };
                // What fails is found again the next time.
                if self.gone(host_id.into(), expired).await.is_ok() {
                    let _ = self.sweep().await;
                }
            }
        }
    }

    async fn retry_departures(&self) {
        loop {
            sleep(RETRY).await;
            let mut departed = std::mem::take(&mut *self.departed());
            while !departed.is_empty() {
                // Together, so that they share commits.
                let some = departed.split_off(departed.len().saturating_sub(DEPARTURES));
                join_all(some.into_iter().map(|departure| departure.store(self))).await;
            }
        }
    }

    /// Sockets that are closed, which the database does not know yet.
    pub fn departed(&self) -> std::sync::MutexGuard<'_, Vec<Departure>> {
        self.departed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After this host was believed dead.
    async fn make_known(&self, mut lost: watch::Receiver<PresenceLost>) {
        // Of several lost leases only the last one matters: what is said under the others does nothing.
        while lost.changed().await.is_ok() {
            let PresenceLost { lease, users } = lost.borrow_and_update().clone();
            for (part, users) in (1..).zip(users.chunks(USERS_AT_ONCE)) {
                let returned = || HostReturned {
                    host_id: self.store.host_id(),
                    lease,
                    part,
                    users: users.to_vec(),
                };
                while self.run_operation(returned()).await.is_err() {
                    sleep(RETRY).await;
                }
            }
            while self.sweep().await.is_err() {
                sleep(RETRY).await;
            }
        }
    }

    /// When something may have been missed: reads who is in which conversation, then tells the clients to ask.
    async fn catch_up(&self) {
        loop {
            self.missed.notified().await;
            sleep(CATCH_UP_DELAY).await;
            tracing::warn!("something may have been missed: clients are told to catch up");
            METRICS.catch_ups.inc();
            for users in self.users().await.chunks(USERS_LOOKED_UP) {
                let members = loop {
                    let find = FindMemberships {
                        user_ids: users.iter().map(|(id, _)| *id).collect(),
                    };
                    match self.run_operation(find).await {
                        Ok(members) => break members,
                        Err(_) => sleep(RETRY).await,
                    }
                };
                // The registry lives as long as the server.
                let _ = self.commands.send(Command::Members(members)).await;
            }
            for slot in 0..CATCH_UP_SLOTS {
                let slots = CATCH_UP_SLOTS;
                let _ = self.commands.send(Command::CatchUp { slot, slots }).await;
                sleep(CATCH_UP_SLOT_TIME).await;
            }
        }
    }

    /// Joins the bus, when the database has said which one.
    pub async fn carry(&self, bus: Bus) {
        let community = loop {
            match self.run_operation(FindChatId).await {
                Ok(community) => break community,
                Err(_) => sleep(RETRY).await,
            }
        };
        let carried = bus.run(&community, self.commands.clone(), self.missed.clone());
        if let Err(error) = carried.await {
            tracing::error!("NATS_URL: {error:#}");
        }
    }
}

/// Whether requests can be served.
pub struct Readiness {
    cluster: Arc<Cluster>,
    bus: Option<Arc<BusStatus>>,
    /// The last answer.
    last: AsyncMutex<Option<(Instant, Result<(), &'static str>)>>,
}

impl Readiness {
    pub fn new(cluster: Arc<Cluster>, bus: Option<Arc<BusStatus>>) -> Self {
        Readiness {
            cluster,
            bus,
            last: AsyncMutex::default(),
        }
    }

    /// `None` where there is no bus.
    pub fn is_bus_connected(&self) -> Option<bool> {
        self.bus.as_ref().map(|bus| bus.is_ready())
    }

    /// Tries the database, at most once a second, however many ask. An error: what is not there.
    pub async fn check(&self) -> Result<(), &'static str> {
        let mut last = self.last.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < READINESS_AGE
        {
            return *answer;
        }
        // Whoever asks and goes away before the answer has used up the second as well.
        let before = last
            .as_ref()
            .map_or(Err("not known yet"), |(_, answer)| *answer);
        *last = Some((Instant::now(), before));
        let write = TryWrite {
            host_id: self.cluster.store.host_id(),
        };
        let tried = async {
            let write = self.cluster.run_operation(write);
            let read = self.cluster.run_operation(FindChatId);
            tokio::try_join!(write, read)
        };
        let answer = match timeout(READINESS_TIMEOUT, tried).await {
            Ok(Ok(_)) if self.bus.as_ref().is_none_or(|bus| bus.is_ready()) => Ok(()),
            Ok(Ok(_)) => Err("the bus is not available"),
            Ok(Err(_)) | Err(_) => Err("the database is not available"),
        };
        *last = Some((Instant::now(), answer));
        answer
    }
}
