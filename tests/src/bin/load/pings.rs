//! The shortest way through the host: pings, which need no database.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;

use crate::floor_servers::FloorServer;
use crate::frame::text;
use crate::machine::ensure_files;
use crate::measurement::{Goal, Measurement, interleave};
use crate::site::{Common, Crowd, Site};
use crate::swarm::{PATIENCE, Swarm, ensure_pong};

#[derive(Args)]
pub struct Pings {
    #[arg(long, default_value_t = 50)]
    sockets: usize,
    /// Pings that each socket keeps unanswered.
    #[arg(long, default_value_t = 10)]
    in_flight: usize,
    #[command(flatten)]
    common: Common,
}

const PONG_BYTES: usize = br#"{"type":"ping","success":true,"data":"pong"}"#.len();

pub async fn pings(arguments: Pings) -> Result<Vec<Measurement>> {
    let Pings {
        sockets,
        in_flight,
        common,
    } = arguments;
    ensure!(
        sockets * in_flight > 0,
        "--sockets and --in-flight must be at least 1"
    );
    ensure_files(2 * sockets)?;
    let crowd = Crowd {
        groups: sockets,
        members: 1,
        messages: 0,
    };
    let site = Site::make(&common, crowd).await?;
    let mut swarm = site.connected()?;
    let ping = text(r#"{"type":"ping"}"#);
    let (request, reply) = (ping.len().to_string(), PONG_BYTES.to_string());
    let server = FloorServer::start(&["floor-echo", &sockets.to_string(), &request, &reply])?;
    let mut echo = Swarm::new(0)?;
    for _ in 0..sockets {
        echo.open_bare(server.address, &[])?;
    }
    // One round, so that all sockets are connected.
    round(&mut echo, sockets, 1, &ping, Duration::ZERO, |_| Ok(()))?;
    let rounds = interleave(
        &common,
        site.pid,
        async |length| round(&mut echo, sockets, in_flight, &ping, length, |_| Ok(())),
        async |length| round(&mut swarm, sockets, in_flight, &ping, length, ensure_pong),
    )
    .await?;
    let name = format!("pings, {sockets} sockets, {in_flight} in flight");
    let measurement = Measurement::new(name, "events/s", rounds.figures)
        .against("raw TCP echo", &rounds.floors)
        .aims(Goal::RatioAtLeast(0.75))
        .used(rounds.usage);
    Ok(vec![measurement])
}

/// Returns the replies a second. For all replies that a socket gets at once, it sends the next
/// requests in one write.
fn round(
    swarm: &mut Swarm,
    sockets: usize,
    in_flight: usize,
    request: &[u8],
    length: Duration,
    check: impl Fn(&[u8]) -> Result<()>,
) -> Result<f64> {
    let started = Instant::now();
    let end = started + length;
    let mut missing = vec![in_flight; sockets];
    let (mut in_all, mut count) = (sockets * in_flight, 0_u64);
    for index in 0..sockets {
        swarm.send(index, &request.repeat(in_flight));
    }
    let is_done = swarm.run(end + PATIENCE, |swarm, index, payload| {
        check(payload)?;
        count += 1;
        if swarm.now() < end {
            swarm.send(index, request);
        } else {
            ensure!(
                missing[index] > 0,
                "socket {index} has received more replies than it sent requests"
            );
            missing[index] -= 1;
            in_all -= 1;
        }
        Ok(in_all == 0)
    })?;
    ensure!(is_done, "lost: {in_all} replies");
    Ok(count as f64 / started.elapsed().as_secs_f64())
}
