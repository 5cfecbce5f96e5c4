//! Logins. Each hashes a password, which is slow on purpose.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use handler::account::password::{self, Verdict};
use tests::host::PASSWORD;
use tokio::task::JoinSet;

use crate::measurement::{Latency, Measurement, interleave};
use crate::site::{Common, Crowd, Site, login};

#[derive(Args)]
pub struct Logins {
    /// Logins under way at any time.
    #[arg(long, default_value_t = 8)]
    concurrent: usize,
    #[command(flatten)]
    common: Common,
}

pub async fn logins(arguments: Logins) -> Result<Vec<Measurement>> {
    let Logins { concurrent, common } = arguments;
    ensure!(concurrent > 0, "--concurrent must be at least 1");
    let crowd = Crowd {
        groups: concurrent,
        members: 1,
        messages: 0,
    };
    let site = Site::make(&common, crowd).await?;
    let rounds = interleave(
        &common,
        site.pid,
        async |length| raw_hashes(length),
        async |length| {
            let started = Instant::now();
            let storm = Storm::start(&site, concurrent).await?;
            tokio::time::sleep(length).await;
            let times = storm.end().await?;
            let per_second = times.len() as f64 / started.elapsed().as_secs_f64();
            Ok((per_second, Latency::of(times)))
        },
    )
    .await?;
    let name = format!("logins, {concurrent} at once");
    let measurement = Measurement::new(name, "logins/s", rounds.each(|(rate, _)| *rate))
        .against("raw argon2", &rounds.floors)
        .used(rounds.usage)
        .beside("p50_ms", &rounds.each(|(_, latency)| latency.p50))
        .beside("p99_ms", &rounds.each(|(_, latency)| latency.p99));
    Ok(vec![measurement])
}

/// Users that log in with the right password, again and again.
pub struct Storm {
    is_over: Arc<AtomicBool>,
    users: JoinSet<Result<Vec<Duration>>>,
}

impl Storm {
    /// Starts the logins. When this returns, each user has sent the first password.
    pub async fn start(site: &Site, concurrent: usize) -> Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut users = JoinSet::new();
        for index in 0..concurrent {
            let (is_over, target) = (is_over.clone(), site.target.clone());
            let name = site.names[index % site.names.len()].clone();
            users.spawn(async move {
                let mut times = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    login(&target, &name).await?;
                    times.push(started.elapsed());
                }
                Ok(times)
            });
        }
        tokio::task::yield_now().await;
        Ok(Storm { is_over, users })
    }

    /// Ends the logins; returns how long each took.
    pub async fn end(mut self) -> Result<Vec<Duration>> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut times = Vec::new();
        while let Some(user) = self.users.join_next().await {
            times.extend(user??);
        }
        Ok(times)
    }
}

/// Returns the passwords compared a second, on as many threads as the host uses for them.
fn raw_hashes(length: Duration) -> Result<f64> {
    let stored = password::hash(PASSWORD, [7; 16]);
    let threads = std::thread::available_parallelism()?.get().div_ceil(2);
    let (started, count) = (Instant::now(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while started.elapsed() < length {
                    assert_eq!(password::verify(PASSWORD, Some(&stored)), Verdict::Right);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    Ok(count.into_inner() as f64 / started.elapsed().as_secs_f64())
}
