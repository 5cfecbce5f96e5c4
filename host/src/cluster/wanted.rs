//! What a host wants to hear: its online users, and their conversations, as buckets.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// Users and conversations share this many buckets, by a hash of their ids. A host with 50,000 users
/// in ten conversations each wants an eighth of all buckets, so it hears an eighth of the messages
/// that it does not need. More buckets would not fit in a packet (see `Wanted::words`): NATS takes
/// 1 MiB.
pub const BUCKETS: usize = 1 << 22;
/// A bucket that nobody here needs any more is wanted for one to two times as long. So nothing is
/// said about users who lose their connection and are soon back.
pub const LINGER: Duration = Duration::from_secs(30);

const WORD_BITS: usize = u64::BITS as usize;

pub fn bucket_of_user(id: i64) -> u32 {
    bucket((id as u64) << 1)
}

pub fn bucket_of_conversation(id: i64) -> u32 {
    bucket((id as u64) << 1 | 1)
}

/// Fibonacci hashing: the numbers that follow one another go to places far apart.
fn bucket(number: u64) -> u32 {
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - BUCKETS.ilog2())) as u32
}

/// What this host wants, and what of it the other hosts have not been told.
#[derive(Default)]
pub struct Wanted {
    /// How many users and conversations need each wanted bucket.
    needs: HashMap<u32, u32>,
    needed: usize,
    /// Buckets that nobody needed any more, since the last sweep and since the one before.
    idle: [Vec<u32>; 2],
    swept_at: Option<Instant>,
    news: News,
}

#[derive(Default)]
pub struct News {
    /// Buckets that are wanted now, and when the first of them was.
    pub more: Vec<u32>,
    pub since: Option<Instant>,
    /// Buckets of conversations that users have joined.
    pub joined: Vec<u32>,
    pub fewer: Vec<u32>,
}

impl Wanted {
    pub fn need(&mut self, bucket: u32) {
        let news = &mut self.news;
        let needs = self.needs.entry(bucket).or_insert_with(|| {
            news.since.get_or_insert_with(Instant::now);
            news.more.push(bucket);
            0
        });
        self.needed += usize::from(*needs == 0);
        *needs += 1;
    }

    /// Somebody has joined the conversation of this bucket.
    pub fn join(&mut self, bucket: u32) {
        self.news.joined.push(bucket);
    }

    pub fn free(&mut self, bucket: u32) {
        let Some(needs) = self.needs.get_mut(&bucket).filter(|needs| **needs > 0) else {
            return;
        };
        *needs -= 1;
        if *needs == 0 {
            self.needed -= 1;
            self.idle[0].push(bucket);
        }
    }

    /// Whether anybody is here.
    pub fn is_needed(&self) -> bool {
        self.needed > 0
    }

    /// Gives up what nobody has needed for `LINGER`.
    pub fn sweep(&mut self, now: Instant) {
        if self.swept_at.is_some_and(|at| now - at < LINGER) {
            return;
        }
        self.swept_at = Some(now);
        let [idle, older] = &mut self.idle;
        for bucket in older.drain(..) {
            if self.needs.get(&bucket) == Some(&0) {
                self.needs.remove(&bucket);
                self.news.fewer.push(bucket);
            }
        }
        std::mem::swap(idle, older);
    }

    /// What the other hosts have to be told.
    pub fn news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// All wanted buckets: words of a bit for each, without those that are 0.
    pub fn words(&self) -> Vec<(u32, u64)> {
        let mut words = BTreeMap::new();
        for bucket in self.needs.keys() {
            let (word, bit) = place(*bucket);
            *words.entry(word as u32).or_default() |= bit;
        }
        words.into_iter().collect()
    }

    /// For tests with a clock of their own.
    #[cfg(test)]
    pub fn set_since(&mut self, now: Instant) {
        self.news.since = Some(now);
    }

    /// How many users and conversations need something.
    pub fn count(&self) -> usize {
        self.needs.values().map(|needs| *needs as usize).sum()
    }
}

/// What another host wants: a bit for each bucket.
pub struct Wants(Vec<u64>);

impl Wants {
    pub fn new(words: &[(u32, u64)]) -> Self {
        let mut wants = vec![0; BUCKETS / WORD_BITS];
        for (index, word) in words {
            if let Some(wanted) = wants.get_mut(*index as usize) {
                *wanted = *word;
            }
        }
        Wants(wants)
    }

    pub fn has(&self, bucket: u32) -> bool {
        let (word, bit) = place(bucket);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    pub fn set(&mut self, bucket: u32, is_wanted: bool) {
        let (word, bit) = place(bucket);
        if let Some(word) = self.0.get_mut(word) {
            match is_wanted {
                true => *word |= bit,
                false => *word &= !bit,
            }
        }
    }
}

fn place(bucket: u32) -> (usize, u64) {
    let bucket = bucket as usize;
    (bucket / WORD_BITS, 1 << (bucket % WORD_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_soon_back_is_no_news() {
        let (start, mut wanted) = (Instant::now(), Wanted::default());
        let at = |lingers: u32| start + lingers * LINGER;
        wanted.sweep(at(0));
        wanted.need(7);
        wanted.need(7);
        wanted.need(9);
        let news = wanted.news();
        assert_eq!((news.more, news.fewer), (vec![7, 9], vec![]));
        assert!(news.since.is_some_and(|since| since >= start));
        for bucket in [7, 7, 9] {
            wanted.free(bucket);
        }
        assert!(!wanted.is_needed());
        wanted.sweep(at(1));
        wanted.need(7);
        wanted.sweep(at(2));
        let news = wanted.news();
        assert_eq!((news.more, news.fewer), (vec![], vec![9]));
        wanted.need(9);
        assert_eq!(wanted.news().more, [9]);
        wanted.sweep(at(3));
        wanted.sweep(at(4));
        assert_eq!(wanted.news().fewer, [] as [u32; 0]);
        assert!(wanted.is_needed());
    }

    #[test]
    fn all_that_is_wanted_is_told_at_once() {
        let mut wanted = Wanted::default();
        let buckets = [0, 1, 63, 64, 1_000_000, BUCKETS as u32 - 1];
        buckets.iter().for_each(|bucket| wanted.need(*bucket));
        let mut wants = Wants::new(&wanted.words());
        for bucket in buckets {
            assert!(wants.has(bucket) && !wants.has(bucket ^ 2));
            wants.set(bucket, false);
            assert!(!wants.has(bucket));
        }
        // What no host says.
        let mut wants = Wants::new(&[(u32::MAX, u64::MAX)]);
        wants.set(u32::MAX, true);
        assert!(!wants.has(u32::MAX));
    }

    #[test]
    fn ids_that_follow_one_another_hardly_meet() {
        let ids = 1..=100_000;
        let buckets = ids.flat_map(|id| [bucket_of_user(id), bucket_of_conversation(id)]);
        let mut buckets: Vec<_> = buckets.collect();
        assert!(buckets.iter().all(|bucket| (*bucket as usize) < BUCKETS));
        buckets.sort_unstable();
        buckets.dedup();
        assert!(buckets.len() > 180_000, "{}", buckets.len());
    }
}
