//! The configuration: read once and validated. Messages about mistakes name the variable and what it takes.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use hyper::Uri;
use hyper::header::HeaderValue;
use ipnet::IpNet;

use crate::exposure::{self, is_loopback};
use crate::limits::Limits;
use crate::socket::flusher::threads_for;
use crate::store::location::Database;
use crate::variables::{self, DEMO_JWT_SECRET};

/// A shorter JWTSECRET can be guessed offline from one token.
const JWT_SECRET_BYTES_MIN: usize = 16;
/// The longest that a login may last without being used. Browsers keep no cookie for longer than 400
/// days.
const SESSION_DAYS_MAX: u32 = 365;
/// More would refuse passwords that nobody can guess.
const PASSWORD_CHARS_MIN_MAX: u32 = 64;
/// The highest value of a limit that an operator may set.
const LIMIT_MAX: u32 = 1_000_000;

/// What the program was told to do. Only tests change the durations; no variable does, except LEASE_SECONDS.
#[derive(Clone)]
pub struct Config {
    /// DBPATH and DB_AUTH_TOKEN. A secret may also be the text of a file: DB_AUTH_TOKEN_FILE, NATS_URL_FILE and
    /// JWTSECRET_FILE name such files.
    pub database: Database,
    /// NATS_URL and NATS_CREDS.
    pub bus: Option<BusUrl>,
    /// JWTSECRET.
    pub jwt_secret: String,
    /// SESSION_DAYS: how long a login lasts whose user wants to be remembered.
    pub session_days: u32,
    /// PASSWORD_CHARS_MIN: the fewest characters of a new password. From 8 on, common ones are
    /// refused.
    pub password_chars_min: u32,
    /// API_KEY: the key that `chatapp user --server` shows the server.
    pub api_key: String,
    /// REGISTRATION: whether people may register.
    pub has_registration: bool,
    /// UNKNOWN_USERS: whether a token that another program has signed creates its user.
    pub creates_unknown_users: bool,
    /// AUTH_ISSUERS, AUTH_AUDIENCE and AUTH_USERNAME_CLAIM.
    pub auth: AuthConfig,
    /// CORS_ALLOW_ORIGIN: exact origins.
    pub origins: Vec<HeaderValue>,
    /// HOST and PORT. Port 0 lets the system choose.
    pub address: SocketAddr,
    /// TRUSTED_PROXIES: the proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// COOKIE_SAMESITE.
    pub same_site: SameSite,
    /// WEB: whether browsers get the page.
    pub has_page: bool,
    pub limits: Limits,
    /// METRICS_ADDR: where `GET /metrics` is answered.
    pub metrics_address: Option<SocketAddr>,
    /// LOG_LEVEL, in tracing's filter syntax.
    pub log_level: String,
    /// LOG_FORMAT.
    pub log_format: LogFormat,
    /// Time between two pings to a socket. A socket that was silent for all of it is closed.
    pub ping_interval: Duration,
    /// Time for the head of a request, and between the requests of a connection that is kept alive.
    pub head_timeout: Duration,
    /// Time for the body of a request.
    pub body_timeout: Duration,
    /// Time for a whole message on a socket, from its first byte.
    pub message_timeout: Duration,
    /// Time between two checks that the accounts and logins of open sockets still exist.
    pub account_interval: Duration,
    /// Time in which a client has to take the next page of its export.
    pub export_page_timeout: Duration,
    /// How long an operation may take, including its wait for others and its repetitions.
    pub store_timeout: Duration,
    /// LEASE_SECONDS: one of several hosts that gives no sign of life for so long counts as dead.
    pub lease: Duration,
    /// SEARCH: whether the words of messages are indexed, and `search_messages` is answered.
    pub search: bool,
    /// Threads that write to sockets; with 0, the registry's thread does. Only tests change this.
    pub flushers: usize,
}

