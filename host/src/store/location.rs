//! Where the data is.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use hyper::Uri;
use hyper::header::HeaderValue;

/// A file of this host's own, or a server that other hosts may use too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    File(PathBuf),
    Remote(RemoteUrl),
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Database::File(path) => path.display().fmt(f),
            Database::Remote(url) => url.fmt(f),
        }
    }
}

/// A libSQL server and the token for it. Shown without the token.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteUrl {
    pub address: String,
    pub token: String,
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

impl fmt::Debug for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// SQLite's name for a file beside the database, for which it follows symbolic links.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path
        .canonicalize()
        .unwrap_or_else(|_| path.to_owned())
        .into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

impl Database {
    /// Whether it is a file that does not exist yet.
    pub fn is_new_file(&self) -> bool {
        matches!(self, Database::File(path) if !path.exists())
    }

    /// Parses the value of DBPATH, or of a similar setting called `name`. `token` is for a server.
    pub fn parse(name: &str, path: String, token: String) -> anyhow::Result<Self> {
        const EXPECTED: &str = "expected the path of a file, or the URL of a libSQL server such as libsql://chat.example";
        ensure!(!path.is_empty(), "{name} is empty: {EXPECTED}");
        let Some((scheme, rest)) = path.split_once("://") else {
            ensure!(
                path != ":memory:" && !path.starts_with("file:"),
                "{name} is {path:?}: {EXPECTED}"
            );
            ensure!(
                token.is_empty(),
                "DB_AUTH_TOKEN is for a remote database, but DBPATH is the path of a file"
            );
            return Ok(Database::File(path.into()));
        };
        ensure!(
            matches!(scheme, "libsql" | "https" | "http"),
            "{name} is a {scheme} URL: {EXPECTED}"
        );
        // The URL is not shown in errors: it may hold a secret.
        let uri: Option<Uri> = format!("{scheme}://{rest}").parse().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
        ensure!(
            !host.is_empty(),
            "{name} is a URL without a host: {EXPECTED}"
        );
        ensure!(
            !rest.contains(['@', '?', '#']),
            "{name} is a URL with a user or a query: expected neither, and the token in DB_AUTH_TOKEN"
        );
        ensure!(
            HeaderValue::try_from(&token).is_ok(),
            "DB_AUTH_TOKEN has characters that a token cannot have"
        );
        Ok(Database::Remote(RemoteUrl {
            address: path,
            token,
        }))
    }

    /// The socket of its server beside a file, for the operator.
    pub fn operator_socket(&self) -> Option<PathBuf> {
        match self {
            Database::File(path) => Some(beside(path, "-socket")),
            Database::Remote(_) => None,
        }
    }

    /// Whether several hosts may serve this database.
    pub fn is_shared(&self) -> bool {
        matches!(self, Database::Remote(_))
    }
}
