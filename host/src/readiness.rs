//! Whether requests can be served.

use std::sync::Arc;
use std::time::{Duration, Instant};

use handler::cluster::chat_id::FindChatId;
use handler::cluster::lease::TryWrite;
use tokio::sync::Mutex;

use crate::awake;
use crate::cluster::bus::BusStatus;
use crate::store::Store;

/// How long an answer is reused, and how long the database may take for one.
const ANSWER_AGE: Duration = Duration::from_secs(1);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

pub struct Readiness {
    store: Store,
    bus: Option<Arc<BusStatus>>,
    /// The last answer.
    last: Mutex<Option<(Instant, Result<(), &'static str>)>>,
}

impl Readiness {
    pub fn new(store: Store, bus: Option<Arc<BusStatus>>) -> Self {
        Readiness {
            store,
            bus,
            last: Mutex::default(),
        }
    }

    /// `None` if there is no bus.
    pub fn is_bus_connected(&self) -> Option<bool> {
        self.bus.as_ref().map(|bus| bus.is_ready())
    }

    /// Tries the database, at most once a second, however many clients ask. The error says what is
    /// not available.
    pub async fn check(&self) -> Result<(), &'static str> {
        let mut last = self.last.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < ANSWER_AGE
        {
            return *answer;
        }
        // Set before the try, so that a client that disconnects meanwhile does not cause another
        // one.
        let before = last
            .as_ref()
            .map_or(Err("not known yet"), |(_, answer)| *answer);
        *last = Some((Instant::now(), before));
        let write = TryWrite {
            host_id: self.store.host_id(),
        };
        let tried = async {
            let write = self.store.run_now(write);
            let read = self.store.run_now(FindChatId);
            tokio::try_join!(write, read)
        };
        let answer = match awake::timeout(ANSWER_TIMEOUT, tried).await {
            Some(Ok(_)) if self.bus.as_ref().is_none_or(|bus| bus.is_ready()) => Ok(()),
            Some(Ok(_)) => Err("the bus is not available"),
            Some(Err(_)) | None => Err("the database is not available"),
        };
        *last = Some((Instant::now(), answer));
        answer
    }
}
