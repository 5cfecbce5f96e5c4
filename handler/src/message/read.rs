//! `mark_read`: how far somebody has read.

use serde::Serialize;

use crate::answer_budget::SMALL_ANSWER_BYTES_MAX;
use crate::error::Error;
use crate::field::Field;
use crate::fields::Fields;
use crate::member::{CONVERSATION_ID, Guard, MemberEvent};
use crate::message::marks::MARKS;
use crate::message::{MESSAGE_ID, no_such_message};
use crate::operation::{Access, Context};
use crate::outbox::{Audience, Outbox, Output};
use crate::reply::{Reply, json, push};
use crate::set::Element;
use crate::sql::{Rows, Statement};

pub use crate::message::marks::READ_RECEIPT_MEMBERS_MAX;

/// `mark_read {conversation_id, message_id}` → [`ReadMark`]. The position only moves forward: for an
/// older message, the answer is the position already stored. The change is sent to the caller's
/// other sockets, and to all members if the conversation has at most `READ_RECEIPT_MEMBERS_MAX`
/// members.
pub struct MarkRead {
    message_id: i64,
}

/// How far a user has read.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReadMark<'a> {
    conversation_id: i64,
    username: &'a str,
    /// The user has read the messages up to this one.
    message_id: i64,
}

impl MemberEvent for MarkRead {
    const TYPE: &'static str = "mark_read";
    const FIELDS: &'static [Field] = &[CONVERSATION_ID, MESSAGE_ID];
    type Data = ReadMark<'static>;
    const ACCESS: Access = Access::Write;

    fn read(fields: &Fields) -> Result<Self, Error> {
        Ok(MarkRead {
            message_id: MESSAGE_ID.required_integer(fields)?,
        })
    }

    fn answer_bytes_max(&self) -> usize {
        SMALL_ANSWER_BYTES_MAX
    }

    fn statements(&self, guard: &Guard, ctx: &Context) -> Vec<Statement> {
        let ids = || {
            [
                guard.conversation_id.into(),
                ctx.user_id.into(),
                self.message_id.into(),
            ]
        };
        let [conversation_id, user_id, message_id] = ids();
        vec![
            Statement::new(
                "update members set read_id = ?3
                 where conversation_id = ?1 and user_id = ?2 and read_id < ?3
                     and exists (select 1 from messages where id = ?3 and conversation_id = ?1)",
                ids(),
            ),
            Statement::new(
                "select read_id, (select count(*) from messages where id = ?3 and conversation_id = ?1),
                     (select count(*) from (select 1 from members where conversation_id = ?1 limit +?4)), changes()
                 from members where conversation_id = ?1 and user_id = ?2",
                [
                    conversation_id,
                    user_id,
                    message_id,
                    (READ_RECEIPT_MEMBERS_MAX + 1).into(),
                ],
            ),
        ]
    }

    fn element(&self, guard: &Guard, ctx: &Context) -> Option<Element> {
        if ctx.is_repeat {
            return None;
        }
        let of = (ctx.user_id, guard.conversation_id);
        let values = vec![of.0.into(), of.1.into(), self.message_id.into()];
        Element::new(&MARKS, Some(of), values)
    }

    fn conclude(
        &self,
        guard: &Guard,
        ctx: &Context,
        rows: &[Rows],
        out: &mut Outbox,
    ) -> Result<Reply, Error> {
        let conversation_id = guard.conversation_id;
        let mut state = rows[2].first().map(|row| row.columns());
        let mut next = || state.as_mut().map_or(0, |columns| columns.integer());
        let (read_id, exists, members, has_changed) = (next(), next() != 0, next(), next() == 1);
        if !exists {
            return Err(no_such_message(self.message_id, conversation_id));
        }
        let data = json(&ReadMark {
            conversation_id,
            username: &ctx.username,
            message_id: read_id,
        });
        if has_changed || ctx.is_repeat {
            let to = match members {
                ..=READ_RECEIPT_MEMBERS_MAX => guard.audience(&rows[0]),
                _ => Audience::Users(vec![ctx.user_id]),
            };
            out.push(Output::Push {
                to,
                event: push(Self::TYPE, &data),
                is_droppable: false,
            });
        }
        Ok(Reply(data))
    }
}
