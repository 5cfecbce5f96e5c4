//! Which new passwords are allowed.

use handler::Error;
use zxcvbn::zxcvbn;

/// From so many characters on, PASSWORD_CHARS_MIN also refuses passwords that are guessed easily: who
/// asks for fewer wants the short passwords of the first backend's clients, all of which are.
const UNCOMMON_CHARS_MIN: usize = 8;
/// A password that needs fewer guesses is refused: the 30,000 most common ones, and names, words,
/// dates and rows of keys with little added.
const GUESSES_MIN: u64 = 1_000_000;

#[derive(Debug, Clone, Copy)]
pub struct PasswordPolicy {
    /// PASSWORD_CHARS_MIN.
    pub chars_min: usize,
}

impl PasswordPolicy {
    /// Checks a new password. `of_user` is what others know of the user, such as the username. This
    /// takes milliseconds: it is for the threads that hash passwords.
    pub fn check(&self, name: &str, password: &str, of_user: &[&str]) -> Result<(), Error> {
        let chars_min = self.chars_min;
        if password.chars().count() < chars_min {
            let text = format!("{name} should have at least {chars_min} characters");
            return Err(Error::Invalid(text));
        }
        if chars_min >= UNCOMMON_CHARS_MIN && zxcvbn(password, of_user).guesses() < GUESSES_MIN {
            let text = format!("{name} is too easy to guess: take a longer or less usual one");
            return Err(Error::Invalid(text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chars_min: usize, password: &str) -> Result<(), &'static str> {
        let policy = PasswordPolicy { chars_min };
        let checked = policy.check("password", password, &["margaret.smith", "Margaret"]);
        checked.map_err(|error| error.code())
    }

    #[test]
    fn short_and_common_passwords_are_refused_if_that_is_wanted() {
        for password in ["x", "xyz", "password", "é"] {
            assert_eq!(check(1, password), Ok(()), "{password}");
        }
        assert_eq!(check(7, "1234567"), Ok(()));
        assert_eq!(check(7, "123456"), Err("invalid"));
        // Characters count, not bytes.
        assert_eq!(check(7, "éèàùêîô"), Ok(()));
        for password in [
            "1234567",
            "12345678",
            "password",
            "Password1",
            "P@ssw0rd",
            "qwertyuiop",
            "iloveyou",
            "sunshine1",
            "aaaaaaaaaa",
            "abcdefgh",
            "11111111",
            "trustno1",
            "margaret.smith",
        ] {
            assert_eq!(check(8, password), Err("invalid"), "{password}");
        }
        for password in [
            "correct horse battery",
            "k9-Tabasco/lime",
            "дождь в мае 17",
            "tfn6-w2rq",
        ] {
            assert_eq!(check(8, password), Ok(()), "{password}");
        }
        // As long as they get, and soon checked.
        let long: String = (0..1024_u32)
            .map(|place| char::from(b'!' + (place * place * 31 % 89) as u8))
            .collect();
        assert_eq!(check(8, &long), Ok(()));
    }
}
