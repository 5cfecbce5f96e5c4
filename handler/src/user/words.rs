//! The words by which users are found: for each user, the username and the fullname from each of its
//! words on. So a prefix of a word finds the user, and so do several words that follow each other.
//!
//! Words are folded: upper and lower case, accents and widths of letters do not matter. A query is
//! folded in the same way.

use std::collections::BTreeSet;

use libsql::Value;
use serde_json::json;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::canonical_combining_class;

use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::sql::{Rows, Statement};

/// The most words of a fullname from which a user is found. Few names have more, and each is a row.
pub const FULLNAME_WORDS_MAX: usize = 8;

/// The most characters of a folded word, and of a folded query, that count.
pub const WORD_CHARS_MAX: usize = 64;

/// The most rows that a user has in `user_words`.
pub(crate) const USER_WORDS_MAX: usize = FULLNAME_WORDS_MAX + 1;

/// Accounts that get their words in one operation, so that others wait only a few milliseconds.
pub const WORDLESS_AT_ONCE: i64 = 200;

/// Text without case, accents and widths of letters, and with single spaces between its words.
pub(crate) fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let letters = text.nfkd().filter(|c| canonical_combining_class(*c) == 0);
    // The lower case of the upper case is also one for letters such as "ß" and "ς".
    let letters = letters
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase);
    for letter in letters {
        match letter {
            // Letters that people type without their stroke or ligature, and that Unicode does not
            // decompose.
            'ø' => folded.push('o'),
            'ł' => folded.push('l'),
            'đ' | 'ð' => folded.push('d'),
            'ħ' => folded.push('h'),
            'ŧ' => folded.push('t'),
            'æ' => folded.push_str("ae"),
            'œ' => folded.push_str("oe"),
            'þ' => folded.push_str("th"),
            _ if letter.is_whitespace() && (folded.is_empty() || folded.ends_with(' ')) => {}
            _ if letter.is_whitespace() => folded.push(' '),
            _ => folded.push(letter),
        }
    }
    folded.truncate(folded.trim_end().len());
    folded
}

/// The folded words of a user, as a JSON list.
pub(crate) fn words(username: &str, fullname: &str) -> String {
    let fullname = fold(fullname);
    let mut is_inside = false;
    let is_start = |(place, letter): &(usize, char)| {
        let was_inside = std::mem::replace(&mut is_inside, letter.is_alphanumeric());
        *place == 0 || (letter.is_alphanumeric() && !was_inside)
    };
    let starts = fullname.char_indices().filter(is_start);
    let parts = starts.map(|(place, _)| &fullname[place..]);
    let username = fold(username);
    let words = std::iter::once(username.as_str()).chain(parts.take(FULLNAME_WORDS_MAX));
    let words: BTreeSet<&str> = words.map(cut).filter(|word| !word.is_empty()).collect();
    json!(words).to_string()
}

/// The words that begin with a folded query: from the first value to below the second.
pub(crate) fn range(folded: &str) -> [Value; 2] {
    let first = cut(folded);
    let mut next: Vec<char> = first.chars().collect();
    while let Some(last) = next.pop() {
        // The next character, past the surrogates, which are none.
        let above = (u32::from(last) + 1..).take(0x801).find_map(char::from_u32);
        if let Some(above) = above {
            next.push(above);
            let end: String = next.into_iter().collect();
            return [first.into(), end.into()];
        }
    }
    // No text is above it, but every blob is.
    [first.into(), Value::Blob(Vec::new())]
}

fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(WORD_CHARS_MAX);
    end.map_or(text, |(end, _)| &text[..end])
}

/// An account without words, stored by another program or a release before this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wordless {
    pub user_id: i64,
    pub username: String,
    pub fullname: String,
}

/// Finds accounts without words, at most `WORDLESS_AT_ONCE`.
pub struct FindWordless;

