//! What an operator can see of the process: counters, durations and sizes.
//!
//! They belong to the process and not to one `Server`, as usual with Prometheus. Names and units
//! follow its conventions.

use once_cell::sync::Lazy;
use prometheus::{
    Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, exponential_buckets,
    register_histogram, register_int_counter, register_int_counter_vec, register_int_gauge,
    register_int_gauge_vec,
};

use crate::limits::refusal::Refusal;

/// Label values that are known in advance: see `counters`.
const CLOSE_CODES: [&str; 13] = [
    "other", "1000", "1001", "1002", "1003", "1005", "1006", "1007", "1008", "1009", "1011",
    "1013", "4000",
];
const FAILURES: [&str; 5] = [
    "statement",
    "unavailable",
    "unknown",
    "answer_lost",
    "too_large",
];
const LOGIN_RESULTS: [&str; 5] = [
    "ok",
    "unauthorized",
    "rate_limited",
    "unavailable",
    "internal",
];
const REGISTRATION_RESULTS: [&str; 5] =
    ["ok", "conflict", "rate_limited", "unavailable", "internal"];

pub static METRICS: Lazy<Metrics> =
    Lazy::new(|| Metrics::register().expect("each name is registered once"));

/// Most are counted where something happens.
pub struct Metrics {
    pub http_connections: IntGauge,
    /// By route and status.
    pub http_requests: IntCounterVec,
    pub sockets: IntGauge,
    pub users: IntGauge,
    pub sockets_opened: IntCounter,
    /// By code.
    pub socket_closes: IntCounterVec,
    /// By type and result.
    events: IntCounterVec,
    /// The counters of `events` for the result ok, by type.
    events_ok: Vec<(&'static str, IntCounter)>,
    pub event_seconds: Histogram,
    pub commit_seconds: Histogram,
    pub commit_operations: Histogram,
    /// By reason.
    pub commit_failures: IntCounterVec,
    pub deliveries: IntCounter,
    pub drops: IntCounter,
    /// By result.
    pub logins: IntCounterVec,
    /// By result.
    pub registrations: IntCounterVec,
    pub password_seconds: Histogram,
    /// By reason.
    pub refusals: IntCounterVec,
    pub panics: IntCounter,
    pub catch_ups: IntCounter,
    /// By direction.
    pub bus_bytes: IntCounterVec,
    // These are set at each scrape.
    pub store_queue: IntGaugeVec,
    pub password_queue: IntGauge,
    /// Without labels. Absent without a bus.
    pub bus_connected: IntGaugeVec,
    pub database_bytes: IntGaugeVec,
}

impl Metrics {
    /// Counts an answered event of this type.
    pub fn count_event(&self, kind: &'static str, result: &str) {
        // Most results are ok: their counters are not looked up by label.
        let counter = self.events_ok.iter().find(|(of, _)| *of == kind);
        match counter {
            Some((_, counter)) if result == "ok" => counter.inc(),
            _ => self.events.with_label_values(&[kind, result]).inc(),
        }
    }

