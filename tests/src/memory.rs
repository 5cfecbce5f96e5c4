//! The memory of a process, in KiB, from proc_pid_status(5).

use anyhow::{Context as _, Result};

/// The resident memory of a process.
pub fn resident_kib(id: u32) -> Result<f64> {
    memory_kib(id, "VmRSS:")
}

/// The most resident memory that a process has had.
pub fn peak_resident_kib(id: u32) -> Result<f64> {
    memory_kib(id, "VmHWM:")
}

/// The part of the resident memory that does not belong to files.
pub fn anonymous_kib(id: u32) -> Result<f64> {
    memory_kib(id, "RssAnon:")
}

fn memory_kib(id: u32, name: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.with_context(|| format!("no {name}"))?.parse()?)
}
