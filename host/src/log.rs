//! The log, on standard error.

use std::io::{IsTerminal, stderr};

use anyhow::Context;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};
use crate::metrics::METRICS;

/// Lines that may wait for the reader of standard error. The log leaves out any more.
const LINES_QUEUED_MAX: usize = 10_000;

/// Starts to log, as LOG_LEVEL and LOG_FORMAT say, panics too. Dropping the guard writes the lines that still wait.
pub fn init(config: &Config) -> anyhow::Result<WorkerGuard> {
    let filter = EnvFilter::try_new(&config.log_level).context("LOG_LEVEL")?;
    // A separate thread writes: a reader that stalls must not stop the server.
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_QUEUED_MAX)
        .finish(stderr());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A log that cannot be written (a full disk, a pipe nobody reads) must not stop the server.
        .log_internal_errors(false)
        .with_ansi(stderr().is_terminal())
        .with_writer(writer);
    match config.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => {
            let log = log.json().flatten_event(true).with_span_list(false);
            log.init();
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
    Ok(guard)
}
