//! Figures of the system: CPU time of processes, the disk, the limit of open files.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::measurement::median;

/// The CPU time so far of a process, or of this one, from proc_pid_stat(5). Ticks are hundredths of
/// a second on Linux.
pub fn cpu_seconds(id: Option<u32>) -> Result<f64> {
    let id = id.unwrap_or_else(std::process::id);
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    let (_, Cpu { user, system }) = read_stat(&stat)?;
    Ok(user + system)
}

/// Seconds, or a number of CPUs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// In the program's own code.
    pub user: f64,
    /// In the system, for the program.
    pub system: f64,
}

/// The CPU time so far of the threads of a process, by their names. Threads of one name count
/// together.
pub fn thread_seconds(id: u32) -> Result<BTreeMap<String, Cpu>> {
    let mut threads: BTreeMap<String, Cpu> = BTreeMap::new();
    for thread in std::fs::read_dir(format!("/proc/{id}/task"))? {
        // A thread may end meanwhile.
        let Ok(stat) = std::fs::read_to_string(thread?.path().join("stat")) else {
            continue;
        };
        let (name, cpu) = read_stat(&stat)?;
        let sum = threads.entry(name.to_owned()).or_default();
        sum.user += cpu.user;
        sum.system += cpu.system;
    }
    Ok(threads)
}

/// The name and the CPU time of a process or a thread.
fn read_stat(stat: &str) -> Result<(&str, Cpu)> {
    let (name, fields) = stat.rsplit_once(") ").context("no name in stat")?;
    let (_, name) = name.split_once('(').context("no name in stat")?;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<f64>);
    let [user, system] = ticks.collect::<Result<Vec<_>, _>>()?[..] else {
        anyhow::bail!("no times in stat: {stat}");
    };
    let (user, system) = (user / 100.0, system / 100.0);
    Ok((name, Cpu { user, system }))
}

/// The CPU time so far of everything on this machine, including the time that other virtual
/// machines took from it, from proc_stat(5).
pub fn machine_cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks = line.split_whitespace().skip(1).take(8).map(str::parse);
    let ticks: Vec<f64> = ticks.collect::<Result<_, _>>()?;
    let [user, nice, system, _idle, _iowait, irq, softirq, steal] = ticks[..] else {
        anyhow::bail!("/proc/stat: {line}");
    };
    Ok((user + nice + system + irq + softirq + steal) / 100.0)
}

/// The median seconds of an fdatasync after appending 4 KiB, measured over this time on the disk of
/// temporary files.
pub fn disk_sync_seconds(length: Duration) -> Result<f64> {
    let mut file = tempfile::tempfile()?;
    let (started, mut times) = (Instant::now(), Vec::new());
    while times.is_empty() || started.elapsed() < length {
        let begun = Instant::now();
        file.write_all(&[1; 4096])?;
        file.sync_data()?;
        times.push(begun.elapsed().as_secs_f64());
    }
    Ok(median(&times))
}

/// Raises the limit of open files. Every socket is an open file, and shells allow only 1,024 by
/// default.
pub fn raise_file_limit() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

/// Fails if this process may not open this many sockets.
pub fn ensure_files(sockets: usize) -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    ensure!(
        (sockets as u64).saturating_add(50) <= maximum,
        "{sockets} sockets are more than the limit of open files allows, which is {maximum} (ulimit -Hn)"
    );
    Ok(())
}
