//! Users who connect and are in many conversations. Few of them are let in at once: they keep a reader and
//! the registry busy, and what was read takes memory until the registry has it.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Such users who are let in at the same time, of one address and in all. Each may be in 10,000
/// conversations, which are 160 KB. On a file it is one: this machine does the reading too.
const ADDRESS_MAX: u32 = 8;
const ALL_MAX: u32 = 32;

/// The arrivals of an address, or of all.
pub struct Arrivals(Semaphore);

impl Arrivals {
    pub fn of_address() -> Self {
        Arrivals(Semaphore::new(ADDRESS_MAX as usize))
    }

    pub fn of_all() -> Self {
        Arrivals(Semaphore::new(ALL_MAX as usize))
    }

    /// Waits for a place; it is free again when the places are dropped.
    pub async fn place<'a>(
        of_address: &'a Arrivals,
        of_all: &'a Arrivals,
        is_on_server: bool,
    ) -> [SemaphorePermit<'a>; 2] {
        let place = async |Arrivals(places): &'a Arrivals, max| {
            let taken = if is_on_server { 1 } else { max };
            let place = places.acquire_many(taken).await;
            place.expect("it is never closed")
        };
        let of_address = place(of_address, ADDRESS_MAX).await;
        [of_address, place(of_all, ALL_MAX).await]
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn an_address_leaves_places_to_others() {
        let all = Arrivals::of_all();
        let addresses: Vec<_> = (0..5).map(|_| Arrivals::of_address()).collect();
        let place = |address: usize, is_on_server| {
            Arrivals::place(&addresses[address], &all, is_on_server).now_or_never()
        };
        let mut places: Vec<_> = (0..ADDRESS_MAX).map(|_| place(0, true)).collect();
        assert!(places.iter().all(Option::is_some));
        assert!(place(0, true).is_none());
        for address in 1..4 {
            places.extend((0..ADDRESS_MAX).map(|_| place(address, true)));
        }
        assert!(places.iter().all(Option::is_some));
        assert!(place(4, true).is_none(), "all are taken");
        places.pop();
        assert!(place(4, true).is_some());
        assert!(place(4, false).is_none());
        places.clear();
        let _only = place(0, false).expect("a place");
        assert!(place(4, false).is_none(), "one at a time");
    }
}
