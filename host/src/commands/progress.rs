//! The progress of a command that takes long, on standard error.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// Time between two updates of the line on a terminal.
const INTERVAL: Duration = Duration::from_millis(100);

/// Shows progress: on a terminal in a line that changes, elsewhere in one line at the end.
pub struct Progress {
    what: String,
    /// What is counted: "rows".
    unit: &'static str,
    count: i64,
    /// The total, if it is known.
    all: Option<i64>,
    shown_at: Option<Instant>,
}

impl Progress {
    pub fn new(what: String, unit: &'static str, count: i64, all: Option<i64>) -> Self {
        Progress {
            what,
            unit,
            count,
            all,
            shown_at: None,
        }
    }

    pub fn add(&mut self, count: usize) {
        self.count += count as i64;
        let is_due = self.shown_at.is_none_or(|at| at.elapsed() >= INTERVAL);
        if is_due && stderr().is_terminal() {
            self.shown_at = Some(Instant::now());
            self.show("");
        }
    }

    /// Shows the final number.
    pub fn end(&self) {
        self.show("\n");
    }

    /// Removes the line, because the result is shown elsewhere.
    pub fn clear(&self) {
        if stderr().is_terminal() {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }

    fn show(&self, end: &str) {
        let Progress {
            what, unit, count, ..
        } = self;
        let start = if stderr().is_terminal() {
            "\r\x1b[K"
        } else {
            ""
        };
        let part = match self.all {
            Some(all) if all > 0 => format!(" of {all}, {}%", count * 100 / all),
            _ => String::new(),
        };
        // If nobody can read the progress, nobody needs it.
        let _ = write!(stderr(), "{start}{what}: {count} {unit}{part}{end}");
    }
}
