//! Whether a text has what a query asks for, and where.

use crate::search::query::{Query, Term};
use crate::search::words::{Element, Kind, elements};

/// The most places that are told of one message.
pub const PLACES_MAX: usize = 100;

/// About as many words are compared with each other in the time in which one is read from a text.
const STEPS_PER_ELEMENT: usize = 8;

/// From where to where, in UTF-16 code units: what JavaScript's `slice` takes.
pub type Place = [u32; 2];

impl Query {
    /// Where the text has the terms of the query: the places of all of them, in the order of the
    /// text, none of which overlap. `None` if it lacks one of the terms. Adds to `compared` how many
    /// words and signs the text has, and a `STEPS_PER_ELEMENT`th of the steps into its terms.
    pub fn places(&self, text: &str, compared: &mut usize) -> Option<Vec<Place>> {
        let elements = elements(text);
        *compared += elements.len();
        let mut places: Vec<Place> = Vec::new();
        for term in &self.terms {
            let (before, mut steps) = (places.len(), 0);
            places.extend(term.places(&elements, &mut steps));
            *compared += steps / STEPS_PER_ELEMENT;
            if places.len() == before {
                return None;
            }
        }
        places.sort_unstable();
        let mut merged: Vec<Place> = Vec::new();
        for [start, end] in places {
            match merged.last_mut() {
                Some([_, last]) if start < *last => *last = end.max(*last),
                _ => merged.push([start, end]),
            }
        }
        merged.truncate(PLACES_MAX);
        Some(merged)
    }
}

impl Term {
    fn places(&self, text: &[Element], steps: &mut usize) -> impl Iterator<Item = Place> {
        let windows = text.windows(self.elements.len());
        let found = windows.filter(|window| self.is_at(window, steps));
        found.map(|window| [window[0].start, window[window.len() - 1].end])
    }

    /// Whether these elements of a text, as many as the term has, are those of the term. A row of
    /// signs in the term may be part of a longer row at the term's beginning and at its end.
    fn is_at(&self, text: &[Element], steps: &mut usize) -> bool {
        let last = self.elements.len() - 1;
        self.elements
            .iter()
            .zip(text)
            .enumerate()
            .all(|(index, (wanted, found))| {
                // The first one comes with reading the word.
                *steps += usize::from(index > 0);
                let is_same = match (wanted.kind, found.kind) {
                    (Kind::Sign { is_joined: wanted }, Kind::Sign { is_joined: found }) => {
                        index == 0 || wanted == found
                    }
                    (Kind::Word { .. }, Kind::Word { .. }) => {
                        if self.is_prefix && index == last {
                            return found.text.starts_with(&wanted.text);
                        }
                        true
                    }
                    _ => false,
                };
                is_same && wanted.text == found.text
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text with its hits in brackets; empty if it is none.
    fn marked(query: &str, text: &str) -> String {
        let places = Query::parse(query).expect("a query").places(text, &mut 0);
        let units: Vec<u16> = text.encode_utf16().collect();
        let slice =
            |from: u32, to: u32| String::from_utf16_lossy(&units[from as usize..to as usize]);
        let Some(places) = places else {
            return String::new();
        };
        let (mut shown, mut at) = (String::new(), 0);
        for [start, end] in places {
            shown += &format!("{}[{}]", slice(at, start), slice(start, end));
            at = end;
        }
        shown + &slice(at, units.len() as u32)
    }

    #[test]
    fn hits_are_marked() {
        for (query, text, expected) in [
            ("hello", "Hello, hello!", "[Hello], [hello]!"),
            ("hel", "say hello", "say [hello]"),
            ("hel lo", "hello", ""),
            ("\"hel\"", "hello", ""),
            ("world hello", "hello 👋 world", "[hello] 👋 [world]"),
            ("creme", "Crème brûlée", "[Crème] brûlée"),
            (
                "\"to be\"",
                "to, be or not to be",
                "[to, be] or not [to be]",
            ),
            ("\"to be to\" be", "to be to be to", "[to be to be to]"),
            (
                "e-mail",
                "my E-Mail and e mails",
                "my [E-Mail] and [e mails]",
            ),
            ("東京", "東京都は東、京", "[東京]都は東、京"),
            ("京", "東京都", "東[京]都"),
            ("\"京都 は\"", "東京都 は", "東[京都 は]"),
            ("\"都 は\"", "東京都は", ""),
            ("สวัส", "สวัสดี", "[สวัส]ดี"),
            ("机x", "手机x", "手[机x]"),
            ("x机", "x机手", "[x机]手"),
            ("x机y", "x机手y", ""),
            ("from:alice", "anything", "anything"),
        ] {
            assert_eq!(marked(query, text), expected, "{query} in {text}");
        }
    }

    #[test]
    fn there_are_only_so_many() {
        let places = Query::parse("a")
            .expect("a query")
            .places(&"a ".repeat(PLACES_MAX + 1), &mut 0);
        assert_eq!(places.map(|places| places.len()), Some(PLACES_MAX));
    }
}