/// The identity providers whose tokens log users in.
#[derive(Debug, Clone, Default)]
pub struct AuthConfig {
    /// As their tokens name them in `iss`.
    pub issuers: Vec<String>,
    /// The programs that their tokens have to be for: one of these is in `aud`.
    pub audiences: Vec<String>,
    /// The claim with the username of a new user.
    pub username_claim: String,
}

/// With which requests from other sites a browser sends the login cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Links to this site only.
    Lax,
    Strict,
    /// All of them: for a front end on another site.
    None,
}

impl SameSite {
    /// The attribute's value.
    pub fn text(self) -> &'static str {
        match self {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
            SameSite::None => "None",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    /// One object a line.
    Json,
}

/// The NATS servers that join hosts. Addresses hold no secret: the library logs them.
#[derive(Clone)]
pub struct BusUrl {
    pub addresses: Vec<String>,
    /// A user with a password, or a token alone.
    pub login: Option<(String, Option<String>)>,
    pub credentials_file: Option<PathBuf>,
}

impl Config {
    /// `variable` looks up an environment variable. The warnings are for the log, which does not exist yet.
    pub fn read(
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> anyhow::Result<(Config, Vec<String>)> {
        let text = |name: &str| text(&variable, name);
        // Levels of the log may be in upper case, so other words may too.
        let word = |name: &str| anyhow::Ok(text(name)?.to_ascii_lowercase());
        let secret = |name: &str| secret(&variable, name);
        let database = Database::parse("DBPATH", text("DBPATH")?, secret("DB_AUTH_TOKEN")?)?;
        let bus = bus(&secret("NATS_URL")?, text("NATS_CREDS")?, &database)?;
        let number = |name: &str, min: u32, max: u32| {
            let value = text(name)?;
            let number = value.parse().ok().filter(|n| (min..=max).contains(n));
            number.with_context(|| {
                let zero = match name {
                    "PORT" => "; 0 lets the system choose one",
                    _ if min == 0 => "; 0 is no limit",
                    _ => "",
                };
                format!("{name} is {value:?}: expected a number from {min} to {max}{zero}")
            })
        };
        let lease = number("LEASE_SECONDS", 2, 3600)?;
        let port = number("PORT", 0, u16::MAX.into())? as u16;
        let limit = |name: &str| number(name, 0, LIMIT_MAX);
        let limits = Limits {
            sockets: number("SOCKETS_MAX", 1, LIMIT_MAX)?,
            sockets_per_user: limit("SOCKETS_PER_USER")?,
            sockets_per_address: limit("SOCKETS_PER_ADDRESS")?,
            events_per_second: limit("EVENTS_PER_SECOND")?,
            logins_per_minute: limit("LOGINS_PER_MINUTE")?,
            registrations_per_hour: limit("REGISTRATIONS_PER_HOUR")?,
        };
        let host = text("HOST")?;
        let ip = match host.as_str() {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            _ => host.parse().map_err(|_| {
                anyhow!(
                    "HOST is {host:?}: expected localhost or an IP address, such as 127.0.0.1 or ::1; \
                     0.0.0.0 or :: for all addresses"
                )
            })?,
        };
        let log_level = text("LOG_LEVEL")?;
        check_log_level(&log_level)?;
        let jwt_secret = secret("JWTSECRET")?;
        let mut warnings = check_secret(&jwt_secret, ip)?;
        let trusted_proxies = networks(&text("TRUSTED_PROXIES")?)?;
        warnings.extend(exposure::warning(ip, &trusted_proxies));
        let config = Config {
            database,
            bus,
            jwt_secret,
            session_days: number("SESSION_DAYS", 1, SESSION_DAYS_MAX)?,
            password_chars_min: number("PASSWORD_CHARS_MIN", 1, PASSWORD_CHARS_MIN_MAX)?,
            api_key: secret("API_KEY")?,
            auth: auth(
                &text("AUTH_ISSUERS")?,
                &text("AUTH_AUDIENCE")?,
                text("AUTH_USERNAME_CLAIM")?,
            )?,
            has_registration: match word("REGISTRATION")?.as_str() {
                "open" => true,
                "closed" => false,
                other => bail!("REGISTRATION is {other:?}: expected open or closed"),
            },
            creates_unknown_users: match word("UNKNOWN_USERS")?.as_str() {
                "create" => true,
                "refuse" => false,
                other => bail!("UNKNOWN_USERS is {other:?}: expected refuse or create"),
            },
            origins: origins(&text("CORS_ALLOW_ORIGIN")?)?,
            address: SocketAddr::new(ip, port),
            trusted_proxies,
            same_site: match word("COOKIE_SAMESITE")?.as_str() {
                "lax" => SameSite::Lax,
                "strict" => SameSite::Strict,
                "none" => SameSite::None,
                other => bail!("COOKIE_SAMESITE is {other:?}: expected lax, strict or none"),
            },
            has_page: match word("WEB")?.as_str() {
                "on" => true,
                "off" => false,
                other => bail!("WEB is {other:?}: expected on or off"),
            },
            limits,
            metrics_address: metrics_address(&text("METRICS_ADDR")?)?,
            log_level,
            log_format: match word("LOG_FORMAT")?.as_str() {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                other => bail!("LOG_FORMAT is {other:?}: expected text or json"),
            },
            ping_interval: Duration::from_secs(30),
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(10),
            message_timeout: Duration::from_secs(60),
            account_interval: Duration::from_secs(60),
            export_page_timeout: Duration::from_secs(60),
            store_timeout: Duration::from_secs(10),
            lease: Duration::from_secs(lease.into()),
            search: match word("SEARCH")?.as_str() {
                "on" => true,
                "off" => false,
                other => bail!("SEARCH is {other:?}: expected on or off"),
            },
            flushers: threads_for(thread::available_parallelism().map_or(1, usize::from)),
        };
        Ok((config, warnings))
    }

    /// FROM and TO of `chatapp copy`: each is what DBPATH may be. The token is DB_AUTH_TOKEN. If both are remote, the token
    /// for FROM is FROM_DB_AUTH_TOKEN.
    pub fn read_from_and_to(
        from: &str,
        to: &str,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> anyhow::Result<(Database, Database)> {
        let is_remote = |path: &str| path.contains("://");
        let token = |path: &str, name: &str| match is_remote(path) {
            true => secret(&variable, name),
            false => Ok(String::new()),
        };
        let token_of_from = match is_remote(to) {
            true => "FROM_DB_AUTH_TOKEN",
            false => "DB_AUTH_TOKEN",
        };
        Ok((
            Database::parse("FROM", from.into(), token(from, token_of_from)?)?,
            Database::parse("TO", to.into(), token(to, "DB_AUTH_TOKEN")?)?,
        ))
    }

    /// Fails if the secret is too weak for this address, which need not be HOST.
    pub fn check_address(&self, ip: IpAddr) -> anyhow::Result<()> {
        check_secret(&self.jwt_secret, ip).map(drop)
    }
}

/// The value of a variable, or its default.
fn text(variable: &impl Fn(&str) -> Option<OsString>, name: &str) -> anyhow::Result<String> {
    match variable(name) {
        None => Ok(variables::default(name).to_owned()),
        Some(value) => value
            .into_string()
            .map_err(|_| anyhow!("{name} is not valid UTF-8")),
    }
}

/// The value of a variable, or the text of the file that the variable with `_FILE` names.
fn secret(variable: &impl Fn(&str) -> Option<OsString>, name: &str) -> anyhow::Result<String> {
    let file = variables::file_of(name);
    match (text(variable, &file)?, variable(name)) {
        (path, _) if path.is_empty() => text(variable, name),
        (_, Some(_)) => bail!("{name} and {file} are both set: expected one of them"),
        (path, None) => read_secret(&path).with_context(|| format!("{file} is {path:?}")),
    }
}

/// The text of a file without its last newline: most programs end a file with one.
fn read_secret(path: &str) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

fn bus(list: &str, credentials: String, database: &Database) -> anyhow::Result<Option<BusUrl>> {
    if list.is_empty() {
        ensure!(
            credentials.is_empty(),
            "NATS_CREDS is set, but NATS_URL is not: expected both or neither"
        );
        return Ok(None);
    }
    ensure!(
        database.is_shared(),
        "NATS_URL joins hosts over a libSQL server, but DBPATH is the path of a file, which only one host can serve"
    );
    let mut addresses = Vec::new();
    let mut logins = Vec::new();
    for url in list.split(',').map(str::trim) {
        // Never shown: it may hold a password.
        let address = url.parse::<async_nats::ServerAddr>().ok();
        let address = address.filter(|_| url.starts_with("nats://") || url.starts_with("tls://"));
        let address = address.context(
            "NATS_URL: expected URLs of NATS servers, separated by commas, such as nats://127.0.0.1:4222 or \
             tls://user:password@nats.example",
        )?;
        logins.push(address.username().map(|user| {
            let password = address.password();
            (user.to_owned(), password.map(str::to_owned))
        }));
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let server = rest.rsplit_once('@').map_or(rest, |(_, server)| server);
        addresses.push(format!("{scheme}://{server}"));
    }
    logins.dedup();
    ensure!(
        logins.len() == 1,
        "NATS_URL has servers with different logins: expected the same login for all of them"
    );
    Ok(Some(BusUrl {
        addresses,
        login: logins.pop().flatten(),
        credentials_file: (!credentials.is_empty()).then(|| credentials.into()),
    }))
}

const SECRET_ADVICE: &str =
    "Set it to a long random text, such as the output of: openssl rand -base64 32";

/// If others may know the secret, the server only listens to this machine.
fn check_secret(secret: &str, ip: IpAddr) -> anyhow::Result<Vec<String>> {
    ensure!(!secret.is_empty(), "JWTSECRET is empty. {SECRET_ADVICE}");
    let weakness = if secret == DEMO_JWT_SECRET {
        "JWTSECRET is the public demo secret".to_owned()
    } else if secret.len() < JWT_SECRET_BYTES_MIN {
        format!("JWTSECRET is shorter than {JWT_SECRET_BYTES_MIN} bytes and can be guessed")
    } else {
        return Ok(Vec::new());
    };
    ensure!(
        ip.is_loopback(),
        "{weakness}, but others can reach the address {ip}. {SECRET_ADVICE}"
    );
    Ok(vec![format!(
        "{weakness}: the server accepts it only while it listens on a loopback address. Set your own before others connect"
    )])
}

/// Addresses, and networks: an address and the number of bits that all addresses of the network share.
fn networks(list: &str) -> anyhow::Result<Vec<IpNet>> {
    let networks = list.split(',').map(str::trim).filter(|n| !n.is_empty());
    let networks = networks.map(|text| {
        let address = || text.parse().map(|address: IpAddr| address.into()).ok();
        text.parse().ok().or_else(address).with_context(|| {
            format!(
                "TRUSTED_PROXIES has {text:?}: expected addresses and networks, separated by commas, such as \
                 127.0.0.1 or 10.0.0.0/8"
            )
        })
    });
    networks.collect()
}

fn auth(issuers: &str, audiences: &str, username_claim: String) -> anyhow::Result<AuthConfig> {
    let list = |list: &str| -> Vec<String> {
        let items = list.split(',').map(str::trim);
        items
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let (issuers, audiences) = (list(issuers), list(audiences));
    for issuer in &issuers {
        let url: Option<Uri> = issuer.parse().ok();
        let is_fine = url.is_some_and(|url| match url.scheme_str() {
            Some("https") => url.host().is_some_and(|host| !host.is_empty()),
            Some("http") => url.host().is_some_and(is_loopback),
            _ => false,
        });
        ensure!(
            is_fine && !issuer.contains(['@', '?', '#']),
            "AUTH_ISSUERS has {issuer:?}: expected URLs of OpenID Connect issuers, exactly as they call themselves, \
             separated by commas, such as https://id.example; http only on a loopback address"
        );
    }
    ensure!(
        issuers.is_empty() == audiences.is_empty(),
        "AUTH_ISSUERS and AUTH_AUDIENCE: expected both or neither. The audience is the client id that your issuer \
         knows your app by"
    );
    ensure!(
        !username_claim.is_empty(),
        "AUTH_USERNAME_CLAIM is empty: expected the name of a claim, such as preferred_username"
    );
    Ok(AuthConfig {
        issuers,
        audiences,
        username_claim,
    })
}

fn metrics_address(text: &str) -> anyhow::Result<Option<SocketAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    let address = text.parse().map_err(|_| {
        anyhow!(
            "METRICS_ADDR is {text:?}: expected an IP address and a port, such as 127.0.0.1:9464"
        )
    })?;
    Ok(Some(address))
}

fn origins(list: &str) -> anyhow::Result<Vec<HeaderValue>> {
    let origins = list
        .split(',')
        .map(str::trim)
        .filter(|origin| !origin.is_empty());
    let origins = origins.map(|origin| {
        ensure!(
            is_origin(origin),
            "CORS_ALLOW_ORIGIN has {origin:?}: expected origins as browsers send them, separated by commas, such as \
             http://localhost:5173 or https://chat.example: in lower case, without quotes, path, final slash, or the \
             scheme's own port"
        );
        HeaderValue::from_str(origin)
            .with_context(|| format!("CORS_ALLOW_ORIGIN has {origin:?}, which no browser sends"))
    });
    origins.collect()
}

/// Whether the origin is spelled as browsers spell it. Any other spelling would never match.
fn is_origin(origin: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let own_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        // Of pages that belong to apps and extensions.
        _ => "",
    };
    let is_spelled =
        |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b':' | b'[' | b']');
    !scheme.is_empty()
        && scheme.bytes().all(|byte| is_spelled(byte) || byte == b'+')
        && !authority.is_empty()
        && authority.bytes().all(is_spelled)
        && (own_port.is_empty() || !authority.ends_with(own_port))
}

/// The filter would take a word that is no level for the name of a target, and log nothing at all.
fn check_log_level(level: &str) -> anyhow::Result<()> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| LEVELS.contains(&word.trim().to_ascii_lowercase().as_str());
    let is_valid = level
        .split(',')
        .all(|directive| match directive.rsplit_once('=') {
            Some((_, word)) => is_level(word),
            None => is_level(directive),
        });
    ensure!(
        is_valid,
        "LOG_LEVEL is {level:?}: expected off, error, warn, info, debug or trace, or levels by target, such as \
         warn,host=debug,security=info"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> anyhow::Result<(Config, Vec<String>)> {
        Config::read(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.into())
        })
    }

    #[test]
    fn defaults_are_the_seeds() {
        let (config, warnings) = read(&[]).expect("the defaults are valid");
        assert_eq!(config.database, Database::File(".data/chatapp.db".into()));
        assert_eq!(config.address.to_string(), "127.0.0.1:8000");
        assert_eq!(config.origins, ["http://localhost:5173"]);
        assert_eq!(warnings.len(), 1, "the demo secret is warned of");
    }

    #[test]
    fn a_good_configuration_is_taken_as_it_is() {
        let (config, warnings) = read(&[
            ("HOST", "::"),
            ("TRUSTED_PROXIES", "10.0.0.0/8"),
            ("PORT", "0"),
            ("JWTSECRET", "0123456789abcdef"),
            (
                "CORS_ALLOW_ORIGIN",
                "https://a.example, http://b.example:81 ,",
            ),
        ])
        .expect("valid");
        assert_eq!(config.address.to_string(), "[::]:0");
        assert_eq!(config.origins, ["https://a.example", "http://b.example:81"]);
        assert!(warnings.is_empty());
    }

    #[test]
    fn words_are_taken_in_any_case() {
        let (config, _) = read(&[
            ("COOKIE_SAMESITE", "Strict"),
            ("LOG_FORMAT", "JSON"),
            ("LOG_LEVEL", "WARN"),
            ("WEB", "OFF"),
        ])
        .expect("valid");
        let words = (config.same_site, config.log_format, config.has_page);
        assert_eq!(words, (SameSite::Strict, LogFormat::Json, false));
    }

    #[test]
    fn a_remote_database_is_shown_without_its_token() {
        let (config, _) = read(&[
            ("DBPATH", "libsql://chat.example/db"),
            ("DB_AUTH_TOKEN", "the token"),
        ])
        .expect("valid");
        let shown = format!("{} {:?}", config.database, config.database);
        assert!(shown.starts_with("libsql://chat.example/db"), "{shown}");
        assert!(!shown.contains("token"), "{shown}");
    }

    #[test]
    fn a_copy_has_a_token_for_each_remote_side() {
        let tokens = |from: &str, to: &str| {
            let variable = |name: &str| match name {
                "DB_AUTH_TOKEN" => Some("one".into()),
                "FROM_DB_AUTH_TOKEN" => Some("two".into()),
                _ => None,
            };
            let (from, to) = Config::read_from_and_to(from, to, variable).expect("valid");
            [from, to].map(|side| match side {
                Database::File(_) => "none".to_owned(),
                Database::Remote(url) => url.token,
            })
        };
        assert_eq!(tokens("a.db", "b.db"), ["none", "none"]);
        assert_eq!(tokens("a.db", "http://b.example"), ["none", "one"]);
        assert_eq!(tokens("http://a.example", "b.db"), ["one", "none"]);
        assert_eq!(
            tokens("http://a.example", "http://b.example"),
            ["two", "one"]
        );
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "from a file\n").expect("written");
        let variable = |name: &str| (name == "DB_AUTH_TOKEN_FILE").then(|| file.clone().into());
        let (_, to) =
            Config::read_from_and_to("a.db", "http://b.example", variable).expect("valid");
        assert!(matches!(to, Database::Remote(url) if url.token == "from a file"));
        for (from, to, name) in [("", "b.db", "FROM"), ("a.db", "wss://b", "TO")] {
            let error = Config::read_from_and_to(from, to, |_| None).expect_err("refused");
            assert!(error.to_string().starts_with(name), "{error}");
        }
    }

    #[test]
    fn a_bus_has_its_login_apart_from_its_addresses() {
        let (config, _) = read(&[
            ("DBPATH", "http://db.example"),
            (
                "NATS_URL",
                "tls://me:it@a.example:4223, tls://me:it@b.example",
            ),
        ])
        .expect("valid");
        let bus = config.bus.expect("a bus");
        assert_eq!(bus.addresses, ["tls://a.example:4223", "tls://b.example"]);
        assert_eq!(bus.login, Some(("me".into(), Some("it".into()))));
    }

    #[test]
    fn secrets_are_read_from_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path.into_os_string().into_string().expect("UTF-8")
        };
        let (secret, token) = (
            file("secret", " 0123456789abcdef \n"),
            file("token", "t\r\n"),
        );
        let nats = file("nats", "nats://me:it@nats.example");
        let (config, warnings) = read(&[
            ("JWTSECRET_FILE", &secret),
            ("DBPATH", "http://db.example"),
            ("DB_AUTH_TOKEN_FILE", &token),
            ("NATS_URL_FILE", &nats),
        ])
        .expect("valid");
        assert_eq!(config.jwt_secret, " 0123456789abcdef ");
        let Database::Remote(url) = config.database else {
            panic!("remote");
        };
        assert_eq!(url.token, "t");
        assert_eq!(
            config.bus.expect("a bus").addresses,
            ["nats://nats.example"]
        );
        assert!(warnings.is_empty());
        // An empty file is an empty secret, not the default one.
        let empty = file("empty", "\n");
        let error = read(&[("JWTSECRET_FILE", &empty)]).err().expect("refused");
        assert!(error.to_string().starts_with("JWTSECRET is empty"));
    }

    #[test]
    fn refusals_name_the_variable() {
        for (variables, name) in [
            (&[("PORT", "http")][..], "PORT"),
            (&[("PORT", "65536")], "PORT"),
            (&[("HOST", "example")], "HOST"),
            (&[("DBPATH", "")], "DBPATH"),
            (&[("DBPATH", "libsql://")], "DBPATH"),
            (&[("DBPATH", "wss://db.example")], "DBPATH"),
            (&[("DBPATH", "libsql://user:secret@db.example")], "DBPATH"),
            (&[("DBPATH", "libsql://db.example?authToken=x")], "DBPATH"),
            (
                &[("DBPATH", "libsql://db.example"), ("DB_AUTH_TOKEN", "a\nb")],
                "DB_AUTH_TOKEN",
            ),
            (&[("DB_AUTH_TOKEN", "for no file")], "DB_AUTH_TOKEN"),
            (&[("NATS_URL", "nats://127.0.0.1")], "NATS_URL"),
            (
                &[
                    ("DBPATH", "http://db.example"),
                    ("NATS_URL", "http://user:secret@nats.example"),
                ],
                "NATS_URL",
            ),
            (
                &[
                    ("DBPATH", "http://db.example"),
                    (
                        "NATS_URL",
                        "nats://a:secret@nats.example,nats://nats2.example",
                    ),
                ],
                "NATS_URL",
            ),
            (&[("NATS_CREDS", "no.creds")], "NATS_CREDS"),
            (&[("SESSION_DAYS", "0")], "SESSION_DAYS"),
            (&[("SESSION_DAYS", "366")], "SESSION_DAYS"),
            (&[("PASSWORD_CHARS_MIN", "0")], "PASSWORD_CHARS_MIN"),
            (&[("PASSWORD_CHARS_MIN", "65")], "PASSWORD_CHARS_MIN"),
            (&[("LEASE_SECONDS", "1")], "LEASE_SECONDS"),
            (&[("LEASE_SECONDS", "30s")], "LEASE_SECONDS"),
            (&[("DBPATH", ":memory:")], "DBPATH"),
            (&[("DBPATH", "file:chat.db?mode=memory")], "DBPATH"),
            (&[("JWTSECRET", "")], "JWTSECRET"),
            (&[("JWTSECRET_FILE", "/no/such/file")], "JWTSECRET_FILE"),
            (
                &[("JWTSECRET", "one"), ("JWTSECRET_FILE", "/dev/null")],
                "JWTSECRET and JWTSECRET_FILE",
            ),
            (&[("HOST", "0.0.0.0")], "JWTSECRET"),
            (
                &[("HOST", "0.0.0.0"), ("JWTSECRET", "fifteen bytes..")],
                "JWTSECRET",
            ),
            (
                &[("JWTSECRET", "0123456789abcdef"), ("HOST", "[::1]")],
                "HOST",
            ),
            (&[("LOG_LEVEL", "")], "LOG_LEVEL"),
            (&[("LOG_LEVEL", "warning")], "LOG_LEVEL"),
            (&[("LOG_LEVEL", "host=loud")], "LOG_LEVEL"),
            (&[("WEB", "no")], "WEB"),
            (&[("CORS_ALLOW_ORIGIN", "*")], "CORS_ALLOW_ORIGIN"),
            (
                &[("CORS_ALLOW_ORIGIN", "https://*.example")],
                "CORS_ALLOW_ORIGIN",
            ),
            (
                &[("CORS_ALLOW_ORIGIN", "https://A.example")],
                "CORS_ALLOW_ORIGIN",
            ),
            (
                &[("CORS_ALLOW_ORIGIN", "https://a.example:443")],
                "CORS_ALLOW_ORIGIN",
            ),
            (
                &[("CORS_ALLOW_ORIGIN", "\"https://a.example\"")],
                "CORS_ALLOW_ORIGIN",
            ),
            (
                &[("CORS_ALLOW_ORIGIN", "https://a.example/")],
                "CORS_ALLOW_ORIGIN",
            ),
        ] {
            let Err(error) = read(variables) else {
                panic!("{variables:?} was accepted");
            };
            assert!(
                error.to_string().starts_with(name),
                "{variables:?}: {error}"
            );
            assert!(!error.to_string().contains("secret@"), "{error}");
        }
    }
}
