//! The configuration: read once, validated with messages that name the variable.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use hyper::header::HeaderValue;

/// The seed's JWTSECRET, known to everyone.
pub const DEMO_JWT_SECRET: &str = "this is a demo jwt secret";
/// A shorter JWTSECRET can be guessed offline from one token.
pub const JWT_SECRET_BYTES_MIN: usize = 16;

#[derive(Clone)]
pub struct Config {
    /// DBPATH.
    pub database: PathBuf,
    /// JWTSECRET.
    pub jwt_secret: String,
    /// CORS_ALLOW_ORIGIN: exact origins.
    pub origins: Vec<HeaderValue>,
    /// HOST and PORT. Port 0 lets the system choose.
    pub address: SocketAddr,
    /// LOG_LEVEL, in tracing's filter syntax.
    pub log_level: String,
    /// Time between two pings to a socket; one that was silent for the whole of it is closed.
    pub ping_interval: Duration,
}

impl Config {
    /// `variable` looks an environment variable up. Warnings are for the log, once there is one.
    pub fn read(
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> anyhow::Result<(Config, Vec<String>)> {
        let text = |name: &str, default: &str| match variable(name) {
            None => Ok(default.to_owned()),
            Some(value) => match value.into_string() {
                Ok(value) => Ok(value),
                Err(_) => bail!("{name} is not valid UTF-8"),
            },
        };
        let database = text("DBPATH", ".data/chatapp.db")?;
        ensure!(
            !database.is_empty(),
            "DBPATH is empty: expected the path of a file"
        );
        if let Some((scheme, _)) = database.split_once("://") {
            bail!(
                "DBPATH is a {scheme} URL: expected the path of a file (remote databases are not supported yet)"
            );
        }
        ensure!(
            database != ":memory:" && !database.starts_with("file:"),
            "DBPATH is {database:?}: expected the path of a file"
        );
        let port = text("PORT", "8000")?;
        let port: u16 = port
            .parse()
            .with_context(|| format!("PORT is {port:?}: expected a number from 0 to 65535"))?;
        let host = text("HOST", "127.0.0.1")?;
        let ip = match host.as_str() {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            _ => host.parse().with_context(|| {
                format!("HOST is {host:?}: expected an IP address, such as 127.0.0.1 or 0.0.0.0")
            })?,
        };
        let jwt_secret = text("JWTSECRET", DEMO_JWT_SECRET)?;
        let warnings = check_secret(&jwt_secret, ip)?;
        let config = Config {
            database: database.into(),
            jwt_secret,
            origins: origins(&text("CORS_ALLOW_ORIGIN", "http://localhost:5173")?)?,
            address: SocketAddr::new(ip, port),
            log_level: text("LOG_LEVEL", "info")?,
            ping_interval: Duration::from_secs(30),
        };
        Ok((config, warnings))
    }
}

/// With a secret that others may know, only this machine may come in.
fn check_secret(secret: &str, ip: IpAddr) -> anyhow::Result<Vec<String>> {
    ensure!(!secret.is_empty(), "JWTSECRET is empty");
    let weakness = if secret == DEMO_JWT_SECRET {
        "JWTSECRET is the demo secret, which everyone knows".to_owned()
    } else if secret.len() < JWT_SECRET_BYTES_MIN {
        format!("JWTSECRET is shorter than {JWT_SECRET_BYTES_MIN} bytes and can be guessed")
    } else {
        return Ok(Vec::new());
    };
    ensure!(
        ip.is_loopback(),
        "{weakness}: with it the server starts only on a loopback address, and HOST is {ip}. \
         Set JWTSECRET to a long random text, for example the output of: openssl rand -base64 32"
    );
    Ok(vec![format!(
        "{weakness}: fine for development on this machine, refused on any other address"
    )])
}

fn origins(list: &str) -> anyhow::Result<Vec<HeaderValue>> {
    let origins = list
        .split(',')
        .map(str::trim)
        .filter(|origin| !origin.is_empty());
    let origins = origins.map(|origin| {
        let host = origin.split_once("://").map(|(_, host)| host);
        ensure!(
            host.is_some_and(|host| !host.is_empty() && !host.contains('/')),
            "CORS_ALLOW_ORIGIN has {origin:?}: expected origins such as https://chat.example, separated by commas"
        );
        HeaderValue::from_str(origin)
            .with_context(|| format!("CORS_ALLOW_ORIGIN has {origin:?}, which no browser sends"))
    });
    origins.collect()
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
        assert_eq!(config.database, PathBuf::from(".data/chatapp.db"));
        assert_eq!(config.address.to_string(), "127.0.0.1:8000");
        assert_eq!(config.origins, ["http://localhost:5173"]);
        assert_eq!(warnings.len(), 1, "the demo secret is warned of");
    }

    #[test]
    fn a_good_configuration_is_taken_as_it_is() {
        let (config, warnings) = read(&[
            ("HOST", "::"),
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
    fn refusals_name_the_variable() {
        for (variables, name) in [
            (&[("PORT", "http")][..], "PORT"),
            (&[("PORT", "65536")], "PORT"),
            (&[("HOST", "example")], "HOST"),
            (&[("DBPATH", "")], "DBPATH"),
            (&[("DBPATH", "libsql://db.example")], "DBPATH"),
            (&[("DBPATH", ":memory:")], "DBPATH"),
            (&[("DBPATH", "file:chat.db?mode=memory")], "DBPATH"),
            (&[("JWTSECRET", "")], "JWTSECRET"),
            (&[("HOST", "0.0.0.0")], "JWTSECRET"),
            (
                &[("HOST", "0.0.0.0"), ("JWTSECRET", "fifteen bytes..")],
                "JWTSECRET",
            ),
            (&[("CORS_ALLOW_ORIGIN", "*")], "CORS_ALLOW_ORIGIN"),
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
        }
    }
}
