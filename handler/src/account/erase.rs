//! Erasing what a deleted account has in other tables. That may be much, so it is done in pieces,
//! each of them an operation that may be repeated. A piece that is lost is found again: the
//! account's row says what is left.

use std::sync::Arc;

use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::sql::{Row, Rows, Statement};

/// Conversations that are found, and so left, between two pieces of the rest.
pub const CONVERSATIONS_AT_ONCE: i64 = 100;
/// Contacts, and mentions, that one piece erases. Each contact is two rows.
pub const ROWS_AT_ONCE: i64 = 500;
/// Reactions that one piece looks at, because nothing finds those of a user.
pub const REACTIONS_AT_ONCE: i64 = 5_000;
/// A host that has begun to erase an account is left alone with it for this long after each piece.
pub const TURN_SECONDS: i64 = 10;
/// An account is not done before this time: until then a socket of its user may be open on a host
/// that the news has not reached.
pub const LATEST_SOCKET_SECONDS: i64 = 120;

/// Finds a deleted account that has something left.
pub struct FindUnerased;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unerased {
    pub user_id: i64,
    pub username: Arc<str>,
}

/// Whether the user `d.user_id` has to leave the conversation `c`. If it is direct, the other one
/// has to be told instead.
macro_rules! is_left_to_leave {
    () => {
        "(c.direct is null or c.id > d.left_through)"
    };
}

impl Operation for FindUnerased {
    type Output = Option<Unerased>;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "select user_id, cast(username as blob) from deleted_accounts
             where due_at <= unixepoch() order by due_at, user_id limit 1",
            [],
        )]
    }

    fn conclude(
        &self,
        _: &Context,
        rows: &[Rows],
        _: &mut Outbox,
    ) -> Result<Option<Unerased>, Error> {
        Ok(rows[0].first().map(|row| {
            let mut columns = row.columns();
            Unerased {
                user_id: columns.integer(),
                username: columns.text().into(),
            }
        }))
    }
}

/// Finds conversations that a deleted account has to leave, each with whether it is direct, in the
/// order of their ids: at most `CONVERSATIONS_AT_ONCE`.
pub struct FindConversationsToLeave {
    pub user_id: i64,
}

impl Operation for FindConversationsToLeave {
    type Output = Vec<(i64, bool)>;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            concat!(
                "select c.id, c.direct is not null
                 from deleted_accounts d cross join members mb on mb.user_id = d.user_id
                     cross join conversations c on c.id = mb.conversation_id
                 where d.user_id = ?1 and ",
                is_left_to_leave!(),
                " order by mb.conversation_id limit +?2"
            ),
            [self.user_id.into(), CONVERSATIONS_AT_ONCE.into()],
        )]
    }

    fn conclude(
        &self,
        _: &Context,
        rows: &[Rows],
        _: &mut Outbox,
    ) -> Result<Vec<(i64, bool)>, Error> {
        let conversation = |row: &Row| {
            let mut columns = row.columns();
            (columns.integer(), columns.flag())
        };
        Ok(rows[0].0.iter().map(conversation).collect())
    }
}

/// Erases the sessions and some of the contacts, blocks, mentions and reactions of a deleted account. Returns whether
/// something is left, conversations included. If nothing is, and no socket of the account can be
/// open any more, the account is done.
///
/// Another table that may hold many rows of a user gets its statement here, and its part of
/// `has_rows!`.
pub struct ErasePiece {
    pub user_id: i64,
}

