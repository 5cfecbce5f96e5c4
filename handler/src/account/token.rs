//! Login tokens: JWTs, HS256 over `{"username": …, "exp": …}`, as the first backend signs them.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

/// How long a new token is valid.
pub const LIFETIME_SECONDS: i64 = 3600;

/// The key made from JWTSECRET, to sign and to verify tokens.
pub struct TokenKey {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    username: String,
    /// Unix seconds. If it is not an integer, the token is invalid.
    exp: i64,
    /// Not valid before this time (Unix seconds). Tokens signed by other programs may have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
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

    /// Returns the username of a token that this secret signed with HS256, that is valid at `now`,
    /// and that does not require a feature that this function does not support (`crit`, `aud`). It
    /// does not check whether the user exists; the database knows that.
    ///
    /// Times are compared to the second. The clocks of hosts that share a secret differ by seconds,
    /// which does not matter for tokens that last an hour.
    pub fn verify(&self, token: &str, now: i64) -> Option<String> {
        let token = decode::<Claims>(token, &self.decoding, &self.validation).ok()?;
        let Claims { username, exp, nbf } = token.claims;
        let is_valid = now < exp && nbf.is_none_or(|nbf| nbf <= now);
        (is_valid && token.header.crit.is_none()).then_some(username)
    }
}
