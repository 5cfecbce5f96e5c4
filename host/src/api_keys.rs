//! API keys: how they look, and which key a request has.

use handler::account::api_key::{FindKey, FoundKey, KeyHash, UseKey};
use handler::{Context, Error};
use sha2::{Digest, Sha256};

use crate::clock;
use crate::random::random_bytes;
use crate::store::Store;
use crate::store::source::Source;

/// Begins every key, so that people and programs that look for leaked secrets know what it is.
const PREFIX: &str = "chatapp_";
/// The random digits behind it: 256 bits.
const DIGITS: usize = 64;

/// Whether a bearer token is meant as a key. No login token begins so.
pub fn is_key(bearer: &str) -> bool {
    bearer.starts_with(PREFIX)
}

/// A new key, and what is stored of it.
pub fn new_key() -> Result<(String, KeyHash), Error> {
    let digits: [u8; DIGITS / 2] = random_bytes()?;
    let digits: String = digits.iter().map(|byte| format!("{byte:02x}")).collect();
    let key = format!("{PREFIX}{digits}");
    let hash = hash(&key);
    Ok((key, hash))
}

fn hash(key: &str) -> KeyHash {
    Sha256::digest(key).into()
}

/// The key with this text. `Unauthorized` if there is none.
pub async fn find(store: &Store, source: &Source, key: &str) -> Result<FoundKey, Error> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let digits = key.strip_prefix(PREFIX).unwrap_or_default();
    if digits.len() != DIGITS || !digits.bytes().all(is_digit) {
        return Err(Error::Unauthorized("invalid API key".into()));
    }
    let hash = hash(key);
    let ctx = Context::anonymous(clock::now());
    let found = store.run_from(source, (None, None), ctx, FindKey { hash });
    let found = found.await?;
    if found.is_used_late {
        // The key holds without it. The store has logged why it failed, and the next request tries
        // again.
        let _ = store.run_now(UseKey { hash }).await;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_random_and_look_like_keys() {
        let (key, stored) = new_key().expect("a key");
        assert!(is_key(&key) && key.len() == PREFIX.len() + DIGITS, "{key}");
        assert_eq!(hash(&key), stored);
        assert_ne!(new_key().expect("another").0, key);
    }

    /// The database compares hashes. A guess that begins as a key does would take longer only if its
    /// hash began as that of the key.
    #[test]
    fn what_a_guess_shares_with_a_key_does_not_show_in_its_hash() {
        let (key, stored) = new_key().expect("a key");
        for place in PREFIX.len()..key.len() {
            let other = if &key[place..=place] == "0" { "1" } else { "0" };
            let mut guess = key.clone();
            guess.replace_range(place..=place, other);
            let hash = hash(&guess);
            let shared = hash.iter().zip(&stored).take_while(|(a, b)| a == b);
            assert!(shared.count() < 4, "{place}");
        }
    }
}
