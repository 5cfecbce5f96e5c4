//! Several `send_message` at once, for a database on a server.
//!
//! The elements are the sender's id, the conversation's, `reply_id`, the time, `client_id`, the
//! content, and whom it may mention, if anyone. A `reply_id` is looked for as it was before the set: nobody can know the id of a message
//! that is being stored.

use std::collections::HashMap;

use libsql::Value;

use crate::conversation::members_rev;
use crate::message::mention::{ALL_MEMBERS_MAX, insert_mentions, mentioned};
use crate::message::{message_columns, sender};
use crate::set::{Element, Set, list, rows_by_key};
use crate::sql::{Row, Rows, Statement};

pub(super) static SENDS: Set = Set {
    statements,
    repeated: Some(repeated),
    rows,
};

/// The places of what may say why a message is not stored.
const REPLY: usize = 2;
const CLIENT: usize = 4;

/// The places of the content and of the candidates, which only the first statement needs.
const CONTENT: usize = 5;
const CANDIDATES: usize = 6;

/// The number of the statement that returns the messages that mention somebody.
const MENTIONING: usize = 4;

/// A message that was stored.
#[derive(serde::Deserialize)]
struct Stored {
    id: i64,
    rev: i64,
    members_rev: i64,
    /// The sender's id, the conversation's, and `reply_id`.
    ids: (i64, i64, Option<i64>),
    client_id: Option<String>,
}

impl Stored {
    /// Whether it is this element's. Elements that are alike in this are stored, or not, alike.
    fn is_of(&self, element: &Element) -> bool {
        let (sender_id, conversation_id, reply_id) = self.ids;
        element.integer(0) == Some(sender_id)
            && element.integer(1) == Some(conversation_id)
            && element.integer(REPLY) == reply_id
            && element.str(CLIENT) == self.client_id.as_deref()
    }
}

/// Finds the messages with ids above `$before` and up to `$after`, and what the others need to know
/// why they were not stored: one list of each kind.
macro_rules! find {
    ($before:literal, $after:literal) => {
        [
            concat!(
                "select json_group_array(json_array(id, rev, members_rev,
                     json_array(sender_id, conversation_id, reply_id), client_id))
                 from (select id, rev, ", members_rev!("m.conversation_id"), " as members_rev,
                         sender_id, conversation_id, reply_id, client_id
                     from messages m where id > ", $before, " and id <= ", $after, " order by id)"
            ),
            concat!(
                "select e.key, 0, ", members_rev!("mb.conversation_id"), ", c.is_silent
                 from json_each(iif(", $after, " - ", $before, " < ?2, ?1, '[]')) e
                     cross join members mb on mb.conversation_id = e.value ->> 1 and mb.user_id = e.value ->> 0
                     cross join conversations c on c.id = mb.conversation_id"
            ),
            concat!(
                "select e.key, ", message_columns!(),
                " from json_each(iif(", $after, " - ", $before, " < ?2, ?1, '[]')) e
                     cross join messages m on m.conversation_id = e.value ->> 1 and m.sender_id = e.value ->> 0
                         and m.client_id = e.value ->> 4", sender!(),
                " where m.id not between ", $before, " + 1 and ", $after
            ),
            concat!(
                "select m.id, ", message_columns!(), " from messages m", sender!(),
                " where m.id > ", $before, " and m.id <= ", $after, " and m.mentions is not null"
            ),
        ]
    };
}

