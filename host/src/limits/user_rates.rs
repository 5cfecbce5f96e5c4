//! How much a user, and one socket, may send, and how much memory the server holds for them.

use std::sync::Arc;
use std::time::Duration;

use handler::account::login_id::LoginId;
use handler::{Access, Error, EventOperation};
use once_cell::race::OnceBox;
use tokio::sync::MutexGuard;

use crate::limits::Limits;
use crate::limits::answer_room::AnswerShare;
use crate::limits::rates::{Quota, Rate, Rates, Used, rate_limited};
use crate::limits::remembered::Remembered;
use crate::limits::spending::{self, Payment, Spending, is_costly};
use crate::limits::unfinished::Unfinished;

/// Pings and pongs that one socket may send, per second and at once. A socket that sends more is
/// closed.
const CONTROL_FRAMES_PER_SECOND: u32 = 10;
const CONTROL_FRAMES_AT_ONCE: u32 = 100;
/// All sockets of a user together may send this many times the events of one socket.
const USER_EVENTS: u32 = 4;
/// Users that a user's events may list, at once and after that per second: a conversation of as many
/// members as there may be, and one of at most `LIST_USERS_MIN` every second.
const USERS_AT_ONCE: u32 = 10_000;
const USERS_PER_SECOND: u32 = 20;

/// Sockets that a login which does not hold may try to open, at once and after that one in each period.
/// Further ones are refused before they count as sockets of the user.
const REFUSED_AT_ONCE: u32 = 10;
const REFUSED_PERIOD: Duration = Duration::from_secs(2);

/// The rates of users, over all of their sockets on this host.
pub struct UserRates {
    quotas: Arc<Quotas>,
    users: Remembered<Arc<str>, UserRate>,
    /// Of logins that do not hold. Whoever has the token of one must not use up what its user may do.
    refused: Rates<(Arc<str>, LoginId)>,
}

/// What each user, and each socket, may do. There are many of them, so they only count.
struct Quotas {
    user_events: Quota,
    user_connects: Quota,
    events: Quota,
    control_frames: Quota,
    listed_users: Quota,
    /// Whether users pay for what they cost.
    is_limited: bool,
}

/// What one user has done.
struct UserRate {
    quotas: Arc<Quotas>,
    events: Used,
    connects: Used,
    /// Owns no memory for a user who only listens: there are many of those.
    costs: OnceBox<UserCosts>,
}

/// What a user costs the server, apart from the number of events.
pub struct UserCosts {
    listed_users: Rate,
    /// On writes.
    pub spending: Arc<Spending>,
    /// On answers to reads.
    pub reading: Spending,
    pub answers: AnswerShare,
    pub unfinished: Unfinished,
}

impl UserRates {
    pub fn new(limits: &Limits) -> Self {
        // Ten seconds' worth at once.
        let events = |count: u32| Quota::per_second(count, count.saturating_mul(10));
        let per_second = limits.events_per_second;
        let is_limited = per_second > 0;
        let quotas = Quotas {
            user_events: events(per_second.saturating_mul(USER_EVENTS)),
            user_connects: Quota::per_second(1, limits.sockets_per_user.saturating_mul(2)),
            events: events(per_second),
            control_frames: Quota::per_second(CONTROL_FRAMES_PER_SECOND, CONTROL_FRAMES_AT_ONCE),
            listed_users: match is_limited {
                true => Quota::per_second(USERS_PER_SECOND, USERS_AT_ONCE),
                false => Quota::default(),
            },
            is_limited,
        };
        UserRates {
            quotas: Arc::new(quotas),
            users: Remembered::new(),
            refused: Rates::new(Quota::new(1, REFUSED_PERIOD, REFUSED_AT_ONCE)),
        }
    }

    /// Notes that this login does not hold.
    pub fn refused(&self, username: &Arc<str>, login: LoginId) {
        let _ = self.refused.check((username.clone(), login));
    }

