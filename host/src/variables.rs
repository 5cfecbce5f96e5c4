//! The environment variables of the program: one table of their names, their defaults, and what `--help` says of them.

use std::fmt::Write;

use strsim::osa_distance;

/// The seed's JWTSECRET, which everyone knows.
pub const DEMO_JWT_SECRET: &str = "this is a demo jwt secret";

struct Variable {
    name: &'static str,
    /// What holds if it is not set.
    default: &'static str,
    /// Its text may also come from a file, which the variable with `_FILE` after its name names.
    is_secret: bool,
    help: &'static str,
}

type Group = (&'static str, &'static [Variable]);

const fn plain(name: &'static str, default: &'static str, help: &'static str) -> Variable {
    Variable {
        name,
        default,
        is_secret: false,
        help,
    }
}

const fn secret(name: &'static str, default: &'static str, help: &'static str) -> Variable {
    Variable {
        name,
        default,
        is_secret: true,
        help,
    }
}

// A row is a line.
#[rustfmt::skip]
const GROUPS: [Group; 6] = [
    ("Data", &[
        plain("DBPATH", ".data/chatapp.db", "the data file, or the URL of a libSQL server"),
        secret("DB_AUTH_TOKEN", "", "the token for that server"),
        secret("FROM_DB_AUTH_TOKEN", "", "for `chatapp copy` between two servers: the token for FROM"),
        plain("SEARCH", "on", "on or off: whether the words of messages are indexed for the search"),
    ]),
    ("Network", &[
        plain("HOST", "127.0.0.1", "the address to listen on; 0.0.0.0 or :: for all"),
        plain("PORT", "8000", "the port to listen on; 0 lets the system choose one"),
        plain("TRUSTED_PROXIES", "127.0.0.0/8,::1", "proxies whose X-Forwarded-For is believed"),
    ]),
    ("Logins and pages", &[
        secret("JWTSECRET", DEMO_JWT_SECRET, "signs login tokens; its default is public"),
        plain("SESSION_DAYS", "30", "days that a login lasts with `remember: true`"),
        plain("PASSWORD_CHARS_MIN", "1", "characters of a new password; from 8 on, common ones are refused"),
        secret("API_KEY", "", "for `chatapp user --server`: a key with the scope users"),
        plain("REGISTRATION", "open", "open or closed: whether people may register"),
        plain("UNKNOWN_USERS", "refuse", "refuse or create: users of tokens that your program signs"),
        plain("AUTH_ISSUERS", "", "OpenID Connect issuers whose tokens log users in"),
        plain("AUTH_AUDIENCE", "", "the client ids that these tokens have to be for"),
        plain("AUTH_USERNAME_CLAIM", "preferred_username", "the claim with a new user's name"),
        plain("CORS_ALLOW_ORIGIN", "http://localhost:5173", "origins whose pages may use the server"),
        plain("COOKIE_SAMESITE", "lax", "SameSite of the login cookie: lax, strict or none"),
        plain("WEB", "on", "the page to chat in at /: on or off"),
    ]),
    ("Limits (0 is no limit; SOCKETS_MAX is 1 or more)", &[
        plain("SOCKETS_MAX", "50000", "open sockets in all"),
        plain("SOCKETS_PER_USER", "100", "open sockets of one user"),
        plain("SOCKETS_PER_ADDRESS", "5000", "open sockets from one address"),
        plain("EVENTS_PER_SECOND", "50", "events of one socket"),
        plain("LOGINS_PER_MINUTE", "300", "logins from one address"),
        plain("REGISTRATIONS_PER_HOUR", "300", "registrations from one address"),
    ]),
    ("Several hosts", &[
        secret("NATS_URL", "", "NATS servers that join hosts over one libSQL server"),
        plain("NATS_CREDS", "", "a NATS credentials file, in place of a password"),
        plain("LEASE_SECONDS", "30", "a host that is silent for so long counts as dead"),
    ]),
    ("Log and metrics", &[
        plain("LOG_LEVEL", "info", "off, error, warn, info, debug, trace; by target: warn,host=debug"),
        plain("LOG_FORMAT", "text", "text or json"),
        plain("METRICS_ADDR", "", "the address and port of GET /metrics, such as 127.0.0.1:9464"),
    ]),
];

/// Width of the column of names in `--help`.
const NAME_WIDTH: usize = "FROM_DB_AUTH_TOKEN_FILE".len();

fn all() -> impl Iterator<Item = &'static Variable> {
    GROUPS.iter().flat_map(|(_, variables)| *variables)
}

/// The variable that names a file with the text of this one.
pub fn file_of(name: &str) -> String {
    format!("{name}_FILE")
}

/// Every name that the program knows.
fn names() -> impl Iterator<Item = String> {
    all().flat_map(|variable| {
        let file = variable.is_secret.then(|| file_of(variable.name));
        [variable.name.to_owned()].into_iter().chain(file)
    })
}

/// What holds if the variable is not set; nothing, for one that names a file.
pub fn default(name: &str) -> &'static str {
    let variable = all().find(|variable| variable.name == name);
    variable.map_or("", |variable| variable.default)
}

