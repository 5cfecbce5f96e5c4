//! The log, on standard error: what goes into it, and how much.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::io::{IsTerminal, stderr};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::writer::MakeWriterExt;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{Config, LogFormat};
use crate::limits::rates::{Quota, Rate};
use crate::metrics::METRICS;

/// Lines that may wait for the reader of standard error, and as many about security. The log leaves
/// out any more. The queues take 40 bytes for each from the start.
const LINES_QUEUED_MAX: usize = 2_000;
/// Lines of one kind, per second, and at once after a pause. The log counts those that it leaves
/// out. Lines of the levels DEBUG and TRACE have no such limit: who sets these wants all of them.
const LINES_PER_SECOND: u32 = 10;
const LINES_AT_ONCE: u32 = 100;
/// How often the log says what it has left out.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The target of lines about security.
const SECURITY: &str = "security";
/// The targets of this program. At DEBUG and TRACE the libraries log whole messages and password
/// hashes: libsql its requests, async_nats its packets.
const OWN_TARGETS: [&str; 3] = ["host", "handler", SECURITY];

/// Writes the lines that still wait when it is dropped.
pub struct Log {
    /// Ends the reporter when it is dropped.
    reports: Option<SyncSender<()>>,
    reporter: Option<JoinHandle<()>>,
    _writers: [WorkerGuard; 2],
}

impl Drop for Log {
    fn drop(&mut self) {
        self.reports = None;
        if let Some(reporter) = self.reporter.take() {
            let _ = reporter.join();
        }
    }
}

/// Starts to log, as LOG_LEVEL and LOG_FORMAT say, panics too.
pub fn init(config: &Config) -> anyhow::Result<Log> {
    let filter = EnvFilter::try_new(&config.log_level).context("LOG_LEVEL")?;
    // Separate threads write: a reader that stalls must not stop the server. A flood of other lines
    // must not push out those about security.
    let queue = || {
        let queue = NonBlockingBuilder::default().buffered_lines_limit(LINES_QUEUED_MAX);
        queue.finish(stderr())
    };
    let ((security, security_guard), (others, others_guard)) = (queue(), queue());
    let dropped = [security.error_counter(), others.error_counter()];
    let is_security = |metadata: &Metadata| metadata.target() == SECURITY;
    let writer = security.with_filter(is_security).or_else(others);
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A log that cannot be written (a full disk, a pipe nobody reads) must not stop the server.
        .log_internal_errors(false)
        .with_ansi(stderr().is_terminal())
        .with_writer(writer);
    let bound = Bound::default();
    match config.log_format {
        LogFormat::Text => log.finish().with(bound.clone()).init(),
        LogFormat::Json => {
            let log = log.json().flatten_event(true).with_span_list(false);
            log.finish().with(bound.clone()).init();
        }
    }
    std::panic::set_hook(Box::new(|panic| {
        METRICS.panics.inc();
        // A message that was formatted may contain what users have written.
        let message = panic.payload().downcast_ref::<&str>().copied();
        let message = message.unwrap_or("(not shown)");
        let location = panic.location().map(ToString::to_string);
        tracing::error!(why = message, location, "panic");
    }));
    let (reports, ended) = sync_channel(0);
    let reporter = thread::Builder::new().name("log".into());
    let reporter = reporter.spawn(move || {
        let mut known = 0;
        loop {
            let is_last =
                ended.recv_timeout(REPORT_INTERVAL) == Err(RecvTimeoutError::Disconnected);
            report(&bound, &dropped, &mut known);
            if is_last {
                return;
            }
        }
    })?;
    Ok(Log {
        reports: Some(reports),
        reporter: Some(reporter),
        _writers: [security_guard, others_guard],
    })
}

/// Says what has been left out since the last report. `known` is how many lines had not found room
/// in a queue then.
fn report(bound: &Bound, dropped: &[ErrorCounter; 2], known: &mut usize) {
    for (kind, left_out) in bound.take_left_out() {
        tracing::warn!(kind, left_out, "lines were left out");
    }
    let now: usize = dropped.iter().map(ErrorCounter::dropped_lines).sum();
    if now > *known {
        let left_out = now - *known;
        tracing::warn!(
            left_out,
            "lines were left out: the log is not read fast enough"
        );
        *known = now;
    }
}

/// Keeps repeated lines, and what the libraries know of users, out of the log.
#[derive(Clone, Default)]
struct Bound(Arc<Mutex<HashMap<(Identifier, String), Kind>>>);

