//! What the system says: time and memory of processes, the disk, the limit of open files.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::measurement::median;

/// CPU time of a process, or of this one, so far, from proc_pid_stat(5); ticks are hundredths of a second on Linux.
pub fn cpu_seconds(id: Option<u32>) -> Result<f64> {
    let id = id.unwrap_or_else(std::process::id);
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    let (_, after_name) = stat.rsplit_once(") ").context("no name in stat")?;
    let ticks = after_name
        .split(' ')
        .skip(11)
        .take(2)
        .map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

/// CPU time of everything on this machine so far, and what other machines have taken of it, from proc_stat(5).
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

/// Memory of a process.
pub fn resident_kib(id: u32) -> Result<f64> {
    memory_kib(id, "VmRSS:")
}

/// That of it which is no file's.
pub fn anonymous_kib(id: u32) -> Result<f64> {
    memory_kib(id, "RssAnon:")
}

/// A line of proc_pid_status(5).
fn memory_kib(id: u32, name: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.with_context(|| format!("no {name}"))?.parse()?)
}

/// The disk under temporary files: the median seconds of an fdatasync after 4 KiB were appended, over this time.
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

/// Every socket is an open file, and shells allow 1,024 unless asked for more.
pub fn raise_file_limit() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

/// An error where so many sockets are more than this process may have.
pub fn ensure_files(sockets: usize) -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    ensure!(
        (sockets as u64).saturating_add(50) <= maximum,
        "{sockets} sockets are more than the limit of open files allows, which is {maximum} (ulimit -Hn)"
    );
    Ok(())
}
