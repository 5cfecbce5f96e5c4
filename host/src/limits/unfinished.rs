//! Memory for messages whose end has not arrived, and for bodies of requests until they are answered.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Bytes of unfinished messages of one user, of one address and in all.
const USER_BYTES_MAX: usize = 4 * 1024 * 1024;
const ADDRESS_BYTES_MAX: usize = 16 * 1024 * 1024;
const ALL_BYTES_MAX: usize = 32 * 1024 * 1024;
/// This much of a socket's unfinished message is not counted, so that most messages never are.
const FREE_BYTES: usize = 4 * 1024;

/// The unfinished messages, or the bodies, of a user, of an address, or of all.
pub struct Unfinished {
    bytes_max: usize,
    bytes: AtomicUsize,
    /// Wakes the connection that has waited longest for the end of a message.
    pressed: Notify,
}

impl Unfinished {
    pub fn of_user() -> Self {
        Self::new(USER_BYTES_MAX)
    }

    pub fn of_address() -> Self {
        Self::new(ADDRESS_BYTES_MAX)
    }

    pub fn of_all() -> Self {
        Self::new(ALL_BYTES_MAX)
    }

    fn new(bytes_max: usize) -> Self {
        Unfinished {
            bytes_max,
            bytes: AtomicUsize::new(0),
            pressed: Notify::new(),
        }
    }

    /// There is no room for another one: the one that has waited longest is to give its room back.
    /// Otherwise a few who send no more could stop everybody else.
    pub fn press(&self) {
        self.pressed.notify_one();
    }

    /// Waits until there is no room for others, and nobody who waits here has waited longer.
    pub async fn pressed(&self) {
        loop {
            self.pressed.notified().await;
            if self.bytes.load(Ordering::Relaxed) > self.bytes_max {
                return;
            }
        }
    }

    /// Takes this many bytes; whether there is still room.
    fn take(&self, bytes: usize) -> bool {
        self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.bytes_max
    }
}

/// Whether an unfinished message of so many bytes is not counted.
pub fn is_free(bytes: usize) -> bool {
    bytes <= FREE_BYTES
}

/// Notes that a socket's unfinished message, which had `before` bytes, now has `after`. `false` if
/// one of the `shares` has no room for it, though it is counted.
#[must_use]
pub fn note<const N: usize>(shares: [&Unfinished; N], before: usize, after: usize) -> bool {
    let [before, after] = [before, after].map(|bytes| bytes.saturating_sub(FREE_BYTES));
    if after <= before {
        if after < before {
            for share in shares {
                share.bytes.fetch_sub(before - after, Ordering::Relaxed);
            }
        }
        return true;
    }
    let fits = shares.map(|share| share.take(after - before));
    fits == [true; N]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_room_until_they_are_whole() {
        let user = Unfinished::of_user();
        let (address, all) = (Unfinished::of_address(), Unfinished::of_all());
        let shares = [&user, &address, &all];
        // Ordinary messages are not counted, however many there are.
        assert!((0..100_000).all(|_| note(shares, 0, FREE_BYTES)));
        let one = USER_BYTES_MAX / 4 + FREE_BYTES;
        assert!((0..4).all(|_| note(shares, 0, one)));
        assert!(!note(shares, 0, one));
        // The fifth socket is closed.
        assert!(note(shares, one, 0));
        assert!(note(shares, one, one), "it is still counted");
        assert!((0..4).all(|_| note(shares, one, 0)));
        let left = shares.map(|share| share.bytes.load(Ordering::Relaxed));
        assert_eq!(left, [0; 3]);
    }

    #[tokio::test]
    async fn the_one_that_has_waited_longest_makes_room() {
        use futures_util::FutureExt;

        let all = Unfinished::of_all();
        let (mut first, mut second) = (Box::pin(all.pressed()), Box::pin(all.pressed()));
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        assert!(note([&all], 0, ALL_BYTES_MAX));
        all.press();
        assert!((&mut first).now_or_never().is_none(), "there is room");
        assert!(!note([&all], 0, 2 * FREE_BYTES + 1));
        all.press();
        assert!(
            (&mut second).now_or_never().is_some(),
            "the first one waits anew"
        );
        assert!((&mut first).now_or_never().is_none());
    }

    #[test]
    fn an_address_has_its_share_whatever_its_users() {
        let (address, all) = (Unfinished::of_address(), Unfinished::of_all());
        let users: Vec<_> = (0..5).map(|_| Unfinished::of_user()).collect();
        let fits = users.iter().map(|user| {
            let bytes = USER_BYTES_MAX + FREE_BYTES;
            note([user, &address, &all], 0, bytes)
        });
        assert_eq!(fits.collect::<Vec<_>>(), [true, true, true, true, false]);
    }
}
