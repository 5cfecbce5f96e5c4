//! Durable sends in pairs: as fast as replies arrive, or at a steady rate.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;

use crate::floor::raw_commits;
use crate::logins::Storm;
use crate::machine::{cpu_seconds, disk_sync_seconds};
use crate::measurement::{Goal, Latency, Measurement, interleave};
use crate::order::Order;
use crate::site::{Common, Crowd, Site, message};
use crate::swarm::{PATIENCE, Swarm};

#[derive(Args)]
pub struct Sends {
    #[arg(long, default_value_t = 100)]
    pub pairs: usize,
    /// Messages that each sender keeps unanswered.
    #[arg(long, default_value_t = 1)]
    pub in_flight: usize,
    /// Each message is written by itself. Otherwise those that answer one read go together.
    #[arg(long)]
    pub one_by_one: bool,
    /// Length of a message, in bytes.
    #[arg(long, default_value_t = 64)]
    pub bytes: usize,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Args)]
pub struct Latencies {
    #[arg(long, default_value_t = 100)]
    pairs: usize,
    /// Messages a second, of all pairs together.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Users that log in at any time, in every second round.
    #[arg(long, default_value_t = 0)]
    logins: usize,
    /// Length of a message, in bytes.
    #[arg(long, default_value_t = 64)]
    bytes: usize,
    #[command(flatten)]
    common: Common,
}

/// Pairs of users; one user of each pair sends to the other.
pub fn pairs_of(pairs: usize) -> Crowd {
    Crowd {
        groups: pairs,
        members: 2,
        messages: 0,
    }
}

pub async fn sends(arguments: Sends) -> Result<Vec<Measurement>> {
    let Sends {
        pairs,
        in_flight,
        one_by_one,
        bytes,
        common,
    } = arguments;
    ensure!(
        pairs > 0 && in_flight > 0,
        "--pairs and --in-flight must be at least 1"
    );
    let site = Site::make(&common, pairs_of(pairs)).await?;
    let mut talk = Pairs::new(site.connected()?, &site, bytes);
    talk.one_by_one = one_by_one;
    // Such clients are answered one by one too, so that the groups can be as large as what waits.
    let (group, floor, goal) = match one_by_one {
        false => (64, "raw commits of 64", 0.6),
        true => (256, "raw commits of 256", 0.8),
    };
    let (mut to_one, mut costs) = (Vec::new(), Vec::new());
    let rounds = interleave(
        &common,
        site.pid,
        async |length| {
            to_one.push(raw_commits(1, 64, length, "x".repeat(bytes)).await?);
            let before = cpu_seconds(None)?;
            let floor = raw_commits(pairs, group, length, "x".repeat(bytes)).await?;
            costs.push(1e6 * (cpu_seconds(None)? - before) / (floor * length.as_secs_f64()));
            Ok(floor)
        },
        async |length| talk.closed(length, in_flight),
    )
    .await?;
    let how = if one_by_one { ", one by one" } else { "" };
    let name = format!("sends, {pairs} pairs, {in_flight} in flight{how}");
    let per_second = rounds.each(|round| round.per_second);
    let measurement = Measurement::new(name, "sends/s", per_second.clone())
        .against(floor, &rounds.floors)
        .beside("raw_commits_to_one_conversation", &to_one)
        .beside("raw_commits_cpu_us", &costs)
        .aims(Goal::RatioAtLeast(goal))
        .used(rounds.usage);
    let measurement = rounds.with_threads(measurement, &per_second);
    Ok(vec![with_latencies(measurement, &rounds.figures)])
}

/// Adds the medians of the rounds' latencies as further figures.
pub fn with_latencies(measurement: Measurement, rounds: &[Sent]) -> Measurement {
    let of = |latency: fn(&Sent) -> f64| rounds.iter().map(latency).collect::<Vec<_>>();
    measurement
        .beside("reply_p50_ms", &of(|sent| sent.replies.p50))
        .beside("reply_p99_ms", &of(|sent| sent.replies.p99))
        .beside("push_p50_ms", &of(|sent| sent.pushes.p50))
        .beside("push_p99_ms", &of(|sent| sent.pushes.p99))
}

