//! Drawings of what other scenarios measure: throughput against pairs, latency against the rate,
//! and deliveries against members.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::curves::{Chart, Curve, draw};
use crate::machine::disk_sync_seconds;
use crate::measurement::{Measurement, Spread, median};
use crate::report::Conditions;
use crate::{Scenario, run};

#[derive(Args)]
pub struct Plots {
    /// Length of a round, in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000")]
    pairs: Vec<u32>,
    /// Messages a second, of 100 pairs together, in order: as far as the host can follow.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "100,200,500,1000,2000,5000,10000,20000,50000,100000"
    )]
    rates: Vec<u32>,
    /// Members of the one conversation.
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000,10000")]
    members: Vec<u32>,
    /// The file that gets all rounds of all points.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The folder to draw in.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Draws again what --json has written, and measures nothing.
    #[arg(long, requires = "svg", conflicts_with = "json")]
    from: Option<PathBuf>,
}

/// Curves that one scenario measures.
struct Series {
    /// The chart's index.
    chart: usize,
    /// The command line for a point at X.
    command: &'static str,
    curves: &'static [Line],
}

struct Line {
    name: &'static str,
    /// Classes of the style.
    look: &'static str,
    /// The JSON pointer to the rounds in the scenario's measurements.
    rounds: &'static str,
}

const PAIRS: usize = 0;
const RATES: usize = 1;
const MEMBERS: usize = 2;

const SERIES: [Series; 7] = [
    Series {
        chart: PAIRS,
        command: "sends --pairs X",
        curves: &[line("a file", "blue", "/0/rounds")],
    },
    Series {
        chart: PAIRS,
        command: "remote --hosts 1 --pairs X",
        curves: &[line("a libSQL server, one host", "orange", "/0/rounds")],
    },
    Series {
        chart: PAIRS,
        command: "remote --hosts 2 --pairs X",
        curves: &[line(
            "a libSQL server, two hosts",
            "orange dashed",
            "/0/rounds",
        )],
    },
    Series {
        chart: RATES,
        command: "latency --pairs 100 --rate X",
        curves: &[
            line("a file, p50", "blue", "/0/rounds"),
            line("a file, p99", "blue dashed", "/1/rounds"),
        ],
    },
    Series {
        chart: RATES,
        command: "remote --pairs 100 --rate X",
        curves: &[
            line("a libSQL server, p50", "orange", "/0/reply_p50_ms_rounds"),
            line(
                "a libSQL server, p99",
                "orange dashed",
                "/0/reply_p99_ms_rounds",
            ),
        ],
    },
    Series {
        chart: MEMBERS,
        command: "fan-out --groups 1 --members X",
        curves: &[line("one message after the other", "blue", "/0/rounds")],
    },
    Series {
        chart: MEMBERS,
        command: "fan-out --groups 1 --burst 32 --members X",
        curves: &[line("bursts of 32", "blue dashed", "/0/rounds")],
    },
];

const fn line(name: &'static str, look: &'static str, rounds: &'static str) -> Line {
    Line { name, look, rounds }
}

/// The file, the title, what it says, and what is on the axes.
const CHARTS: [[&str; 5]; 3] = [
    [
        "throughput.svg",
        "Durable sends a second, by pairs of users",
        "Each sender sends the next message when it has the reply to the last. Up is better.",
        "pairs",
        "sends/s",
    ],
    [
        "latency.svg",
        "Time from a send to its reply, by the rate",
        "100 pairs send at a steady rate, up to the first rate that is too much. Down is better.",
        "sends/s, of all pairs together",
        "ms",
    ],
    [
        "fan-out.svg",
        "Deliveries a second, by the members of a conversation",
        "One member sends, all receive; on a file. Up is better.",
        "members",
        "deliveries/s",
    ],
];

/// A curve of latencies ends with the first point whose p99 is longer: messages queue up, and the
/// time says only how long the round was.
const KNEE_MS: f64 = 200.0;

#[derive(Serialize, Deserialize)]
struct Figures {
    conditions: String,
    points: Vec<Point>,
}

#[derive(Serialize, Deserialize)]
struct Point {
    command: String,
    curve: String,
    x: u32,
    rounds: Vec<f64>,
}

#[derive(Parser)]
struct Command {
    #[command(subcommand)]
    scenario: Scenario,
}

