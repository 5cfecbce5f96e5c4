//! What the bus carries into each host.

use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use rustix::process::Signal;
use tests::{Gateway, Nats, Process, Sqld};

use crate::measurement::{Measurement, interleave, no_floor};
use crate::sends::{Pairs, pairs_of};
use crate::site::{Common, Site};

#[derive(Args)]
pub struct Hearing {
    #[arg(long, value_delimiter = ',', default_value = "2,4,8")]
    hosts: Vec<usize>,
    #[arg(long, default_value_t = 200)]
    pairs: usize,
    /// Messages a second, of all pairs together.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    #[command(flatten)]
    common: Common,
}

/// The members of each pair are on different hosts, so each message is delivered by one host that has
/// not committed it.
pub async fn hearing(arguments: Hearing) -> Result<Vec<Measurement>> {
    let mut measurements = Vec::new();
    for count in &arguments.hosts {
        measurements.push(among(*count, &arguments).await?);
    }
    Ok(measurements)
}

async fn among(count: usize, arguments: &Hearing) -> Result<Measurement> {
    let Hearing {
        pairs,
        rate,
        common,
        ..
    } = arguments;
    ensure!(
        count > 1 && *pairs > 0 && *rate > 0.0,
        "--hosts must be at least 2, --pairs and --rate more than 0"
    );
    ensure!(common.url.is_none(), "hearing starts all hosts itself");
    let sqld = Sqld::start().await;
    let gateway = Gateway::start(&sqld).await;
    let nats = Nats::start().await;
    // Another host prepares all, and ends: a host hears of users for a while after they have left.
    let first = Process::start_on(&gateway, Some(&nats), 30).await;
    let site = Site::join(common, first.address.into(), pairs_of(*pairs)).await?;
    first.end(Signal::TERM).await;
    let mut hosts = Vec::new();
    for _ in 0..count {
        hosts.push(Process::start_on(&gateway, Some(&nats), 30).await);
    }
    let mut swarm = site.swarm()?;
    let targets: Vec<_> = hosts.iter().map(|host| host.address.into()).collect();
    let cookies = site.cookies.iter().enumerate();
    swarm.join(cookies.map(|(user, cookie)| {
        let pair = user / 2;
        let apart = (user % 2) * (1 + pair / count % (count - 1));
        (&targets[(pair + apart) % count], &**cookie)
    }))?;
    let mut talk = Pairs::new(swarm, &site, 64);
    let rounds = interleave(common, None, no_floor, async |length| {
        let began = Instant::now();
        let before = nats.carried().await;
        let messages = talk.open(length, *rate)?.count as f64;
        let bytes = nats.carried().await - before;
        Ok(Heard {
            per_message: bytes as f64 / messages,
            per_second: bytes as f64 / count as f64 / began.elapsed().as_secs_f64(),
        })
    })
    .await?;
    let name = format!("hearing, {count} hosts, {pairs} pairs at {rate} sends/s");
    let of = |figure: fn(&Heard) -> f64| rounds.each(figure);
    Ok(Measurement::new(
        name,
        "bytes a delivered message",
        of(|heard| heard.per_message),
    )
    .used(rounds.usage)
    .beside("into_each_host_per_second", &of(|heard| heard.per_second)))
}

struct Heard {
    /// The bytes into all hosts, for each message that one of them delivers: the same as the bytes
    /// into a host for each message that this host delivers.
    per_message: f64,
    per_second: f64,
}
