//! The identity of a login: its session, or a token that belongs to no session.

use std::fmt;
use std::num::NonZeroI64;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The id of a session: a random number above zero. Clients see it as 16 hexadecimal digits. It is
/// no secret: a login needs a token, and only the server signs tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionId(NonZeroI64);

impl SessionId {
    /// Made of random bytes.
    pub fn new(random: [u8; 8]) -> Self {
        let above_zero = i64::from_be_bytes(random) & i64::MAX;
        SessionId(NonZeroI64::new(above_zero).unwrap_or(NonZeroI64::MAX))
    }

    pub fn number(self) -> i64 {
        self.0.get()
    }

    pub(crate) fn from_number(number: i64) -> Option<Self> {
        NonZeroI64::new(number)
            .filter(|id| id.is_positive())
            .map(SessionId)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for SessionId {
    type Err = ();

    /// Reads what `Display` writes, and nothing else.
    fn from_str(text: &str) -> Result<Self, ()> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 16 || !text.bytes().all(is_digit) {
            return Err(());
        }
        let number = i64::from_str_radix(text, 16).map_err(drop)?;
        SessionId::from_number(number).ok_or(())
    }
}

/// The identity of a login, in 8 bytes, because every socket has one.
///
/// Above zero it is the id of a session. Otherwise the token names no session, as those of the first
/// backend and of other programs, and it is the time when the token was made, in Unix seconds, as a
/// number below zero. Zero is a token that does not say when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LoginId(i64);

impl LoginId {
    pub fn of_session(id: SessionId) -> Self {
        LoginId(id.number())
    }

    /// Of a token without a session that was made at this time.
    pub fn of_token(made_at: Option<i64>) -> Self {
        LoginId(-made_at.unwrap_or(0).max(0))
    }

    pub fn session(self) -> Option<SessionId> {
        SessionId::from_number(self.0)
    }

    /// When its token was made, if it has no session and its token says so.
    pub fn made_at(self) -> Option<i64> {
        (self.0 < 0).then_some(-self.0)
    }

    /// Its form in SQL, for `login_holds!`.
    pub(crate) fn number(self) -> i64 {
        self.0
    }
}

/// SQL: whether the login with the number `$login` (a parameter) holds, of the user in the row
/// `users`. No login of a banned user does.
macro_rules! login_holds {
    ($login:literal) => {
        concat!(
            "(users.banned_at is null and iif(",
            $login,
            " > 0, exists (select 1 from sessions where sessions.id = ",
            $login,
            " and sessions.user_id = users.id), coalesce(users.tokens_from < -",
            $login,
            ", 1)))"
        )
    };
}
pub(crate) use login_holds;

/// Logins of one user that have ended. Their sockets are closed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedLogins {
    pub user_id: i64,
    pub sessions: Vec<SessionId>,
    /// If the tokens without a session have ended too: those that were made until this time, in Unix
    /// seconds, or that do not say when.
    pub tokens_until: Option<i64>,
}

impl EndedLogins {
    pub fn has(&self, login: LoginId) -> bool {
        match login.session() {
            Some(session) => self.sessions.contains(&session),
            None => {
                let made_at = login.made_at().unwrap_or(0);
                self.tokens_until.is_some_and(|until| made_at <= until)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_is_written_and_read() {
        for random in [[0; 8], [0xff; 8], [7; 8], [0x80, 0, 0, 0, 0, 0, 0, 0]] {
            let id = SessionId::new(random);
            assert!(id.number() > 0);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(LoginId::of_session(id).session(), Some(id));
        }
        for text in [
            "",
            "7",
            "0000000000000000",
            "8000000000000000",
            "00000000000000 7",
            "+000000000000007",
            "000000000000000A",
            "00000000000000007",
            "0000000000000é",
        ] {
            assert_eq!(text.parse::<SessionId>(), Err(()), "{text:?}");
        }
    }

    #[test]
    fn what_has_ended_is_known_without_the_database() {
        let [ended, other] = [[1; 8], [2; 8]].map(SessionId::new);
        let mut logins = EndedLogins {
            user_id: 1,
            sessions: vec![ended],
            tokens_until: None,
        };
        let token = LoginId::of_token;
        assert!(logins.has(LoginId::of_session(ended)));
        assert!(!logins.has(LoginId::of_session(other)));
        assert!(!logins.has(token(None)) && !logins.has(token(Some(5))));
        logins.tokens_until = Some(5);
        assert!(!logins.has(LoginId::of_session(other)));
        assert!(logins.has(token(None)) && logins.has(token(Some(5))));
        assert!(!logins.has(token(Some(6))));
    }
}
