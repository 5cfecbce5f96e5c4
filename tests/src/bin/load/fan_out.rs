//! Messages to many members. Each message is the only one under way in its group, because the next
//! one is sent after the reply to it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;

use crate::floor_servers::FloorServer;
use crate::frame::host_frame;
use crate::machine::ensure_files;
use crate::measurement::{Goal, Measurement, interleave, no_floor};
use crate::order::Order;
use crate::site::{Common, Crowd, Site, message};
use crate::swarm::{PATIENCE, Swarm};

#[derive(Args)]
pub struct FanOut {
    #[arg(long, default_value_t = 20)]
    groups: usize,
    #[arg(long, default_value_t = 50)]
    members: usize,
    /// Messages that are sent together; the next ones follow when all members have received these.
    #[arg(long, default_value_t = 1)]
    burst: usize,
    /// Length of a message, in bytes.
    #[arg(long, default_value_t = 64)]
    bytes: usize,
    #[command(flatten)]
    common: Common,
}

pub async fn fan_out(arguments: FanOut) -> Result<Vec<Measurement>> {
    let FanOut {
        groups,
        members,
        burst,
        bytes,
        common,
    } = arguments;
    ensure!(
        groups * members * burst > 0,
        "--groups, --members and --burst must be at least 1"
    );
    ensure!(groups <= usize::from(u16::MAX), "--groups is too large");
    let crowd = Crowd {
        groups,
        members,
        messages: 0,
    };
    let site = Site::make(&common, crowd).await?;
    // Both sets of sockets are open at the same time.
    let sets = if common.no_floor { 1 } else { 2 };
    ensure_files(sets * crowd.users())?;
    let mut rooms = Rooms::new(&site, bytes, burst)?;
    // One message to each group; the floor's frames get the length of its push.
    rooms.round(Duration::ZERO)?;
    let mut writes = match common.no_floor {
        true => None,
        false => Some(RawWrites::start(crowd, rooms.payload_bytes)?),
    };
    let rounds = interleave(
        &common,
        site.pid,
        async |length| match &mut writes {
            Some(writes) => writes.round(length),
            None => no_floor(length).await,
        },
        async |length| rooms.round(length),
    )
    .await?;
    let in_bursts = match burst {
        1 => String::new(),
        _ => format!(", in bursts of {burst}"),
    };
    let name = format!("fan-out, {groups} × {members}{in_bursts}");
    let frame_bytes = host_frame(rooms.payload_bytes).len();
    let measurement = Measurement::new(name, "deliveries/s", rounds.figures.clone())
        .against("raw writes", &rounds.floors)
        .used(rounds.usage)
        .with("frame_bytes", frame_bytes);
    let measurement = rounds.with_threads(measurement, &rounds.figures);
    Ok(vec![match burst {
        1 => measurement.aims(Goal::RatioAtLeast(0.9)),
        _ => measurement.aims(Goal::RatioAtLeast(4.0)),
    }])
}

/// The groups with their members' sockets, which have the users' numbers.
struct Rooms {
    swarm: Swarm,
    crowd: Crowd,
    frames: Vec<Vec<u8>>,
    burst: usize,
    /// The order of messages on each socket.
    orders: Vec<Order>,
    payload_bytes: usize,
}

impl Rooms {
    fn new(site: &Site, bytes: usize, burst: usize) -> Result<Self> {
        let ids = &site.conversation_ids;
        let orders = ids.iter().map(|id| Order::after(*id, site.crowd.rev()));
        Ok(Rooms {
            swarm: site.connected()?,
            crowd: site.crowd,
            frames: ids
                .iter()
                .map(|id| message(*id, bytes).repeat(burst))
                .collect(),
            burst,
            orders: orders
                .flat_map(|order| vec![order; site.crowd.members])
                .collect(),
            payload_bytes: 0,
        })
    }

    fn round(&mut self, length: Duration) -> Result<f64> {
        let members = self.crowd.members;
        let (frames, orders, payload_bytes) =
            (&self.frames, &mut self.orders, &mut self.payload_bytes);
        rounds(
            &mut self.swarm,
            self.crowd,
            self.burst,
            length,
            // The first member is the sender and gets the reply.
            |swarm, group| swarm.send(group * members, &frames[group]),
            |index, payload| {
                *payload_bytes = payload.len();
                orders[index].take(payload)
            },
        )
    }
}

/// Returns the deliveries a second. Each group sends again when its first socket, the sender, has
/// received everything sent so far. The others receive it meanwhile, and every delivery must arrive
/// before the end. With bursts, a group sends again when all its members have received everything.
fn rounds(
    swarm: &mut Swarm,
    crowd: Crowd,
    burst: usize,
    length: Duration,
    mut begin: impl FnMut(&mut Swarm, usize),
    mut take: impl FnMut(usize, &[u8]) -> Result<()>,
) -> Result<f64> {
    let Crowd {
        groups, members, ..
    } = crowd;
    let started = Instant::now();
    let end = started + length;
    let awaited = if burst == 1 { 1 } else { members };
    let mut missing = vec![awaited * burst; groups];
    let (mut running, mut count, mut expected) = (groups, 0, groups * members * burst);
    for group in 0..groups {
        begin(swarm, group);
    }
    let is_done = swarm.run(end + PATIENCE, |swarm, index, payload| {
        take(index, payload)?;
        count += 1;
        ensure!(count <= expected, "more has arrived than was sent");
        let group = index / members;
        if index % members < awaited {
            ensure!(
                missing[group] > 0,
                "group {group} has received more than was sent"
            );
            missing[group] -= 1;
            if missing[group] == 0 {
                match Instant::now() < end {
                    true => {
                        missing[group] = awaited * burst;
                        expected += members * burst;
                        begin(swarm, group);
                    }
                    false => running -= 1,
                }
            }
        }
        Ok(running == 0 && count == expected)
    })?;
    ensure!(is_done, "lost: {} deliveries", expected - count);
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

/// The floor: a bare writer with the same number of sockets.
struct RawWrites {
    swarm: Swarm,
    crowd: Crowd,
    control: usize,
    _server: FloorServer,
}

impl RawWrites {
    fn start(crowd: Crowd, payload_bytes: usize) -> Result<Self> {
        let (sockets, members) = (crowd.users().to_string(), crowd.members.to_string());
        let server = FloorServer::start(&[
            "floor-writes",
            &sockets,
            &members,
            &payload_bytes.to_string(),
        ])?;
        let mut swarm = Swarm::new(0)?;
        for index in 0..crowd.users() as u32 {
            // This tells the writer which socket it is.
            swarm.open_bare(server.address, &index.to_le_bytes())?;
            if index % 256 == 255 {
                swarm.run(Instant::now(), |_, _, _| Ok(false))?;
            }
        }
        let control = swarm.open_bare(server.address, &u32::MAX.to_le_bytes())?;
        let mut writes = RawWrites {
            swarm,
            crowd,
            control,
            _server: server,
        };
        // One round, so that all sockets are connected.
        writes.round(Duration::ZERO)?;
        Ok(writes)
    }

    fn round(&mut self, length: Duration) -> Result<f64> {
        let control = self.control;
        rounds(
            &mut self.swarm,
            self.crowd,
            1,
            length,
            |swarm, group| swarm.send(control, &(group as u16).to_le_bytes()),
            |_, _| Ok(()),
        )
    }
}
