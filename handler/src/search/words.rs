//! What a text consists of for the search: words, and the signs of scripts that put no spaces
//! between words.
//!
//! The index, the matcher and the queries all read texts with this file, so they cannot disagree.

use unicode_normalization::char::{decompose_compatible, is_combining_mark};

/// Changes with everything that may change the elements of a text, such as a later version of
/// Unicode, and with the tokens of the index. An index of another version is built anew. A test compares the elements of all
/// characters with those of this version.
pub const WORDS_VERSION: i64 = 3;

/// Only this many characters of a word count. A longer one is no word of a language, and the index
/// need not hold it.
pub const WORD_CHARS_MAX: usize = 64;

/// Only so many words and signs of a text count. What FTS5 takes in of a message it takes in at once,
/// and everyone else's writes wait for that.
pub const ELEMENTS_MAX: usize = 3_000;

/// A word or a sign, in the form in which it is compared: without case, accents, and differences
/// of width or shape (Unicode's compatibility decomposition).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    pub text: String,
    pub kind: Kind,
    /// Where it begins and ends in the text, in UTF-16 code units.
    pub start: u32,
    pub end: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Letters, digits and marks of a script that separates words.
    Word { chars: usize },
    /// One character of a script that does not, such as Chinese, Japanese or Thai. `is_joined`: it
    /// follows such a character directly.
    Sign { is_joined: bool },
}

/// The elements of a text, in its order: the first `ELEMENTS_MAX`.
pub(crate) fn elements(text: &str) -> Vec<Element> {
    let mut reader = Reader {
        // About six bytes for each word.
        elements: Vec::with_capacity((text.len() / 6 + 1).min(ELEMENTS_MAX + 1)),
        is_open: false,
        start: 0,
        end: 0,
    };
    for c in text.chars() {
        reader.end = reader.start + c.len_utf16() as u32;
        reader.take(c);
        reader.start = reader.end;
        // One more, because only then the one before it has ended.
        if reader.elements.len() > ELEMENTS_MAX {
            break;
        }
    }
    reader.elements.truncate(ELEMENTS_MAX);
    reader.elements
}

struct Reader {
    elements: Vec<Element>,
    /// Whether nothing separates the next character from the last element.
    is_open: bool,
    /// Of the character that is read.
    start: u32,
    end: u32,
}

impl Reader {
    fn take(&mut self, c: char) {
        if c.is_ascii() {
            match c.is_ascii_alphanumeric() {
                true => self.push(c.to_ascii_lowercase()),
                false => self.is_open = false,
            }
            return;
        }
        if is_invisible(c) {
            return;
        }
        decompose_compatible(c, |part| {
            if is_accent(part) {
                // It belongs to what is marked in a hit.
                if let (true, Some(last)) = (self.is_open, self.elements.last_mut()) {
                    last.end = self.end;
                }
            } else if part.is_alphanumeric() || is_combining_mark(part) {
                let upper = plain(part).to_uppercase();
                for folded in upper.flat_map(char::to_lowercase) {
                    if !is_accent(folded) {
                        self.push(folded);
                    }
                }
            } else {
                self.is_open = false;
            }
        });
    }

    /// Takes in a character in the form in which it is compared.
    fn push(&mut self, c: char) {
        let last = self.elements.last_mut().filter(|_| self.is_open);
        self.is_open = true;
        let is_sign = is_sign(c);
        let kind = match last {
            Some(Element {
                text,
                kind: Kind::Word { chars },
                end,
                ..
            }) if !is_sign => {
                if *chars < WORD_CHARS_MAX {
                    text.push(c);
                    *chars += 1;
                }
                *end = self.end;
                return;
            }
            Some(Element {
                kind: Kind::Sign { .. },
                ..
            }) if is_sign => Kind::Sign { is_joined: true },
            _ if is_sign => Kind::Sign { is_joined: false },
            _ => Kind::Word { chars: 1 },
        };
        self.elements.push(Element {
            text: c.into(),
            kind,
            start: self.start,
            end: self.end,
        });
    }
}

/// Characters that nobody sees and that separate nothing: the soft hyphen, joiners, and the byte
/// order mark. (The zero width space separates words.)
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{200c}' | '\u{200d}' | '\u{2060}' | '\u{feff}'
    )
}

/// Marks that a search does not look at: accents of Latin, Greek and Cyrillic, the points of Hebrew
/// and Arabic, and variation selectors. The vowel signs of other scripts are part of their words.
fn is_accent(c: char) -> bool {
    matches!(
        c,
        '\u{300}'..='\u{36f}'
            | '\u{483}'..='\u{489}'
            | '\u{591}'..='\u{5bd}'
            | '\u{5bf}'
            | '\u{5c1}'..='\u{5c2}'
            | '\u{5c4}'..='\u{5c5}'
            | '\u{5c7}'
            | '\u{610}'..='\u{61a}'
            | '\u{64b}'..='\u{65f}'
            | '\u{670}'
            | '\u{6d6}'..='\u{6dc}'
            | '\u{1ab0}'..='\u{1aff}'
            | '\u{1dc0}'..='\u{1dff}'
            | '\u{20d0}'..='\u{20ff}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{fe20}'..='\u{fe2f}'
    )
}

/// Letters with a stroke, which Unicode does not decompose, as people without such a key type them.
fn plain(c: char) -> char {
    match c {
        'ø' | 'Ø' => 'o',
        'ł' | 'Ł' => 'l',
        'đ' | 'Đ' => 'd',
        'ħ' | 'Ħ' => 'h',
        'ŧ' | 'Ŧ' => 't',
        _ => c,
    }
}

