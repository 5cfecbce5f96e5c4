//! Instructions of the hot paths under callgrind: they do not depend on what else the machine is doing.
//!
//!     cargo run --release -p tests --bin instructions -- check
//!     cargo run --release -p tests --bin instructions -- record "why"
//!
//! `check` compares with what is recorded in tests/instructions.tsv, and fails where a path has risen by more than
//! `figures::CHANGE_PERCENT_MAX`. `record` writes there what has changed, each with its explanation.

mod callgrind;
mod figures;
mod paths;

use std::process::{Command, ExitCode, exit};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use figures::{Change, Record};
use mimalloc::MiMalloc;
use paths::PATHS;

/// The host's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const RECORD: &str = "cargo run --release -p tests --bin instructions -- record";

/// Instructions of the hot paths, compared with those that are recorded.
#[derive(Parser)]
enum Arguments {
    /// Fails where a path takes more instructions than recorded.
    Check,
    /// Records those that have changed.
    Record {
        /// What explains the change: one line.
        why: String,
    },
    /// Goes one of the paths so many times: what callgrind is to count.
    #[command(hide = true)]
    Run(callgrind::Run),
}

fn main() -> Result<ExitCode> {
    match Arguments::parse() {
        Arguments::Check => check(),
        Arguments::Record { why } => record(&why),
        Arguments::Run(run) => {
            run.run()?;
            // Its database stays open: to close it takes the longer, the more was stored.
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
        (Change::Gone, "are recorded, and are no more", true, true),
    ] {
        let changed = lines.iter().filter(|line| line.change == change);
        let names: Vec<_> = changed.map(|line| line.name).collect();
        if names.is_empty() || !is_looked_at {
            continue;
        }
        let names = names.join(", ");
        eprintln!("instructions: {text}: {names}. Where it is meant: {RECORD} \"why\"");
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

/// What the counts depend on beside the code: the compilers of Rust and of SQLite. The latter names its distribution, whose C
/// library and valgrind they are.
fn tools() -> Result<String> {
    let version = |program: &str| {
        let output = Command::new(program).arg("--version").output();
        let output = output.with_context(|| format!("{program} --version"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        anyhow::Ok(text.lines().next().unwrap_or_default().to_owned())
    };
    Ok(format!("{}; {}", version("rustc")?, version("cc")?))
}
