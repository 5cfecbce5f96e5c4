//! Why a request was refused, for programs (`code`) and for people (the text).

use std::fmt;

/// The answer to a request that could not be done. Knows nothing of HTTP; the host maps it to a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The request itself is wrong; sending it again cannot help.
    Invalid(String),
    /// The caller is not who it has to be.
    Unauthorized(String),
    /// The caller may know of it, and may not do it.
    Forbidden(String),
    /// What the request names does not exist, or the caller has no part in it: the two are not told apart.
    NotFound(String),
    /// It is already so.
    Conflict(String),
    /// A limit on size or number was passed.
    TooLarge(String),
    /// Too many requests of this caller; the same one may be sent again in about this many seconds.
    RateLimited { retry_after_seconds: u32 },
    /// Not now: nothing was stored, and the same request may succeed in about this many seconds.
    Unavailable { retry_after_seconds: u32 },
    /// A fault of the server. The detail is for its log and never leaves it.
    Internal(String),
}

impl Error {
    /// The word for programs, as in PROTOCOL.md.
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

    /// Seconds after which trying again makes sense, where it does.
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

/// The text that a client may see.
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