fn finding(finding: [&'static str; 4], elements: &[&Element]) -> Vec<Statement> {
    let [stored, members, duplicates, mentioning] = finding;
    let ids = list(elements, CONTENT);
    let count = Value::from(elements.len() as i64);
    let mut statements = vec![
        Statement::new(stored, []),
        Statement::new(members, [ids.clone(), count.clone()]),
        Statement::new(duplicates, [ids, count]),
    ];
    if may_mention(elements) {
        statements.push(Statement::new(mentioning, []));
    }
    statements
}

/// Whether one of these may mention somebody. The other sets need not look for that.
fn may_mention(elements: &[&Element]) -> bool {
    let mut candidates = elements.iter().map(|element| element.str(CANDIDATES));
    candidates.any(|candidates| candidates.is_some())
}

macro_rules! insert {
    ($column:literal, $value:expr) => {
        concat!(
            "with e as materialized (
                 select key, value ->> 0 as sender_id, value ->> 1 as conversation_id, value ->> 2 as reply_id,
                     value ->> 3 as sent_at, value ->> 4 as client_id, value ->> 5 as content, value ->> 6 as candidates
                 from json_each(?1)),
             new as materialized (
                 select e.*, c.rev + row_number() over (partition by c.id order by e.key) as rev
                 from e cross join conversations c on c.id = e.conversation_id
                 where c.is_silent = 0
                     and exists (select 1 from members where conversation_id = c.id and user_id = e.sender_id)
                     and (e.reply_id is null
                         or exists (select 1 from messages where id = e.reply_id and conversation_id = c.id))
                     and (e.client_id is null
                         or not exists (select 1 from messages
                             where conversation_id = c.id and sender_id = e.sender_id and client_id = e.client_id)))
             insert or fail into messages (sender_id, conversation_id, reply_id, sent_at, content, client_id, rev",
            $column,
            ") select sender_id, conversation_id, reply_id, sent_at, content, client_id, rev",
            $value,
            " from new order by key"
        )
    };
}

fn statements(elements: &[&Element]) -> Vec<Statement> {
    let may_mention = may_mention(elements);
    let insert = match may_mention {
        false => Statement::new(insert!("", ""), [list(elements, CONTENT + 1)]),
        true => Statement::new(
            insert!(
                ", mentions",
                concat!(
                    ", iif(candidates is null, null, ",
                    mentioned!(
                        "new.conversation_id",
                        "new.sender_id",
                        "new.candidates",
                        "?2"
                    ),
                    ")"
                )
            ),
            [list(elements, CANDIDATES + 1), ALL_MEMBERS_MAX.into()],
        ),
    };
    let mut statements = vec![insert];
    // The ids of one statement follow each other. A select leaves changes() as it is.
    let find = find!("(last_insert_rowid() - changes())", "last_insert_rowid()");
    statements.extend(finding(find, elements));
    if may_mention {
        // The statement reads the range before it inserts, because its own rows get ids too.
        statements.push(Statement::new(
            insert_mentions!(
                "m.id > (select last_insert_rowid() - changes()) and m.id <= (select last_insert_rowid())
                     and m.mentions is not null"
            ),
            [],
        ));
    }
    // Not by those ids, which are no longer known: the latest message of a conversation has its rev.
    statements.push(Statement::new(
        "update conversations set (rev, activity) = (select rev, id from messages
             where conversation_id = conversations.id order by rev desc limit 1)
         where id in (select value ->> 1 from json_each(?1))
             and rev < (select max(rev) from messages where conversation_id = conversations.id)",
        [list(elements, 2)],
    ));
    statements
}

fn repeated(elements: &[&Element], before: i64, after: i64) -> Vec<Statement> {
    let mut statements = finding(find!("?3", "?4"), elements);
    for statement in &mut statements {
        statement.parameters.resize(2, Value::Null);
        statement.parameters.extend([before.into(), after.into()]);
    }
    // In place of the one that stores.
    statements.insert(0, Statement::new("select null where 0", []));
    statements
}

fn rows(elements: &[&Element], rows: &[Rows]) -> Vec<Vec<Rows>> {
    let text = rows[1].first().map(|row| row.columns().text());
    let stored = text.and_then(|text| serde_json::from_str::<Vec<Stored>>(&text).ok());
    let mut stored = stored.unwrap_or_default().into_iter().peekable();
    let mut members = rows_by_key(&rows[2]);
    let mut duplicates = rows_by_key(&rows[3]);
    let mentioning = rows.get(MENTIONING).filter(|_| may_mention(elements));
    let mut mentioning = mentioning.map(rows_by_key).unwrap_or_default();
    let of_element = |(key, element): (usize, &&Element)| {
        let key = key as i64;
        let one = |row: Option<Row>| Rows(row.into_iter().collect());
        let found = |rows: &mut HashMap<i64, Row>| one(rows.remove(&key));
        let stored = stored.next_if(|stored| stored.is_of(element));
        let message = stored
            .as_ref()
            .and_then(|stored| mentioning.remove(&stored.id));
        let stored = stored.map(|stored| {
            let columns = [stored.id, stored.rev, stored.members_rev];
            Row(columns.map(Value::from).to_vec())
        });
        let mut rows = vec![
            Rows::default(),
            Rows::default(),
            one(stored),
            found(&mut members),
        ];
        // As of a statement of its own, which asks for a duplicate only if there may be one.
        if element.integer(REPLY).is_some() || element.str(CLIENT).is_some() {
            rows.push(found(&mut duplicates));
        }
        rows.push(one(message));
        rows
    };
    elements.iter().enumerate().map(of_element).collect()
}
