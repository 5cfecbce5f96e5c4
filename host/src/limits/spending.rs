//! The cost of a user's events: bytes to store, and pushes to write; of those that only read, bytes of
//! answers. Much of it is known only afterwards. So it is charged when it is known, and a user in debt
//! waits before the next write, or the next read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use handler::{ANSWER_BYTES_MAX, Error};
use tokio::sync::{Mutex, MutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

use crate::limits::rates::rate_limited;

/// Bytes of events that write, per second.
const BYTES_PER_SECOND: u64 = 512 * 1024;
/// A mention counts for as many bytes: the page of the database to which its row is written.
const MENTION_BYTES: usize = 4 * 1024;
/// Pushes that a user's events cause, per second: each counts for every socket that receives it, and
/// once for each of its `PUSH_BYTES`.
const PUSHES_PER_SECOND: u64 = 25_000;
const PUSH_BYTES: u64 = 512;
/// Bytes of answers to events that only read, per second.
const ANSWER_BYTES_PER_SECOND: u64 = 16 * 1024 * 1024;
/// Reads that may take long for a short answer, per second.
const LONG_READS_PER_SECOND: u64 = 10;
/// A user who has spent nothing for this long may spend what is earned in it at once.
const CREDIT: Duration = Duration::from_secs(4);
/// Of who has spent more than is earned in this time, pushes that may be left out are.
const DROPPABLE_CREDIT: Duration = Duration::from_secs(1);
/// Nobody waits longer than this.
const DEBT_MAX: Duration = Duration::from_secs(10);
/// Places for the writes of a user that are under way until their pushes are charged, on all sockets
/// together. A write takes one for each of its `PUSH_BYTES`, or one for each `PLACE_PUSHES` that are
/// expected of it if these are more, the dearest all of them. Further writes wait.
const UNDER_WAY_MAX: u32 = 32;
const PLACE_PUSHES: u64 = 250;
/// A write is expected to go to as many sockets as any of its user's in this time, or to so many if there
/// was none.
const REMEMBERED: Duration = Duration::from_secs(30);
const UNKNOWN_SOCKETS: usize = 1000;
/// After as many places at once, one is given in each such time: what writes cost on other hosts is known
/// even later.
const BEGIN_PERIOD: Duration = Duration::from_micros(1500);

/// A larger event is the only write of its user that is under way.
const LARGE_BYTES: usize = 16 * 1024;

/// Whether an event of this many bytes, with an answer of at most this many, may cost much.
pub fn is_costly(bytes: usize, answer_bytes_max: usize) -> bool {
    bytes > LARGE_BYTES || answer_bytes_max >= ANSWER_BYTES_MAX
}

/// The number of pushes that one of this many bytes to this many sockets counts for.
pub fn pushes(bytes: usize, sockets: usize) -> u64 {
    sockets as u64 * (bytes as u64).div_ceil(PUSH_BYTES)
}

/// The spending of one user, on writes or on reads.
pub struct Spending {
    is_limited: bool,
    since: Instant,
    /// Microseconds after `since` until which everything is paid. In the past: nothing is spent.
    paid_at: AtomicU64,
    /// Held by the one write, or read, that a user in debt may have under way.
    turn: Mutex<()>,
    under_way: Arc<Semaphore>,
    /// The most sockets that one of the latest pushes went to, and when.
    most_sockets: std::sync::Mutex<Option<(usize, Instant)>>,
    /// Microseconds after `since` until which the writes that have begun take their turns.
    begun: AtomicU64,
}

/// Pays for the pushes of an event. Held until they are charged.
pub struct Payment {
    pub user: Arc<Spending>,
    _under_way: Option<OwnedSemaphorePermit>,
}

impl Payment {
    /// Of an event that is not counted among those under way.
    pub fn of(user: &Arc<Spending>) -> Self {
        Payment {
            user: user.clone(),
            _under_way: None,
        }
    }
}

/// The latest moment for an event that waits now.
pub fn deadline() -> Instant {
    Instant::now() + DEBT_MAX
}

impl Spending {
    pub fn new(is_limited: bool) -> Self {
        Spending {
            is_limited,
            since: Instant::now(),
            paid_at: AtomicU64::new(0),
            turn: Mutex::default(),
            under_way: Arc::new(Semaphore::new(UNDER_WAY_MAX as usize)),
            most_sockets: Default::default(),
            begun: AtomicU64::new(0),
        }
    }

    /// Begins a write of this many bytes, as soon as few enough are under way. What they cost is known
    /// only when they are delivered; otherwise a user with many sockets could have all of them stored
    /// before the first is charged. After the deadline `RateLimited`, or `Unavailable` if the user is not in
    /// debt: then the database does not answer.
    pub async fn begin(
        self: &Arc<Self>,
        bytes: usize,
        deadline: Instant,
    ) -> Result<Payment, Error> {
        if !self.is_limited {
            return Ok(Payment::of(self));
        }
        let places = self.places(bytes);
        let under_way = match self.under_way.clone().try_acquire_many_owned(places) {
            Ok(under_way) => Some(under_way),
            Err(_) => {
                let is_in_debt = !self.debt().is_zero();
                let under_way = self.under_way.clone().acquire_many_owned(places);
                let under_way = timeout_at(deadline, under_way).await;
                let too_late = |_| match is_in_debt {
                    true => rate_limited(self.debt()),
                    false => Error::Unavailable {
                        retry_after_seconds: 1,
                    },
                };
                under_way.map_err(too_late)?.ok()
            }
        };
        let wait = self.wait_to_begin(places);
        if !wait.is_zero() {
            sleep(wait).await;
        }
        Ok(Payment {
            user: self.clone(),
            _under_way: under_way,
        })
    }

    /// The places that a write of this many bytes takes.
    fn places(&self, bytes: usize) -> u32 {
        let expected = pushes(bytes, self.expected_sockets()).div_ceil(PLACE_PUSHES);
        let places = expected.max((bytes as u64).div_ceil(PUSH_BYTES));
        places.clamp(1, UNDER_WAY_MAX.into()) as u32
    }

    /// To how many sockets the next write is expected to go.
    fn expected_sockets(&self) -> usize {
        let most = *self.most_sockets();
        let most = most.filter(|(_, at)| at.elapsed() < REMEMBERED);
        most.map_or(UNKNOWN_SOCKETS, |(sockets, _)| sockets)
    }

    fn note_sockets(&self, sockets: usize) {
        let mut most = self.most_sockets();
        if most.is_none_or(|(most, at)| sockets >= most || at.elapsed() >= REMEMBERED) {
            *most = Some((sockets, Instant::now()));
        }
    }

    fn most_sockets(&self) -> std::sync::MutexGuard<'_, Option<(usize, Instant)>> {
        let most = self.most_sockets.lock();
        most.unwrap_or_else(PoisonError::into_inner)
    }

    /// How long until a write that takes so many places may begin. From now on its turn is taken.
    fn wait_to_begin(&self, places: u32) -> Duration {
        let now = self.now();
        let [takes, at_once] =
            [places, UNDER_WAY_MAX].map(|places| (BEGIN_PERIOD * places).as_micros() as u64);
        let add = |begun: u64| Some(begun.max(now) + takes);
        let (Ok(before) | Err(before)) =
            self.begun
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        Duration::from_micros(before.saturating_sub(now + at_once))
    }

    /// An event of this many bytes is about to be stored.
    pub fn charge_event(&self, bytes: usize) {
        self.charge(bytes as u64 * 1_000_000 / BYTES_PER_SECOND);
    }

    /// A message that may mention this many users is about to be stored.
    pub fn charge_mentions(&self, count: usize) {
        self.charge_event(count * MENTION_BYTES);
    }

    /// A push of this many bytes was queued for this many sockets.
    pub fn charge_push(&self, bytes: usize, sockets: usize) {
        if self.is_limited {
            self.note_sockets(sockets);
        }
        self.charge(pushes(bytes, sockets) * 1_000_000 / PUSHES_PER_SECOND);
    }

    /// A read was answered with this many bytes.
    pub fn charge_answer(&self, bytes: usize) {
        self.charge(bytes as u64 * 1_000_000 / ANSWER_BYTES_PER_SECOND);
    }

    /// A read that may take long for a short answer is about to run.
    pub fn charge_long_read(&self) {
        self.charge(1_000_000 / LONG_READS_PER_SECOND);
    }

    fn charge(&self, microseconds: u64) {
        if !self.is_limited {
            return;
        }
        let now = self.now();
        let worst = now + (CREDIT + DEBT_MAX).as_micros() as u64;
        let add = |paid_at: u64| Some((paid_at.max(now) + microseconds).min(worst));
        // It never fails, because `add` always returns a value.
        let _ = self
            .paid_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// How long until the user is out of debt. Zero if the user is not in debt.
    pub fn debt(&self) -> Duration {
        self.beyond(CREDIT)
    }

    /// Whether the user's pushes that may be left out are: nothing waits until they are paid for.
    pub fn has_spent_much(&self) -> bool {
        !self.beyond(DROPPABLE_CREDIT).is_zero()
    }

    /// How much more the user has spent than is earned in the time of this credit.
    fn beyond(&self, credit: Duration) -> Duration {
        let paid_at = self.paid_at.load(Ordering::Relaxed);
        // Most users have spent nothing in their whole life that is worth a look at the clock.
        let credit = credit.as_micros() as u64;
        if paid_at <= credit {
            return Duration::ZERO;
        }
        Duration::from_micros(paid_at.saturating_sub(credit + self.now()))
    }

    /// Whether the next write, or read, has to wait for [`Spending::pay`]: it may cost much, or the user
    /// is in debt.
    pub fn has_to_wait(&self, is_costly: bool) -> bool {
        self.is_limited && (is_costly || !self.debt().is_zero())
    }

    /// Waits until the user is out of debt. Returns the user's turn, which is to be held until the
    /// event is answered. `RateLimited` after the deadline.
    pub async fn pay(&self, deadline: Instant) -> Result<MutexGuard<'_, ()>, Error> {
        let paid = async {
            let turn = self.turn.lock().await;
            while !self.debt().is_zero() {
                sleep(self.debt()).await;
            }
            turn
        };
        let paid = timeout_at(deadline, paid).await;
        paid.map_err(|_| rate_limited(self.debt()))
    }

    fn now(&self) -> u64 {
        self.since.elapsed().as_micros() as u64
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_reads_more_than_is_earned_waits() {
        let reading = Spending::new(true);
        for _ in 0..64 {
            assert!(!reading.has_to_wait(false));
            reading.charge_answer(1024 * 1024);
        }
        assert!(!reading.has_to_wait(false));
        reading.charge_answer(8 * 1024 * 1024);
        (0..5).for_each(|_| reading.charge_long_read());
        assert_eq!(reading.debt(), Duration::from_secs(1));
        let started = Instant::now();
        assert!(reading.pay(deadline()).await.is_ok());
        assert!(started.elapsed() >= Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_spends_more_than_is_earned_waits() {
        let spending = Spending::new(true);
        // As much as is earned in the time of the credit.
        for _ in 0..32 {
            assert_eq!(spending.debt(), Duration::ZERO);
            spending.charge_event(64 * 1024);
        }
        assert_eq!(spending.debt(), Duration::ZERO);
        assert!(spending.has_spent_much());
        spending.charge_event(BYTES_PER_SECOND as usize);
        assert_eq!(spending.debt(), Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(spending.debt(), Duration::ZERO);
        spending.charge_mentions(BYTES_PER_SECOND as usize / MENTION_BYTES);
        assert_eq!(spending.debt(), Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        // Pushes cost by their receivers and their bytes.
        spending.charge_push(100, PUSHES_PER_SECOND as usize);
        assert_eq!(spending.debt(), Duration::from_secs(1));
        spending.charge_push(4 * PUSH_BYTES as usize, PUSHES_PER_SECOND as usize);
        assert_eq!(spending.debt(), Duration::from_secs(5));
        spending.charge_push(1_000_000, 10_000);
        assert_eq!(spending.debt(), DEBT_MAX);
        tokio::time::advance(DEBT_MAX + CREDIT).await;
        assert!(!spending.has_spent_much());
        spending.charge_event(4 * BYTES_PER_SECOND as usize);
        assert_eq!(spending.debt(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn few_writes_are_under_way_before_they_are_charged() {
        let user = Arc::new(Spending::new(true));
        let mut begun = begin_all(&user).await;
        // Nobody knows yet to how many sockets they go.
        assert_eq!(begun.len(), 8);
        user.charge_push(100, 250);
        begun.clear();
        begun = begin_all(&user).await;
        assert_eq!(begun.len() as u32, UNDER_WAY_MAX);
        let refused = user.begin(100, deadline()).await;
        assert!(refused.is_err_and(|error| error.code() == "unavailable"));
        user.charge_push(1_000_000, 250);
        let refused = user.begin(100, deadline()).await;
        assert!(refused.is_err_and(|error| error.code() == "rate_limited"));
        begun.truncate(2);
        // A long one goes to as many sockets, and takes as much as many short ones.
        assert!(user.begin(16 * 1024, deadline()).await.is_err());
        user.charge_push(100, 250);
        let long = user.begin(15 * 1024, deadline()).await;
        assert!(long.is_ok() && user.begin(100, deadline()).await.is_err());
        drop(begun);
        assert!(user.begin(100, deadline()).await.is_ok());
        drop(long);
        assert!(user.begin(1024 * 1024, deadline()).await.is_ok());
    }

    /// As many as may be under way together.
    async fn begin_all(user: &Arc<Spending>) -> Vec<Payment> {
        let mut begun = Vec::new();
        while let Ok(payment) = user.begin(100, deadline()).await {
            begun.push(payment);
        }
        begun
    }

    #[tokio::test(start_paused = true)]
    async fn fewer_writes_to_a_large_room_are_under_way() {
        let user = Arc::new(Spending::new(true));
        for (sockets, under_way) in [(0, 32), (100, 32), (251, 16), (2_000, 4), (10_000, 1)] {
            user.charge_push(100, sockets);
            // A smaller room does not hide the larger one.
            user.charge_push(100, 3);
            assert_eq!(begin_all(&user).await.len(), under_way, "{sockets} sockets");
        }
        tokio::time::advance(REMEMBERED).await;
        assert_eq!(begin_all(&user).await.len(), 8);
        user.charge_push(100, 3);
        assert_eq!(begin_all(&user).await.len(), 32);
    }

    #[tokio::test(start_paused = true)]
    async fn writes_begin_at_a_rate() {
        let user = Arc::new(Spending::new(true));
        user.charge_push(100, 1);
        let begin = async |count: u32| {
            let started = Instant::now();
            for _ in 0..count {
                assert!(user.begin(100, deadline()).await.is_ok());
            }
            started.elapsed()
        };
        assert_eq!(begin(UNDER_WAY_MAX).await, Duration::ZERO);
        assert!((BEGIN_PERIOD * 499..BEGIN_PERIOD * 1100).contains(&begin(500).await));
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_limit_nothing_is_charged() {
        let spending = Spending::new(false);
        spending.charge_push(1_000_000, 10_000);
        assert_eq!(spending.debt(), Duration::ZERO);
        let spending = Arc::new(spending);
        let begun = (0..100).map(|_| spending.begin(16 * 1024, deadline()));
        assert!(join_all(begun).await.iter().all(Result::is_ok));
    }
}
