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

/// How the index is asked. Only words and signs come into it, never the text of the query, so
/// nothing in a query can be taken for FTS5's syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// An expression for FTS5 that every hit satisfies.
    pub expression: String,
    /// Whether a message that satisfies it may be no hit.
    pub is_vague: bool,
    /// Expressions of single tokens; every hit satisfies each of them. From them the costs are
    /// estimated.
    pub samples: Vec<String>,
}

/// As many tokens are looked at for the estimate.
const SAMPLES_MAX: usize = 8;

/// The lengths of beginnings of words for which the index has tokens. Shorter ones are in so many
/// messages that looking through the latest ones finds them; for longer ones, FTS5 finds all words
/// that begin so.
pub(crate) const BEGINNINGS: [usize; 2] = [3, 4];

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
            expression: String::new(),
            is_vague: false,
            samples: Vec::new(),
        };
        for term in &self.terms {
            term.ask(&mut question);
        }
        if question.expression.is_empty() {
            question.expression = format!("\"{OF_ALL}\"");
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
    /// Adds what the index has to have for this term.
    ///
    /// A phrase for FTS5 has whole words and pairs of signs, as [`tokens`] makes them. A single sign
    /// at the beginning or end of the term may be part of a longer row of signs in the message, so
    /// it is asked for by itself.
    ///
    /// [`tokens`]: crate::search::tokens::tokens
    fn ask(&self, question: &mut Question) {
        let mut phrase: Vec<String> = Vec::new();
        let mut marks: Vec<String> = Vec::new();
        let mut is_open = false;
        let groups = groups(&self.elements);
        let last = groups.len().saturating_sub(1);
        for (index, group) in groups.iter().enumerate() {
            let first = &group[0];
            match first.kind {
                Kind::Word { chars } if self.is_prefix && index == last => {
                    if BEGINNINGS.contains(&chars) {
                        marks.push(format!("{BEGINNING}{}", first.text));
                    } else if chars < BEGINNINGS[0] {
                        question.is_vague = true;
                    } else {
                        phrase.push(first.text.clone());
                        is_open = true;
                        let beginning = first.text.chars().take(BEGINNINGS[1]);
                        let beginning: String = beginning.collect();
                        question.sample(format!("\"{BEGINNING}{beginning}\""));
                    }
                }
                Kind::Word { .. } => phrase.push(first.text.clone()),
                Kind::Sign { .. } if group.len() > 1 => {
                    phrase.extend(group.windows(2).map(pair));
                }
                Kind::Sign { .. } if index > 0 && index < last => phrase.push(first.text.clone()),
                Kind::Sign { .. } => marks.push(format!("{BEGINNING}{}", first.text)),
            }
        }
        // Whether it is one thing that the index knows.
        question.is_vague |= !marks.is_empty() && groups.len() > 1;
        if !phrase.is_empty() {
            let whole = phrase.len() - usize::from(is_open);
            for token in &phrase[..whole] {
                question.sample(format!("\"{token}\""));
            }
            let end = if is_open { " *" } else { "" };
            question.and(&format!("\"{}\"{end}", phrase.join(" ")));
        }
        for mark in marks {
            let mark = format!("\"{mark}\"");
            question.and(&mark);
            question.sample(mark);
        }
    }
}

impl Question {
    fn and(&mut self, expression: &str) {
        if !self.expression.is_empty() {
            self.expression.push_str(" AND ");
        }
        self.expression.push_str(expression);
    }

    fn sample(&mut self, token: String) {
        if self.samples.len() < SAMPLES_MAX && !self.samples.contains(&token) {
            self.samples.push(token);
        }
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
        (question.expression, question.is_vague)
    }

    #[test]
    fn what_the_index_is_asked() {
        for (text, expression, is_vague) in [
            ("hello", r#""hello" *"#, false),
            ("Hello wor", r#""hello" AND "¤wor""#, false),
            ("hello w", r#""hello""#, true),
            ("w", r#""§""#, true),
            (
                r#""Hello World" again"#,
                r#""hello world" AND "again" *"#,
                false,
            ),
            (r#"one "two"#, r#""one" AND "two""#, false),
            ("“two words” x1y2", r#""two words" AND "¤x1y2""#, false),
            ("e-mail", r#""e" AND "¤mail""#, true),
            ("e-mails", r#""e mails" *"#, false),
            ("from:alice", r#""§""#, false),
            ("東", r#""¤東""#, false),
            ("東京都", r#""東京 京都""#, false),
            ("iphone手机", r#""iphone 手机""#, false),
            ("手x機y", r#""x 機" AND "¤手""#, true),
            (
                r#"a OR NOT (b) NEAR* c^ -d "#,
                r#""a" AND "or" AND "not" AND "b" AND "near" AND "c""#,
                true,
            ),
            (r#"words:x ' ; -- "#, r#""words""#, true),
        ] {
            assert_eq!(asked(text), (expression.into(), is_vague), "{text}");
        }
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