pub async fn latency(arguments: Latencies) -> Result<Vec<Measurement>> {
    let Latencies {
        pairs,
        rate,
        logins,
        bytes,
        common,
    } = arguments;
    ensure!(
        pairs > 0 && rate > 0.0,
        "--pairs and --rate must be more than 0"
    );
    let site = Site::make(&common, pairs_of(pairs)).await?;
    let mut talk = Pairs::new(site.connected()?, &site, bytes);
    if logins > 0 {
        let mut quiet = Vec::new();
        // The round without logins is the floor of the round with logins; both use `talk`.
        let talk = std::cell::RefCell::new(&mut talk);
        let mut counts = Vec::new();
        let rounds = interleave(
            &common,
            site.pid,
            async |length| {
                let sent = talk.borrow_mut().open(length, rate)?;
                quiet.push(sent.replies.p50);
                Ok(sent.replies.p99)
            },
            async |length| {
                let storm = Storm::start(&site, logins).await?;
                let sent = talk.borrow_mut().open(length, rate);
                counts.push(storm.end().await?.len() as f64 / length.as_secs_f64());
                sent
            },
        )
        .await?;
        let name = format!("latency at {rate} sends/s while {logins} log in, p99");
        let measurement = Measurement::new(name, "ms", rounds.each(|round| round.replies.p99))
            .against("p99 without logins", &rounds.floors)
            .aims(Goal::RatioAtMost(3.0))
            .used(rounds.usage)
            .beside("logins_per_second", &counts)
            .beside("p50_ms", &rounds.each(|round| round.replies.p50))
            .beside("max_ms", &rounds.each(|round| round.replies.max))
            .beside("quiet_p50_ms", &quiet);
        return Ok(vec![measurement]);
    }
    let rounds = interleave(
        &common,
        site.pid,
        async |length| Ok(1e3 * disk_sync_seconds(length / 4)?),
        async |length| talk.open(length, rate),
    )
    .await?;
    let name = |what: &str| format!("latency at {rate} sends/s, {what}");
    let of = |latency: fn(&Latency) -> f64| rounds.each(|round| latency(&round.replies));
    let p50 = Measurement::new(name("p50"), "ms", of(|latency| latency.p50))
        .against("fdatasync of 4 KiB", &rounds.floors)
        .aims(Goal::RatioAtMost(2.0))
        .used(rounds.usage);
    let p99 = Measurement::new(name("p99"), "ms", of(|latency| latency.p99))
        .aims(Goal::AtMost(10.0))
        .used(rounds.usage)
        .beside("max_ms", &of(|latency| latency.max));
    Ok(vec![p50, p99])
}

/// Pairs with their sockets: the sender's and the receiver's sockets have consecutive numbers.
pub struct Pairs {
    pub swarm: Swarm,
    pairs: Vec<Pair>,
    /// Each message is written by itself.
    pub one_by_one: bool,
}

struct Pair {
    frame: Vec<u8>,
    orders: [Order; 2],
    /// The due times of the messages that have not arrived yet: as replies at the sender, and as
    /// pushes at the receiver.
    missing: [VecDeque<Instant>; 2],
}

/// The results of a round.
pub struct Sent {
    pub count: usize,
    pub per_second: f64,
    pub replies: Latency,
    pub pushes: Latency,
}

impl Pairs {
    pub fn new(swarm: Swarm, site: &Site, bytes: usize) -> Self {
        let pairs = site.conversation_ids.iter().map(|id| Pair {
            frame: message(*id, bytes),
            orders: [0; 2].map(|_| Order::after(*id, site.crowd.rev())),
            missing: Default::default(),
        });
        Pairs {
            swarm,
            pairs: pairs.collect(),
            one_by_one: false,
        }
    }

