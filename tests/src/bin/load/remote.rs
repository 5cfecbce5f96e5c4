//! Durable sends over a libSQL server.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use handler::{Context, handle_remote, schema};
use tests::{Gateway, Nats, Process, Sqld};

use crate::floor::{Floor, raw_sets};
use crate::measurement::{Measurement, interleave};
use crate::sends::{Pairs, Sends, pairs_of, with_latencies};
use crate::site::Site;

#[derive(Args)]
pub struct Remote {
    #[arg(long, default_value_t = 1)]
    hosts: usize,
    /// Delay before every request to the database.
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    #[command(flatten)]
    sends: Sends,
}

pub async fn remote(arguments: Remote) -> Result<Vec<Measurement>> {
    let Remote {
        hosts: count,
        delay_ms,
        sends,
    } = arguments;
    let Sends {
        pairs,
        in_flight,
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
    let mut hosts = Vec::new();
    for _ in 0..count {
        hosts.push(Process::start_on(&gateway, nats.as_ref(), 30).await);
    }
    let (first, last) = (hosts[0].address, hosts[count - 1].address);
    let crowd = pairs_of(pairs);
    let site = Site::join(&common, first.into(), crowd).await?;
    let mut swarm = site.swarm()?;
    // Senders are on the first host, receivers on the last.
    let targets = [first.into(), last.into()];
    let cookies = site.cookies.iter().enumerate();
    swarm.join(cookies.map(|(index, cookie)| (&targets[index % 2], &**cookie)))?;
    // The floor has a database of its own.
    let beside = Gateway::start(&sqld).await;
    let database = libsql::Builder::new_remote(beside.url(), String::new());
    let db = database.build().await?.connect()?;
    schema::migrate_remote(&db, 0).await?;
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
    let rounds = interleave(
        &common,
        None,
        async |length| raw_sets(&db, pairs, length, "x".repeat(bytes)).await,
        async |length| talk.closed(length, in_flight),
    )
    .await?;
    let name =
        format!("remote sends, {pairs} pairs, {in_flight} in flight, {count} hosts, {delay_ms} ms");
    let measurement = Measurement::new(name, "sends/s", rounds.each(|round| round.per_second))
        .against("raw sets of as many", &rounds.floors)
        .used(rounds.usage);
    Ok(vec![with_latencies(measurement, &rounds.figures)])
}
