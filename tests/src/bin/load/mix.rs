//! A mix of all events, as users would send them, at a steady rate.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::frame::text;
use crate::machine::ensure_files;
use crate::measurement::{Latency, Measurement, interleave, no_floor};
use crate::order::Order;
use crate::site::{Common, Crowd, Site};
use crate::swarm::{PATIENCE, Swarm, ensure_pong};

#[derive(Args)]
pub struct Mix {
    /// Groups of users, each user with one socket.
    #[arg(long, default_value_t = 100)]
    groups: usize,
    #[arg(long, default_value_t = 10)]
    members: usize,
    /// Events a second of all users together, including new sockets.
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    #[command(flatten)]
    common: Common,
}

/// The share of each event, in percent. A `connect` is a further socket of the user, which is
/// closed after its pong.
const SHARES: [(&str, u8); 7] = [
    ("send_message", 20),
    ("mark_read", 20),
    ("typing", 20),
    ("ping", 20),
    ("get_messages", 12),
    ("sync", 5),
    ("connect", 3),
];

/// The number of messages in each conversation at the beginning.
const MESSAGES: usize = 100;

pub async fn mix(arguments: Mix) -> Result<Vec<Measurement>> {
    let Mix {
        groups,
        members,
        rate,
        common,
    } = arguments;
    ensure!(
        groups * members > 0 && rate > 0.0,
        "--groups, --members and --rate must be more than 0"
    );
    let crowd = Crowd {
        groups,
        members,
        messages: MESSAGES,
    };
    ensure_files(crowd.users() + 1000)?;
    let site = Site::make(&common, crowd).await?;
    let mut users = Users::new(&site)?;
    let rounds = interleave(&common, site.pid, no_floor, async |length| {
        users.round(&site, length, rate)
    })
    .await?;
    let measurements = SHARES.iter().map(|(kind, share)| {
        let of = |number: fn(&Latency) -> f64| rounds.each(|round| number(&round[kind]));
        let name = format!("mix at {rate} events/s, {kind} ({share}%), p50");
        Measurement::new(name, "ms", of(|latency| latency.p50))
            .used(rounds.usage)
            .beside("p99_ms", &of(|latency| latency.p99))
            .beside("max_ms", &of(|latency| latency.max))
    });
    Ok(measurements.collect())
}

struct Users {
    swarm: Swarm,
    orders: Vec<Order>,
    /// The unanswered requests of each socket, with the time when each was due.
    asked: Vec<VecDeque<(&'static str, Instant)>>,
    /// Sockets that are being opened, with the time when each was due.
    opening: BTreeMap<usize, Instant>,
}

impl Users {
    fn new(site: &Site) -> Result<Self> {
        let order = |id: &i64| vec![Order::after(*id, site.crowd.rev()); site.crowd.members];
        Ok(Users {
            swarm: site.connected()?,
            orders: site.conversation_ids.iter().flat_map(order).collect(),
            asked: vec![VecDeque::new(); site.crowd.users()],
            opening: BTreeMap::new(),
        })
    }

    fn round(
        &mut self,
        site: &Site,
        length: Duration,
        rate: f64,
    ) -> Result<BTreeMap<&'static str, Latency>> {
        let mut times: BTreeMap<_, Vec<Duration>> = SHARES.map(|(kind, _)| (kind, vec![])).into();
        let started = Instant::now();
        for number in 0..(length.as_secs_f64() * rate).ceil() as u32 {
            let due = started + Duration::from_secs_f64(f64::from(number) / rate);
            self.take(due, &mut times)?;
            self.act(site, due)?;
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.is_quiet() {
            ensure!(
                Instant::now() < deadline,
                "lost: replies to {:?}",
                self.missing()
            );
            self.take(Instant::now() + Duration::from_millis(10), &mut times)?;
        }
        let times = times.into_iter();
        Ok(times
            .map(|(kind, times)| (kind, Latency::of(times)))
            .collect())
    }

    fn is_quiet(&self) -> bool {
        self.opening.is_empty() && self.asked.iter().all(VecDeque::is_empty)
    }

    fn missing(&self) -> Vec<&'static str> {
        let asked = self.asked.iter().flatten().map(|(kind, _)| *kind);
        asked
            .chain(self.opening.keys().map(|_| "connect"))
            .collect()
    }

    /// One of the users does something.
    fn act(&mut self, site: &Site, due: Instant) -> Result<()> {
        let user = fastrand::usize(..self.orders.len());
        let id = site.conversation_ids[user / site.crowd.members];
        let mut chance = fastrand::u8(..100);
        let drawn = SHARES.iter().find(|(_, share)| {
            let is_drawn = chance < *share;
            chance = chance.wrapping_sub(*share);
            is_drawn
        });
        let (mut kind, _) = *drawn.context("the shares add up to a hundred")?;
        if kind == "connect" {
            let ping = text(r#"{"type":"ping"}"#);
            let index = self.swarm.open(&site.target, &site.cookies[user], &ping)?;
            self.opening.insert(index, due);
            return Ok(());
        }
        if kind == "mark_read" && self.orders[user].id() == 0 {
            // This socket does not know a message yet.
            kind = "ping";
        }
        let event = self.event(kind, user, id);
        self.swarm.send(user, &text(&event.to_string()));
        self.asked[user].push_back((kind, due));
        Ok(())
    }

    /// An event with a `ref`, which identifies its reply.
    fn event(&self, kind: &str, user: usize, id: i64) -> Value {
        match kind {
            "send_message" => {
                json!({ "type": kind, "ref": 1, "conversation_id": id, "content": "x".repeat(64) })
            }
            "mark_read" => {
                json!({ "type": kind, "ref": 1, "conversation_id": id, "message_id": self.orders[user].id() })
            }
            "typing" => {
                json!({ "type": kind, "ref": 1, "conversation_id": id, "on": fastrand::bool() })
            }
            "get_messages" => json!({ "type": kind, "ref": 1, "conversation_id": id, "limit": 50 }),
            // A client that has missed the latest messages.
            "sync" => {
                let rev = self.orders[user].rev() - 10;
                json!({ "type": kind, "ref": 1, "revs": { id.to_string(): rev } })
            }
            _ => json!({ "type": kind, "ref": 1 }),
        }
    }

    fn take(&mut self, until: Instant, times: &mut BTreeMap<&str, Vec<Duration>>) -> Result<()> {
        let Users {
            swarm,
            orders,
            asked,
            opening,
        } = self;
        swarm.run(until, |swarm, index, payload| {
            let arrived = |kind: &str, due: Instant, times: &mut BTreeMap<&str, Vec<Duration>>| {
                if let Some(times) = times.get_mut(kind) {
                    times.push(due.elapsed());
                }
            };
            if index >= orders.len() {
                // Pushes from others may arrive before the pong.
                if ensure_pong(payload).is_ok()
                    && let Some(due) = opening.remove(&index)
                {
                    arrived("connect", due, times);
                    swarm.close(index);
                }
                return Ok(false);
            }
            if payload.starts_with(br#"{"type":"send_message","success":true"#) {
                orders[index].take(payload)?;
            }
            if payload.ends_with(br#","ref":1}"#) {
                let (kind, due) = asked[index]
                    .pop_front()
                    .context("a reply without a request")?;
                let prefix = format!(r#"{{"type":"{kind}","success":true"#);
                let text = || String::from_utf8_lossy(payload).into_owned();
                ensure!(
                    payload.starts_with(prefix.as_bytes()),
                    "the reply to {kind}: {}",
                    text()
                );
                arrived(kind, due, times);
            }
            Ok(false)
        })?;
        Ok(())
    }
}
