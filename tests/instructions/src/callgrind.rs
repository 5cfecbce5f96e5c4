//! Runs this program under valgrind and reads what it counted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::{env, thread};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use tempfile::TempDir;

use crate::figures::Figure;
use crate::paths::{HotPath, PATHS};

/// The number of runs at a time.
const RUNS_MAX: usize = 2;

/// The C library copies and compares with the instructions that the processor offers, and callgrind
/// counts each byte of a `rep stosb` as an instruction. These settings limit it to what every
/// x86-64 processor has.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX2,-AVX_Fast_Unaligned_Load,-SSSE3,-ERMS";

/// One run of a path.
#[derive(Args)]
pub struct Run {
    name: String,
    repetitions: u32,
    /// The folder for a new database.
    folder: PathBuf,
}

impl Run {
    pub fn run(&self) -> Result<()> {
        let path = PATHS.iter().find(|path| path.name == self.name);
        let path = path.with_context(|| format!("no path {}", self.name))?;
        (path.run)(&self.folder, self.repetitions)
    }
}

/// Counts the instructions of one operation of each path; returns them in the order of `paths`.
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

/// Counts one operation of the path. A second run with twice as many repetitions starts and ends in
/// the same way, so the difference is due to the path alone.
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
        .context("cannot start valgrind (Debian package valgrind)")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {errors}", output.status);
    let profile = std::fs::read_to_string(&profile)?;
    let mut lines = profile.lines();
    let total = lines.find_map(|line| line.strip_prefix("totals: "));
    let total = total.with_context(|| format!("no total: {errors}"))?;
    Ok(total.trim().parse()?)
}
