//! The alerts and the dashboard of `deploy/` are valid for Prometheus, and name only metrics that
//! the program exports.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::host::{Log, register, request};
use tests::servers::{free_address, installed, shared_sqld};
use tests::{Gateway, Process};

/// The names of series, each with its labels and their values.
type Exported = BTreeMap<String, BTreeSet<(String, String)>>;

/// Labels that Prometheus adds.
const SCRAPED: [&str; 2] = ["instance", "job"];

#[tokio::test]
async fn alerts_and_dashboard_name_what_is_exported() {
    let mut exported = Exported::new();
    for text in [metrics_of_a_file().await, metrics_without_the_bus().await] {
        promtool(&["check", "metrics"], &text);
        read_series(&text, &mut exported);
    }
    let labels: BTreeSet<_> = exported
        .values()
        .flatten()
        .map(|(name, _)| &**name)
        .collect();
    for file in ["alerts.yaml", "grafana.json"] {
        let text = std::fs::read_to_string(deploy(file)).expect("a file");
        let text = text.replace(r#"\""#, "\"");
        for (name, matchers) in uses(&text) {
            let Some(known) = exported.get(name) else {
                panic!("{file}: {name} is not exported");
            };
            for (label, value) in matchers {
                assert!(
                    SCRAPED.contains(&label) || known.contains(&(label.into(), value.into())),
                    "{file}: {name} has no {label}={value}"
                );
            }
        }
        for by in text.split(" by (").skip(1) {
            let by = by.split(')').next().unwrap_or_default();
            for label in by.split(", ") {
                let is_known = SCRAPED.contains(&label) || labels.contains(label);
                assert!(is_known, "{file}: by ({by})");
            }
        }
    }
}

#[test]
fn prometheus_takes_alerts_and_dashboard() {
    let file = |name| deploy(name).into_os_string().into_string().expect("text");
    promtool(&["check", "rules", &file("alerts.yaml")], "");
    promtool(&["test", "rules", &file("alerts.test.yaml")], "");

    let dashboard = std::fs::read_to_string(deploy("grafana.json")).expect("a file");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    let expressions = targets.flatten().map(|target| target["expr"].as_str());
    let rules = expressions.enumerate().map(|(index, expression)| {
        let expression = expression.expect("text").replace("$__rate_interval", "5m");
        json!({ "record": format!("dashboard:{index}"), "expr": expression })
    });
    let rules: Vec<_> = rules.collect();
    assert!(rules.len() > 30, "{rules:?}");
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("rules.yaml");
    let rules = json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    std::fs::write(&path, rules.to_string()).expect("written");
    promtool(&["check", "rules", path.to_str().expect("text")], "");
}

async fn metrics_of_a_file() -> String {
    let folder = TempDir::new().expect("a folder");
    let database = folder.path().join("chat.db");
    let metrics = free_address().to_string();
    let variables = [
        ("DBPATH", database.as_os_str()),
        ("METRICS_ADDR", OsStr::new(&metrics)),
    ];
    let process = Process::start_with(&variables, Log::Test).await;
    register(process.address, "alice").await;
    let _alice = process.connect("alice").await;
    scrape(&metrics).await
}

/// The metrics of one of several hosts, which is not ready.
async fn metrics_without_the_bus() -> String {
    let database = Gateway::start(shared_sqld().await).await.url();
    let (metrics, bus) = (free_address().to_string(), free_address());
    let bus = format!("nats://{bus}");
    let variables = [
        ("DBPATH", &database),
        ("NATS_URL", &bus),
        ("METRICS_ADDR", &metrics),
    ];
    let variables = variables.map(|(name, value)| (name, OsStr::new(value)));
    let process = Process::start_with(&variables, Log::Test).await;
    let answer = request(process.address, "GET", "/readyz", &[], "").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    scrape(&metrics).await
}

async fn scrape(address: &str) -> String {
    let address = address.parse().expect("an address");
    let answer = request(address, "GET", "/metrics", &[], "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

fn read_series(text: &str, exported: &mut Exported) {
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels) = series(line);
        let known = exported.entry(name.into()).or_default();
        known.extend(labels.map(|(label, value)| (label.into(), value.into())));
    }
}

/// The series that the text of one or more expressions uses: names, with the labels they select.
/// All names begin with `chat_` or `process_`.
fn uses(text: &str) -> impl Iterator<Item = (&str, impl Iterator<Item = (&str, &str)>)> {
    let starts = text
        .match_indices("chat_")
        .chain(text.match_indices("process_"));
    starts.map(|(start, _)| series(&text[start..]))
}

/// `name{label="value", label=~"value|value"}`, or `name` alone.
fn series(text: &str) -> (&str, impl Iterator<Item = (&str, &str)>) {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (name, rest) = text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len()));
    let labels = rest
        .strip_prefix('{')
        .and_then(|rest| rest.split('}').next());
    let labels = labels.into_iter().flat_map(|labels| labels.split(','));
    let labels = labels.filter_map(|label| label.trim().split_once('='));
    let labels = labels.flat_map(|(label, values)| {
        let values = values.trim_start_matches('~').trim_matches('"').split('|');
        values.map(move |value| (label, value))
    });
    (name, labels)
}

fn deploy(file: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.join("../deploy").join(file)
}

/// Runs a check of Prometheus's own tool.
fn promtool(arguments: &[&str], input: &str) {
    let mut child = Command::new(installed("promtool"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
}
