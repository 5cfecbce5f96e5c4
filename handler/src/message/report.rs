//! `report_message`: tells the operator of a message, and nobody else.

use serde::Serialize;

use crate::answer_budget::SMALL_ANSWER_BYTES_MAX;
use crate::declaration::{Declared, Who};
use crate::error::Error;
use crate::field::{Field, Kind, Length};
use crate::fields::Fields;
use crate::message::MESSAGE_ID;
use crate::message::change::{deleted, is_deleted, is_member};
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::reply::Reply;
use crate::sql::{Rows, Statement};

/// The longest reason, in characters.
pub const REASON_CHARS_MAX: usize = 1_000;

/// The most open reports of one user. Each keeps a copy of the message.
pub const OPEN_REPORTS_MAX: i64 = 50;

const REASON: Field = Field::required(
    "reason",
    Kind::Text(Length::characters(1, REASON_CHARS_MAX)),
);

/// `report_message {message_id, reason}` → [`ReportedMessage`]. The report is kept for the operator, with the
/// message as it is now. While it is open, the same user's report of the same message changes nothing.
pub struct ReportMessage {
    message_id: i64,
    reason: String,
}

/// A message that was reported.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReportedMessage {
    message_id: i64,
}

impl Declared for ReportMessage {
    const TYPE: &'static str = "report_message";
    const FIELDS: &'static [Field] = &[MESSAGE_ID, REASON];
    const WHO: Who = Who::MemberOfMessage;
    type Data = ReportedMessage;

    fn read(fields: &Fields) -> Result<Self, Error> {
        Ok(ReportMessage {
            message_id: MESSAGE_ID.required_integer(fields)?,
            reason: REASON.required_text(fields)?,
        })
    }
}

impl Operation for ReportMessage {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Write
    }

    fn answer_bytes_max(&self) -> usize {
        SMALL_ANSWER_BYTES_MAX
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let ids = || [self.message_id.into(), ctx.user_id.into()];
        let find = Statement::new(
            concat!(
                "select ",
                is_deleted!(),
                ", exists (select 1 from reports
                     where reporter_id = ?2 and message_id = ?1 and closed_at is null)
                 from messages m where m.id = ?1 and ",
                is_member!()
            ),
            ids(),
        );
        let [message_id, reporter_id] = ids();
        // On a repeat, the operator may have closed the report already.
        match ctx.is_repeat {
            true => vec![find],
            false => vec![
                Statement::new(
                    concat!(
                        "insert into reports (message_id, reporter_id, reason, content, reported_at)
                         select m.id, ?2, ?3, m.content, ?4 from messages m where m.id = ?1 and ",
                        is_member!(),
                        " and not ",
                        is_deleted!(),
                        " and (select count(*) from reports where reporter_id = ?2 and closed_at is null) < ?5
                         on conflict do nothing"
                    ),
                    [
                        message_id,
                        reporter_id,
                        self.reason.as_str().into(),
                        ctx.now.into(),
                        OPEN_REPORTS_MAX.into(),
                    ],
                ),
                find,
            ],
        }
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        let message_id = self.message_id;
        let Some(row) = rows.last().and_then(Rows::first) else {
            return Err(Error::NotFound(format!(
                "No such {message_id} message id found"
            )));
        };
        let mut columns = row.columns();
        let (is_deleted, is_reported) = (columns.flag(), columns.flag());
        if is_reported || ctx.is_repeat {
            return Ok(Reply::of(&ReportedMessage { message_id }));
        }
        Err(match is_deleted {
            true => deleted(),
            false => Error::TooLarge(format!(
                "a user can have at most {OPEN_REPORTS_MAX} open reports"
            )),
        })
    }
}
