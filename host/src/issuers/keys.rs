//! The keys of an issuer: fetched when one is needed that is not known, and kept while the issuer is
//! down.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::issuers::fetch::fetch_keys;

/// The pause between two fetches of the keys of an issuer, whatever tokens name.
const FETCH_PERIOD: Duration = Duration::from_secs(10);
/// Keys that are older are fetched again behind the next token, so that one that the issuer has withdrawn
/// does not stay.
const FRESH: Duration = Duration::from_secs(3600);
/// The most keys of an issuer that are looked at.
const KEYS_MAX: usize = 100;
/// The fewest bits of an RSA key (RFC 7518, section 3.3), as characters of its modulus in base64.
const RSA_CHARS_MIN: usize = 2048 / 6;

/// The keys of one issuer. Each issuer has its own, so that no other issuer can bring a key of the same
/// `kid`.
pub struct IssuerKeys {
    /// As its tokens name it.
    pub url: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Arc<HashMap<String, Key>>,
    /// When they were fetched, and when that was tried last.
    fetched_at: Option<Instant>,
    tried_at: Option<Instant>,
    /// Closed at the end of the fetch that was begun last.
    fetching: Option<watch::Receiver<()>>,
}

#[derive(Clone)]
pub struct Key {
    pub algorithm: Algorithm,
    pub decoding: DecodingKey,
}

impl IssuerKeys {
    pub fn new(url: String) -> Self {
        IssuerKeys {
            url,
            shared: Arc::default(),
        }
    }

    /// The key of this id for this algorithm. Without an id, the only key for it. One that is not known is
    /// looked for at the issuer.
    pub async fn key(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<Key> {
        let find = || self.shared.find(kid, algorithm);
        if let Some(key) = find() {
            if self.shared.is_old() {
                self.shared.fetching(&self.url);
            }
            return Some(key);
        }
        if let Some(mut fetching) = self.shared.fetching(&self.url) {
            // It fails at the end.
            let _ = fetching.changed().await;
        }
        find()
    }
}

impl Shared {
    fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<Key> {
        let keys = self.state().keys.clone();
        let key = match kid {
            Some(kid) => keys.get(kid)?,
            None => {
                let mut fitting = keys.values().filter(|key| key.algorithm == algorithm);
                fitting.next().filter(|_| fitting.next().is_none())?
            }
        };
        (key.algorithm == algorithm).then(|| key.clone())
    }

    fn is_old(&self) -> bool {
        let fetched_at = self.state().fetched_at;
        fetched_at.is_none_or(|at| at.elapsed() >= FRESH)
    }

    /// The fetch that is under way, or is begun by this; `None` if the last one has ended a moment ago. It
    /// has a task of its own: a client who leaves does not stop it.
    fn fetching(self: &Arc<Self>, url: &str) -> Option<watch::Receiver<()>> {
        let mut state = self.state();
        let under_way = state.fetching.clone();
        let under_way = under_way.filter(|fetching| fetching.has_changed().is_ok());
        if under_way.is_some() {
            return under_way;
        }
        let is_early = |at: Instant| at.elapsed() < FETCH_PERIOD;
        if state.tried_at.is_some_and(is_early) {
            return None;
        }
        let (end, fetching) = watch::channel(());
        state.fetching = Some(fetching.clone());
        let (shared, url) = (self.clone(), url.to_owned());
        tokio::spawn(async move {
            shared.fetch(&url).await;
            drop(end);
        });
        Some(fetching)
    }

    /// Fetches the keys. If it fails, the known ones stay.
    async fn fetch(&self, url: &str) {
        let fetched = fetch_keys(url).await;
        let mut state = self.state();
        state.tried_at = Some(Instant::now());
        match fetched {
            Ok(keys) => {
                state.keys = Arc::new(keys.into_iter().take(KEYS_MAX).filter_map(usable).collect());
                state.fetched_at = state.tried_at;
                let keys = state.keys.len();
                tracing::info!(issuer = url, keys, "the keys of an issuer were fetched");
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(
                    issuer = url,
                    error,
                    "the keys of an issuer cannot be fetched"
                );
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key that signs, with its id, if this program knows its kind. Each kind has one algorithm here.
fn usable(key: Value) -> Option<(String, Key)> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(default)]
        kid: String,
        alg: Option<String>,
    }
    let Named { kid, alg } = Named::deserialize(&key).ok()?;
    let jwk: Jwk = serde_json::from_value(key).ok()?;
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) if rsa.n.len() >= RSA_CHARS_MIN => {
            (Algorithm::RS256, "RS256")
        }
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, "ES256")
        }
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, "EdDSA")
        }
        _ => return None,
    };
    let is_for_signatures = matches!(
        jwk.common.public_key_use,
        None | Some(PublicKeyUse::Signature)
    );
    let is_algorithm = alg.is_none_or(|alg| alg == name);
    let decoding = DecodingKey::from_jwk(&jwk).ok()?;
    (is_for_signatures && is_algorithm).then_some((
        kid,
        Key {
            algorithm,
            decoding,
        },
    ))
}