/// Whether it is a character of a script that puts no spaces between words: by Unicode's blocks.
fn is_sign(c: char) -> bool {
    // Most are below, and this is the test that they need.
    c >= '\u{e00}'
        && matches!(
            c,
            // Thai and Lao.
            '\u{e00}'..='\u{eff}'
                // Myanmar.
                | '\u{1000}'..='\u{109f}'
                | '\u{a9e0}'..='\u{a9ff}'
                | '\u{aa60}'..='\u{aa7f}'
                // Khmer.
                | '\u{1780}'..='\u{17ff}'
                // Tai Le, New Tai Lue, Tai Tham, Tai Viet.
                | '\u{1950}'..='\u{19df}'
                | '\u{1a20}'..='\u{1aaf}'
                | '\u{aa80}'..='\u{aadf}'
                // Chinese and Japanese: radicals, numerals, Hiragana, Katakana, Bopomofo,
                // ideographs.
                | '\u{2e80}'..='\u{2fdf}'
                | '\u{3005}'..='\u{3007}'
                | '\u{3021}'..='\u{3029}'
                | '\u{3031}'..='\u{312f}'
                | '\u{31a0}'..='\u{31bf}'
                | '\u{31f0}'..='\u{31ff}'
                | '\u{3400}'..='\u{4dbf}'
                | '\u{4e00}'..='\u{9fff}'
                | '\u{f900}'..='\u{faff}'
                | '\u{1aff0}'..='\u{1b16f}'
                | '\u{20000}'..='\u{3ffff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The elements as text: words as they are, signs with `+` before those that are joined.
    fn shown(text: &str) -> String {
        let elements = elements(text);
        let shown = elements.iter().map(|element| match element.kind {
            Kind::Sign { is_joined: true } => format!("+{}", element.text),
            _ => element.text.clone(),
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn words_and_signs() {
        for (text, expected) in [
            ("", ""),
            (" -- \0 \u{1f44b}", ""),
            ("Hello, World! x2", "hello world x2"),
            ("don't e-mail a_b", "don t e mail a b"),
            ("Crème BRÛLÉE cre\u{300}me", "creme brulee creme"),
            ("STRASSE straße", "strasse strasse"),
            ("ΣΊΣΥΦΟΣ σίσυφος", "σισυφοσ σισυφοσ"),
            ("İstanbul ISTANBUL ıstanbul", "istanbul istanbul istanbul"),
            ("Łódź Ørsted Đorđe", "lodz orsted dorde"),
            ("Ёлка Й", "елка и"),
            ("ﬁne ＡＢＣ １２ x²", "fine abc 12 x2"),
            ("שָׁלוֹם مَرْحَبًا", "שלום مرحبا"),
            ("foot\u{ad}ball a\u{200b}b", "football a b"),
            // Vowel signs of Devanagari are part of the word.
            ("का की", "का की"),
            // As Unicode decomposes them.
            ("한글", "\u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af}"),
            ("東京 東、京", "東 +京 東 京"),
            ("iPhone手机x", "iphone 手 +机 x"),
            ("カﾞ ガー", "カ +\u{3099} カ +\u{3099} +ー"),
            ("สวัสดี", "ส +ว +\u{e31} +ส +ด +\u{e35}"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn places_count_utf16_units() {
        let places = |text: &str| {
            let elements = elements(text);
            elements
                .iter()
                .map(|element| (element.start, element.end))
                .collect::<Vec<_>>()
        };
        assert_eq!(places("ab cd"), [(0, 2), (3, 5)]);
        // An emoji has two units.
        assert_eq!(places("\u{1f44b} ab"), [(3, 5)]);
        // Accents of their own belong to the word, and a ligature has one unit.
        assert_eq!(places("re\u{301}sume\u{301}, ﬁne"), [(0, 8), (10, 13)]);
        assert_eq!(places("東京"), [(0, 1), (1, 2)]);
        assert_eq!(places("\u{20000}\u{20001}"), [(0, 2), (2, 4)]);
    }

    #[test]
    fn a_word_ends_after_so_many_characters() {
        let long = "é".repeat(WORD_CHARS_MAX + 10);
        let found = elements(&long);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].text, "e".repeat(WORD_CHARS_MAX));
        assert_eq!(found[0].end, long.chars().count() as u32);
    }

    #[test]
    fn a_text_ends_after_so_many_words_and_signs() {
        for (element, separator) in [("word", " "), ("東", "")] {
            let text = format!("{element}{separator}").repeat(ELEMENTS_MAX + 10);
            let found = elements(&text);
            assert_eq!(found.len(), ELEMENTS_MAX);
            assert!(
                found.iter().all(|found| found.text == element),
                "whole words"
            );
        }
    }

    /// If this fails, the elements of some texts are others than before: raise `WORDS_VERSION`, so
    /// that all indexes are built anew, and put the new number here.
    #[test]
    fn the_elements_are_those_of_this_version() {
        // FNV-1a.
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for c in '\0'..=char::MAX {
            for Element { text, kind, .. } in elements(c.encode_utf8(&mut [0; 4])) {
                for byte in format!("{c}{text}{kind:?}").bytes() {
                    hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                }
            }
        }
        assert_eq!((WORDS_VERSION, hash), (3, 6_670_239_878_679_382_888));
    }
}
