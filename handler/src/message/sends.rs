//! Several `send_message` at once, for a database on a server.
//!
//! The elements are the sender's id, the conversation's, `reply_id`, the time, `client_id` and the
//! content. A `reply_id` is looked for as it was before the set: nobody can know the id of a message
//! that is being stored.

use std::collections::HashMap;

use libsql::Value;

use crate::conversation::members_rev;
use crate::message::{message_columns, sender};
use crate::set::{Element, Set, list, rows_by_key};
use crate::sql::{Row, Rows, Statement};

pub(super) static SENDS: Set = Set {
    statements,
    repeated: Some(repeated),
    rows,
};

/// The place of the content, which only the first statement needs.
const CONTENT: usize = 5;

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
            && element.integer(2) == reply_id
            && element.str(4) == self.client_id.as_deref()
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
        ]
    };
}

fn finding(
    [stored, members, duplicates]: [&'static str; 3],
    elements: &[&Element],
) -> [Statement; 3] {
    let ids = list(elements, CONTENT);
    let count = Value::from(elements.len() as i64);
    [
        Statement::new(stored, []),
        Statement::new(members, [ids.clone(), count.clone()]),
        Statement::new(duplicates, [ids, count]),
    ]
}

fn statements(elements: &[&Element]) -> Vec<Statement> {
    let insert = Statement::new(
        "with e as materialized (
             select key, value ->> 0 as sender_id, value ->> 1 as conversation_id, value ->> 2 as reply_id,
                 value ->> 3 as sent_at, value ->> 4 as client_id, value ->> 5 as content
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
         insert or fail into messages (sender_id, conversation_id, reply_id, sent_at, content, client_id, rev)
         select sender_id, conversation_id, reply_id, sent_at, content, client_id, rev from new order by key",
        [list(elements, CONTENT + 1)],
    );
    // The ids of one statement follow each other. A select leaves changes() as it is.
    let find = find!("(last_insert_rowid() - changes())", "last_insert_rowid()");
    let raise_revs = Statement::new(
        "update conversations set rev = conversations.rev + new.count, activity = new.id
         from (select conversation_id, count(*) as count, max(id) as id from messages
             where id > last_insert_rowid() - changes() and id <= last_insert_rowid()
             group by conversation_id) as new
         where conversations.id = new.conversation_id",
        [],
    );
    let mut statements = vec![insert];
    statements.extend(finding(find, elements));
    statements.push(raise_revs);
    statements
}

fn repeated(elements: &[&Element], before: i64, after: i64) -> Vec<Statement> {
    let [mut stored, mut members, mut duplicates] = finding(find!("?3", "?4"), elements);
    stored.parameters = vec![Value::Null, Value::Null];
    for statement in [&mut stored, &mut members, &mut duplicates] {
        statement.parameters.extend([before.into(), after.into()]);
    }
    // In place of the one that stores.
    let mut statements = vec![Statement::new("select null where 0", [])];
    statements.extend([stored, members, duplicates]);
    statements
}

fn rows(elements: &[&Element], rows: &[Rows]) -> Vec<Vec<Rows>> {
    let text = rows[1].first().map(|row| row.columns().text());
    let stored = text.and_then(|text| serde_json::from_str::<Vec<Stored>>(&text).ok());
    let mut stored = stored.unwrap_or_default().into_iter().peekable();
    let mut members = rows_by_key(&rows[2]);
    let mut duplicates = rows_by_key(&rows[3]);
    let of_element = |(key, element): (usize, &&Element)| {
        let key = key as i64;
        let found = |rows: &mut HashMap<i64, Row>| Rows(rows.remove(&key).into_iter().collect());
        let message = stored.next_if(|stored| stored.is_of(element));
        let message = message.map(|stored| {
            let columns = [stored.id, stored.rev, stored.members_rev];
            Row(columns.map(Value::from).to_vec())
        });
        vec![
            Rows::default(),
            Rows::default(),
            Rows(message.into_iter().collect()),
            found(&mut members),
            found(&mut duplicates),
        ]
    };
    elements.iter().enumerate().map(of_element).collect()
}
