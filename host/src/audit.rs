//! Counts logins, registrations and refusals, and logs them, what users do with their accounts, and
//! what programs do with users, under the target `security`.

use std::net::IpAddr;

use handler::Error;
use handler::account::provision::UserChange;
use handler::account::register::USERNAME_CHARS_MAX;
use hyper::header::HeaderValue;

use crate::limits::account_guesses::Attempt;
use crate::limits::refusal::Refusal;
use crate::metrics::METRICS;

/// Of an origin in the log: the client chooses it.
const ORIGIN_CHARS_MAX: usize = 100;

/// Counts and logs a refusal. `username` is what the client claims.
pub fn refused(refusal: Refusal, address: IpAddr, username: Option<&str>) {
    let reason = refusal.name();
    METRICS.refusals.with_label_values(&[reason]).inc();
    let username = username.map(short_username);
    tracing::warn!(target: "security", reason, %address, username, "refused");
}

/// A page of this origin was refused: only those of `allowed` may use the server.
pub fn refused_origin(address: IpAddr, origin: &HeaderValue, allowed: &[HeaderValue]) {
    let reason = Refusal::Origin.name();
    METRICS.refusals.with_label_values(&[reason]).inc();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let allowed: Vec<_> = allowed.iter().map(text).collect();
    let allowed = match allowed.is_empty() {
        true => "no other origin".to_owned(),
        false => allowed.join(", "),
    };
    // As a string it is escaped, whatever is in it.
    let origin = &*text(origin);
    let origin = short(origin, ORIGIN_CHARS_MAX);
    tracing::warn!(target: "security", reason, %address, origin, "refused: CORS_ALLOW_ORIGIN allows {allowed}; add this origin if it is your front end");
}

/// The name that a request gives need not be a user's, and may be as long as the request.
fn short_username(username: &str) -> &str {
    short(username, USERNAME_CHARS_MAX)
}

/// The first so many characters.
pub fn short(text: &str, chars_max: usize) -> &str {
    let chars = text.char_indices();
    let end = chars.map(|(index, _)| index).nth(chars_max);
    &text[..end.unwrap_or(text.len())]
}

/// Counts and logs the outcome of a login or a registration, or the refusal of another attempt.
pub fn attempted<T>(
    attempt: Attempt,
    outcome: &Result<T, Error>,
    address: IpAddr,
    username: Option<&str>,
) {
    let result = outcome.as_ref().map_or_else(Error::code, |_| "ok");
    let counters = match attempt {
        Attempt::Login => Some(&METRICS.logins),
        Attempt::Registration | Attempt::FirstLogin => Some(&METRICS.registrations),
        Attempt::Session => None,
    };
    if let Some(counters) = counters {
        counters.with_label_values(&[result]).inc();
    }
    let refusal = attempt.refusal();
    if let Err(Error::RateLimited { .. }) = outcome {
        return refused(refusal, address, username);
    }
    let username = username.map(short_username);
    tracing::info!(target: "security", result, %address, username, "{}", refusal.name());
}

/// What a user does with the own logins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Refresh,
    Logout,
    EndSession,
    ChangePassword,
    Export,
    DeleteAccount,
}

impl Action {
    /// Its name in the log.
    fn name(self) -> &'static str {
        match self {
            Action::Refresh => "refresh",
            Action::Logout => "logout",
            Action::EndSession => "end of a session",
            Action::ChangePassword => "change of the password",
            Action::Export => "export of the account",
            Action::DeleteAccount => "deletion of the account",
        }
    }
}

/// Logs the outcome of an action of a logged-in user.
pub fn done<T>(action: Action, outcome: &Result<T, Error>, address: IpAddr, username: &str) {
    let result = outcome.as_ref().map_or_else(Error::code, |_| "ok");
    let username = short_username(username);
    tracing::info!(target: "security", result, %address, username, "{}", action.name());
}

/// Counts and logs that a request had no API key that lets it in. `program` is the name of a key that
/// may do other things.
pub fn refused_program(address: IpAddr, program: Option<&str>) {
    let reason = Refusal::Key.name();
    METRICS.refusals.with_label_values(&[reason]).inc();
    tracing::warn!(target: "security", reason, %address, program, "refused");
}

/// What a program of the operator does with a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Read,
    List,
    Create,
    Change,
    Password,
    Ban,
    Unban,
    Delete,
    /// It sends an event of this type for the user.
    Act(&'static str),
}

impl Deed {
    /// What a change does to a user who exists.
    pub fn of(change: &UserChange) -> Vec<Deed> {
        let UserChange {
            fullname,
            password,
            banned,
        } = change;
        let deeds = [
            fullname.as_ref().map(|_| Deed::Change),
            password.as_ref().map(|_| Deed::Password),
            banned.map(|banned| if banned { Deed::Ban } else { Deed::Unban }),
        ];
        deeds.into_iter().flatten().collect()
    }

    /// Its name in the log.
    fn name(self) -> &'static str {
        match self {
            Deed::Read => "reading of a user",
            Deed::List => "list of users",
            Deed::Create => "creation of a user",
            Deed::Change => "change of a user",
            Deed::Password => "new password of a user",
            Deed::Ban => "ban of a user",
            Deed::Unban => "end of a ban",
            Deed::Delete => "deletion of a user",
            Deed::Act(_) => "event for a user",
        }
    }
}

/// What a program asks for. It is logged when this is dropped: if the client has gone before the answer,
/// which may be too late to undo it, with the result `unknown`.
pub struct Provisioning {
    pub deeds: Vec<Deed>,
    address: IpAddr,
    program: String,
    /// As the program says; nobody may have it.
    username: Option<String>,
    result: &'static str,
}

impl Provisioning {
    pub fn begin(deed: Deed, address: IpAddr, program: &str, username: Option<String>) -> Self {
        Provisioning {
            deeds: vec![deed],
            address,
            program: program.to_owned(),
            username,
            result: "unknown",
        }
    }

    /// `result` is `ok`, or the code of an error.
    pub fn end(mut self, result: &'static str) {
        self.result = result;
    }
}

impl Drop for Provisioning {
    fn drop(&mut self) {
        let (result, address, program) = (self.result, self.address, &*self.program);
        let username = self.username.as_deref().map(short_username);
        for deed in &self.deeds {
            let event = match deed {
                Deed::Act(kind) => Some(kind),
                _ => None,
            };
            tracing::info!(target: "security", result, %address, program, username, event, "{}", deed.name());
        }
    }
}