    /// The id of each sender's latest message.
    pub fn latest_ids(&self) -> impl Iterator<Item = i64> {
        self.pairs.iter().map(|pair| pair.orders[0].id())
    }

    /// Takes the rev of a changed message that has arrived at a socket.
    pub fn take_change(&mut self, index: usize, rev: i64) -> Result<()> {
        self.pairs[index / 2].orders[index % 2].take_change(rev)
    }

    /// Each sender keeps this many messages in flight.
    pub fn closed(&mut self, length: Duration, in_flight: usize) -> Result<Sent> {
        let started = Instant::now();
        let mut round = Round {
            one_by_one: self.one_by_one,
            ..Round::default()
        };
        for index in 0..self.pairs.len() {
            for _ in 0..in_flight {
                round.send(&mut self.swarm, &mut self.pairs, index, started)?;
            }
        }
        let end = started + length;
        let is_done = self.swarm.run(end + PATIENCE, |swarm, index, payload| {
            let is_reply = round.take(&mut self.pairs, index, payload)?;
            if is_reply && swarm.now() < end {
                round.send(swarm, &mut self.pairs, index / 2, Instant::now())?;
            }
            Ok(round.missing == 0)
        })?;
        round.end(is_done, started)
    }

    /// The pairs send in turn, each message when it is due, whatever comes back.
    pub fn open(&mut self, length: Duration, rate: f64) -> Result<Sent> {
        let started = Instant::now();
        let mut round = Round::default();
        let count = (length.as_secs_f64() * rate).ceil() as u32;
        for number in 0..count {
            let due = started + Duration::from_secs_f64(f64::from(number) / rate);
            // A late message is sent at once, after reading what has arrived.
            self.swarm.run(due, |_, index, payload| {
                round.take(&mut self.pairs, index, payload)?;
                Ok(false)
            })?;
            let index = number as usize % self.pairs.len();
            round.send(&mut self.swarm, &mut self.pairs, index, due)?;
        }
        let is_done = self
            .swarm
            .run(Instant::now() + PATIENCE, |_, index, payload| {
                round.take(&mut self.pairs, index, payload)?;
                Ok(round.missing == 0)
            })?;
        round.end(is_done, started)
    }
}

/// The results so far.
#[derive(Default)]
struct Round {
    one_by_one: bool,
    missing: usize,
    times: [Vec<Duration>; 2],
}

impl Round {
    fn send(
        &mut self,
        swarm: &mut Swarm,
        pairs: &mut [Pair],
        index: usize,
        due: Instant,
    ) -> Result<()> {
        let pair = &mut pairs[index];
        swarm.send(2 * index, &pair.frame);
        pair.missing
            .iter_mut()
            .for_each(|missing| missing.push_back(due));
        self.missing += 2;
        match self.one_by_one {
            true => swarm.flush(),
            false => Ok(()),
        }
    }

    /// Takes a reply or a push; returns whether it is a reply.
    fn take(&mut self, pairs: &mut [Pair], index: usize, payload: &[u8]) -> Result<bool> {
        let (pair, side) = (&mut pairs[index / 2], index % 2);
        pair.orders[side].take(payload)?;
        let Some(due) = pair.missing[side].pop_front() else {
            anyhow::bail!(
                "more messages arrived than were sent: {}",
                String::from_utf8_lossy(payload)
            );
        };
        self.times[side].push(due.elapsed());
        self.missing -= 1;
        Ok(side == 0)
    }

    fn end(self, is_done: bool, started: Instant) -> Result<Sent> {
        let missing = self.missing;
        ensure!(is_done || missing == 0, "lost: {missing} replies or pushes");
        let [replies, pushes] = self.times;
        Ok(Sent {
            count: replies.len(),
            per_second: replies.len() as f64 / started.elapsed().as_secs_f64(),
            replies: Latency::of(replies),
            pushes: Latency::of(pushes),
        })
    }
}