impl Operation for FindWordless {
    type Output = Vec<Wordless>;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "select id, cast(username as blob), cast(fullname as blob) from users
             where has_words = 0 and banned_at is null limit +?1",
            [WORDLESS_AT_ONCE.into()],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Vec<Wordless>, Error> {
        let wordless = rows[0].0.iter().map(|row| {
            let mut columns = row.columns();
            Wordless {
                user_id: columns.integer(),
                username: columns.text(),
                fullname: columns.text(),
            }
        });
        Ok(wordless.collect())
    }
}

/// Stores the words of accounts that had none.
pub struct StoreWords {
    pub of: Vec<Wordless>,
}

impl Operation for StoreWords {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        let list = self.of.iter().map(|of| {
            let words = words(&of.username, &of.fullname);
            format!("[{},{words}]", of.user_id)
        });
        let list = format!("[{}]", list.collect::<Vec<_>>().join(","));
        // A fullname that was changed meanwhile has brought its own words.
        vec![
            Statement::new(
                "insert or ignore into user_words (user_id, word)
                 select u.id, word.value
                 from json_each(?1) given cross join users u on u.id = given.value ->> 0
                     cross join json_each(given.value, '$[1]') word
                 where u.has_words = 0 and u.banned_at is null",
                [list.as_str().into()],
            ),
            Statement::new(
                "update users set has_words = 1 from json_each(?1)
                 where users.id = value ->> 0 and has_words = 0 and banned_at is null",
                [list.into()],
            ),
        ]
    }

    fn conclude(&self, _: &Context, _: &[Rows], _: &mut Outbox) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_accents_and_widths_do_not_matter() {
        for (text, folded) in [
            ("", ""),
            ("  Ana   María\tÓ ", "ana maria o"),
            ("STRASSE straße", "strasse strasse"),
            ("Σίσυφος ΣΊΣΥΦΟΣ", "σισυφοσ σισυφοσ"),
            ("Łukasz Ørsted Þór Æsir", "lukasz orsted thor aesir"),
            ("İstanbul ıI", "istanbul ii"),
            ("ＡＢＣ ﬁ", "abc fi"),
            ("e\u{301} é", "e e"),
            // Vowel signs are not accents.
            ("हिन्दी", "हिनदी"),
            ("a\0b _x", "a\0b _x"),
        ] {
            assert_eq!(fold(text), folded, "{text:?}");
            assert_eq!(fold(folded), folded, "{text:?}");
        }
        assert_eq!(
            fold("한글"),
            fold("한글".nfd().collect::<String>().as_str())
        );
    }

    #[test]
    fn a_user_has_the_username_and_the_fullname_from_each_word_on() {
        for (username, fullname, expected) in [
            ("al", "", r#"["al"]"#),
            ("al", "Al", r#"["al"]"#),
            ("Al_1", "Ana Maria", r#"["al_1","ana maria","maria"]"#),
            (
                "x",
                "Jean-Luc O'Brien",
                r#"["brien","jean-luc o'brien","luc o'brien","o'brien","x"]"#,
            ),
            ("-x", "(Bob)", r#"["(bob)","-x","bob)"]"#),
            ("x", "王小明", r#"["x","王小明"]"#),
            ("\u{301}", " ", "[]"),
        ] {
            assert_eq!(words(username, fullname), expected, "{fullname:?}");
        }
        let many: Vec<String> =
            serde_json::from_str(&words("0", &"a b c ".repeat(40))).expect("JSON");
        assert!(many.len() <= USER_WORDS_MAX);
        let long = words("é".repeat(64).as_str(), &"ﬃ".repeat(256));
        let long: Vec<String> = serde_json::from_str(&long).expect("JSON");
        assert!(
            long.iter()
                .all(|word| word.chars().count() <= WORD_CHARS_MAX)
        );
    }

    #[test]
    fn a_range_has_the_words_with_the_prefix_and_no_others() {
        let end = |prefix: &str| range(prefix)[1].clone();
        let text = |text: &str| Value::Text(text.into());
        assert_eq!(end("ab"), text("ac"));
        assert_eq!(end("a\u{d7ff}"), text("a\u{e000}"));
        assert_eq!(end("a\u{10ffff}"), text("b"));
        assert_eq!(end("\u{10ffff}"), Value::Blob(Vec::new()));
    }
}
