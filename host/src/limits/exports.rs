//! How many exports of accounts may run, and how often a user may have one. Each of them looks at
//! all messages and reactions, because no index finds those of a user.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use handler::Error;

use crate::limits::places::{Place, Places};
use crate::limits::rates::{Quota, Rates, rate_limited};

/// Exports under way on this host. On a file, each has a temporary file.
const EXPORTS_AT_ONCE: u32 = 4;
/// Exports that a user may begin at once, and the period in which one more becomes free.
const BEGUN_AT_ONCE: u32 = 5;
const BEGIN_PERIOD: Duration = Duration::from_secs(600);
/// An export takes from a second to some minutes.
const RETRY_AFTER_SECONDS: u32 = 10;

pub struct Exports {
    all: Arc<Places<()>>,
    /// Users are hashes with a random key.
    users: Arc<Places<u64>>,
    begun: Rates<u64>,
    hasher: RandomState,
}

/// Held while an export runs.
pub struct ExportPlace {
    _of_all: Place<()>,
    _of_user: Place<u64>,
}

impl Exports {
    pub fn new() -> Self {
        Exports {
            all: Places::new(EXPORTS_AT_ONCE).into(),
            users: Places::new(1).into(),
            begun: Rates::new(Quota::new(1, BEGIN_PERIOD, BEGUN_AT_ONCE)),
            hasher: RandomState::new(),
        }
    }

    /// `RateLimited` if this user has an export under way or had too many, and `Unavailable` if
    /// others have taken all places.
    pub fn begin(&self, username: &str) -> Result<ExportPlace, Error> {
        let user = self.hasher.hash_one(username);
        let of_user = self.users.take(user).ok_or(Error::RateLimited {
            retry_after_seconds: RETRY_AFTER_SECONDS,
        })?;
        let of_all = self.all.take(()).ok_or(Error::Unavailable {
            retry_after_seconds: RETRY_AFTER_SECONDS,
        })?;
        self.begun.check(user).map_err(rate_limited)?;
        Ok(ExportPlace {
            _of_all: of_all,
            _of_user: of_user,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_one_export_and_all_have_few() {
        let exports = Exports::new();
        let code = |username: &str| exports.begin(username).err().map(|error| error.code());
        let alice = exports.begin("alice").expect("a place");
        assert_eq!(code("alice"), Some("rate_limited"));
        let others = ["b", "c", "d"].map(|name| exports.begin(name).expect("a place"));
        assert_eq!(code("e"), Some("unavailable"));
        drop(alice);
        assert_eq!(code("e"), None);
        drop(others);
        for _ in 1..BEGUN_AT_ONCE {
            assert_eq!(code("alice"), None);
        }
        assert_eq!(code("alice"), Some("rate_limited"));
        assert_eq!(code("bob"), None);
    }
}
