//! Typing: who is about to say something. Never stored.

use serde::Serialize;

use crate::error::Error;
use crate::event::{Reply, json, push};
use crate::fields::Fields;
use crate::message::{conversation_id, is_member, members_only};
use crate::operation::{Access, Context, Operation};
use crate::outbox::{Audience, Outbox, Output};
use crate::statement::{Rows, Statement};

/// `typing {conversation_id, on}` → `{conversation_id, username, on}`, to every member whose socket keeps up.
pub struct Typing {
    conversation_id: i64,
    /// Judged after membership.
    on: Result<bool, Error>,
}

impl Typing {
    pub fn parse(fields: &Fields) -> Result<Self, Error> {
        Ok(Typing {
            conversation_id: conversation_id(fields)?,
            on: match fields.flag("on") {
                Ok(Some(on)) => Ok(on),
                _ => Err(Error::Invalid("expected on as boolean".into())),
            },
        })
    }
}

impl Operation for Typing {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        vec![is_member(self.conversation_id, ctx)]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<Reply, Error> {
        members_only(&rows[0], self.conversation_id, ctx)?;
        #[derive(Serialize)]
        struct Typed<'a> {
            conversation_id: i64,
            username: &'a str,
            on: bool,
        }
        let data = json(&Typed {
            conversation_id: self.conversation_id,
            username: &ctx.username,
            on: self.on.clone()?,
        });
        out.push(Output::Push {
            to: Audience::Conversation(self.conversation_id),
            event: push("typing", &data),
            is_droppable: true,
        });
        Ok(Reply(data))
    }
}
