//! The load program: each scenario runs, finds no error, and prints its measurement. These tests do
//! not judge speed.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tests::host::{Log, SECRET};
use tests::{Data, Process, TlsProxy, soon};
use tokio::process::Command;

/// Runs the program; returns whether it succeeded, its last line, and standard error.
async fn run(arguments: &str) -> (bool, String, String) {
    run_with(arguments, "").await
}

/// Runs the program with a secret in the environment, unless the secret is empty.
async fn run_with(arguments: &str, secret: &str) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(arguments.split_whitespace())
        .env_remove("JWTSECRET")
        .envs((!secret.is_empty()).then_some(("JWTSECRET", secret)))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = soon("the end of the load program", output)
        .await
        .expect("the load program starts");
    let text = String::from_utf8(output.stdout).expect("text");
    let last = text.lines().last().unwrap_or_default().to_owned();
    let errors = String::from_utf8(output.stderr).expect("text");
    (output.status.success(), last, errors)
}

/// Runs a scenario; returns its last figure.
async fn figure(arguments: &str) -> Value {
    let (is_success, last, errors) = run(arguments).await;
    assert!(is_success, "load {arguments}: {errors}");
    let json: Value = serde_json::from_str(&last).unwrap_or_else(|_| panic!("no JSON: {last}"));
    for field in ["name", "figure", "unit", "rounds", "floor", "floor_rounds"] {
        assert!(
            json.get(field).is_some(),
            "load {arguments}: no {field} in {last}"
        );
    }
    for field in ["ratio", "client_cpu", "server_cpu"] {
        assert!(
            json.get(field).is_some(),
            "load {arguments}: no {field} in {last}"
        );
    }
    let rounds = json["rounds"].as_array().expect("a list");
    assert!(!rounds.is_empty(), "load {arguments}: {last}");
    let figure = json["figure"].as_f64().expect("a number");
    assert!(figure >= 0.0, "load {arguments}: {last}");
    if json["floor"].is_number() {
        assert!(
            json["ratio"].as_f64().expect("a ratio") > 0.0,
            "load {arguments}: {last}"
        );
    }
    json
}

macro_rules! scenarios {
    ($($name:ident: $arguments:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            figure($arguments).await;
        }
    )*};
}

scenarios! {
    sends: "sends --pairs 3 --seconds 0.2 --rounds 1";
    sends_without_a_floor: "sends --pairs 3 --no-floor --seconds 0.2 --rounds 1";
    sends_that_overlap: "sends --pairs 3 --in-flight 8 --seconds 0.2 --rounds 2";
    sends_one_by_one: "sends --pairs 3 --in-flight 8 --one-by-one --seconds 0.2 --rounds 1";
    latency: "latency --pairs 3 --rate 200 --seconds 0.2 --rounds 1";
    latency_during_logins: "latency --pairs 3 --rate 200 --logins 2 --seconds 0.2 --rounds 1";
    fan_out: "fan-out --groups 2 --members 5 --seconds 0.2 --rounds 1";
    fan_out_in_bursts: "fan-out --groups 1 --members 300 --burst 4 --seconds 0.2 --rounds 1";
    fan_out_of_several_threads: "fan-out --groups 1 --members 300 --flushers 3 --seconds 0.2 --rounds 1";
    pings: "pings --sockets 3 --in-flight 4 --seconds 0.2 --rounds 1";
    history: "history --sockets 3 --messages 20 --seconds 0.2 --rounds 1";
    connects: "connects --concurrent 4 --users 20 --seconds 0.2 --rounds 1";
    first_connects: "first-connects --users 30 --concurrent 4 --rounds 2";
    idle: "idle --sockets 25 --members 10 --pings 2 --settle-seconds 0.1";
    logins: "logins --concurrent 2 --seconds 0.2 --rounds 1";
    mix: "mix --groups 2 --members 3 --rate 300 --seconds 0.3 --rounds 1";
    start: "start --messages 1000 --rounds 1";
    export: "export --messages 1000 --rounds 1";
    growth: "growth --small 100 --large 1000 --rounds 2";
    search: "search --messages 6000 --searches 20 --rounds 1";
    hearing: "hearing --hosts 2,3 --pairs 4 --rate 100 --seconds 0.3 --rounds 1";
    indexing: "indexing --pairs 3 --messages 2000 --seconds 0.2 --rounds 1";
}

#[tokio::test]
async fn a_running_host() {
    let data = Data::create();
    let host = data.start().await;
    let url = format!("--url http://{} --server-pid {}", host.address, host.id());
    let options = "--seconds 0.2 --rounds 1";
    let sends = figure(&format!("sends --pairs 2 {options} {url}")).await;
    assert!(sends["server_cpu"].is_number(), "{sends}");
    // Again on the same file, without logins.
    let again = format!("sends --pairs 2 {options} {url}");
    let (is_success, _, errors) = run_with(&again, SECRET).await;
    assert!(is_success, "{errors}");
    let (is_success, _, errors) = run_with(&again, "another").await;
    let expected = "invalid login-token";
    assert!(!is_success && errors.contains(expected), "{errors}");
    figure(&format!("history --sockets 2 --messages 5 {options} {url}")).await;
}

