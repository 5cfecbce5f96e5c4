//! Login tokens: JWTs, HS256 over `{"username": …, "exp": …}`, as the first backend signs them.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

/// How long a new token is valid.
pub const LIFETIME_SECONDS: i64 = 3600;

/// JWTSECRET, ready to sign and to verify.
pub struct TokenKey {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    username: String,
    /// Unix seconds. Anything but an integer makes the token invalid.
    exp: i64,
    /// Not valid before; another program may sign one.
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
}

impl TokenKey {
    pub fn new(secret: &[u8]) -> Self {
        // The library would compare `exp` with its own clock and allow a minute; `verify` has the time as an argument.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        TokenKey {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            validation,
        }
    }

    /// A token for this user, valid for `LIFETIME_SECONDS` from `now` (Unix seconds).
    pub fn sign(&self, username: &str, now: i64) -> String {
        let claims = Claims {
            username: username.to_owned(),
            exp: now.saturating_add(LIFETIME_SECONDS),
            nbf: None,
        };
        encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .expect("an HMAC over a short JSON text cannot fail")
    }

    /// The username of a token that this secret signed, with HS256 and nothing else, that is valid at `now`, and that does not
    /// ask for what this does not know (`crit`, `aud`). Whether there is such a user is for the database to say.
    ///
    /// To the second: the clocks of hosts that share a secret differ by seconds, which an hour does not notice.
    pub fn verify(&self, token: &str, now: i64) -> Option<String> {
        let token = decode::<Claims>(token, &self.decoding, &self.validation).ok()?;
        let Claims { username, exp, nbf } = token.claims;
        let is_valid = now < exp && nbf.is_none_or(|nbf| nbf <= now);
        (is_valid && token.header.crit.is_none()).then_some(username)
    }
}
