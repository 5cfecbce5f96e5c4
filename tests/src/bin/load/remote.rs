//! Durable sends over a libSQL server, and pages of history from one.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use handler::{Context, handle_remote, schema};
use tests::{Gateway, Nats, Process, Sqld};

use crate::floor::{Floor, raw_sets};
use crate::history::Readers;
use crate::measurement::{Goal, Measurement, interleave, no_floor};
use crate::sends::{Pairs, Sends, pairs_of, with_latencies};
use crate::site::{Common, Crowd, Site, populate_remote};

#[derive(Args)]
pub struct Remote {
    #[arg(long, default_value_t = 1)]
    hosts: usize,
    /// Delay before every request to the database.
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// Messages a second, of all pairs together, instead of as many as go.
    #[arg(long)]
    rate: Option<f64>,
    #[command(flatten)]
    sends: Sends,
}

#[derive(Args)]
pub struct RemoteHistory {
    #[arg(long, default_value_t = 400)]
    sockets: usize,
    /// Messages of a page, at most 100.
    #[arg(long, default_value_t = 100)]
    messages: usize,
    /// Delay before every request to the database.
    #[arg(long, default_value_t = 20)]
    delay_ms: u64,
    #[command(flatten)]
    common: Common,
}

pub async fn remote(arguments: Remote) -> Result<Vec<Measurement>> {
    let Remote {
        hosts: count,
        delay_ms,
        rate,
        sends,
    } = arguments;
    let Sends {
        pairs,
        in_flight,
        one_by_one,
        bytes,
        common,
    } = sends;
    ensure!(
        count > 0 && pairs > 0,
        "--hosts and --pairs must be at least 1"
    );
    ensure!(common.url.is_none(), "remote starts all hosts itself");
    let sqld = Sqld::start().await;
    let gateway = Gateway::start(&sqld).await;
    let nats = match count {
        1 => None,
        _ => Some(Nats::start().await),
    };
    let crowd = pairs_of(pairs);
    let db = new_database(&gateway).await?;
    let conversation_ids = populate_remote(&db, crowd).await?;
    let mut hosts = Vec::new();
    for _ in 0..count {
        hosts.push(Process::start_on(&gateway, nats.as_ref(), 30).await);
    }
    let (first, last) = (hosts[0].address, hosts[count - 1].address);
    let site = Site::of(&common, crowd, conversation_ids, &hosts[0]);
    let mut swarm = site.swarm()?;
    // Senders are on the first host, receivers on the last.
    let targets = [first.into(), last.into()];
    let cookies = site.cookies.iter().enumerate();
    swarm.join(cookies.map(|(index, cookie)| (&targets[index % 2], &**cookie)))?;
    // The floor has a database of its own.
    let beside = Gateway::start(&sqld).await;
    let db = new_database(&beside).await?;
    for register in Floor::users() {
        let anonymous = Context::anonymous(0);
        handle_remote(&db, &anonymous, &register, &mut Vec::new()).await?;
    }
    let create = Floor::conversation()?;
    for _ in 0..pairs {
        handle_remote(&db, &Floor::context(), &create, &mut Vec::new()).await?;
    }
    for gateway in [&gateway, &beside] {
        gateway.delay(Duration::from_millis(delay_ms));
    }
    let mut talk = Pairs::new(swarm, &site, bytes);
    talk.one_by_one = one_by_one;
    let rounds = interleave(
        &common,
        None,
        async |length| raw_sets(&db, pairs, length, "x".repeat(bytes)).await,
        async |length| match rate {
            Some(rate) => talk.open(length, rate),
            None => talk.closed(length, in_flight),
        },
    )
    .await?;
    let load = match rate {
        Some(rate) => format!("{rate} a second"),
        None => format!("{in_flight} in flight"),
    };
    let name = format!("remote sends, {pairs} pairs, {load}, {count} hosts, {delay_ms} ms");
    let measurement = Measurement::new(name, "sends/s", rounds.each(|round| round.per_second))
        .against("raw sets of as many", &rounds.floors)
        .used(rounds.usage);
    let measurement = match (pairs, delay_ms, rate) {
        (1000.., 0, None) => measurement.aims(Goal::RatioAtLeast(0.6)),
        (1000.., _, None) => measurement.aims(Goal::AtLeast(8_000.0)),
        (100.., 0, None) => measurement.aims(Goal::AtLeast(6_000.0)),
        _ => measurement,
    };
    Ok(vec![with_latencies(measurement, &rounds.figures)])
}

/// A database with only its tables.
async fn new_database(gateway: &Gateway) -> Result<libsql::Connection> {
    let database = libsql::Builder::new_remote(gateway.url(), String::new());
    let db = database.build().await?.connect()?;
    schema::migrate_remote(&db, 0).await?;
    Ok(db)
}

pub async fn remote_history(arguments: RemoteHistory) -> Result<Vec<Measurement>> {
    let RemoteHistory {
        sockets,
        messages,
        delay_ms,
        common,
    } = arguments;
    ensure!(
        sockets > 0 && (1..=100).contains(&messages),
        "--sockets must be at least 1, and --messages from 1 to 100"
    );
    ensure!(
        common.url.is_none(),
        "remote-history starts the host itself"
    );
    let sqld = Sqld::start().await;
    let gateway = Gateway::start(&sqld).await;
    let host = Process::start_on(&gateway, None, 30).await;
    let crowd = Crowd {
        groups: sockets,
        members: 1,
        messages,
    };
    let site = Site::join(&common, host.address.into(), crowd).await?;
    let mut readers = Readers::new(site.connected()?, &site, messages);
    gateway.delay(Duration::from_millis(delay_ms));
    let rounds = interleave(&common, None, no_floor, async |length| {
        readers.round(length)
    })
    .await?;
    let name = format!("remote history, {sockets} sockets, pages of {messages}, {delay_ms} ms");
    let measurement = Measurement::new(name, "pages/s", rounds.figures)
        .used(rounds.usage)
        .aims(Goal::AtLeast(5_000.0));
    Ok(vec![measurement])
}
