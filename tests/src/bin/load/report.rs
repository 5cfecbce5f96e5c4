//! All scenarios that have a target, each on a host of its own: a table, JSON, and a drawing.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser};
use serde_json::{Value, json};

use crate::bars::draw;
use crate::machine::disk_sync_seconds;
use crate::measurement::{Measurement, Usage, median, number};
use crate::{Scenario, run};

#[derive(Args)]
pub struct Report {
    /// Only these scenarios: names of subcommands.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Length of a round, and of a round of its floor, in seconds.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Idle sockets.
    #[arg(long, default_value_t = 19_000)]
    idle_sockets: usize,
    /// Messages of the large file, in `growth` and `start`.
    #[arg(long, default_value_t = 10_000_000)]
    messages: i64,
    /// Where to write all rounds of all figures.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where to draw the ratios.
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// Command lines of this program.
const COMMANDS: [&str; 22] = [
    "sends --pairs 100 --in-flight 1",
    "sends --pairs 100 --in-flight 8",
    "sends --pairs 100 --in-flight 8 --one-by-one",
    "latency --pairs 100 --rate 1000",
    "latency --pairs 100 --rate 1000 --logins 4",
    "fan-out --groups 20 --members 50",
    "fan-out --groups 1 --members 500",
    "fan-out --groups 1 --members 5000",
    "fan-out --groups 20 --members 50 --burst 32",
    "one-room --members 10000 --senders 16",
    "pings --sockets 50 --in-flight 10",
    "history --sockets 50 --messages 100",
    "connects --concurrent 64",
    "idle",
    "start",
    "remote --pairs 1000",
    "remote --pairs 1000 --hosts 2",
    "remote --pairs 1000 --delay-ms 20",
    "remote --pairs 100",
    "remote --pairs 100 --hosts 2",
    "remote-history --sockets 400",
    "growth",
];

/// A scenario's command line and its results.
struct Line {
    command: String,
    measurements: Vec<Measurement>,
}

impl Line {
    /// The measurements in the table; of `growth`, only the worst.
    fn shown(&self) -> Vec<Measurement> {
        if !self.command.starts_with("growth") {
            return self.measurements.clone();
        }
        let ratio =
            |measurement: &&Measurement| measurement.ratio().map_or(0.0, |ratio| ratio.median);
        let worst = self.measurements.iter();
        let worst = worst.max_by(|a, b| ratio(a).total_cmp(&ratio(b)));
        let worst = worst.cloned().map(|worst| {
            let count = self.measurements.len();
            let name = worst
                .name
                .replacen("growth", &format!("growth (worst of {count})"), 1);
            Measurement { name, ..worst }
        });
        worst.into_iter().collect()
    }
}

#[derive(Parser)]
struct Command {
    #[command(subcommand)]
    scenario: Scenario,
}

pub async fn report(arguments: Report) -> Result<()> {
    let Report {
        only,
        seconds,
        rounds,
        idle_sockets,
        messages,
        ..
    } = arguments;
    let name = |command: &str| command.split(' ').next().unwrap_or_default().to_owned();
    for wanted in &only {
        let is_known = COMMANDS.iter().any(|command| name(command) == *wanted);
        ensure!(is_known, "--only {wanted}: no such scenario");
    }
    let disk =
        disk_sync_seconds(Duration::try_from_secs_f64(seconds)?.min(Duration::from_secs(1)))?;
    let mut lines = Vec::new();
    for command in COMMANDS {
        if !only.is_empty() && !only.contains(&name(command)) {
            continue;
        }
        let command = match name(command).as_str() {
            "idle" => format!("{command} --sockets {idle_sockets}"),
            "start" => format!("{command} --messages {messages}"),
            "growth" => format!("{command} --large {messages}"),
            _ => format!("{command} --seconds {seconds} --rounds {rounds}"),
        };
        eprintln!("load {command}");
        let words = std::iter::once("load").chain(command.split(' '));
        let Command { scenario } = Command::try_parse_from(words)?;
        // Each scenario has a host of its own, which ends with it.
        let measurements = Box::pin(run(scenario)).await;
        let measurements = measurements.with_context(|| format!("load {command}"))?;
        for measurement in &measurements {
            eprintln!("    {}", measurement.text());
        }
        lines.push(Line {
            command,
            measurements,
        });
    }
    let conditions = Conditions::read(disk)?;
    print!("{}", table(&lines, &conditions));
    let shown: Vec<_> = lines.iter().flat_map(Line::shown).collect();
    if let Some(path) = &arguments.svg {
        std::fs::write(path, draw(&shown, &conditions.text()))?;
    }
    let all = json!({ "conditions": conditions.json(), "lines": lines.iter().map(|line| {
        let measurements = line.measurements.iter().map(Measurement::json);
        json!({ "command": format!("load {}", line.command), "measurements": measurements.collect::<Vec<_>>() })
    }).collect::<Vec<_>>() });
    if let Some(path) = &arguments.json {
        std::fs::write(path, format!("{all:#}\n"))?;
    }
    let met: Vec<_> = shown.iter().filter_map(|shown| shown.is_met()).collect();
    let count = met.iter().filter(|is_met| **is_met).count();
    let disturbed = shown.iter().filter(|shown| !shown.usage.is_quiet()).count();
    if disturbed > 0 {
        eprintln!("{disturbed} figures do not count: other processes used the machine meanwhile");
    }
    println!(
        "{}",
        json!({ "name": "report", "disturbed": disturbed, "targets": met.len(), "met": count, "conditions": conditions.json() })
    );
    Ok(())
}

/// The machine and the version that were measured.
pub struct Conditions {
    cores: usize,
    kernel: String,
    disk_sync_ms: f64,
}

impl Conditions {
    pub fn read(disk_sync_seconds: f64) -> Result<Self> {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        Ok(Conditions {
            cores: std::thread::available_parallelism()?.get(),
            kernel: kernel.trim().to_owned(),
            disk_sync_ms: 1e3 * disk_sync_seconds,
        })
    }

