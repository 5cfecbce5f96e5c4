//! The code and the reason with which a socket is closed.

use std::borrow::Cow;

use bytes::Bytes;

use crate::socket::frame::{self, Violation};

/// Code and reason of a close frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseReason {
    pub code: u16,
    pub text: Cow<'static, str>,
}

/// Of a socket without a valid login.
const REFUSED: u16 = 1000;

impl CloseReason {
    pub const SHUTTING_DOWN: Self = Self::fixed(1001, "server is shutting down");
    pub const TOO_SLOW: Self = Self::fixed(1013, "too slow");
    pub const FLOOD: Self = Self::fixed(1008, "rate limit");
    pub const MESSAGE_TOO_SLOW: Self = Self::fixed(1008, "message took too long");
    pub const TOO_MUCH_UNFINISHED: Self = Self::fixed(1013, "too many unfinished messages");
    pub const INTERNAL: Self = Self::fixed(1011, "internal error");
    pub const UNAVAILABLE: Self = Self::fixed(1013, "the server is busy, try again later");
    pub const TOO_MANY_OF_USER: Self = Self::fixed(1008, "too many sockets of this user");
    pub const TOO_MANY_OF_ADDRESS: Self = Self::fixed(1013, "too many sockets from this address");
    pub const SESSION_ENDED: Self = Self::fixed(1008, "session ended");
    pub const NO_ANSWER_TO_PING: Self = Self::fixed(4000, "no answer to ping");

    pub fn frame(&self) -> Bytes {
        frame::close_frame(self.code, &self.text)
    }

    pub const fn fixed(code: u16, text: &'static str) -> Self {
        CloseReason {
            code,
            text: Cow::Borrowed(text),
        }
    }

    /// Closes a socket without a valid login, as the first backend did.
    pub fn refused(text: String) -> Self {
        CloseReason {
            code: REFUSED,
            text: text.into(),
        }
    }

    /// Whether it is that of a socket without a valid login.
    pub fn is_refusal(&self) -> bool {
        self.code == REFUSED
    }
}

impl From<Violation> for CloseReason {
    fn from(violation: Violation) -> Self {
        Self::fixed(violation.code, violation.reason)
    }
}
