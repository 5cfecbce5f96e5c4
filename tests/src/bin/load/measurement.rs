//! Figures of several rounds and of their floors, for people and for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

use crate::machine::{Cpu, cpu_seconds, machine_cpu_seconds, thread_seconds};
use crate::site::Common;

/// One figure of a scenario.
#[derive(Clone)]
pub struct Measurement {
    pub name: String,
    pub unit: &'static str,
    /// The figure, by round.
    pub rounds: Vec<f64>,
    /// The floor's name and figures, in the same unit unless the name says another.
    pub floor: Option<(&'static str, Vec<f64>)>,
    pub target: Option<Goal>,
    pub usage: Usage,
    /// Further figures.
    pub more: Map<String, Value>,
}

/// The target of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// The ratio to the floor.
    RatioAtLeast(f64),
    RatioAtMost(f64),
    AtLeast(f64),
    AtMost(f64),
}

/// The CPUs in use while the figure was measured; medians of the rounds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub client_cpu: f64,
    pub server_cpu: Option<f64>,
    /// The CPUs used by all other processes, if the host's process is known. They affect a figure
    /// and its floor unequally, in either direction, so a ratio measured beside them does not
    /// count.
    pub others_cpu: Option<f64>,
}

/// The CPUs that other processes may use during a measurement.
const OTHERS_CPU_MAX: f64 = 0.2;

impl Usage {
    pub fn is_quiet(&self) -> bool {
        self.others_cpu
            .is_none_or(|others| others <= OTHERS_CPU_MAX)
    }

    /// The medians of several rounds.
    fn medians(rounds: &[Usage]) -> Usage {
        let of = |cpus: fn(&Usage) -> Option<f64>| {
            let known: Vec<_> = rounds.iter().filter_map(cpus).collect();
            (!known.is_empty()).then(|| median(&known))
        };
        Usage {
            client_cpu: of(|usage| Some(usage.client_cpu)).unwrap_or_default(),
            server_cpu: of(|usage| usage.server_cpu),
            others_cpu: of(|usage| usage.others_cpu),
        }
    }
}