    pub fn text(&self) -> String {
        format!(
            "{} cores, shared by this program and all that it measures; Linux {}; fdatasync of 4 KiB {} ms; version {}",
            self.cores,
            self.kernel,
            number(self.disk_sync_ms),
            env!("CARGO_PKG_VERSION")
        )
    }

    fn json(&self) -> Value {
        json!({
            "cores": self.cores, "kernel": self.kernel, "disk_sync_ms": self.disk_sync_ms,
            "version": env!("CARGO_PKG_VERSION"),
        })
    }
}

/// The table in Markdown.
fn table(lines: &[Line], conditions: &Conditions) -> String {
    let mut table = format!(
        "{}. Medians of the rounds; of the ratios also the smallest and the largest.\n\n\
         | | figure | floor | ratio | target | | CPUs: host, load program, others |\n|---|---|---|---|---|---|---|\n",
        conditions.text()
    );
    for measurement in lines.iter().flat_map(Line::shown) {
        let floor = measurement.floor.as_ref();
        let floor = floor.map(|(name, rounds)| format!("{name}: {}", number(median(rounds))));
        let ratio = measurement
            .ratio()
            .map(|ratio| format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.min, ratio.max));
        let met = match measurement.is_met() {
            Some(true) => "met",
            Some(false) => "**not met**",
            None => "",
        };
        let Usage {
            client_cpu,
            server_cpu,
            others_cpu,
        } = measurement.usage;
        let usage = server_cpu.zip(others_cpu).map(|(server, others)| {
            let others = match measurement.usage.is_quiet() {
                true => format!("{others:.2}"),
                false => format!("**{others:.2}**"),
            };
            format!("{server:.2}, {client_cpu:.2}, {others}")
        });
        table += &format!(
            "| {} | {} {} | {} | {} | {} | {met} | {} |\n",
            measurement.name,
            number(measurement.figure()),
            measurement.unit,
            floor.unwrap_or_default(),
            ratio.unwrap_or_default(),
            measurement.target_text(),
            usage.unwrap_or_default(),
        );
    }
    table += "\n";
    for line in lines {
        table += &format!("    target/release/load {}\n", line.command);
    }
    table
}
