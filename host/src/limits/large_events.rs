//! Large events are read one at a time: that takes milliseconds, and other sockets need a thread
//! meanwhile. The sockets of an address have one turn together.

use handler::Event;
use tokio::sync::Mutex;

use crate::threads::contain;

/// A larger event waits for its turn.
const LARGE_BYTES: usize = 16 * 1024;

pub fn is_large(text: &str) -> bool {
    text.len() > LARGE_BYTES
}

/// The large events of an address, or of all.
#[derive(Default)]
pub struct LargeEvents {
    turn: Mutex<()>,
}

/// Reads a large event when it is its turn.
pub async fn read_in_turn(text: &str, of_address: &LargeEvents, of_all: &LargeEvents) -> Event {
    let _of_address = of_address.turn.lock().await;
    let _of_all = of_all.turn.lock().await;
    read(text)
}

pub fn read(text: &str) -> Event {
    contain(|| Ok(Event::parse(text))).unwrap_or_else(Event::unreadable)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn an_address_has_one_turn() {
        let all = LargeEvents::default();
        let addresses = [(); 2].map(|()| LargeEvents::default());
        let read = |address: usize| Box::pin(read_in_turn("{}", &addresses[address], &all));
        let under_way = all.turn.lock().await;
        let (mut first, mut second, mut other) = (read(0), read(0), read(1));
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut other).now_or_never().is_none());
        drop(under_way);
        assert!((&mut second).now_or_never().is_none());
        assert!(first.now_or_never().is_some());
        // The other address came later than the second event, but before its turn.
        assert!((&mut second).now_or_never().is_none());
        assert!(other.now_or_never().is_some());
        assert!(second.now_or_never().is_some());
    }
}
