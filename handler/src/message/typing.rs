//! `typing`: who is writing a message. It is never stored.

use serde::Serialize;

use crate::answer_budget::SMALL_ANSWER_BYTES_MAX;
use crate::error::Error;
use crate::field::{Field, Kind};
use crate::fields::Fields;
use crate::member::{CONVERSATION_ID, Guard, MemberEvent};
use crate::operation::{Access, Context};
use crate::outbox::{Audience, Outbox, Output};
use crate::reply::{Reply, json, push};
use crate::sql::{Rows, Statement};
use crate::user::has_blocked;

const ON: Field = Field::required("on", Kind::Flag).wrong("expected on as boolean");

/// The most members of a conversation in which those who have blocked each other do not see each
/// other typing. In a larger one, looking for them would cost more than typing is worth.
pub const TYPING_BLOCKS_MEMBERS_MAX: i64 = 100;

/// `typing {conversation_id, on}` → [`TypingNotice`], sent to every member whose socket keeps up,
/// except to whom the caller has blocked, and to who has blocked the caller.
pub struct Typing {
    on: bool,
}

/// Whether a user is writing a message.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TypingNotice<'a> {
    conversation_id: i64,
    /// Who is typing.
    username: &'a str,
    /// Whether somebody has begun to type, or ended.
    on: bool,
}

impl MemberEvent for Typing {
    const TYPE: &'static str = "typing";
    const FIELDS: &'static [Field] = &[CONVERSATION_ID, ON];
    type Data = TypingNotice<'static>;
    const ACCESS: Access = Access::Read;

    fn read(fields: &Fields) -> Result<Self, Error> {
        Ok(Typing {
            on: ON.required_flag(fields)?,
        })
    }

    fn answer_bytes_max(&self) -> usize {
        SMALL_ANSWER_BYTES_MAX
    }

    fn statements(&self, guard: &Guard, ctx: &Context) -> Vec<Statement> {
        vec![Statement::new(
            concat!(
                "select mb.user_id from conversations c cross join members mb on mb.conversation_id = c.id
                 where c.id = ?1 and c.member_count <= ?3 and (",
                has_blocked!("?2", "mb.user_id"),
                " or ",
                has_blocked!("mb.user_id", "?2"),
                ")"
            ),
            [
                guard.conversation_id.into(),
                ctx.user_id.into(),
                TYPING_BLOCKS_MEMBERS_MAX.into(),
            ],
        )]
    }

    fn conclude(
        &self,
        guard: &Guard,
        ctx: &Context,
        rows: &[Rows],
        out: &mut Outbox,
    ) -> Result<Reply, Error> {
        let data = json(&TypingNotice {
            conversation_id: guard.conversation_id,
            username: &ctx.username,
            on: self.on,
        });
        let to = match (guard.audience(&rows[0]), rows[1].integers()) {
            (Audience::Conversation { id, members_rev }, except) if !except.is_empty() => {
                Audience::MembersExcept {
                    id,
                    members_rev,
                    except,
                }
            }
            (all, _) => all,
        };
        out.push(Output::Push {
            to,
            event: push(Self::TYPE, &data),
            is_droppable: true,
        });
        Ok(Reply(data))
    }
}
