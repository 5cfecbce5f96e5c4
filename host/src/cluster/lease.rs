//! Renews this host's lease in the database, and takes the users of dead hosts offline.

use std::sync::Arc;
use std::time::Duration;

use handler::Error;
use handler::cluster::USERS_AT_ONCE;
use handler::cluster::gone::{FindHostUsers, Gone, HostGone};
use handler::cluster::lease::{HostAlive, HostStarted};
use handler::cluster::returned::HostReturned;
use handler::cluster::sweep::{FindUncounted, SweepOffline};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cluster::retry::until_done;
use crate::registry::PresenceLost;
use crate::store::Store;

pub struct Lease {
    pub store: Store,
    /// A host that does not renew its lease for this long is considered dead.
    pub duration: Duration,
    pub has_bus: bool,
}

impl Lease {
    /// Takes offline the users who are online through this host alone.
    async fn take_offline(&self, host_id: Arc<str>, why: Gone) -> Result<(), Error> {
        loop {
            let find = FindHostUsers {
                host_id: host_id.clone(),
                why,
            };
            let user_ids = self.store.run_now(find).await?;
            let is_last = user_ids.is_empty();
            let gone = HostGone {
                host_id: host_id.clone(),
                why,
                user_ids,
            };
            self.store.run_now(gone).await?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Takes offline the users whom no host counts: a host may have died while it counted again, or
    /// a socket was counted and never opened.
    async fn sweep(&self) -> Result<(), Error> {
        loop {
            let user_ids = self.store.run_now(FindUncounted).await?;
            if user_ids.is_empty() {
                return Ok(());
            }
            self.store.run_now(SweepOffline { user_ids }).await?;
        }
    }

    /// Registers the host, without sockets. On a file it is the same host as in the last run, whose
    /// users are taken offline first.
    pub async fn start(&self) -> Result<(), Error> {
        let host_id = self.store.host_id();
        if !self.store.is_shared() {
            self.take_offline(host_id.clone(), Gone::Restarted).await?;
        }
        self.store.run_now(HostStarted { host_id }).await
    }

    /// Takes the host's users offline at an orderly stop.
    pub async fn stop(&self) -> Result<(), Error> {
        self.take_offline(self.store.host_id(), Gone::Stopped)
            .await?;
        self.sweep().await
    }

    /// Renews the lease three times in its duration, and ends hosts whose leases have expired.
    pub async fn renew(&self) {
        let lease_seconds = self.duration.as_secs() as i64;
        let mut is_warned = self.has_bus;
        // After a crash `last_online` may be wrong by this interval.
        let mut ticks = interval(self.duration / 3);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renewed_at: Option<Instant> = None;
        let mut late_at: Option<Instant> = None;
        loop {
            ticks.tick().await;
            let alive = HostAlive {
                host_id: self.store.host_id(),
                lease_seconds,
            };
            // The store has logged a failure; the next one may succeed.
            let Ok(others) = self.store.run_now(alive).await else {
                continue;
            };
            if others.alive > 0 && !is_warned {
                is_warned = true;
                tracing::warn!(
                    "another host serves this database: without NATS_URL, pushes do not reach its clients"
                );
            }
            // If this host could not renew its lease in time, for example because the machine or the
            // database was paused, perhaps no host could: the others get as much time again.
            if renewed_at.is_some_and(|at| at.elapsed() > self.duration * 2 / 3) {
                late_at = Some(Instant::now());
            }
            renewed_at = Some(Instant::now());
            if late_at.is_some_and(|at| at.elapsed() < self.duration) {
                continue;
            }
            for host_id in others.expired {
                tracing::info!(host_id, "a host has died: its users go offline");
                let expired = Gone::Expired { lease_seconds };
                // A failure is repeated the next time.
                if self.take_offline(host_id.into(), expired).await.is_ok() {
                    let _ = self.sweep().await;
                }
            }
        }
    }

    /// Counts this host's users again, after other hosts considered it dead.
    pub async fn count_again(&self, mut lost: watch::Receiver<PresenceLost>) {
        // After several lost leases only the last one matters: counts under the others have no
        // effect.
        while lost.changed().await.is_ok() {
            let PresenceLost { lease, users } = lost.borrow_and_update().clone();
            for (part, users) in (1..).zip(users.chunks(USERS_AT_ONCE)) {
                let returned = || HostReturned {
                    host_id: self.store.host_id(),
                    lease,
                    part,
                    users: users.to_vec(),
                };
                until_done(|| self.store.run_now(returned())).await;
            }
            until_done(|| self.sweep()).await;
        }
    }
}
