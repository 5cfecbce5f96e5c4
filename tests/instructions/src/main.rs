//! Counts the instructions of the hot paths under callgrind. The counts do not depend on what else
//! the machine is doing.
//!
//!     cargo run --release -p instructions -- check
//!     cargo run --release -p instructions -- record "why"
//!
//! `check` compares them with tests/instructions/recorded.tsv, and fails if a path has risen by more than
//! `figures::CHANGE_PERCENT_MAX`. `record` writes changed counts there, each with its explanation.

mod callgrind;
mod figures;
mod paths;

use std::process::{Command, ExitCode, exit};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use figures::{Change, Record};
use mimalloc::MiMalloc;
use paths::PATHS;

/// The host's allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const RECORD: &str = "cargo run --release -p instructions -- record";

/// Counts the instructions of the hot paths and compares them with the recorded ones.
#[derive(Parser)]
enum Arguments {
    /// Fails if a path takes more instructions than recorded.
    Check,
    /// Records the counts that have changed.
    Record {
        /// The explanation of the change, one line.
        why: String,
    },
    /// Runs one of the paths this many times, for callgrind to count.
    #[command(hide = true)]
    Run(callgrind::Run),
}

fn main() -> Result<ExitCode> {
    match Arguments::parse() {
        Arguments::Check => check(),
        Arguments::Record { why } => record(&why),
        Arguments::Run(run) => {
            run.run()?;
            // The database stays open: closing it takes longer the more was stored.
            exit(0)
        }
    }
}

fn check() -> Result<ExitCode> {
    let (recorded, counted) = (Record::read()?, count()?);
    let lines = recorded.compare(&counted.figures);
    print!("{}", figures::table(&lines));
    let is_comparable = recorded.tools == counted.tools;
    if !is_comparable {
        eprintln!(
            "\nWARNING: the instructions were not compared. They were recorded with\n    {}\nand counted with\n    {}\n\
             Record them again: {RECORD} \"other compilers\"",
            recorded.tools, counted.tools
        );
    }
    let mut code = ExitCode::SUCCESS;
    for (change, text, is_looked_at, is_failure) in [
        (Change::Rose, "take more instructions", is_comparable, true),
        (
            Change::Fell,
            "take fewer instructions",
            is_comparable,
            false,
        ),
        (Change::New, "are not recorded", true, true),
        (
            Change::Gone,
            "are recorded, but no longer exist",
            true,
            true,
        ),
    ] {
        let changed = lines.iter().filter(|line| line.change == change);
        let names: Vec<_> = changed.map(|line| line.name).collect();
        if names.is_empty() || !is_looked_at {
            continue;
        }
        let names = names.join(", ");
        eprintln!("instructions: {text}: {names}. If this is intended: {RECORD} \"why\"");
        if is_failure {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

fn record(why: &str) -> Result<ExitCode> {
    let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(!why.is_empty(), "the explanation is empty");
    let (recorded, counted) = (Record::read()?, count()?);
    print!("{}", figures::table(&recorded.compare(&counted.figures)));
    recorded.updated(&counted, &why).write()?;
    Ok(ExitCode::SUCCESS)
}

fn count() -> Result<Record> {
    Ok(Record {
        tools: tools()?,
        figures: callgrind::count(&PATHS)?,
    })
}

/// The tools that the counts depend on besides the code: the compilers of Rust and of SQLite. The
/// version of the latter names its distribution, which also determines the C library and valgrind.
fn tools() -> Result<String> {
    let version = |program: &str| {
        let output = Command::new(program).arg("--version").output();
        let output = output.with_context(|| format!("{program} --version"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        anyhow::Ok(text.lines().next().unwrap_or_default().to_owned())
    };
    Ok(format!("{}; {}", version("rustc")?, version("cc")?))
}
