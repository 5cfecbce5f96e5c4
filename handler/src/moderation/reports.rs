//! The reports of messages, for the operator.

use std::borrow::Cow;

use crate::error::Error;
use crate::message::change::is_deleted;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::sql::{Columns, Row, Rows, Statement};

/// The most reports in one list.
pub const REPORTS_LISTED_MAX: i64 = 100;

/// A report, with what it is about. Times are text, in UTC: `2026-11-29 18:03:11`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub id: i64,
    pub reported_at: String,
    pub reporter: String,
    pub reason: String,
    /// The message as it was when it was reported; empty if the report is closed.
    pub content: String,
    pub message_id: i64,
    /// The message as it is now; empty if it is deleted.
    pub present_content: String,
    pub is_deleted: bool,
    pub sent_at: String,
    pub sender: String,
    pub is_sender_banned: bool,
    pub conversation_id: i64,
    pub conversation: String,
    /// `None` while it is open.
    pub closed_at: Option<String>,
    /// What was done when it was closed.
    pub outcome: String,
}

/// Selects reports, called `rp`, for [`Report::read`].
macro_rules! select_reports {
    ($where:literal) => {
        concat!(
            "select rp.id, cast(datetime(rp.reported_at, 'unixepoch') as blob), cast(coalesce(o.username, 'deleted') as blob),
                 cast(rp.reason as blob), cast(rp.content as blob), rp.message_id, cast(m.content as blob),
                 m.id is null or ",
            is_deleted!(),
            ", cast(datetime(m.sent_at, 'unixepoch') as blob), cast(iif(m.id is null, null, coalesce(u.username, 'deleted')) as blob),
                 u.banned_at is not null, m.conversation_id, cast(c.name as blob),
                 cast(datetime(rp.closed_at, 'unixepoch') as blob), cast(rp.outcome as blob)
             from reports rp
                 left join users o on o.id = rp.reporter_id
                 left join messages m on m.id = rp.message_id
                 left join users u on u.id = m.sender_id
                 left join conversations c on c.id = m.conversation_id ",
            $where
        )
    };
}

impl Report {
    fn read(columns: &mut Columns) -> Self {
        Report {
            id: columns.integer(),
            reported_at: columns.text(),
            reporter: columns.text(),
            reason: columns.text(),
            content: columns.text(),
            message_id: columns.integer(),
            present_content: columns.text(),
            is_deleted: columns.flag(),
            sent_at: columns.text(),
            sender: columns.text(),
            is_sender_banned: columns.flag(),
            conversation_id: columns.integer(),
            conversation: columns.text(),
            closed_at: columns.optional_str().map(Cow::into_owned),
            outcome: columns.text(),
        }
    }
}

/// Lists reports, the newest first: at most `REPORTS_LISTED_MAX`.
pub struct ListReports {
    /// Only ids below this one.
    pub before: i64,
    /// Closed ones too.
    pub is_of_all: bool,
}

impl Operation for ListReports {
    type Output = Vec<Report>;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            match self.is_of_all {
                true => select_reports!("where rp.id < ?1 order by rp.id desc limit +?2"),
                false => select_reports!(
                    "where rp.closed_at is null and rp.id < ?1 order by rp.id desc limit +?2"
                ),
            },
            [self.before.into(), REPORTS_LISTED_MAX.into()],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Vec<Report>, Error> {
        let report = |row: &Row| Report::read(&mut row.columns());
        Ok(rows[0].0.iter().map(report).collect())
    }
}

/// Finds one report.
pub struct FindReport {
    pub id: i64,
}

impl Operation for FindReport {
    type Output = Option<Report>;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            select_reports!("where rp.id = ?1"),
            [self.id.into()],
        )]
    }

    fn conclude(
        &self,
        _: &Context,
        rows: &[Rows],
        _: &mut Outbox,
    ) -> Result<Option<Report>, Error> {
        let report = |row: &Row| Report::read(&mut row.columns());
        Ok(rows[0].first().map(report))
    }
}

/// Closes the open reports of a message, whoever has made them, and erases what they have kept of it.
pub struct CloseReports {
    pub message_id: i64,
    /// What was done: `closed`, `deleted`, `banned`, or `deleted,banned`.
    pub outcome: &'static str,
}

impl Operation for CloseReports {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "update reports set closed_at = ?2, outcome = ?3, content = ''
             where message_id = ?1 and closed_at is null",
            [self.message_id.into(), ctx.now.into(), self.outcome.into()],
        )]
    }

    fn conclude(&self, _: &Context, _: &[Rows], _: &mut Outbox) -> Result<(), Error> {
        Ok(())
    }
}