    fn register() -> prometheus::Result<Metrics> {
        // From a tenth of a millisecond to ten seconds.
        let seconds = || -> prometheus::Result<Vec<f64>> {
            let decades = [0.0001, 0.001, 0.01, 0.1, 1.0];
            let mut buckets: Vec<_> = decades.map(|d| [d, 2.5 * d, 5.0 * d]).concat();
            buckets.push(10.0);
            Ok(buckets)
        };
        register_int_gauge_vec!("chat_build_info", "Always 1.", &["version"])?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        let events = register_int_counter_vec!(
            "chat_events_total",
            "Events answered, by type (root: an unknown type) and result (ok, or the error's code).",
            &["type", "result"]
        )?;
        for kind in handler::EVENTS.iter().map(|event| event.kind) {
            events.with_label_values(&[kind, "internal"]);
        }
        let events_ok = handler::EVENTS
            .iter()
            .map(|event| (event.kind, events.with_label_values(&[event.kind, "ok"])));
        let events_ok = events_ok.collect();
        Ok(Metrics {
            http_connections: register_int_gauge!(
                "chat_http_connections",
                "HTTP connections, WebSocket handshakes included."
            )?,
            http_requests: register_int_counter_vec!(
                "chat_http_requests_total",
                "Requests answered, by route and status.",
                &["route", "status"]
            )?,
            sockets: register_int_gauge!("chat_sockets", "Open sockets.")?,
            users: register_int_gauge!("chat_users", "Users with an open socket on this host.")?,
            sockets_opened: register_int_counter!(
                "chat_sockets_opened_total",
                "Sockets opened for a user."
            )?,
            socket_closes: counters(
                "chat_socket_closes_total",
                "Sockets closed, by the code of the first close frame. 1005: a frame without a code; 1006: the \
                 connection ended without a frame; other: a code that the client chose.",
                "code",
                &CLOSE_CODES,
            )?,
            events,
            events_ok,
            event_seconds: register_histogram!(
                "chat_event_duration_seconds",
                "Time from an event's arrival to its reply, its commit included.",
                seconds()?
            )?,
            commit_seconds: register_histogram!(
                "chat_commit_duration_seconds",
                "Duration of a write transaction.",
                seconds()?
            )?,
            commit_operations: register_histogram!(
                "chat_commit_operations",
                "Operations in a write transaction.",
                exponential_buckets(1.0, 2.0, 9)?
            )?,
            commit_failures: counters(
                "chat_transaction_failures_total",
                "Transactions that failed, by reason.",
                "reason",
                &FAILURES,
            )?,
            deliveries: register_int_counter!(
                "chat_deliveries_total",
                "Pushes queued for a socket."
            )?,
            drops: register_int_counter!(
                "chat_drops_total",
                "Droppable pushes that were left out because their socket is slow."
            )?,
            logins: counters(
                "chat_logins_total",
                "Logins, by result (ok, or the error's code).",
                "result",
                &LOGIN_RESULTS,
            )?,
            registrations: counters(
                "chat_registrations_total",
                "Registrations, by result (ok, or the error's code).",
                "result",
                &REGISTRATION_RESULTS,
            )?,
            password_seconds: register_histogram!(
                "chat_password_duration_seconds",
                "Time to hash a password, without the wait for a thread.",
                seconds()?
            )?,
            refusals: counters(
                "chat_refusals_total",
                "Refusals for security or because of a limit, by reason.",
                "reason",
                &Refusal::ALL
                    .iter()
                    .map(|refusal| refusal.name())
                    .collect::<Vec<_>>(),
            )?,
            panics: register_int_counter!(
                "chat_panics_total",
                "Panics that were contained. Each is a bug in the program."
            )?,
            catch_ups: register_int_counter!(
                "chat_catch_ups_total",
                "Times that the clients were told to catch up, because the bus may have lost something."
            )?,
            bus_bytes: counters(
                "chat_bus_bytes_total",
                "Bytes in packets on the bus: heard from other hosts, and told to them.",
                "direction",
                &["heard", "told"],
            )?,
            store_queue: register_int_gauge_vec!(
                "chat_store_queue_length",
                "Operations that wait for the database.",
                &["queue"]
            )?,
            password_queue: register_int_gauge!(
                "chat_password_queue_length",
                "Logins and registrations that wait for a thread."
            )?,
            bus_connected: register_int_gauge_vec!(
                "chat_bus_connected",
                "1 if the bus is connected, 0 if not. Absent without a bus.",
                &[]
            )?,
            database_bytes: register_int_gauge_vec!(
                "chat_database_bytes",
                "Size of the data file, and of its write-ahead log.",
                &["file"]
            )?,
        })
    }
}

/// Creates a series for each of these values, because Prometheus sees no increase in a series that
/// begins at 1.
fn counters(
    name: &str,
    help: &str,
    label: &str,
    values: &[&str],
) -> prometheus::Result<IntCounterVec> {
    let counters = register_int_counter_vec!(name, help, &[label])?;
    for value in values {
        counters.with_label_values(&[value]);
    }
    Ok(counters)
}
