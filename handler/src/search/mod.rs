//! The search: what a text consists of, what a query means, and the index of the words of all
//! messages. The event is in `message/search.rs`.
//!
//! The index is filled behind the messages, so that a send pays nothing for it. A search therefore
//! also looks through the messages that are not in it yet. And it compares each message that the
//! index names with the query: what counts is the message as it is now. So the index has to name
//! every hit among its messages, but may name others too, such as one that was edited a moment ago.

pub mod clear;
pub mod index;
pub(crate) mod places;
pub(crate) mod query;
pub(crate) mod tokens;
pub(crate) mod words;

pub use places::PLACES_MAX;
pub use query::{QUERY_CHARS_MAX, QUERY_ELEMENTS_MAX, QUERY_TERMS_MAX};
pub use words::{ELEMENTS_MAX, WORD_CHARS_MAX, WORDS_VERSION};

/// Keeps the content of the message `?1` if it is in the index and `$condition` holds for the
/// message, called `m`. A statement that changes the content has to follow: the index still holds
/// the words of the old one, and they can be removed only by naming them. If the message was
/// changed before and is not indexed again yet, the content that is kept already is the right one.
macro_rules! keep_indexed {
    ($condition:expr) => {
        concat!(
            "insert into search_stale (message_id, content)
             select m.id, m.content from messages m cross join search_state s on s.id = 1
             where m.id = ?1 and m.id > s.low and m.id <= s.high and ",
            $condition,
            " on conflict do nothing"
        )
    };
}
pub(crate) use keep_indexed;
