//! Mentions: which members the content of a message names.
//!
//! A mention is an `@` at the beginning of the content, or after a character that is no letter,
//! digit or `_`, and then the longest username of a member that ends before such a character or at
//! the end. `@all` mentions everyone else in a conversation of at most `ALL_MEMBERS_MAX` members.
//!
//! Here the candidates are found; the database picks the members among them.

use crate::account::register::USERNAME_CHARS_MAX;
use crate::reply::json;

/// The most `@` in a message that are looked at, and so the most mentions besides `@all`.
pub const MENTIONS_MAX: usize = 50;

/// The most members of a conversation in which `@all` mentions everyone.
pub const ALL_MEMBERS_MAX: i64 = 100;

/// The most candidates after one `@`. A candidate ends wherever a username may, so a username in
/// which more words end cannot be mentioned.
const CANDIDATES_MAX: usize = 16;

/// Whom the content of a message may mention.
pub(crate) struct Candidates {
    /// For each `@` that may begin a mention, the texts after it that may be a username, the longest
    /// first: a list of lists, in JSON. "all" can only be the last of a list, because no username
    /// ends inside of it.
    pub names: String,
    /// The most users whom these mention.
    pub mentions_max: usize,
}

impl Candidates {
    /// Returns `None` if the content can mention nobody.
    pub fn of(content: &str) -> Option<Self> {
        if !has_mark(content) {
            return None;
        }
        let places = content.match_indices('@').filter_map(|(at, mark)| {
            let is_inside = content[..at].chars().next_back().is_some_and(is_word);
            let names = match is_inside {
                true => Vec::new(),
                false => names(&content[at + mark.len()..]),
            };
            (!names.is_empty()).then_some(names)
        });
        let places: Vec<_> = places.take(MENTIONS_MAX).collect();
        let is_all = |names: &&Vec<&str>| names.last() == Some(&"all");
        let mentions_max = match places.iter().filter(is_all).count() {
            0 => places.len(),
            // The sender is not among them.
            all => places.len() - all + ALL_MEMBERS_MAX as usize - 1,
        };
        (!places.is_empty()).then(|| Candidates {
            names: json(&places),
            mentions_max,
        })
    }
}

/// Most contents have no `@`, and each message pays for finding that out: the sixteen bytes of a part
/// are compared at once.
fn has_mark(content: &str) -> bool {
    let is_mark = |byte: &u8| *byte == b'@';
    let (parts, rest) = content.as_bytes().as_chunks::<16>();
    let has_one = |part: &[u8; 16]| part.iter().fold(false, |found, byte| found | is_mark(byte));
    parts.iter().any(has_one) || rest.iter().any(is_mark)
}

fn names(text: &str) -> Vec<&str> {
    let ends = text.char_indices().take(USERNAME_CHARS_MAX);
    let ends = ends.map(|(start, last)| text.split_at(start + last.len_utf8()));
    let names = ends.filter(|(_, rest)| !rest.starts_with(is_word));
    let mut names: Vec<_> = names.map(|(name, _)| name).take(CANDIDATES_MAX).collect();
    names.reverse();
    names
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The ids of the users whom a message of `$sender` in `$conversation` mentions, as a JSON list in
/// the order in which it names them, or null if there are none. `$names` are the [`Candidates`],
/// `$max` is `ALL_MEMBERS_MAX`.
macro_rules! mentioned {
    ($conversation:literal, $sender:literal, $names:literal, $max:literal) => {
        concat!(
            "(select iif(count(*) > 0, json_group_array(user_id), null) from (
                 select user_id from (
                     select at.key as place, mb.rowid as joined, mb.user_id
                     from json_each(", $names, ") at cross join members mb on mb.user_id = (
                         select u.id from json_each(at.value) name cross join users u on u.username = name.value
                             cross join members mb on mb.conversation_id = ", $conversation, " and mb.user_id = u.id
                         order by name.key limit 1)
                     where mb.conversation_id = ", $conversation, "
                     union all
                     select * from (
                         select at.key, mb.rowid, mb.user_id
                         from json_each(", $names, ") at cross join members mb
                         where mb.conversation_id = ", $conversation, " and mb.user_id <> ", $sender, "
                             and json_extract(at.value, '$[#-1]') = 'all'
                             and not exists (
                                 select 1 from json_each(at.value) name cross join users u on u.username = name.value
                                     cross join members mb on mb.conversation_id = ", $conversation, " and mb.user_id = u.id
                                 where name.value <> 'all')
                             and (select count(*) from (
                                 select 1 from members where conversation_id = ", $conversation, " limit ", $max, " + 1)) <= ", $max, "
                         limit +", $max, ")
                 ) group by user_id order by min(place), joined))"
        )
    };
}
pub(crate) use mentioned;

/// Stores who is mentioned by the messages `m` for which `$holds`. A sender
/// needs no row, because `get_mentions` and the unread count are about messages of others. Who has
/// blocked the sender gets none: it is not to be bothered by the message, which shows the mention as
/// ever.
macro_rules! insert_mentions {
    ($holds:literal) => {
        concat!(
            "insert into mentions (user_id, message_id, conversation_id, rev)
             select j.value, m.id, m.conversation_id, m.rev
             from messages m cross join json_each(m.mentions) j
             where ",
            $holds,
            " and j.value <> m.sender_id and not ",
            $crate::user::has_blocked!("j.value", "m.sender_id"),
            " on conflict do nothing"
        )
    };
}
pub(crate) use insert_mentions;

/// Forgets who is no longer mentioned by the message `?1`.
macro_rules! forget_mentions {
    () => {
        "delete from mentions where message_id = ?1 and not exists (
             select 1 from messages m cross join json_each(m.mentions) j
             where m.id = ?1 and j.value = mentions.user_id)"
    };
}
pub(crate) use forget_mentions;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_end_where_a_username_may() {
        for (content, expected) in [
            ("", None),
            ("@", None),
            ("no mention", None),
            ("a@b", None),
            ("_@b 1@b é@b", None),
            ("@b", Some(r#"[["b"]]"#)),
            ("(@b)", Some(r#"[["b)","b"]]"#)),
            ("@@b", Some(r#"[["@b"],["b"]]"#)),
            ("hi @b_1 c!", Some(r#"[["b_1 c!","b_1 c","b_1"]]"#)),
            (
                "@é-ß, @all",
                Some(r#"[["é-ß, @all","é-ß, ","é-ß,","é-ß","é"],["all"]]"#),
            ),
        ] {
            let found = Candidates::of(content).map(|candidates| candidates.names);
            assert_eq!(found.as_deref(), expected, "{content}");
        }
    }

    #[test]
    fn candidates_have_bounds() {
        for (content, places, names) in [
            ("@b ".repeat(60), MENTIONS_MAX, CANDIDATES_MAX),
            ("@@".repeat(30_000), MENTIONS_MAX, CANDIDATES_MAX),
            ("@".to_owned() + &"é".repeat(64), 1, 1),
        ] {
            let Some(candidates) = Candidates::of(&content) else {
                panic!("no candidates in {content}");
            };
            let found: Vec<Vec<String>> = serde_json::from_str(&candidates.names).expect("JSON");
            let longest = found.iter().map(Vec::len).max();
            assert_eq!((found.len(), longest), (places, Some(names)));
        }
        assert!(Candidates::of(&("@".to_owned() + &"é".repeat(65))).is_none());
    }
}