pub async fn plots(arguments: Plots) -> Result<Vec<Measurement>> {
    let mut measurements = Vec::new();
    let figures = match &arguments.from {
        Some(path) => read(path).with_context(|| format!("--from {}", path.display()))?,
        None => measure(&arguments, &mut measurements).await?,
    };
    if let Some(folder) = &arguments.svg {
        std::fs::create_dir_all(folder)?;
        for (index, [file, ..]) in CHARTS.iter().enumerate() {
            let chart = chart(index, &figures);
            if !chart.curves.is_empty() {
                std::fs::write(folder.join(file), draw(&chart, &figures.conditions))?;
            }
        }
    }
    Ok(measurements)
}

fn read(path: &Path) -> Result<Figures> {
    let figures: Figures = serde_json::from_slice(&std::fs::read(path)?)?;
    for point in &figures.points {
        let is_drawable = |round: &f64| round.is_finite() && *round > 0.0;
        ensure!(
            point.x > 0 && !point.rounds.is_empty() && point.rounds.iter().all(is_drawable),
            "{}, {}: not all numbers are more than 0",
            point.curve,
            point.x
        );
    }
    Ok(figures)
}

/// Runs the scenarios, each on a host of its own.
async fn measure(arguments: &Plots, measurements: &mut Vec<Measurement>) -> Result<Figures> {
    let Plots {
        seconds, rounds, ..
    } = arguments;
    let xs = [&arguments.pairs, &arguments.rates, &arguments.members];
    let disk = disk_sync_seconds(std::time::Duration::from_millis(500))?;
    let mut figures = Figures {
        conditions: format!(
            "{}; {rounds} rounds of {seconds} s",
            Conditions::read(disk)?.text()
        ),
        points: Vec::new(),
    };
    for series in &SERIES {
        for x in xs[series.chart] {
            let command = series.command.replace('X', &x.to_string());
            // Only the figures are drawn.
            let options = format!("--seconds {seconds} --rounds {rounds} --no-floor");
            let command = format!("load {command} {options}");
            eprintln!("{command}");
            let Command { scenario } = Command::try_parse_from(command.split(' '))?;
            let measured = Box::pin(run(scenario)).await;
            let measured = measured.with_context(|| command.clone())?;
            for measurement in &measured {
                eprintln!("    {}", measurement.text());
            }
            let json: Value = measured.iter().map(Measurement::json).collect();
            measurements.extend(measured);
            let mut last = 0.0;
            for line in series.curves {
                let rounds = json.pointer(line.rounds).context("no rounds")?;
                let rounds: Vec<f64> = serde_json::from_value(rounds.clone())?;
                last = median(&rounds);
                figures.points.push(Point {
                    command: command.clone(),
                    curve: line.name.to_owned(),
                    x: *x,
                    rounds,
                });
            }
            // Now, so that an error later does not lose it.
            if let Some(path) = &arguments.json {
                std::fs::write(path, figures.text()?)?;
            }
            if series.chart == RATES && last > KNEE_MS {
                break;
            }
        }
    }
    Ok(figures)
}

impl Figures {
    /// JSON with a line for each point.
    fn text(&self) -> Result<String> {
        let points: Result<Vec<_>, _> = self.points.iter().map(serde_json::to_string).collect();
        let conditions = serde_json::to_string(&self.conditions)?;
        let points = points?.join(",\n    ");
        Ok(format!(
            "{{\n  \"conditions\": {conditions},\n  \"points\": [\n    {points}\n  ]\n}}\n"
        ))
    }
}

fn chart(index: usize, figures: &Figures) -> Chart<'static> {
    let [_, title, text, x_unit, y_unit] = CHARTS[index];
    let lines = SERIES.iter().filter(|series| series.chart == index);
    let lines = lines.flat_map(|series| series.curves);
    let curves = lines.map(|line| {
        let points = figures.points.iter();
        let points = points.filter(|point| point.curve == line.name);
        let points = points.map(|point| (f64::from(point.x), Spread::of(&point.rounds)));
        let mut points: Vec<_> = points.collect();
        points.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Curve {
            name: line.name,
            look: line.look,
            points,
        }
    });
    Chart {
        title,
        text,
        x_unit,
        y_unit,
        curves: curves.filter(|curve| !curve.points.is_empty()).collect(),
    }
}
