//! Opens sockets with a login token, waits until presence is stored, and closes them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;

use crate::frame::text;
use crate::machine::ensure_files;
use crate::measurement::{Goal, Measurement, interleave, no_floor};
use crate::site::{Common, Crowd, Site};
use crate::swarm::{PATIENCE, ensure_pong};

#[derive(Args)]
pub struct Connects {
    /// Handshakes under way at any time.
    #[arg(long, default_value_t = 64)]
    concurrent: usize,
    /// Users, which take turns; each is in a conversation of ten.
    #[arg(long, default_value_t = 1000)]
    users: usize,
    #[command(flatten)]
    common: Common,
}

pub async fn connects(arguments: Connects) -> Result<Vec<Measurement>> {
    let Connects {
        concurrent,
        users,
        common,
    } = arguments;
    ensure!(
        concurrent > 0 && users > 0,
        "--concurrent and --users must be at least 1"
    );
    ensure_files(concurrent)?;
    let crowd = Crowd {
        groups: users.div_ceil(10),
        members: 10,
        messages: 0,
    };
    let site = Site::make(&common, crowd).await?;
    let mut turn = 0;
    let rounds = interleave(&common, site.pid, no_floor, async |length| {
        round(&site, concurrent, length, &mut turn)
    })
    .await?;
    let name = format!("connects, {concurrent} at once");
    let measurement = Measurement::new(name, "sockets/s", rounds.figures)
        .aims(Goal::AtLeast(5000.0))
        .used(rounds.usage);
    Ok(vec![measurement])
}

/// Returns the sockets opened a second. A pong shows that the host knows the socket, and so that
/// presence is stored.
fn round(site: &Site, concurrent: usize, length: Duration, turn: &mut usize) -> Result<f64> {
    let mut swarm = site.swarm()?;
    let ping = text(r#"{"type":"ping"}"#);
    let started = Instant::now();
    let end = started + length;
    let mut next = || {
        *turn += 1;
        &*site.cookies[*turn % site.cookies.len()]
    };
    for _ in 0..concurrent {
        swarm.open(&site.target, next(), &ping)?;
    }
    let (mut missing, mut count) = (concurrent, 0_u64);
    let is_done = swarm.run(end + PATIENCE, |swarm, index, payload| {
        ensure_pong(payload)?;
        swarm.close(index);
        count += 1;
        match Instant::now() < end {
            true => drop(swarm.open(&site.target, next(), &ping)?),
            false => missing -= 1,
        }
        Ok(missing == 0)
    })?;
    ensure!(is_done, "{missing} handshakes are not answered");
    Ok(count as f64 / started.elapsed().as_secs_f64())
}