#[tokio::test]
async fn a_host_behind_tls() {
    let data = Data::create();
    let host = data.start().await;
    let proxy = TlsProxy::start(host.address).await;
    let url = format!("--url https://localhost:{}", proxy.address.port());
    let (is_success, _, errors) = run(&format!("sends --pairs 1 {url}")).await;
    assert!(!is_success && errors.contains("--ca names"), "{errors}");
    let authority = proxy.authority();
    let options = format!(
        "--ca {} --seconds 0.2 --rounds 1 {url}",
        authority.display()
    );
    figure(&format!("sends --pairs 2 --in-flight 8 {options}")).await;
    // Frames of many TLS records.
    figure(&format!("sends --pairs 1 --bytes 60000 {options}")).await;
    figure(&format!(
        "fan-out --groups 2 --members 5 --burst 4 {options}"
    ))
    .await;
    figure(&format!("history --sockets 2 --messages 50 {options}")).await;
    let idle = "idle --sockets 20 --members 10 --pings 2 --settle-seconds 0.1";
    // A host that has served other sockets may use less memory afterwards, so the figure can be
    // anything.
    let (is_success, _, errors) =
        run(&format!("{idle} {options} --server-pid {}", host.id())).await;
    assert!(is_success, "{errors}");
    figure(&format!("connects --concurrent 4 --users 20 {options}")).await;
}

#[tokio::test]
async fn a_host_that_refuses() {
    let data = Data::create();
    let file = data.file();
    let variables = [
        ("DBPATH", file.as_os_str()),
        ("EVENTS_PER_SECOND", "2".as_ref()),
    ];
    let host = Process::start_with(&variables, Log::Test).await;
    let sends = format!("sends --pairs 1 --rounds 1 --url http://{}", host.address);
    let (is_success, _, errors) = run(&sends).await;
    assert!(!is_success && errors.contains("rate_limited"), "{errors}");
}

#[tokio::test]
async fn what_cannot_be_is_said() {
    for (arguments, expected) in [
        ("sends --url ftp://localhost:1", "expected http://HOST:PORT"),
        ("sends --url localhost:1", "expected http://HOST:PORT"),
        (
            "sends --url https://localhost:1 --ca /none.pem",
            "--ca /none",
        ),
        ("sends --pairs 0", "at least 1"),
        ("sends --rounds 0 --pairs 1", "at least 1"),
        ("idle --sockets 100000000", "limit of open files"),
        ("report --only nothing", "no such scenario"),
    ] {
        let (is_success, _, errors) = run(arguments).await;
        assert!(
            !is_success && errors.contains(expected),
            "load {arguments}: {errors}"
        );
    }
}

#[tokio::test]
async fn a_report() {
    let data = Data::create();
    let (json, svg) = (data.beside("report.json"), data.beside("report.svg"));
    let (is_success, last, errors) = run(&format!(
        "report --only pings,history --seconds 0.2 --rounds 1 --json {} --svg {}",
        json.display(),
        svg.display()
    ))
    .await;
    assert!(is_success, "{errors}");
    let last: Value = serde_json::from_str(&last).expect("JSON");
    assert_eq!(last["targets"], 2);
    let report = std::fs::read_to_string(json).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let measurement = &report["lines"][0]["measurements"][0];
    assert_eq!(measurement["name"], "pings, 50 sockets, 10 in flight");
    let svg = std::fs::read_to_string(svg).expect("a drawing");
    assert!(
        svg.contains("pings, 50 sockets") && svg.ends_with("</svg>\n"),
        "{svg}"
    );
}

#[tokio::test]
async fn plots() {
    let data = Data::create();
    let (json, drawn, again) = (
        data.beside("plots.json"),
        data.beside("drawn"),
        data.beside("again"),
    );
    let last = figure(&format!(
        "plots --pairs 3 --rates 100 --members 3,300 --seconds 0.1 --rounds 2 --json {} --svg {}",
        json.display(),
        drawn.display()
    ))
    .await;
    assert_eq!(last["name"], "fan-out, 1 × 300, in bursts of 32");
    let redraw = |from: &Path| {
        let (from, again) = (from.display(), again.display());
        format!("plots --from {from} --svg {again}")
    };
    let (is_success, _, errors) = run(&redraw(&json)).await;
    assert!(is_success, "{errors}");
    for (name, curves, points) in [("throughput", 3, 1), ("latency", 4, 1), ("fan-out", 2, 2)] {
        let file = format!("{name}.svg");
        let svg = std::fs::read_to_string(drawn.join(&file)).expect("a drawing");
        let drawn_again = std::fs::read_to_string(again.join(&file)).expect("a drawing");
        assert_eq!(svg, drawn_again);
        let elements = elements(&drawn.join(&file)).await;
        let count = |name| elements.iter().filter(|element| *element == name).count();
        assert_eq!(count("polyline"), curves, "{svg}");
        assert_eq!(count("circle"), points * curves, "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
    let figures = std::fs::read_to_string(&json).expect("figures");
    let damaged = data.beside("damaged.json");
    let rounds = "\"rounds\":[";
    std::fs::write(&damaged, figures.replace(rounds, &format!("{rounds}0,"))).expect("written");
    let (is_success, _, errors) = run(&redraw(&damaged)).await;
    assert!(
        !is_success && errors.contains("not all numbers are more than 0"),
        "{errors}"
    );
}

/// The names of all elements of a drawing, which must be well-formed.
async fn elements(svg: &Path) -> Vec<String> {
    let parser = "import sys, xml.etree.ElementTree as xml\n\
                  for element in xml.parse(sys.argv[1]).iter(): print(element.tag.split('}')[1])";
    let output = Command::new("python3")
        .args(["-c", parser])
        .arg(svg)
        .output();
    let output = output.await.expect("python3 starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", svg.display());
    let names = String::from_utf8(output.stdout).expect("text");
    names.lines().map(str::to_owned).collect()
}
