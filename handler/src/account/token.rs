//! Login tokens: JWTs, HS256 over `{"username": …, "exp": …}`, as the first backend signs them, and
//! with `sid`, the session that the token belongs to.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::account::login_id::{LoginId, SessionId};
use crate::account::register::FULLNAME_CHARS_MAX;

/// How long a token is valid, unless the user wants to be remembered.
pub const LIFETIME_SECONDS: i64 = 3600;
/// A token that says it was made later than this many seconds from now does not say when it was
/// made: its program counts in other units, or its clock is wrong.
const CLOCKS_DIFFER_SECONDS: i64 = 60;

/// The key made from JWTSECRET, to sign and to verify tokens.
pub struct TokenKey {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

/// The claims of a token. The database knows whether they still hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub username: String,
    pub login: LoginId,
    /// The fullname of a user who does not exist yet, if another program has signed the token.
    pub fullname: Option<String>,
}

#[derive(Serialize)]
struct NewClaims<'a> {
    username: &'a str,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    username: String,
    /// Unix seconds. If it is not an integer, the token is invalid.
    exp: i64,
    /// Not valid before this time (Unix seconds). Tokens signed by other programs may have it.
    nbf: Option<i64>,
    /// When it was made (Unix seconds, perhaps with a fraction). Tokens signed by other programs may
    /// have it, and anything else under this name.
    iat: Option<Box<RawValue>>,
    /// The session. Tokens signed by other programs have none.
    sid: Option<String>,
    /// The fullname. Tokens signed by other programs may have it, and anything else under this name.
    name: Option<Box<RawValue>>,
}

impl TokenKey {
    pub fn new(secret: &[u8]) -> Self {
        // The library would compare `exp` with its own clock and allow a minute more; `verify` gets
        // the time as an argument.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        TokenKey {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            validation,
        }
    }

    /// A token for a login of this user, valid until `expires_at` (Unix seconds).
    pub fn sign(&self, username: &str, login: LoginId, expires_at: i64) -> String {
        let claims = NewClaims {
            username,
            exp: expires_at,
            iat: login.made_at(),
            sid: login.session().map(|session| session.to_string()),
        };
        encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .expect("an HMAC over a short JSON text cannot fail")
    }

    /// Returns what a token claims that this secret signed with HS256, that is valid at `now`, and
    /// that does not require a feature that this function does not support (`crit`, `aud`). It does
    /// not check whether the user exists and whether the login has ended; the database knows that.
    ///
    /// Times are compared to the second. The clocks of hosts that share a secret differ by seconds,
    /// which does not matter for tokens that last an hour.
    pub fn verify(&self, token: &str, now: i64) -> Option<Claim> {
        let token = decode::<Claims>(token, &self.decoding, &self.validation).ok()?;
        let Claims {
            username,
            exp,
            nbf,
            iat,
            sid,
            name,
        } = token.claims;
        let is_valid = now < exp && nbf.is_none_or(|nbf| nbf <= now);
        if !is_valid || token.header.crit.is_some() {
            return None;
        }
        let login = match sid {
            Some(session) => LoginId::of_session(session.parse::<SessionId>().ok()?),
            None => LoginId::of_token(iat.and_then(|iat| made_at(iat.get().parse().ok()?, now))),
        };
        let fullname = name.and_then(|name| fullname(name.get()));
        Some(Claim {
            username,
            login,
            fullname,
        })
    }
}

/// The fullname in the claim `name`, cut to the longest one that there may be.
fn fullname(name: &str) -> Option<String> {
    let name: String = serde_json::from_str(name).ok()?;
    let name: String = name.chars().take(FULLNAME_CHARS_MAX).collect();
    (!name.is_empty()).then_some(name)
}

/// When a token with this `iat` was made, if that can be.
pub fn made_at(iat: f64, now: i64) -> Option<i64> {
    let seconds = iat as i64;
    (0..=now.saturating_add(CLOCKS_DIFFER_SECONDS))
        .contains(&seconds)
        .then_some(seconds)
}
