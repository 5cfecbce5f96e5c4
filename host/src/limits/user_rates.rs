//! How much a user, and one socket, may send.

use std::sync::Arc;

use handler::Error;
use once_cell::sync::OnceCell;

use crate::limits::Limits;
use crate::limits::rates::{Rate, rate_limited};
use crate::limits::remembered::Remembered;

/// Pings and pongs that one socket may send, per second and at once. A socket that sends more is
/// closed.
const CONTROL_FRAMES_PER_SECOND: u32 = 10;
const CONTROL_FRAMES_AT_ONCE: u32 = 100;
/// All sockets of a user together may send this many times the events of one socket.
const USER_EVENTS: u32 = 4;
/// The rates of users, over all of their sockets on this host.
pub struct UserRates {
    limits: Limits,
    users: Remembered<Arc<str>, UserRate>,
}

/// The rates of one user.
struct UserRate {
    events: Rate,
    connects: Rate,
}

impl UserRates {
    pub fn new(limits: &Limits) -> Self {
        UserRates {
            limits: limits.clone(),
            users: Remembered::new(),
        }
    }

    /// Counts one more socket; returns what may be sent on it.
    pub fn connect(&self, username: &Arc<str>) -> Result<SocketRates, Flood> {
        let user = self.users.of(username.clone(), || UserRate {
            events: events(self.limits.events_per_second.saturating_mul(USER_EVENTS)),
            connects: match self.limits.sockets_per_user {
                0 => Rate::new(None),
                sockets => Rate::per_second(1, sockets.saturating_mul(2)),
            },
        });
        user.connects.check().map_err(|_| Flood)?;
        Ok(SocketRates::new(self.limits.events_per_second, user))
    }
}

/// What one socket may send.
pub struct SocketRates {
    /// Events per second.
    per_second: u32,
    events: Rate,
    user: Arc<UserRate>,
    /// Refused events. A socket that ignores too many refusals is closed.
    refusals: OnceCell<Box<Rate>>,
    control_frames: Rate,
}

/// `per_second` events, and ten seconds' worth at once.
fn events(per_second: u32) -> Rate {
    Rate::per_second(per_second, per_second.saturating_mul(10))
}

/// The socket has to be closed.
#[derive(Debug)]
pub struct Flood;

impl SocketRates {
    fn new(per_second: u32, user: Arc<UserRate>) -> Self {
        SocketRates {
            per_second,
            events: events(per_second),
            user,
            refusals: OnceCell::new(),
            control_frames: Rate::per_second(CONTROL_FRAMES_PER_SECOND, CONTROL_FRAMES_AT_ONCE),
        }
    }

    /// Counts one more event. `Ok(Err(…))`: the event is refused with this error.
    pub fn event(&self) -> Result<Result<(), Error>, Flood> {
        let both = self.events.check();
        match both.and_then(|()| self.user.events.check()) {
            Ok(()) => Ok(Ok(())),
            Err(wait) => {
                let refusals = self
                    .refusals
                    .get_or_init(|| Box::new(events(self.per_second)));
                refusals.check().map_err(|_| Flood)?;
                Ok(Err(rate_limited(wait)))
            }
        }
    }

    /// Counts one more ping or pong.
    pub fn control_frame(&self) -> Result<(), Flood> {
        self.control_frames.check().map_err(|_| Flood)
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
        while let Ok(outcome) = rates.event() {
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
        assert!((0..10_000).all(|_| matches!(off.event(), Ok(Ok(())))));
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
                .filter(|_| matches!(socket.event(), Ok(Ok(()))))
                .count();
        }
        assert!((40..50).contains(&done), "{done}");
        assert!(users.connect(&"alice".into()).is_err(), "one more socket");
        let other = users.connect(&"bob".into()).expect("a socket");
        assert!(matches!(other.event(), Ok(Ok(()))));
    }
}
