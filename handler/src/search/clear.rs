//! Emptying the index, and switching the search on and off.

use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::search::words::WORDS_VERSION;
use crate::sql::{Rows, Statement};

/// Pages of the index, of about 4 KB, that one operation removes, so that it does not hold up other
/// operations: SQLite overwrites them.
pub const CLEARED_PAGES_MAX: i64 = 200;

/// Removes a part of the index. From the first part on, nobody reads the index, and all messages
/// count as not indexed. After the last part it is empty and can be filled again.
///
/// It removes rows of FTS5's own tables, because FTS5 can only remove all of them at once, which
/// takes many seconds if there are many messages.
pub struct ClearIndex;

/// Whether nothing is left but what an empty index has: its averages, and its empty structure.
macro_rules! is_cleared {
    () => {
        "not exists (select 1 from search_data where id > 10) and not exists (select 1 from search_idx)
             and not exists (select 1 from search_stale)"
    };
}

impl Operation for ClearIndex {
    /// Whether this was the last part.
    type Output = bool;

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        let max = || [CLEARED_PAGES_MAX.into()];
        vec![
            Statement::new(
                "update search_state set is_clearing = 1,
                     low = (select coalesce(max(id), 0) from messages),
                     high = (select coalesce(max(id), 0) from messages)
                 where id = 1 and is_clearing = 0",
                [],
            ),
            Statement::new(
                "delete from search_stale where message_id in (select message_id from search_stale limit +?1)",
                max(),
            ),
            Statement::new(
                "delete from search_data where id in (select id from search_data where id > 10 limit +?1)",
                max(),
            ),
            Statement::new(
                "delete from search_idx where (segid, term) in (select segid, term from search_idx limit +?1)",
                max(),
            ),
            Statement::new(
                concat!(
                    "insert into search (search) select 'delete-all' where ",
                    is_cleared!()
                ),
                [],
            ),
            Statement::new(
                concat!(
                    "update search_state set is_clearing = 0, words_version = ?1,
                         low = (select coalesce(max(id), 0) from messages),
                         high = (select coalesce(max(id), 0) from messages)
                     where id = 1 and ",
                    is_cleared!(),
                    " returning 1"
                ),
                [WORDS_VERSION.into()],
            ),
        ]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<bool, Error> {
        Ok(rows.last().is_some_and(|rows| !rows.is_empty()))
    }
}

/// Says whether the operator wants the search. Without it, `search_messages` is refused.
pub struct SwitchSearch {
    pub is_on: bool,
}

impl Operation for SwitchSearch {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "update search_state set is_off = ?1 where id = 1 and is_off <> ?1",
            [i64::from(!self.is_on).into()],
        )]
    }

    fn conclude(&self, _: &Context, _: &[Rows], _: &mut Outbox) -> Result<(), Error> {
        Ok(())
    }
}
