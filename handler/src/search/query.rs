//! What somebody searches for, and how the index is asked for it.

use crate::error::Error;
use crate::search::words::{Element, Kind, elements};

/// The longest query, in characters.
pub const QUERY_CHARS_MAX: usize = 256;
/// The most words and phrases in a query: the index looks each of them up.
pub const QUERY_TERMS_MAX: usize = 16;
/// The most words and signs in a query, those of its phrases included: each message that may be a
/// hit is compared with all of them.
pub const QUERY_ELEMENTS_MAX: usize = 64;

/// A query. A message is a hit if it has all the terms, and the sender is the right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    pub terms: Vec<Term>,
    /// The username of the sender.
    pub from: Option<String>,
}

/// Words and signs that follow each other: a word, a phrase in quotation marks, or a word of
/// several parts such as `e-mail`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Term {
    pub elements: Vec<Element>,
    /// Whether the last element may be the beginning of a word.
    pub is_prefix: bool,
}

/// How the index is asked: for single tokens. FTS5 could find phrases, and all words with a certain
/// beginning. But it finds a phrase by going through all places of its words in each message, and a
/// beginning by putting together the lists of all words that begin so. Nothing bounds the time for
/// that. So a message that has the tokens is compared with the query, and how much is compared has a
/// bound.
///
/// Only words and signs come into it, never the text of the query, so nothing in a query can be taken
/// for FTS5's syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// Every hit has all of them.
    pub tokens: Vec<String>,
    /// Whether a message that has them may be no hit.
    pub is_vague: bool,
}

/// The index is asked for as many tokens at most, the longest ones: those are rare.
const TOKENS_MAX: usize = 6;

/// The lengths of beginnings of words for which the index has tokens. A shorter beginning is in so
/// many messages that looking through the latest ones finds it.
pub(crate) const BEGINNINGS: [usize; 3] = [3, 5, 8];

/// Mark tokens that are no words: no word has these characters.
pub(crate) const OF_ALL: &str = "§";
pub(crate) const OF_CONVERSATION: &str = "§c";
pub(crate) const OF_SENDER: &str = "§s";
/// A sign or the beginning of a word.
pub(crate) const BEGINNING: &str = "¤";

impl Query {
    /// Reads a query: words, phrases in quotation marks, and `from:` with a username. The last word
    /// may be the beginning of one, unless it is in quotation marks.
    pub fn parse(text: &str) -> Result<Query, Error> {
        let mut query = Query {
            terms: Vec::new(),
            from: None,
        };
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("from:")
                && !after.starts_with(char::is_whitespace)
                && !after.is_empty()
            {
                let (piece, next) = piece(after);
                query.from = Some(piece.text.to_owned());
                rest = next;
                continue;
            }
            let (piece, next) = piece(rest);
            rest = next;
            let elements = elements(piece.text);
            if !elements.is_empty() {
                query.terms.push(Term {
                    elements,
                    is_prefix: !piece.is_quoted,
                });
            }
        }
        if let Some((_, others)) = query.terms.split_last_mut() {
            others.iter_mut().for_each(|term| term.is_prefix = false);
        }
        let count: usize = query.terms.iter().map(|term| term.elements.len()).sum();
        if query.terms.is_empty() && query.from.is_none() {
            let text = "query should have a letter or a digit";
            return Err(Error::Invalid(text.into()));
        }
        if query.terms.len() > QUERY_TERMS_MAX || count > QUERY_ELEMENTS_MAX {
            return Err(Error::TooLarge(format!(
                "query should have at most {QUERY_TERMS_MAX} words and phrases, and {QUERY_ELEMENTS_MAX} words in all"
            )));
        }
        Ok(query)
    }

    pub fn question(&self) -> Question {
        let mut question = Question {
            tokens: Vec::new(),
            is_vague: false,
        };
        for term in &self.terms {
            term.ask(&mut question);
        }
        let tokens = &mut question.tokens;
        if tokens.len() > TOKENS_MAX {
            tokens.sort_by_key(|token| std::cmp::Reverse(token.chars().count()));
            tokens.truncate(TOKENS_MAX);
            question.is_vague = true;
        }
        if tokens.is_empty() {
            tokens.push(OF_ALL.into());
        }
        question
    }
}

/// A part of a query: what is in quotation marks, or what goes up to a space.
struct Piece<'a> {
    text: &'a str,
    is_quoted: bool,
}

/// Phones replace the quotation mark by one of these.
fn is_quotation_mark(c: char) -> bool {
    matches!(c, '"' | '“' | '”' | '„' | '«' | '»')
}

/// Splits the first piece off, and the spaces after it.
fn piece(text: &str) -> (Piece<'_>, &str) {
    let (text, rest, is_quoted) = match text.strip_prefix(is_quotation_mark) {
        Some(quoted) => {
            let (quoted, rest) = quoted.split_once(is_quotation_mark).unwrap_or((quoted, ""));
            (quoted, rest, true)
        }
        None => {
            let is_end = |c: char| c.is_whitespace() || is_quotation_mark(c);
            let (word, rest) = text.split_at(text.find(is_end).unwrap_or(text.len()));
            (word, rest, false)
        }
    };
    (Piece { text, is_quoted }, rest.trim_start())
}

