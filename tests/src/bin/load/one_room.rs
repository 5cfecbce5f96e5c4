//! One large room: how long a message takes to all of its members, and what several senders make
//! of it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::machine::ensure_files;
use crate::measurement::{Goal, Latency, Measurement, interleave, no_floor};
use crate::order::Order;
use crate::site::{Common, Crowd, Site, message};
use crate::swarm::{PATIENCE, Swarm};

#[derive(Args)]
pub struct OneRoom {
    #[arg(long, default_value_t = 10_000)]
    members: usize,
    #[arg(long, default_value_t = 16)]
    senders: usize,
    /// Length of a message, in bytes.
    #[arg(long, default_value_t = 64)]
    bytes: usize,
    #[command(flatten)]
    common: Common,
}

pub async fn one_room(arguments: OneRoom) -> Result<Vec<Measurement>> {
    let OneRoom {
        members,
        senders,
        bytes,
        common,
    } = arguments;
    ensure!(
        (1..=members).contains(&senders),
        "--senders must be at least 1 and at most --members"
    );
    ensure_files(members)?;
    let crowd = Crowd {
        groups: 1,
        members,
        messages: 0,
    };
    let site = Site::make(&common, crowd).await?;
    let mut room = Room::new(&site, senders, bytes)?;
    let alone = interleave(&common, site.pid, no_floor, async |length| {
        room.one_after_the_other(length)
    })
    .await?;
    let together = interleave(&common, site.pid, no_floor, async |length| {
        room.all_senders(length)
    })
    .await?;
    // The targets are what Campfire publishes, measured on four cores.
    let name = format!("a message to {members} members, p99");
    let p99 = Measurement::new(name, "ms", alone.each(|latency| latency.p99))
        .aims(Goal::AtMost(57.0))
        .used(alone.usage)
        .beside("p50_ms", &alone.each(|latency| latency.p50))
        .beside("max_ms", &alone.each(|latency| latency.max));
    let name = format!("{senders} senders in a room of {members}");
    let deliveries = Measurement::new(name, "deliveries/s", together.figures)
        .aims(Goal::AtLeast(656_000.0))
        .used(together.usage);
    Ok(vec![p99, deliveries])
}

/// All members with their sockets, which have their numbers. The first ones send.
struct Room {
    swarm: Swarm,
    frame: Vec<u8>,
    orders: Vec<Order>,
    /// A text for each sender that its replies contain, and pushes to it do not.
    own: Vec<Vec<u8>>,
}

impl Room {
    fn new(site: &Site, senders: usize, bytes: usize) -> Result<Self> {
        let id = *site.conversation_ids.first().context("a conversation")?;
        let own = site.names.iter().take(senders);
        Ok(Room {
            swarm: site.connected()?,
            frame: message(id, bytes),
            orders: vec![Order::after(id, site.crowd.rev()); site.crowd.members],
            own: own
                .map(|name| format!(r#""sender_username":"{name}""#).into_bytes())
                .collect(),
        })
    }

    /// The first member sends the next message when the last one has arrived everywhere. Returns the
    /// times from sending to each arrival.
    fn one_after_the_other(&mut self, length: Duration) -> Result<Latency> {
        let members = self.orders.len();
        let end = Instant::now() + length;
        let (mut times, mut missing, mut sent) = (Vec::new(), members, Instant::now());
        self.swarm.send(0, &self.frame);
        let is_done = self.swarm.run(end + PATIENCE, |swarm, index, payload| {
            self.orders[index].take(payload)?;
            times.push(sent.elapsed());
            missing = missing
                .checked_sub(1)
                .context("more arrived than was sent")?;
            if missing == 0 && Instant::now() < end {
                missing = members;
                sent = Instant::now();
                swarm.send(0, &self.frame);
            }
            Ok(missing == 0)
        })?;
        ensure!(is_done, "lost: {missing} deliveries");
        Ok(Latency::of(times))
    }

    /// Each sender sends the next message when it has the reply to its last. Returns the deliveries
    /// a second.
    fn all_senders(&mut self, length: Duration) -> Result<f64> {
        let members = self.orders.len();
        let started = Instant::now();
        let end = started + length;
        for index in 0..self.own.len() {
            self.swarm.send(index, &self.frame);
        }
        let (mut count, mut expected) = (0, members * self.own.len());
        let is_done = self.swarm.run(end + PATIENCE, |swarm, index, payload| {
            self.orders[index].take(payload)?;
            count += 1;
            ensure!(count <= expected, "more arrived than was sent");
            let own = self.own.get(index);
            let is_reply =
                own.is_some_and(|own| payload.windows(own.len()).any(|part| part == own));
            if is_reply && Instant::now() < end {
                expected += members;
                swarm.send(index, &self.frame);
            }
            Ok(count == expected)
        })?;
        ensure!(is_done, "lost: {} deliveries", expected - count);
        Ok(count as f64 / started.elapsed().as_secs_f64())
    }
}
