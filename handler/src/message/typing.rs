//! `typing`: who is writing a message. It is never stored.

use serde::Serialize;

use crate::answer_budget::SMALL_ANSWER_BYTES_MAX;
use crate::error::Error;
use crate::field::{Field, Kind};
use crate::fields::Fields;
use crate::member::{CONVERSATION_ID, Guard, MemberEvent};
use crate::operation::{Access, Context};
use crate::outbox::{Outbox, Output};
use crate::reply::{Reply, json, push};
use crate::sql::{Rows, Statement};

const ON: Field = Field::required("on", Kind::Flag).wrong("expected on as boolean");

/// `typing {conversation_id, on}` → [`TypingNotice`], sent to every member whose socket keeps up.
pub struct Typing {
    on: bool,
}

/// Whether a user is writing a message.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TypingNotice<'a> {
    conversation_id: i64,
    username: &'a str,
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

    fn statements(&self, _: &Guard, _: &Context) -> Vec<Statement> {
        Vec::new()
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
        out.push(Output::Push {
            to: guard.audience(&rows[0]),
            event: push(Self::TYPE, &data),
            is_droppable: true,
        });
        Ok(Reply(data))
    }
}