    /// Whether this login was refused so often that it need not be looked up.
    pub fn is_refused(&self, username: &Arc<str>, login: LoginId) -> bool {
        self.refused.is_spent(&(username.clone(), login))
    }

    /// What this user may send without a socket.
    pub fn request(&self, username: &Arc<str>) -> RequestRates {
        RequestRates {
            user: self.of(username),
        }
    }

    fn of(&self, username: &Arc<str>) -> Arc<UserRate> {
        self.users.of(username.clone(), || UserRate {
            quotas: self.quotas.clone(),
            events: Used::default(),
            connects: Used::default(),
            costs: OnceBox::new(),
        })
    }

    /// Counts one more socket; returns what may be sent on it.
    pub fn connect(&self, username: &Arc<str>) -> Result<SocketRates, Flood> {
        let user = self.of(username);
        let connects = self.quotas.user_connects.check(&user.connects);
        connects.map_err(|_| Flood)?;
        Ok(SocketRates {
            user,
            events: Used::default(),
            refusals: Used::default(),
            control_frames: Used::default(),
        })
    }
}

impl UserRate {
    fn check(&self, listed_users: usize) -> Result<(), Duration> {
        self.quotas.user_events.check(&self.events)?;
        match listed_users {
            0 => Ok(()),
            _ => self.costs().listed_users.check_many(listed_users),
        }
    }

    /// What the user costs.
    fn costs(&self) -> &UserCosts {
        let quotas = &self.quotas;
        self.costs.get_or_init(|| {
            Box::new(UserCosts {
                listed_users: Rate::new(quotas.listed_users),
                spending: Arc::new(Spending::new(quotas.is_limited)),
                reading: Spending::new(quotas.is_limited),
                answers: AnswerShare::of_user(),
                unfinished: Unfinished::of_user(),
            })
        })
    }
}

/// An event holds this until it is answered.
pub struct Prepared<'a> {
    /// Pays for its pushes.
    pub payment: Payment,
    /// If it may cost much or its user was in debt: its user's turn.
    pub turn: Option<MutexGuard<'a, ()>>,
}

impl UserCosts {
    /// Charges for what is known of an event of this many bytes before it runs, and waits until it may
    /// run. `RateLimited` if that takes too long.
    pub async fn prepare(
        &self,
        operation: &EventOperation,
        bytes: usize,
    ) -> Result<Prepared<'_>, Error> {
        let deadline = spending::deadline();
        let (payment, spending, is_costly) = match operation.access() {
            Access::None => (Payment::of(&self.spending), None, false),
            Access::Read => {
                if operation.takes_long() {
                    self.reading.charge_long_read();
                }
                (Payment::of(&self.spending), Some(&self.reading), false)
            }
            Access::Write => {
                let payment = self.spending.begin(bytes, deadline).await?;
                self.spending.charge_event(bytes);
                self.spending.charge_mentions(operation.mentions_max());
                let is_costly = is_costly(bytes, operation.answer_bytes_max());
                (payment, Some(&*self.spending), is_costly)
            }
        };
        let mut turn = None;
        if let Some(spending) = spending.filter(|spending| spending.has_to_wait(is_costly)) {
            turn = Some(spending.pay(deadline).await?);
        }
        Ok(Prepared { payment, turn })
    }
}

/// What a user may send without a socket.
pub struct RequestRates {
    user: Arc<UserRate>,
}

impl RequestRates {
    /// Counts one more event, and the users that it counts for.
    pub fn event(&self, listed_users: usize) -> Result<(), Error> {
        self.user.check(listed_users).map_err(rate_limited)
    }

    /// What the user costs.
    pub fn costs(&self) -> &UserCosts {
        self.user.costs()
    }
}

/// What was sent on one socket.
pub struct SocketRates {
    user: Arc<UserRate>,
    events: Used,
    /// Refused events. A socket that ignores too many refusals is closed.
    refusals: Used,
    control_frames: Used,
}

/// The socket has to be closed.
#[derive(Debug)]
pub struct Flood;

