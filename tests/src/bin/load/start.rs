//! How long a host takes from its start to its first answer, and its memory then.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use rustix::fs::{Advice, fadvise};
use tests::memory::resident_kib;

use crate::growth::populate;
use crate::measurement::{Goal, Measurement};
use crate::site::{http, start_host};

#[derive(Args)]
pub struct Start {
    /// Messages in the file.
    #[arg(long, default_value_t = 10_000_000)]
    messages: i64,
    /// A file to use, and to keep for the next run. Without it, a temporary file is made.
    #[arg(long)]
    file: Option<PathBuf>,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

pub async fn start(arguments: Start) -> Result<Vec<Measurement>> {
    let Start {
        messages,
        file,
        rounds,
    } = arguments;
    ensure!(rounds > 0, "--rounds must be at least 1");
    let folder = tempfile::TempDir::new()?;
    let file = file.unwrap_or_else(|| folder.path().join("start.db"));
    if !file.exists() {
        populate(&file, messages).await?;
    }
    let (mut cold, mut warm, mut memory) = (vec![], vec![], vec![]);
    // The first start also builds the program, if it has changed.
    drop(start_host(&folder.path().join("first.db"), folder.path()).await);
    for round in 0..rounds {
        let empty = folder.path().join(format!("empty-{round}.db"));
        let host = start_host(&empty, folder.path()).await;
        memory.push(resident_kib(host.id())? / 1024.0);
        host.kill().await;
        let opened = std::fs::File::open(&file)?;
        opened.sync_all()?;
        fadvise(&opened, 0, None, Advice::DontNeed)
            .context("the file cannot be removed from memory")?;
        for times in [&mut cold, &mut warm] {
            let started = Instant::now();
            let host = start_host(&file, folder.path()).await;
            let deadline = started + Duration::from_secs(60);
            while !http(&host.address.into(), "GET", "/readyz", "")
                .await?
                .starts_with("HTTP/1.1 200")
            {
                ensure!(Instant::now() < deadline, "the host does not become ready");
            }
            times.push(started.elapsed().as_secs_f64());
            host.end(rustix::process::Signal::TERM).await;
        }
    }
    let name = |what: &str| format!("start on {messages} messages, {what}");
    let times =
        |what: &str, times| Measurement::new(name(what), "s", times).aims(Goal::AtMost(1.0));
    Ok(vec![
        times("the file not in memory", cold),
        times("again", warm),
        Measurement::new("memory of an empty host", "MiB", memory).aims(Goal::AtMost(16.0)),
    ])
}
