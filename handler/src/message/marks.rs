//! Several `mark_read` at once, for a database on a server.
//!
//! The elements are the user's id, the conversation's and the message's.

use crate::conversation::members_rev;
use crate::set::{Element, Set, list, rows_by_key};
use crate::sql::{Row, Rows, Statement};

/// The most members that a conversation may have for its members to see who has read what.
pub const READ_RECEIPT_MEMBERS_MAX: i64 = 100;

pub(super) static MARKS: Set = Set {
    statements,
    // Each finds for itself how far its user has read.
    repeated: None,
    rows,
};

/// The columns of the guard's row.
const GUARD: usize = 2;

fn statements(elements: &[&Element]) -> Vec<Statement> {
    let ids = list(elements, 3);
    vec![
        // Before the update, which is what this says.
        Statement::new(
            concat!(
                "select key, 0, ", members_rev!("marked.conversation_id"), ",
                     iif(is_there and read_id < message_id, message_id, read_id), is_there,
                     (select count(*) from (select 1 from members where conversation_id = marked.conversation_id limit +?2)),
                     is_there and read_id < message_id
                 from (select e.key, mb.conversation_id, mb.read_id, e.value ->> 2 as message_id,
                         exists (select 1 from messages
                             where id = e.value ->> 2 and conversation_id = mb.conversation_id) as is_there
                     from json_each(?1) e cross join members mb
                         on mb.conversation_id = e.value ->> 1 and mb.user_id = e.value ->> 0) as marked"
            ),
            [ids.clone(), (READ_RECEIPT_MEMBERS_MAX + 1).into()],
        ),
        Statement::new(
            "update members set read_id = new.message_id
             from (select value ->> 0 as user_id, value ->> 1 as conversation_id, value ->> 2 as message_id
                 from json_each(?1)) as new
             where members.conversation_id = new.conversation_id and members.user_id = new.user_id
                 and read_id < new.message_id
                 and exists (select 1 from messages
                     where id = new.message_id and conversation_id = new.conversation_id)",
            [ids],
        ),
    ]
}

fn rows(elements: &[&Element], rows: &[Rows]) -> Vec<Vec<Rows>> {
    let mut found = rows_by_key(&rows[0]);
    let of_element = |key: usize| match found.remove(&(key as i64)) {
        Some(Row(mut guard)) => {
            let state = guard.split_off(GUARD);
            [vec![Row(guard)], Vec::new(), vec![Row(state)]]
                .map(Rows)
                .to_vec()
        }
        None => vec![Rows::default(); 3],
    };
    (0..elements.len()).map(of_element).collect()
}
