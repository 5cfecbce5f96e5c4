//! The time that operations take on a libSQL server. The dear ones of one source must not make a request long
//! for everybody. A local commit ends after a set time, but a request only ends when its last operation has run,
//! and all of its callers wait for that. So it takes only a few dear operations of one source, however many
//! wait.

use std::collections::HashMap;
use std::time::Duration;

use crate::store::job_queue::SourceAddress;

/// The operations of a request may take so long together, if the way to the server does not take longer. The
/// commit of their changes takes about as long again.
const REQUEST_TIME: Duration = Duration::from_millis(5);
/// The most that they may take, however long the way is.
const REQUEST_TIME_MAX: Duration = Duration::from_millis(100);
/// A request on which the server worked longer does not say how long the way is: its commit may be long.
const SHORT_WORK: Duration = Duration::from_millis(3);
/// The time to send back this many bytes of an answer.
const ANSWER_TIME: Duration = Duration::from_micros(15);
const ANSWER_BYTES: usize = 1024;
/// The time that an operation in a set takes besides.
const IN_SET: Duration = Duration::from_micros(5);
/// The guess for another operation, of a source that is not known yet.
const UNKNOWN: Duration = Duration::from_micros(300);
/// The most that one request can say of an operation, because a single slow one says little.
const MAX: Duration = Duration::from_millis(5);
/// The means are over about so many operations of a source, and so many requests.
const OPERATIONS_REMEMBERED: u32 = 64;
const REQUESTS_REMEMBERED: u32 = 16;
const SOURCES_MAX: usize = 10_000;
/// An operation in a set takes as long as one statement for so many of them.
const SET_PARTS: u32 = 4;

#[derive(Default)]
pub struct RequestTimes {
    /// The time of a request without its operations: the way there and back, and the commit.
    way: Duration,
    sources: HashMap<SourceAddress, Times>,
}

/// The means of a source.
struct Times {
    /// The time that the server works on an operation that is in no set.
    work: Duration,
    answer: Duration,
}

/// An operation of a request that was answered.
pub struct Ran {
    pub source: SourceAddress,
    /// `None` if it could be an element of a set.
    pub statements: Option<u32>,
    pub answer_bytes: usize,
}

impl Ran {
    fn weight(&self) -> u32 {
        self.statements.map_or(1, |count| count.max(1) * SET_PARTS)
    }

    fn answer_time(&self) -> Duration {
        ANSWER_TIME * (self.answer_bytes / ANSWER_BYTES) as u32
    }
}

impl RequestTimes {
    /// The operations of the next request may take so long together. On a long way a request may take as long
    /// again: otherwise few of those that wait would be answered, and all of them late.
    pub fn most(&self) -> Duration {
        self.way.clamp(REQUEST_TIME, REQUEST_TIME_MAX)
    }

    /// What an operation of this source takes, which may be in a set or not.
    pub fn of(&self, source: SourceAddress, is_in_set: bool) -> Duration {
        let known = self.sources.get(&source);
        let work = match is_in_set {
            true => IN_SET,
            false => known.map_or(UNKNOWN, |times| times.work),
        };
        work + known.map_or(Duration::ZERO, |times| times.answer)
    }

    /// Notes a request of these operations: how long the server worked on them, and how long the request took
    /// in all.
    pub fn note(&mut self, operations: &[Ran], worked: Duration, total: Duration) {
        if worked <= SHORT_WORK {
            let answers: Duration = operations.iter().map(Ran::answer_time).sum();
            let way = total.saturating_sub(worked + answers);
            self.way = mean(self.way, way, REQUESTS_REMEMBERED);
        }
        if self.sources.len() > SOURCES_MAX {
            self.sources.clear();
        }
        let weights = operations.iter().map(Ran::weight).sum::<u32>().max(1);
        for ran in operations {
            let known = self.sources.entry(ran.source).or_insert(Times {
                work: UNKNOWN,
                answer: Duration::ZERO,
            });
            known.answer = mean(known.answer, ran.answer_time(), OPERATIONS_REMEMBERED);
            if ran.statements.is_some() {
                let work = worked * ran.weight() / weights;
                known.work = mean(known.work, work.min(MAX), OPERATIONS_REMEMBERED);
            }
        }
    }
}

fn mean(known: Duration, new: Duration, count: u32) -> Duration {
    (known * (count - 1) + new) / count
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn source(host: u8) -> SourceAddress {
        Some(IpAddr::from([192, 0, 2, host]).into())
    }

    fn ran(host: u8, statements: Option<u32>, answer_bytes: usize) -> Ran {
        Ran {
            source: source(host),
            statements,
            answer_bytes,
        }
    }

    /// How many operations of a source fit into a request, those of sets and others.
    fn fit(times: &RequestTimes, host: u8) -> (u128, u128) {
        let fit = |is_in_set| {
            let of = times.of(source(host), is_in_set);
            times.most().as_nanos() / of.as_nanos()
        };
        (fit(true), fit(false))
    }

    #[test]
    fn a_way_that_varies_is_not_blamed_on_operations() {
        let mut times = RequestTimes::default();
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..1000 {
            let count = random.u32(1..30);
            let operations: Vec<_> = (0..count).map(|_| ran(1, Some(4), 200)).collect();
            let worked = Duration::from_micros(100) * count;
            times.note(&operations, worked, worked + ms(random.u64(10..80)));
        }
        let (in_sets, others) = fit(&times, 1);
        assert!(in_sets > 1024 && others > 256, "{in_sets}, {others}");
        // Nor is a server that does not answer for a while.
        times.note(&[ran(1, Some(4), 200)], ms(10_000), ms(10_100));
        times.note(&[ran(1, None, 200)], ms(1), ms(20_000));
        let (in_sets, others) = fit(&times, 1);
        assert!(in_sets > 1024 && others > 100, "{in_sets}, {others}");
        assert_eq!(times.most(), REQUEST_TIME_MAX);
    }

    #[test]
    fn few_operations_fit_of_a_source_whose_operations_are_dear() {
        let mut times = RequestTimes::default();
        assert_eq!(fit(&times, 1), (1000, 16));
        for _ in 0..20 {
            // Edits beside the sends of others, which are a set. Their commit is long too.
            let edits = (0..8).map(|_| ran(1, Some(6), 200));
            let sends = (0..50).map(|_| ran(2, None, 200));
            let both: Vec<_> = edits.chain(sends).collect();
            times.note(&both, ms(8), ms(20));
        }
        let (_, edits) = fit(&times, 1);
        assert!((5..10).contains(&edits), "{edits}");
        assert_eq!(fit(&times, 2).0, 1000);
        // Of elements of a set, those with long answers are dear.
        for _ in 0..20 {
            let repeated: Vec<_> = (0..16).map(|_| ran(3, None, 64 * 1024)).collect();
            times.note(&repeated, ms(1), ms(20));
        }
        let (repeated, _) = fit(&times, 3);
        assert!((5..9).contains(&repeated), "{repeated}");
    }
}