impl Operation for ErasePiece {
    type Output = bool;

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let user_id = || self.user_id.into();
        /// Whether the account `d` has anything left.
        macro_rules! has_rows {
            () => {
                concat!(
                    "(exists (select 1 from contacts where user_id = d.user_id)
                         or exists (select 1 from sessions where user_id = d.user_id)
                         or exists (select 1 from blocks where user_id = d.user_id)
                         or exists (select 1 from mentions where user_id = d.user_id)
                         or d.reactions_through < (select coalesce(max(rowid), 0) from reactions)
                         or exists (select 1 from members mb cross join conversations c on c.id = mb.conversation_id
                             where mb.user_id = d.user_id and ",
                    is_left_to_leave!(),
                    "))"
                )
            };
        }
        let has_more = Statement::new(
            concat!(
                "select ",
                has_rows!(),
                " from deleted_accounts d where d.user_id = ?1 and d.due_at is not null"
            ),
            [user_id()],
        );
        if ctx.is_repeat {
            return vec![has_more];
        }
        /// Only of deleted accounts.
        macro_rules! of_deleted {
            () => {
                "exists (select 1 from deleted_accounts where user_id = ?1)"
            };
        }
        /// The contacts that this piece erases.
        macro_rules! contacts {
            () => {
                "(select contact_id from contacts where user_id = ?1 order by contact_id limit +?2)"
            };
        }
        /// The reactions that this piece looks at, those of the account.
        macro_rules! reactions {
            () => {
                "rowid > (select reactions_through from deleted_accounts where user_id = ?1)
                 and rowid <= ?2 + (select reactions_through from deleted_accounts where user_id = ?1)
                 and user_id = ?1"
            };
        }
        let some = || [user_id(), ROWS_AT_ONCE.into()];
        let looked_at = || [user_id(), REACTIONS_AT_ONCE.into()];
        vec![
            Statement::new(
                concat!(
                    "delete from contacts where contact_id = ?1 and user_id in ",
                    contacts!(),
                    " and ",
                    of_deleted!()
                ),
                some(),
            ),
            Statement::new(
                concat!(
                    "delete from contacts where user_id = ?1 and contact_id in ",
                    contacts!(),
                    " and ",
                    of_deleted!()
                ),
                some(),
            ),
            Statement::new(
                concat!(
                    "delete from mentions where user_id = ?1 and message_id in
                         (select message_id from mentions where user_id = ?1 order by message_id limit +?2) and ",
                    of_deleted!()
                ),
                some(),
            ),
            Statement::new(
                concat!(
                    "delete from blocks where user_id = ?1 and blocked_id in
                         (select blocked_id from blocks where user_id = ?1 order by blocked_id limit +?2) and ",
                    of_deleted!()
                ),
                some(),
            ),
            // There are at most SESSIONS_MAX of them.
            Statement::new(
                concat!(
                    "delete from sessions where user_id = ?1 and ",
                    of_deleted!()
                ),
                [user_id()],
            ),
            // So that as many others may react instead.
            Statement::new(
                concat!(
                    "update changed_messages set reactions = reactions - gone.number
                     from (select message_id, count(*) as number from reactions where ",
                    reactions!(),
                    " group by message_id) as gone
                     where changed_messages.message_id = gone.message_id"
                ),
                looked_at(),
            ),
            Statement::new(
                concat!("delete from reactions where ", reactions!()),
                looked_at(),
            ),
            // A rowid may be given again, so it is never beyond the last one.
            Statement::new(
                "update deleted_accounts set due_at = unixepoch() + ?3,
                     reactions_through = min(reactions_through + ?2, (select coalesce(max(rowid), 0) from reactions))
                 where user_id = ?1 and due_at is not null",
                [user_id(), REACTIONS_AT_ONCE.into(), TURN_SECONDS.into()],
            ),
            has_more,
            Statement::new(
                concat!(
                    "update deleted_accounts as d
                     set due_at = iif(deleted_at + ?2 <= unixepoch(), null, deleted_at + ?2)
                     where user_id = ?1 and due_at is not null and not ",
                    has_rows!()
                ),
                [user_id(), LATEST_SOCKET_SECONDS.into()],
            ),
        ]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], _: &mut Outbox) -> Result<bool, Error> {
        let has_more = &rows[if ctx.is_repeat { 0 } else { 8 }];
        Ok(has_more.first().is_some_and(|row| row.columns().flag()))
    }
}
