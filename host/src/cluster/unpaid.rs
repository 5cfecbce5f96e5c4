//! Users pay for pushes to the sockets of another host too. A push that is sent there counts as one to
//! a socket. Only that host knows how many sockets got it. It reports the number, and the user's own
//! host charges the user.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::limits::spending::{Spending, pushes};

/// Only pushes on a host that count for at least this many are reported: see `spending::pushes`.
const REPORTED_MIN: u64 = 20;
/// Packets that may wait for a report. It comes within milliseconds, or never.
const PACKETS_MAX: usize = 1024;

/// By number, the packets to a host that have pushes to pay for.
#[derive(Default)]
pub struct Unpaid {
    packets: VecDeque<(u64, Vec<Bill>)>,
}

/// The user who pays for an output, and the bytes of the output. `None` if nobody pays.
pub type Bill = Option<(Arc<Spending>, usize)>;

/// The report on an output of this many bytes that so many sockets got, if one is due.
pub fn report(place: usize, (sockets, bytes): (usize, usize)) -> Option<(u32, u32)> {
    (pushes(bytes, sockets) >= REPORTED_MIN).then_some((place as u32, sockets as u32))
}

impl Unpaid {
    pub fn add(&mut self, number: u64, bills: Vec<Bill>) {
        if bills.iter().all(Option::is_none) {
            return;
        }
        if self.packets.len() == PACKETS_MAX {
            self.packets.pop_front();
        }
        self.packets.push_back((number, bills));
    }

    /// Charges for the packet with this number. Those before it will not be reported any more.
    pub fn charge(&mut self, number: u64, delivered: &[(u32, u32)]) {
        while self.packets.front().is_some_and(|(of, _)| *of < number) {
            self.packets.pop_front();
        }
        if self.packets.front().is_none_or(|(of, _)| *of > number) {
            return;
        }
        let bills = self
            .packets
            .pop_front()
            .map_or_else(Vec::new, |(_, bills)| bills);
        for (place, sockets) in delivered {
            if let Some(Some((payer, bytes))) = bills.get(*place as usize) {
                payer.charge_push(*bytes, *sockets as usize);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn bills(payer: &Arc<Spending>) -> Vec<Bill> {
        vec![None, Some((payer.clone(), 100))]
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_is_charged_once_and_to_its_payer() {
        let (alice, bob) = (Arc::new(Spending::new(true)), Arc::new(Spending::new(true)));
        let mut unpaid = Unpaid::default();
        unpaid.add(3, bills(&alice));
        unpaid.add(4, vec![None]);
        unpaid.add(5, bills(&bob));
        let delivered = vec![(0, 1_000_000), (1, 150_000), (7, 1_000_000)];
        unpaid.charge(2, &delivered);
        unpaid.charge(4, &delivered);
        assert_eq!((alice.debt(), bob.debt()), Default::default());
        // 50,000 more than at once, two seconds' worth. The packets before it are forgotten.
        for number in [5, 5, 3] {
            unpaid.charge(number, &delivered);
        }
        assert_eq!(
            (alice.debt(), bob.debt()),
            (Duration::ZERO, Duration::from_secs(2))
        );
    }

    #[test]
    fn what_counts_for_much_is_reported() {
        assert_eq!(report(3, (20, 100)), Some((3, 20)));
        assert_eq!(report(3, (19, 100)), None);
        assert_eq!(report(3, (1, 10 * 1024)), Some((3, 1)));
        assert_eq!(report(3, (0, 64 * 1024)), None);
    }

    #[test]
    fn what_is_never_reported_is_forgotten() {
        let payer = Arc::new(Spending::new(true));
        let mut unpaid = Unpaid::default();
        for number in 0..3 * PACKETS_MAX as u64 {
            unpaid.add(number, bills(&payer));
        }
        assert_eq!(unpaid.packets.len(), PACKETS_MAX);
    }
}