/// The lines of one place in the code; of those about security, only those with the same message and
/// the same result or reason, so that thousands of failures do not hide a success, and thousands of
/// events of a program do not hide a ban.
struct Kind {
    /// The message of its first line, about security with the result or the reason.
    name: String,
    rate: Rate,
    left_out: u64,
}

impl Bound {
    /// The names of the kinds of which lines were left out since the last call, and how many.
    fn take_left_out(&self) -> Vec<(String, u64)> {
        let mut kinds = self.kinds();
        let kinds = kinds.values_mut().filter(|kind| kind.left_out > 0);
        let taken = kinds.map(|kind| (kind.name.clone(), std::mem::take(&mut kind.left_out)));
        taken.collect()
    }

    fn kinds(&self) -> MutexGuard<'_, HashMap<(Identifier, String), Kind>> {
        // A panic under this lock can have damaged no more than a count.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Bound {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let crate_name = metadata.target().split("::").next();
        let is_own = crate_name.is_some_and(|name| OWN_TARGETS.contains(&name));
        is_own || *metadata.level() <= Level::INFO
    }

    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO {
            return true;
        }
        let text = |fields| {
            let mut text = Text::of(fields);
            event.record(&mut text);
            text.text
        };
        let label = match metadata.target() {
            SECURITY => format!("{} {}", text(&["message"]), text(&["result", "reason"])),
            _ => String::new(),
        };
        let mut kinds = self.kinds();
        let kind = kinds
            .entry((metadata.callsite(), label))
            .or_insert_with_key(|(_, label)| {
                let name = match label.as_str() {
                    "" => text(&["message"]),
                    label => label.trim().to_owned(),
                };
                Kind {
                    name,
                    rate: Rate::new(Quota::per_second(LINES_PER_SECOND, LINES_AT_ONCE)),
                    left_out: 0,
                }
            });
        let has_room = kind.rate.check().is_ok();
        kind.left_out += u64::from(!has_room);
        has_room
    }
}

/// The values of some fields of an event.
struct Text {
    fields: &'static [&'static str],
    text: String,
}

impl Text {
    fn of(fields: &'static [&'static str]) -> Self {
        let text = String::new();
        Text { fields, text }
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        if self.fields.contains(&field.name()) {
            self.text.push_str(value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.fields.contains(&field.name()) {
            // Writing to a string cannot fail.
            let _ = write!(self.text, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::subscriber::with_default;
    use tracing_subscriber::registry;

    use super::*;

    /// Counts the lines that get through.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Lines {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut text = Text::of(&["message", "result"]);
            event.record(&mut text);
            self.0.lock().expect("no panic").push(text.text);
        }
    }

    #[test]
    fn each_kind_of_line_has_its_own_bound_and_what_is_left_out_is_counted() {
        let (bound, lines) = (Bound::default(), Lines::default());
        with_default(registry().with(lines.clone()).with(bound.clone()), || {
            for count in 0..10_000 {
                let result = if count == 9_999 { "ok" } else { "unauthorized" };
                tracing::info!(target: "security", result, "login");
                let deed = if count == 9_999 { "ban" } else { "event" };
                tracing::info!(target: "security", result = "ok", "{deed}");
                tracing::error!("the disk");
                tracing::debug!("a detail");
            }
        });
        let lines = lines.0.lock().expect("no panic");
        let count = |text: &str| lines.iter().filter(|line| line.starts_with(text)).count();
        let left_out: HashMap<_, _> = bound.take_left_out().into_iter().collect();
        let all = |text: &str, name: &str| count(text) as u64 + left_out[name];
        assert_eq!(count("oklogin") + count("loginok"), 1, "{lines:?}");
        assert_eq!(
            all("unauthorizedlogin", "login unauthorized") + count("loginunauthorized") as u64,
            9_999
        );
        assert_eq!(count("okban") + count("banok"), 1, "{lines:?}");
        assert_eq!(all("the disk", "the disk"), 10_000);
        assert_eq!(count("a detail"), 10_000);
        // More would need minutes.
        assert!(count("the disk") < 5_000, "{}", count("the disk"));
        assert!(bound.take_left_out().is_empty());
    }

    #[test]
    fn libraries_tell_no_details() {
        let lines = Lines::default();
        with_default(
            registry().with(lines.clone()).with(Bound::default()),
            || {
                tracing::trace!(target: "libsql::hrana", "insert into messages");
                tracing::debug!(target: "async_nats", "a packet");
                tracing::debug!(target: "hostile", "a packet");
                tracing::info!(target: "async_nats", "connected");
                tracing::trace!(target: "host::store", "a commit");
            },
        );
        assert_eq!(
            *lines.0.lock().expect("no panic"),
            ["connected", "a commit"]
        );
    }
}