impl Term {
    /// Adds what the index has to have for this term: whole words and pairs of signs, as [`tokens`]
    /// makes them. A single sign at the beginning or end of the term may be part of a longer row of
    /// signs in the message.
    ///
    /// [`tokens`]: crate::search::tokens::tokens
    fn ask(&self, question: &mut Question) {
        let groups = groups(&self.elements);
        let last = groups.len().saturating_sub(1);
        // The index does not say where in a message they are.
        question.is_vague |= groups.len() > 1;
        for (index, group) in groups.iter().enumerate() {
            let first = &group[0];
            match first.kind {
                Kind::Word { chars } if self.is_prefix && index == last => {
                    let known = BEGINNINGS.into_iter().rfind(|length| *length <= chars);
                    question.is_vague |= known != Some(chars);
                    if let Some(length) = known {
                        let beginning: String = first.text.chars().take(length).collect();
                        question.and(format!("{BEGINNING}{beginning}"));
                    }
                }
                Kind::Word { .. } => question.and(first.text.clone()),
                Kind::Sign { .. } if group.len() > 1 => {
                    question.is_vague |= group.len() > 2;
                    group.windows(2).for_each(|signs| question.and(pair(signs)));
                }
                Kind::Sign { .. } if index > 0 && index < last => question.and(first.text.clone()),
                Kind::Sign { .. } => question.and(format!("{BEGINNING}{}", first.text)),
            }
        }
    }
}

fn quoted(token: &String) -> String {
    format!("\"{token}\"")
}

impl Question {
    fn and(&mut self, token: String) {
        if !self.tokens.contains(&token) {
            self.tokens.push(token);
        }
    }

    /// For FTS5.
    pub fn expression(&self) -> String {
        let quoted: Vec<_> = self.tokens.iter().map(quoted).collect();
        quoted.join(" AND ")
    }

    /// Expressions by which the costs are estimated. The token that all messages have never is the
    /// rarest one.
    pub fn samples(&self) -> Vec<String> {
        let others = self.tokens.iter().filter(|token| *token != OF_ALL);
        others.map(quoted).collect()
    }
}

/// Words one by one, and rows of joined signs.
pub(crate) fn groups(elements: &[Element]) -> Vec<&[Element]> {
    let is_joined = |_: &Element, next: &Element| next.kind == Kind::Sign { is_joined: true };
    elements.chunk_by(is_joined).collect()
}

/// The token of two signs, one after the other.
pub(crate) fn pair(signs: &[Element]) -> String {
    signs.iter().map(|sign| sign.text.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> (String, bool) {
        let question = Query::parse(text).expect("a query").question();
        (question.tokens.join(" "), question.is_vague)
    }

    #[test]
    fn what_the_index_is_asked() {
        for (text, tokens, is_vague) in [
            ("hello", "¤hello", false),
            ("hell", "¤hel", true),
            ("Hello wor", "hello ¤wor", false),
            ("hello w", "hello", true),
            ("hello hello hello", "hello ¤hello", false),
            ("w", "§", true),
            (r#""Hello World" again"#, "hello world ¤again", true),
            (r#"one "two"#, "one two", false),
            (r#""to be or not to be""#, "to be or not", true),
            ("“two words” internat", "two words ¤internat", true),
            ("“two” internationally", "two ¤internat", true),
            ("e-mail", "e ¤mai", true),
            ("e-mails", "e ¤mails", true),
            ("from:alice", "§", false),
            ("東", "¤東", false),
            ("東京", "東京", false),
            ("東京都", "東京 京都", true),
            ("iphone手机", "iphone 手机", true),
            ("手x機y", "¤手 x 機", true),
            (r#"a OR NOT (b) NEAR* c^ -d "#, "a or not b near c", true),
            (r#"words:x ' ; -- "#, "words", true),
            (
                "a bb ccc dd e fff gg h ii jjj",
                "¤jjj ccc fff bb dd gg",
                true,
            ),
        ] {
            assert_eq!(asked(text), (tokens.into(), is_vague), "{text}");
        }
        let question = Query::parse("one two").expect("a query").question();
        assert_eq!(question.expression(), r#""one" AND "¤two""#);
    }

    #[test]
    fn senders() {
        for (text, from, terms) in [
            ("from:alice", Some("alice"), 0),
            ("from:Alice hello", Some("Alice"), 1),
            (r#"hello from:"alice a" you"#, Some("alice a"), 2),
            ("from: alice", None, 2),
            ("from:", None, 1),
            ("from:alice from:bob", Some("bob"), 0),
        ] {
            let query = Query::parse(text).expect("a query");
            assert_eq!((query.from.as_deref(), query.terms.len()), (from, terms));
        }
    }

    #[test]
    fn what_is_no_query() {
        for text in ["", "  ", "!?", "\"\"", "👍", "\"", "“”"] {
            let error = Query::parse(text).expect_err("nothing to find");
            assert_eq!(error.code(), "invalid", "{text}");
        }
        let words = |count: usize| vec!["a"; count].join(" ");
        assert!(Query::parse(&words(QUERY_TERMS_MAX)).is_ok());
        let error = Query::parse(&words(QUERY_TERMS_MAX + 1)).expect_err("too many");
        assert_eq!(error.code(), "too_large");
        assert!(Query::parse(&"東".repeat(QUERY_ELEMENTS_MAX)).is_ok());
        let error = Query::parse(&"東".repeat(QUERY_ELEMENTS_MAX + 1)).expect_err("too many");
        assert_eq!(error.code(), "too_large");
    }
}
