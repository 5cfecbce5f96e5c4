//! Runs of this program under valgrind, and what it counted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::{env, thread};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use tempfile::TempDir;

use crate::figures::Figure;
use crate::paths::{HotPath, PATHS};

/// Runs at a time.
const RUNS_MAX: usize = 2;

/// The C library copies and compares with what the processor has; callgrind takes each byte of a `rep stosb` for an instruction.
/// Without these it goes by what every x86-64 has.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX2,-AVX_Fast_Unaligned_Load,-SSSE3,-ERMS";

/// One run.
#[derive(Args)]
pub struct Run {
    name: String,
    repetitions: u32,
    /// For a new database.
    folder: PathBuf,
}

impl Run {
    pub fn run(&self) -> Result<()> {
        let path = PATHS.iter().find(|path| path.name == self.name);
        let path = path.with_context(|| format!("no path {}", self.name))?;
        (path.run)(&self.folder, self.repetitions)
    }
}

/// Instructions of one operation of each path, in their order.
pub fn count(paths: &[HotPath]) -> Result<Vec<Figure>> {
    let (waiting, counted) = (Mutex::new(paths.iter().enumerate()), Mutex::new(Vec::new()));
    let work = || {
        let next = || waiting.lock().ok()?.next();
        while let Some((index, path)) = next() {
            let figure = figure(path).with_context(|| path.name);
            if let Ok(mut counted) = counted.lock() {
                counted.push((index, figure));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..RUNS_MAX {
            scope.spawn(work);
        }
    });
    let mut counted = counted.into_inner().unwrap_or_default();
    counted.sort_by_key(|(index, _)| *index);
    counted.into_iter().map(|(_, figure)| figure).collect()
}

/// A second run that goes the path twice as often has the same beginning and the same end: the difference is the path's alone.
fn figure(path: &HotPath) -> Result<Figure> {
    let once = instructions(path.name, path.repetitions)?;
    let twice = instructions(path.name, 2 * path.repetitions)?;
    let difference = twice
        .checked_sub(once)
        .context("more instructions in fewer repetitions")?;
    Ok(Figure {
        name: path.name.into(),
        instructions: difference / u64::from(path.repetitions),
        why: String::new(),
    })
}

fn instructions(name: &str, repetitions: u32) -> Result<u64> {
    let memory = Path::new("/dev/shm");
    let folder = match memory.is_dir() {
        true => TempDir::new_in(memory)?,
        false => TempDir::new()?,
    };
    let profile = folder.path().join("callgrind.out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(env::current_exe()?)
        .args(["run", name, &repetitions.to_string()])
        .arg(folder.path())
        .env("GLIBC_TUNABLES", TUNABLES)
        .output()
        .context("valgrind, of the Debian package of this name")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {errors}", output.status);
    let profile = std::fs::read_to_string(&profile)?;
    let mut lines = profile.lines();
    let total = lines.find_map(|line| line.strip_prefix("totals: "));
    let total = total.with_context(|| format!("no total: {errors}"))?;
    Ok(total.trim().parse()?)
}