impl SocketRates {
    /// Counts one more event, and the users that it counts for. `Ok(Err(…))`: the event is refused with this
    /// error.
    pub fn event(&self, listed_users: usize) -> Result<Result<(), Error>, Flood> {
        let quotas = &self.user.quotas;
        let socket = quotas.events.check(&self.events);
        match socket.and_then(|()| self.user.check(listed_users)) {
            Ok(()) => Ok(Ok(())),
            Err(wait) => {
                let refusals = quotas.events.check(&self.refusals);
                refusals.map_err(|_| Flood)?;
                Ok(Err(rate_limited(wait)))
            }
        }
    }

    /// What the socket's user costs.
    pub fn costs(&self) -> &UserCosts {
        self.user.costs()
    }

    /// Counts one more ping or pong.
    pub fn control_frame(&self) -> Result<(), Flood> {
        let checked = self.user.quotas.control_frames.check(&self.control_frames);
        checked.map_err(|_| Flood)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_does_not_listen_to_refusals_is_closed() {
        let limits = Limits {
            events_per_second: 1,
            ..Limits::OFF
        };
        let users = UserRates::new(&limits);
        let connect = |users: &UserRates| users.connect(&"alice".into()).expect("a socket");
        let rates = connect(&users);
        let mut outcomes = Vec::new();
        while let Ok(outcome) = rates.event(0) {
            outcomes.push(outcome.map_err(|error| error.code()));
            assert!(outcomes.len() < 100, "it is never closed");
        }
        assert_eq!(outcomes[..10], [Ok(()); 10]);
        let refused = outcomes[10..]
            .iter()
            .filter(|outcome| **outcome == Err("rate_limited"));
        assert!(refused.count() >= 10);
        let controls = (0..).take_while(|_| rates.control_frame().is_ok()).count();
        assert!((100..110).contains(&controls), "{controls}");
        let off = connect(&UserRates::new(&Limits::OFF));
        assert!((0..10_000).all(|_| matches!(off.event(10_000), Ok(Ok(())))));
    }

    #[test]
    fn more_sockets_do_not_give_a_user_more_events_for_ever() {
        let limits = Limits {
            sockets_per_user: 10,
            events_per_second: 1,
            ..Limits::OFF
        };
        let users = UserRates::new(&limits);
        let mut done = 0;
        for _ in 0..20 {
            let socket = users.connect(&"alice".into()).expect("a socket");
            done += (0..10)
                .filter(|_| matches!(socket.event(0), Ok(Ok(()))))
                .count();
        }
        assert!((40..50).contains(&done), "{done}");
        assert!(users.connect(&"alice".into()).is_err(), "one more socket");
        let other = users.connect(&"bob".into()).expect("a socket");
        assert!(matches!(other.event(0), Ok(Ok(()))));
    }

    #[test]
    fn a_user_may_list_so_many_users_whatever_the_sockets() {
        let limits = Limits {
            events_per_second: 50,
            ..Limits::OFF
        };
        let users = UserRates::new(&limits);
        let sockets = [(); 2].map(|()| users.connect(&"alice".into()).expect("a socket"));
        let create = |listed: usize| sockets.iter().map(move |socket| socket.event(listed));
        let codes = |listed: usize| -> Vec<_> {
            let outcomes = create(listed).map(|outcome| outcome.expect("no flood"));
            outcomes
                .map(|outcome| outcome.map_err(|error| error.code()))
                .collect()
        };
        // A large one costs more than a small one.
        assert_eq!(codes(9_900), [Ok(()), Err("rate_limited")]);
        assert_eq!(codes(1), [Ok(()), Ok(())]);
        // An event with more than anybody may list is for its own operation to refuse.
        let other = users.connect(&"bob".into()).expect("a socket");
        assert!(matches!(other.event(20_000), Ok(Ok(()))));
        assert_eq!(codes(0), [Ok(()), Ok(())]);
    }
}
