//! Why a request was refused: a code for programs and a text for people.

use std::fmt;

/// The answer to a request that failed. It knows nothing of HTTP; the host maps it to a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The request itself is wrong; sending it again cannot help.
    Invalid(String),
    /// The caller has not proved who they are.
    Unauthorized(String),
    /// The caller may know that it exists, but may not do this.
    Forbidden(String),
    /// What the request names does not exist, or the caller has no part in it. The error does not
    /// tell which.
    NotFound(String),
    /// The change conflicts with what exists already, such as a username that is taken.
    Conflict(String),
    /// A limit on a size or a number was exceeded.
    TooLarge(String),
    /// This caller has made too many requests. The same request may be sent again in about this
    /// many seconds.
    RateLimited { retry_after_seconds: u32 },
    /// The server cannot do it now. Nothing was stored, unless a remote database was lost midway:
    /// then the outcome is unknown. The same request may succeed in about this many seconds.
    Unavailable { retry_after_seconds: u32 },
    /// A fault of the server. The detail is only for the server's log.
    Internal(String),
}

impl Error {
    /// All codes.
    pub const CODES: [&str; 9] = [
        "invalid",
        "unauthorized",
        "forbidden",
        "not_found",
        "conflict",
        "too_large",
        "rate_limited",
        "unavailable",
        "internal",
    ];

    /// The code for programs, as listed in PROTOCOL.md.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Invalid(_) => "invalid",
            Error::Unauthorized(_) => "unauthorized",
            Error::Forbidden(_) => "forbidden",
            Error::NotFound(_) => "not_found",
            Error::Conflict(_) => "conflict",
            Error::TooLarge(_) => "too_large",
            Error::RateLimited { .. } => "rate_limited",
            Error::Unavailable { .. } => "unavailable",
            Error::Internal(_) => "internal",
        }
    }

    /// The number of seconds after which a retry may succeed, for errors that have one.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        match self {
            Error::RateLimited {
                retry_after_seconds,
            }
            | Error::Unavailable {
                retry_after_seconds,
            } => Some(*retry_after_seconds),
            _ => None,
        }
    }
}

/// The text that clients see.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::Invalid(text)
            | Error::Unauthorized(text)
            | Error::Forbidden(text)
            | Error::NotFound(text)
            | Error::Conflict(text)
            | Error::TooLarge(text) => text,
            Error::RateLimited { .. } => "too many requests, try again later",
            Error::Unavailable { .. } => "the server is busy, try again later",
            Error::Internal(_) => "internal error",
        })
    }
}

impl std::error::Error for Error {}