/// The table as `--help` shows it: a line for each variable.
pub fn help() -> String {
    let mut text = "Environment variables, with their defaults in brackets:\n".to_owned();
    for (group, variables) in GROUPS {
        text += &format!("\n{group}:\n");
        let mut line = |name: &str, help: &str| {
            // A `String` takes whatever is written.
            let _ = writeln!(text, "  {name:NAME_WIDTH$}  {help}");
        };
        for variable in variables {
            let Variable { name, default, .. } = variable;
            let mut help = variable.help.to_owned();
            if !default.is_empty() {
                help += &format!(" [{default}]");
            }
            line(name, &help);
            if variable.is_secret {
                let help = format!("a file with the text of {name}");
                line(&file_of(name), &help);
            }
        }
    }
    text + "\nREADME.md and the pages in deploy/ explain them."
}

/// A warning for each name that is probably a mistyped one of ours, which would otherwise be ignored without a word.
pub fn mistyped(environment: impl IntoIterator<Item = String>) -> Vec<String> {
    let known: Vec<(String, String)> = names().map(|name| (letters(&name), name)).collect();
    let is_known = |name: &String| known.iter().any(|(_, known)| known == name);
    let others = environment.into_iter().filter(|name| !is_known(name));
    let warnings = others.filter_map(|name| {
        let letters = letters(&name);
        let distances = known.iter().filter_map(|(meant_letters, meant)| {
            let errors_max = typing_errors_max(meant_letters);
            // Names of other programs that are nearly as close, such as GOPATH to DBPATH, begin
            // otherwise. A distance takes long to compute, and most names need none.
            let may_be_close = letters.len().abs_diff(meant_letters.len()) <= errors_max
                && letters.chars().next() == meant_letters.chars().next();
            if !may_be_close {
                return None;
            }
            let distance = osa_distance(&letters, meant_letters);
            (distance <= errors_max).then_some((distance, meant))
        });
        let (_, meant) = distances.min()?;
        Some(format!(
            "{name} is not a variable of chatapp: is {meant} meant?"
        ))
    });
    let mut warnings: Vec<_> = warnings.collect();
    warnings.sort();
    warnings
}

/// The name as it sounds: DB_PATH and dbpath are the same.
fn letters(name: &str) -> String {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    letters.map(|letter| letter.to_ascii_uppercase()).collect()
}

/// Letters that may be wrong, missing, added or swapped: more in long names, which resemble nothing else.
fn typing_errors_max(letters: &str) -> usize {
    match letters.len() {
        ..6 => 1,
        6..11 => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::Config;

    #[test]
    fn the_table_has_what_the_configuration_asks_for() {
        let asked = RefCell::new(BTreeSet::new());
        let ask = |name: &str| {
            asked.borrow_mut().insert(name.to_owned());
            None
        };
        Config::read(ask).expect("the defaults are valid");
        for (from, to) in [("a.db", "b.db"), ("http://a.example", "http://b.example")] {
            Config::read_from_and_to(from, to, ask).expect("valid");
        }
        assert_eq!(asked.into_inner(), names().collect());
    }

    #[test]
    fn help_has_a_line_for_each() {
        let help = help();
        for name in names() {
            let start = format!("  {name} ");
            let lines = help.lines().filter(|line| line.starts_with(&start));
            assert_eq!(lines.count(), 1, "{name}: {help}");
        }
        let longest = help.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(100), "{longest:?} characters: {help}");
    }

    #[test]
    fn close_names_are_warned_of() {
        for (name, meant) in [
            ("DB_PATH", "DBPATH"),
            ("DBPATH_", "DBPATH"),
            ("dbpath", "DBPATH"),
            ("JWT_SECRET", "JWTSECRET"),
            ("JWT_SECRET_FILE", "JWTSECRET_FILE"),
            ("CORS_ALLOWED_ORIGIN", "CORS_ALLOW_ORIGIN"),
            ("CORS_ALLOWED_ORIGINS", "CORS_ALLOW_ORIGIN"),
            ("LOGLEVEL", "LOG_LEVEL"),
            ("PROT", "PORT"),
            ("METRICS_ADDRESS", "METRICS_ADDR"),
            ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
            ("COOKIE_SAME_SITE", "COOKIE_SAMESITE"),
            ("SOCKET_PER_USER", "SOCKETS_PER_USER"),
        ] {
            let expected = format!("{name} is not a variable of chatapp: is {meant} meant?");
            assert_eq!(mistyped([name.to_owned()]), [expected]);
        }
    }

    #[test]
    fn our_names_and_those_of_other_programs_are_not() {
        let others = "HOME HOSTNAME HOSTTYPE POSTGRES_PORT PATH GOPATH CDPATH MANPATH INFOPATH LD_LIBRARY_PATH \
            PWD OLDPWD LOGNAME USER SHELL SHLVL TERM LANG LC_ALL TZ DISPLAY EDITOR PAGER MAIL LS_COLORS SSH_CLIENT \
            DBUS_SESSION_BUS_ADDRESS XDG_RUNTIME_DIR LISTEN_FDS LISTEN_PID NOTIFY_SOCKET WATCHDOG_USEC INVOCATION_ID \
            JOURNAL_STREAM STATE_DIRECTORY CREDENTIALS_DIRECTORY KUBERNETES_PORT KUBERNETES_SERVICE_HOST DATABASE_URL \
            DB_HOST DB_PORT GH_AUTH_TOKEN NPM_AUTH_TOKEN HTTP_PROXY NO_PROXY RUST_LOG RUST_BACKTRACE CARGO_HOME CI \
            COMMIT NODE_ENV NODE_PATH _";
        let names = others.split_whitespace().map(str::to_owned).chain(names());
        assert!(mistyped(names).is_empty());
    }
}
