//! What the index holds of a message: a text of tokens, separated by spaces.
//!
//! FTS5 splits it at the spaces and nowhere else: its tokenizer `ascii` separates at ASCII
//! characters that are no letters or digits, and words have none of those.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write;

use crate::search::query::{
    BEGINNING, BEGINNINGS, OF_ALL, OF_CONVERSATION, OF_SENDER, groups, pair,
};
use crate::search::words::{Kind, elements};

/// The tokens of a message, each once, because FTS5 passes by all places of a token when it goes on to
/// the next message:
///
/// - its words, and each pair of signs of its rows of signs;
/// - its signs, and the first letters of its words, which find parts of words;
/// - its conversation, its sender, and a token that all messages have.
pub(crate) fn tokens(content: &str, conversation_id: i64, sender_id: i64) -> String {
    let elements = elements(content);
    let mut whole = BTreeSet::new();
    let mut beginnings = BTreeSet::new();
    for group in groups(&elements) {
        let first = &group[0];
        match first.kind {
            Kind::Word { .. } => {
                for length in BEGINNINGS {
                    if let Some((end, last)) = first.text.char_indices().nth(length - 1) {
                        beginnings.insert(&first.text[..end + last.len_utf8()]);
                    }
                }
                whole.insert(Cow::from(&first.text));
            }
            Kind::Sign { .. } => {
                beginnings.extend(group.iter().map(|sign| sign.text.as_str()));
                if group.len() == 1 {
                    whole.insert(Cow::from(&first.text));
                }
                whole.extend(group.windows(2).map(|signs| Cow::from(pair(signs))));
            }
        }
    }
    let mut text = String::with_capacity(3 * content.len() + 32);
    for token in whole {
        text.extend([&*token, " "]);
    }
    for beginning in beginnings {
        text.extend([BEGINNING, beginning, " "]);
    }
    // A `String` takes whatever is written.
    let _ = write!(
        text,
        "{OF_CONVERSATION}{conversation_id} {OF_SENDER}{sender_id} {OF_ALL}"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_some_texts() {
        for (text, expected) in [
            ("", ""),
            ("Hi, hello hello", "hello hi ¤hel ¤hello "),
            ("Crème brûlées", "brulees creme ¤bru ¤brule ¤cre ¤creme "),
            ("Internationale", "internationale ¤int ¤inter ¤internat "),
            ("東京都x机", "x 京都 机 東京 ¤京 ¤机 ¤東 ¤都 "),
        ] {
            assert_eq!(tokens(text, 7, 8), format!("{expected}§c7 §s8 §"), "{text}");
        }
    }
}
