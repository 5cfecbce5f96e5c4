//! Password hashes: argon2id PHC strings, as argon2-cffi writes and reads them.
//!
//! These functions are pure, and slow on purpose (tens of milliseconds, 19 MiB): the host calls
//! them on threads of their own.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

/// OWASP's recommendation for argon2id (Password Storage Cheat Sheet): 19 MiB, two passes, one
/// lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// The most memory that a stored hash may use. A hash that needs more memory or more passes is not
/// computed, so that one row cannot exhaust the machine. The first backend's hashes use 64 MiB and
/// three passes.
const STORED_MEMORY_KIB_MAX: u32 = 256 * 1024;
const STORED_PASSES_MAX: u32 = 16;

/// A hash with the present parameters that belongs to no user, so that checking an unknown user
/// takes as long as checking a known one.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5J3Mgc2FsdA$RSLkvhfXpP8c5Hhj6cEN0mvwCDKzqcJiWCb0E1D2Ey0";

/// Stands in the place of the hash if a user has no password. No password matches it.
pub const NO_PASSWORD: &str = "";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Wrong,
    Right,
    /// Right, but the hash has other parameters than new ones get, so it is to be replaced.
    Outdated,
}

/// The PHC string to store for a password. `salt` must be random.
pub fn hash(password: &str, salt: [u8; 16]) -> String {
    argon2()
        .hash_password_with_salt(password.as_bytes(), &salt)
        .expect("a salt of 16 bytes and these parameters are valid")
        .to_string()
}

/// Whether the password matches the stored PHC string (any argon2 variant, version and parameters).
/// `None` stands for a user who does not exist: the verdict is always `Wrong`, after the same time.
pub fn verify(password: &str, stored: Option<&str>) -> Verdict {
    let phc = stored.unwrap_or(NOBODY);
    let Ok(parsed) = PasswordHash::new(phc) else {
        // After the same time, so that nobody finds out who has no password.
        return verify(password, None);
    };
    let is_affordable = Params::try_from(&parsed)
        .is_ok_and(|p| p.m_cost() <= STORED_MEMORY_KIB_MAX && p.t_cost() <= STORED_PASSES_MAX);
    if !is_affordable {
        return Verdict::Wrong;
    }
    let right = argon2().verify_password(password.as_bytes(), &parsed);
    match (right, stored) {
        (Err(_), _) | (_, None) => Verdict::Wrong,
        (Ok(()), Some(_)) if is_present(&parsed) => Verdict::Right,
        (Ok(()), Some(_)) => Verdict::Outdated,
    }
}

fn is_present(hash: &PasswordHash) -> bool {
    let parameters = Params::try_from(hash);
    hash.algorithm == Algorithm::Argon2id.ident()
        && hash.version == Some(Version::V0x13.into())
        && parameters
            .is_ok_and(|p| (p.m_cost(), p.t_cost(), p.p_cost()) == (MEMORY_KIB, PASSES, LANES))
}

fn argon2() -> Argon2<'static> {
    let parameters = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .expect("OWASP's parameters are within argon2's limits");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let fresh = hash("pässword", [7; 16]);
        // Written by argon2-cffi 25.1: argon2id with its defaults, and argon2i with the defaults of
        // 2015.
        let cffi = "$argon2id$v=19$m=65536,t=3,p=4$93ZEUAyt9uWS0KKy6TFlBQ$f6ON8uXVeTiE7gSb9xWz36ZPEjJAYhCvz+PowVIUMuI";
        let argon2i = "$argon2i$v=19$m=512,t=2,p=2$fVdrUr3sTlytCP5oaUX21A$o8ImyvLb30ux9nky1767Rw";
        for (password, stored, verdict) in [
            ("pässword", Some(fresh.as_str()), Verdict::Right),
            ("password", Some(fresh.as_str()), Verdict::Wrong),
            ("xyz", Some(cffi), Verdict::Outdated),
            ("xyZ", Some(cffi), Verdict::Wrong),
            ("xyz", Some(argon2i), Verdict::Outdated),
            ("", Some(cffi), Verdict::Wrong),
            // These would take four terabytes of memory, and hours.
            (
                "xyz",
                Some(
                    "$argon2id$v=19$m=4294967295,t=1,p=1$bm9ib2R5J3Mgc2FsdA$RSLkvhfXpP8c5Hhj6cEN0mvwCDKzqcJiWCb0E1D2Ey0",
                ),
                Verdict::Wrong,
            ),
            (
                "xyz",
                Some(
                    "$argon2id$v=19$m=19456,t=1000000,p=1$bm9ib2R5J3Mgc2FsdA$RSLkvhfXpP8c5Hhj6cEN0mvwCDKzqcJiWCb0E1D2Ey0",
                ),
                Verdict::Wrong,
            ),
            ("xyz", Some("plain text"), Verdict::Wrong),
            ("xyz", Some(""), Verdict::Wrong),
            ("xyz", None, Verdict::Wrong),
            ("nobody's password", None, Verdict::Wrong),
        ] {
            assert_eq!(verify(password, stored), verdict, "{password:?} {stored:?}");
        }
    }

    #[test]
    fn an_unknown_user_is_compared_with_a_hash_of_the_present_parameters() {
        let nobody = PasswordHash::new(NOBODY).expect("a PHC string");
        assert!(is_present(&nobody));
    }
}
