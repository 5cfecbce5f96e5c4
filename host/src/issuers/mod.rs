//! Identity providers: OpenID Connect issuers whose tokens log users in.

mod fetch;
mod keys;
mod signatures;

use std::time::Duration;

use handler::account::register::FULLNAME_CHARS_MAX;
use handler::account::token::made_at;
use jsonwebtoken::dangerous::insecure_decode;
use jsonwebtoken::{TokenData, Validation, decode};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::clock;
use crate::config::AuthConfig;
use crate::issuers::keys::IssuerKeys;
use crate::issuers::signatures::Signatures;
use crate::store::source::Source;

/// The clock of an issuer may differ from this host's by so much.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);
/// The longest subject (OpenID Connect Core, section 2).
const SUBJECT_CHARS_MAX: usize = 255;

/// The issuers that the operator trusts.
pub struct Issuers {
    issuers: Vec<IssuerKeys>,
    audiences: Vec<String>,
    username_claim: String,
    /// Without an issuer, there are none to check.
    signatures: Option<Signatures>,
}

/// Who a token of an issuer is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub issuer: String,
    pub subject: String,
    /// What the issuer suggests.
    pub username: Option<String>,
    pub fullname: Option<String>,
    /// When the token was made, in Unix seconds, if it says so.
    pub made_at: Option<i64>,
}

impl Issuers {
    pub fn new(config: &AuthConfig) -> Self {
        let issuers = config.issuers.iter().cloned();
        Issuers {
            issuers: issuers.map(IssuerKeys::new).collect(),
            audiences: config.audiences.clone(),
            username_claim: config.username_claim.clone(),
            signatures: (!config.issuers.is_empty()).then(Signatures::start),
        }
    }

    /// Who a token is for, if one of the issuers has signed it for one of the audiences and it is valid now.
    /// Nothing in a token chooses where its key comes from: its `iss` only chooses among the issuers
    /// of the configuration, and its `kid` among the keys that the issuer publishes.
    pub async fn verify(&self, token: &str, source: &Source) -> Option<Identity> {
        #[derive(Deserialize)]
        struct Claimed {
            iss: String,
            exp: f64,
        }
        let signatures = self.signatures.as_ref()?;
        let TokenData { header, claims } = insecure_decode::<Claimed>(token).ok()?;
        let mut issuers = self.issuers.iter();
        let issuer = issuers.find(|issuer| issuer.url == claims.iss)?;
        // Most tokens that do not hold have expired: they cost nothing more.
        if claims.exp + CLOCKS_DIFFER.as_secs_f64() < clock::now() as f64 {
            return None;
        }
        let key = issuer.key(header.kid.as_deref(), header.alg).await?;
        let mut validation = Validation::new(key.algorithm);
        validation.leeway = CLOCKS_DIFFER.as_secs();
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&issuer.url]);
        validation.set_audience(&self.audiences);
        let token = token.to_owned();
        let check = move || decode::<Map<String, Value>>(token, &key.decoding, &validation).ok();
        let token = signatures.check(source, check).await?;
        if token.header.crit.is_some() {
            return None;
        }
        let claims = token.claims;
        if is_logout(token.header.typ.as_deref(), &claims) {
            return None;
        }
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        let is_subject =
            |subject: &String| !subject.is_empty() && subject.chars().count() <= SUBJECT_CHARS_MAX;
        let fullname = text("name").map(|name| name.chars().take(FULLNAME_CHARS_MAX).collect());
        Some(Identity {
            issuer: issuer.url.clone(),
            subject: text("sub").filter(is_subject)?,
            username: text(&self.username_claim),
            fullname: fullname.filter(|name: &String| !name.is_empty()),
            made_at: claims
                .get("iat")
                .and_then(Value::as_f64)
                .and_then(|iat| made_at(iat, clock::now())),
        })
    }
}

/// Whether it is a token that tells of a logout (OpenID Connect Back-Channel Logout, section 2.4).
fn is_logout(typ: Option<&str>, claims: &Map<String, Value>) -> bool {
    const TYPES: [&str; 2] = ["logout+jwt", "application/logout+jwt"];
    let is_type = |typ: &str| TYPES.iter().any(|logout| typ.eq_ignore_ascii_case(logout));
    claims.contains_key("events") || typ.is_some_and(is_type)
}
