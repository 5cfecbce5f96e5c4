//! Users who come for the first time: each connects with a token of the app, which creates the user,
//! and stays. The host has its default limits.

use std::ffi::OsStr;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use tests::Process;
use tests::host::{LIMITS, Log, SECRET};
use tests::tokens::foreign_token;

use crate::frame::text;
use crate::machine::ensure_files;
use crate::measurement::{Goal, Latency, Measurement, Meter};
use crate::swarm::{PATIENCE, Swarm, Target, ensure_pong};

#[derive(Args)]
pub struct FirstConnects {
    #[arg(long, default_value_t = 10_000)]
    users: usize,
    /// Handshakes under way at any time.
    #[arg(long, default_value_t = 64)]
    concurrent: usize,
    /// Loopback addresses to connect from, in turn.
    #[arg(long, default_value_t = 8)]
    sources: usize,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

pub async fn first_connects(arguments: FirstConnects) -> Result<Vec<Measurement>> {
    let FirstConnects {
        users,
        concurrent,
        sources,
        rounds,
    } = arguments;
    ensure!(
        users > 0 && concurrent > 0 && rounds > 0,
        "--users, --concurrent and --rounds must be at least 1"
    );
    ensure_files(users)?;
    let folder = tempfile::TempDir::new()?;
    let file = folder.path().join("chat.db");
    let variables = [
        ("DBPATH", file.as_os_str()),
        ("UNKNOWN_USERS", OsStr::new("create")),
        ("LOG_LEVEL", OsStr::new("info")),
    ];
    // Tests turn these limits off.
    let script = format!(r#"unset {}; exec "$0" "$@""#, LIMITS.join(" "));
    let host = Process::start_in(&script, &variables, Log::File(folder.path().join("log"))).await;
    let target = host.address.into();
    let (mut rates, mut p50, mut p99) = (vec![], vec![], vec![]);
    let meter = Meter::start(Some(host.id()))?;
    for round in 0..rounds {
        // As an app does it, before its page connects.
        let cookies = (0..users).map(|user| {
            let token = foreign_token(SECRET, &format!("user-{round}-{user}"));
            format!("login-token={token}")
        });
        let cookies: Vec<_> = cookies.collect();
        let started = Instant::now();
        let latency = come(&target, &cookies, concurrent, sources)?;
        rates.push(users as f64 / started.elapsed().as_secs_f64());
        p50.push(latency.p50);
        p99.push(latency.p99);
    }
    let usage = meter.read()?;
    let db = tests::data::open(&file).await;
    let mut rows = db.query("select count(*) from users", ()).await?;
    let row = rows.next().await?.context("a count")?;
    let created: i64 = row.get(0)?;
    ensure!(created as usize == rounds * users, "{created} users exist");
    let name = format!("first connects of {users} users, {concurrent} at once");
    let measurement = Measurement::new(name, "users/s", rates)
        // 10,000 in a minute.
        .aims(Goal::AtLeast(10_000.0 / 60.0))
        .used(usage)
        .beside("p50_ms", &p50)
        .beside("p99_ms", &p99);
    Ok(vec![measurement])
}

/// Opens a socket with each cookie. The sockets stay open until the last user is there. Returns how
/// long each user has waited for the pong, which shows that the user exists.
fn come(target: &Target, cookies: &[String], concurrent: usize, sources: usize) -> Result<Latency> {
    let mut swarm = Swarm::new(sources)?;
    let ping = text(r#"{"type":"ping"}"#);
    let mut coming = cookies.iter();
    let mut begun = vec![Instant::now(); cookies.len()];
    let mut times = Vec::with_capacity(cookies.len());
    for cookie in coming.by_ref().take(concurrent) {
        let index = swarm.open(target, cookie, &ping)?;
        begun[index] = Instant::now();
    }
    while times.len() < cookies.len() {
        let before = times.len();
        swarm.run(Instant::now() + PATIENCE, |swarm, index, payload| {
            ensure_pong(payload)?;
            times.push(begun[index].elapsed());
            if let Some(cookie) = coming.next() {
                let index = swarm.open(target, cookie, &ping)?;
                begun[index] = Instant::now();
            }
            Ok(times.len() == cookies.len())
        })?;
        ensure!(
            times.len() > before,
            "{} handshakes are not answered",
            cookies.len() - times.len()
        );
    }
    Ok(Latency::of(times))
}
