//! Fills the index of the search behind the messages, or empties it if nobody wants it.

use std::time::Duration;

use handler::Error;
use handler::search::clear::{ClearIndex, SwitchSearch};
use handler::search::index::{Batch, FindUnindexed, IndexWork};
use tokio::time::{Instant, sleep};

use crate::cluster::retry::{RETRY, until_done};
use crate::store::Store;

/// The pause if the index holds all messages. Until it holds the next ones, each search looks
/// through them.
const IDLE: Duration = Duration::from_secs(1);
/// The pause after a failure that will hardly pass, so that it is not logged every second.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// The pause after a part of the work is as long as the part took and, if others wait for the
/// writer, so many times as long: the work may take a twentieth of the writer's time.
const BUSY_PAUSE: u32 = 19;

pub struct SearchIndex {
    pub store: Store,
    pub is_on: bool,
    /// See `Lease::duration`.
    pub lease: Duration,
}

impl SearchIndex {
    /// Runs as long as the server.
    pub async fn keep(&self) {
        let is_on = self.is_on;
        until_done(|| self.store.run_now(SwitchSearch { is_on })).await;
        if !is_on {
            while !until_done(|| self.store.run_now(ClearIndex)).await {
                self.pause(IDLE / 100).await;
            }
            return;
        }
        loop {
            let started = Instant::now();
            match self.work().await {
                Ok(true) => self.pause(started.elapsed()).await,
                Ok(false) => sleep(IDLE).await,
                // The store has logged it. Perhaps a part of the database is damaged.
                Err(Error::Internal(_)) => sleep(AFTER_FAILURE).await,
                Err(_) => sleep(RETRY).await,
            }
        }
    }

    /// Does a part of the work; returns whether there was any.
    async fn work(&self) -> Result<bool, Error> {
        let find = FindUnindexed {
            host_id: self.store.host_id(),
            lease_seconds: self.lease.as_secs() as i64,
            batch: Batch::BESIDE_OTHERS,
        };
        match self.store.run_now(find).await? {
            IndexWork::Nothing => return Ok(false),
            IndexWork::Clear => drop(self.store.run_now(ClearIndex).await?),
            IndexWork::Change(changes) => self.store.run_now(changes).await?,
            IndexWork::Add(messages) => self.store.run_now(messages).await?,
        }
        Ok(true)
    }

    async fn pause(&self, worked: Duration) {
        let (writes_queued, _) = self.store.queued();
        let times = if writes_queued > 0 { BUSY_PAUSE } else { 1 };
        sleep(worked * times).await;
    }
}