/// A median with the smallest and the largest of its rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(values: &[f64]) -> Spread {
        Spread {
            median: median(values),
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

impl Measurement {
    pub fn new(name: impl Into<String>, unit: &'static str, rounds: Vec<f64>) -> Self {
        Measurement {
            name: name.into(),
            unit,
            rounds,
            floor: None,
            target: None,
            usage: Usage::default(),
            more: Map::new(),
        }
    }

    pub fn against(mut self, name: &'static str, rounds: &[f64]) -> Self {
        self.floor = (!rounds.is_empty()).then(|| (name, rounds.to_vec()));
        self
    }

    pub fn aims(mut self, goal: Goal) -> Self {
        self.target = Some(goal);
        self
    }

    pub fn used(mut self, usage: Usage) -> Self {
        self.usage = usage;
        self
    }

    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// Adds the median of a further figure, and its rounds.
    pub fn beside(self, name: &str, rounds: &[f64]) -> Self {
        match rounds {
            [] => self,
            _ => self
                .with(name, median(rounds))
                .with(&format!("{name}_rounds"), rounds),
        }
    }

    pub fn figure(&self) -> f64 {
        median(&self.rounds)
    }

    /// The ratio of each round to the floor's round before it.
    pub fn ratio(&self) -> Option<Spread> {
        let (_, floors) = self.floor.as_ref()?;
        let ratios = self.rounds.iter().zip(floors);
        let ratios: Vec<_> = ratios.map(|(figure, floor)| figure / floor).collect();
        Some(Spread::of(&ratios))
    }

    /// Whether the target is met, if there is one, and a floor if it is a ratio.
    pub fn is_met(&self) -> Option<bool> {
        Some(match self.target? {
            Goal::RatioAtLeast(goal) => self.ratio()?.median >= goal,
            Goal::RatioAtMost(goal) => self.ratio()?.median <= goal,
            Goal::AtLeast(goal) => self.figure() >= goal,
            Goal::AtMost(goal) => self.figure() <= goal,
        })
    }

    pub fn target_text(&self) -> String {
        let unit = self.unit;
        match self.target {
            None => String::new(),
            Some(Goal::RatioAtLeast(goal)) => format!("≥ {goal} × floor"),
            Some(Goal::RatioAtMost(goal)) => format!("≤ {goal} × floor"),
            Some(Goal::AtLeast(goal)) => format!("≥ {} {unit}", number(goal)),
            Some(Goal::AtMost(goal)) => format!("≤ {} {unit}", number(goal)),
        }
    }

    /// A line for people.
    pub fn text(&self) -> String {
        let Spread { median, min, max } = Spread::of(&self.rounds);
        let unit = self.unit;
        let mut text = format!(
            "{}: {} {unit} ({}–{})",
            self.name,
            number(median),
            number(min),
            number(max)
        );
        if let (Some((name, floors)), Some(ratio)) = (&self.floor, self.ratio()) {
            let Spread { median, min, max } = ratio;
            let floor = number(crate::measurement::median(floors));
            text += &format!("; {name}: {floor}, ratio {median:.2} ({min:.2}–{max:.2})");
        }
        if let Some(is_met) = self.is_met() {
            let met = if is_met { "met" } else { "not met" };
            text += &format!("; target {}: {met}", self.target_text());
        }
        for (name, value) in &self.more {
            let name = name.replace('_', " ");
            if let Some(value) = value.as_i64() {
                text += &format!("; {name} {value}");
            } else if let Some(value) = value.as_f64() {
                text += &format!("; {name} {}", number(value));
            }
        }
        text += &format!("; CPUs: this program {:.2}", self.usage.client_cpu);
        if let Some(server) = self.usage.server_cpu {
            text += &format!(", the host {server:.2}");
        }
        if let Some(others) = self.usage.others_cpu {
            text += &format!(", others {others:.2}");
        }
        if !self.usage.is_quiet() {
            text += " (the machine is not quiet; this figure does not count)";
        }
        text
    }

    pub fn json(&self) -> Value {
        let ratio = self.ratio();
        let mut json = json!({
            "name": self.name, "unit": self.unit, "figure": self.figure(), "rounds": self.rounds,
            "floor_name": self.floor.as_ref().map(|(name, _)| name),
            "floor": self.floor.as_ref().map(|(_, rounds)| median(rounds)),
            "floor_rounds": self.floor.as_ref().map(|(_, rounds)| rounds),
            "ratio": ratio.map(|ratio| ratio.median),
            "ratio_min": ratio.map(|ratio| ratio.min), "ratio_max": ratio.map(|ratio| ratio.max),
            "target": self.target.map(|_| self.target_text()), "is_met": self.is_met(),
            "client_cpu": self.usage.client_cpu, "server_cpu": self.usage.server_cpu,
            "others_cpu": self.usage.others_cpu, "is_quiet": self.usage.is_quiet(),
        });
        if let Some(object) = json.as_object_mut() {
            object.extend(self.more.clone());
        }
        json
    }
}

/// The results of the rounds.
pub struct Rounds<T> {
    pub figures: Vec<T>,
    pub floors: Vec<f64>,
    pub usage: Usage,
    /// The CPUs that the host's threads used in each round, by their names.
    threads: Vec<BTreeMap<String, Cpu>>,
}

/// The threads of the host that are one each, and so limit it on machines with many cores, and those
/// that write to sockets.
const THREADS: [&str; 3] = ["writer", "registry", "flusher"];

impl<T> Rounds<T> {
    /// One number of each round.
    pub fn each(&self, number: impl Fn(&T) -> f64) -> Vec<f64> {
        self.figures.iter().map(number).collect()
    }

    /// Adds the microseconds of CPU that some threads take for each of so many things a second: in
    /// the program itself, and in the system. Of the registry these are the handing out and the
    /// writing to sockets.
    pub fn with_threads(&self, measurement: Measurement, per_second: &[f64]) -> Measurement {
        let mut measurement = measurement;
        for name in THREADS {
            let each = |part: fn(&Cpu) -> f64| -> Vec<f64> {
                let cpus = self.threads.iter().map(|threads| {
                    let named = threads
                        .iter()
                        .filter(|(thread, _)| thread.starts_with(name));
                    named.map(|(_, cpu)| part(cpu)).sum::<f64>()
                });
                let each = cpus.zip(per_second).map(|(cpu, count)| 1e6 * cpu / count);
                each.collect()
            };
            let (user, system) = (each(|cpu| cpu.user), each(|cpu| cpu.system));
            if self
                .threads
                .iter()
                .any(|threads| threads.keys().any(|thread| thread.starts_with(name)))
            {
                measurement = measurement.beside(&format!("{name}_user_us"), &user);
                measurement = measurement.beside(&format!("{name}_system_us"), &system);
            }
        }
        measurement
    }
}

/// Runs the rounds, each after a round of the floor, so that both see the same machine. With
/// `--no-floor` there are no floors.
pub async fn interleave<T>(
    common: &Common,
    pid: Option<u32>,
    mut floor: impl AsyncFnMut(Duration) -> Result<f64>,
    mut figure: impl AsyncFnMut(Duration) -> Result<T>,
) -> Result<Rounds<T>> {
    ensure!(common.rounds > 0, "--rounds must be at least 1");
    let length = common.length()?;
    let (mut figures, mut floors) = (vec![], vec![]);
    let (mut usages, mut threads) = (Vec::new(), Vec::new());
    for _ in 0..common.rounds {
        if !common.no_floor {
            floors.push(floor(length).await?);
        }
        let meter = Meter::start(pid)?;
        figures.push(figure(length).await?);
        usages.push(meter.read()?);
        threads.push(meter.threads()?);
    }
    Ok(Rounds {
        figures,
        floors,
        usage: Usage::medians(&usages),
        threads,
    })
}

/// For scenarios without a floor.
pub async fn no_floor(_: Duration) -> Result<f64> {
    Ok(f64::NAN)
}

/// Measures CPU time from its start: of this program, the host and all others.
pub struct Meter {
    pid: Option<u32>,
    started: std::time::Instant,
    client: f64,
    server: Option<f64>,
    machine: f64,
    threads: BTreeMap<String, Cpu>,
}

impl Meter {
    pub fn start(pid: Option<u32>) -> Result<Self> {
        Ok(Meter {
            pid,
            started: std::time::Instant::now(),
            client: cpu_seconds(None)?,
            server: pid.map(|pid| cpu_seconds(Some(pid))).transpose()?,
            machine: machine_cpu_seconds()?,
            threads: pid.map(thread_seconds).transpose()?.unwrap_or_default(),
        })
    }

    pub fn read(&self) -> Result<Usage> {
        let elapsed = self.started.elapsed().as_secs_f64();
        let client = cpu_seconds(None)? - self.client;
        let server = self.pid.map(|pid| cpu_seconds(Some(pid))).transpose()?;
        let server = server.zip(self.server).map(|(now, then)| now - then);
        let machine = machine_cpu_seconds()? - self.machine;
        Ok(Usage {
            client_cpu: client / elapsed,
            server_cpu: server.map(|server| server / elapsed),
            // These clocks tick separately, so the difference can be negative.
            others_cpu: server.map(|server| ((machine - client - server) / elapsed).max(0.0)),
        })
    }

    /// The CPUs that the host's threads use, by their names.
    fn threads(&self) -> Result<BTreeMap<String, Cpu>> {
        let elapsed = self.started.elapsed().as_secs_f64();
        let mut threads = self
            .pid
            .map(thread_seconds)
            .transpose()?
            .unwrap_or_default();
        for (name, cpu) in &mut threads {
            let before = self.threads.get(name).copied().unwrap_or_default();
            cpu.user = (cpu.user - before.user) / elapsed;
            cpu.system = (cpu.system - before.system) / elapsed;
        }
        Ok(threads)
    }
}

/// Times of a round, in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Latency {
    pub fn of(mut times: Vec<Duration>) -> Latency {
        times.sort_unstable();
        let at = |share: f64| {
            let index = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
            times
                .get(index)
                .map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        Latency {
            p50: at(0.5),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// The number with three digits, or all digits before the point, with commas.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let digits = text.split('.').next().unwrap_or_default().len();
    let mut result = String::new();
    for (index, character) in text.chars().enumerate() {
        if index > 0 && index < digits && (digits - index) % 3 == 0 && !result.ends_with('-') {
            result.push(',');
        }
        result.push(character);
    }
    result
}
