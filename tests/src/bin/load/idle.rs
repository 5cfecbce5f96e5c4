//! The memory of a host with idle sockets.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use tests::memory::{anonymous_kib, resident_kib};

use crate::frame::text;
use crate::machine::ensure_files;
use crate::measurement::{Goal, Measurement, Meter};
use crate::order::Order;
use crate::site::{Common, Crowd, Site, message};
use crate::swarm::{PATIENCE, Swarm};

#[derive(Args)]
pub struct Idle {
    /// Idle sockets. Each belongs to a user of its own, in conversations of `--members`.
    #[arg(long, default_value_t = 19_000)]
    sockets: usize,
    #[arg(long, default_value_t = 100)]
    members: usize,
    /// Pings that each socket sends between the two measurements.
    #[arg(long, default_value_t = 5)]
    pings: usize,
    /// Time for the host to become quiet before each measurement.
    #[arg(long, default_value_t = 2.0)]
    settle_seconds: f64,
    #[command(flatten)]
    common: Common,
}

/// `--rounds` and `--seconds` have no effect, because a host may keep memory once it has taken it.
pub async fn idle(arguments: Idle) -> Result<Vec<Measurement>> {
    let Idle {
        sockets,
        members,
        pings,
        settle_seconds,
        common,
    } = arguments;
    ensure!(
        sockets > 0 && members > 0,
        "--sockets and --members must be at least 1"
    );
    ensure_files(sockets)?;
    let crowd = Crowd {
        groups: sockets.div_ceil(members),
        members,
        messages: 0,
    };
    let mut site = Site::make(&common, crowd).await?;
    site.cookies.truncate(sockets);
    let pid = site
        .pid
        .context("--server-pid is needed, to see the memory of the host at --url")?;
    let settle = Duration::try_from_secs_f64(settle_seconds).context("--settle-seconds")?;
    let memory = async |swarm: &mut Option<Swarm>| {
        // Idle sockets still answer pings.
        match swarm {
            Some(swarm) => drop(swarm.run(Instant::now() + settle, unexpected)?),
            None => tokio::time::sleep(settle).await,
        }
        anyhow::Ok([resident_kib(pid)?, anonymous_kib(pid)?])
    };
    let empty = memory(&mut None).await?;
    // The first socket brings the program's code into memory, so it is not counted.
    drop(site.connect_first(1)?);
    let warm = memory(&mut None).await?;
    let meter = Meter::start(Some(pid))?;
    let mut swarm = Some(site.connected()?);
    let before = memory(&mut swarm).await?;
    if let Some(swarm) = &mut swarm {
        traffic(swarm, &site, sockets, pings)?;
    }
    let after = memory(&mut swarm).await?;
    drop(swarm);
    let closed = memory(&mut None).await?;
    let usage = meter.read()?;
    let each = |what: &str, kib: [f64; 2]| {
        let name = format!("idle socket, {what}, of {sockets}");
        let [all, anonymous] = [0, 1].map(|kind| (kib[kind] - warm[kind]) / sockets as f64);
        Measurement::new(name, "KiB", vec![all])
            // The rest of the memory is pages of the database's files.
            .with("anonymous_kib", anonymous)
            .aims(Goal::AtMost(1.8))
            .used(usage)
    };
    Ok(vec![
        each("before traffic", before),
        each("after traffic", after)
            .with("empty_server_mib", empty[0] / 1024.0)
            .with("full_server_mib", after[0] / 1024.0)
            .with("closed_server_mib", closed[0] / 1024.0),
    ])
}

fn unexpected(_: &mut Swarm, index: usize, payload: &[u8]) -> Result<bool> {
    let text = String::from_utf8_lossy(payload);
    anyhow::bail!("the idle socket {index} got {text}")
}

/// Every socket sends pings, and the first of each group sends a message to the group. Everything
/// that they cause must arrive.
fn traffic(swarm: &mut Swarm, site: &Site, sockets: usize, pings: usize) -> Result<()> {
    let members = site.crowd.members;
    let order = |id: &i64| vec![Order::after(*id, site.crowd.rev()); members];
    let mut orders: Vec<_> = site.conversation_ids.iter().flat_map(order).collect();
    let frames = text(r#"{"type":"ping"}"#).repeat(pings);
    // In parts, because many clients would not do it at the same instant.
    for part in (0..sockets).collect::<Vec<_>>().chunks(10 * members) {
        let mut missing = part.len() * (1 + pings);
        for &index in part {
            if index % members == 0 {
                swarm.send(index, &message(site.conversation_ids[index / members], 64));
            }
            swarm.send(index, &frames);
        }
        let is_done = swarm.run(Instant::now() + PATIENCE, |_, index, payload| {
            if !payload.starts_with(br#"{"type":"ping""#) {
                orders[index].take(payload)?;
            }
            missing -= 1;
            Ok(missing == 0)
        })?;
        ensure!(is_done, "lost: {missing} pongs or messages");
    }
    Ok(())
}
