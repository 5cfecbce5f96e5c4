//! `rename_conversation`.

use crate::conversation::Conversation;
use crate::conversation::NAME_CHARS_MAX;
use crate::conversation::change::{Members, State, raise_rev, state};
use crate::error::Error;
use crate::field::{Field, Kind, Length};
use crate::fields::Fields;
use crate::member::{CONVERSATION_ID, Guard, MemberEvent, may_change};
use crate::operation::{Access, Context};
use crate::outbox::Outbox;
use crate::reply::Reply;
use crate::role::Role;
use crate::sql::{Rows, Statement};

const NAME: Field = Field::required("name", Kind::Text(Length::characters(1, NAME_CHARS_MAX)))
    .wrong("name value expected as a non zero string")
    .too_large("name");

/// `rename_conversation {conversation_id, name}` → the [`Conversation`], sent to every member.
pub struct RenameConversation {
    name: String,
}

impl MemberEvent for RenameConversation {
    const TYPE: &'static str = "rename_conversation";
    const FIELDS: &'static [Field] = &[CONVERSATION_ID, NAME];
    type Data = Conversation<'static>;
    const LEAST: Role = Role::Admin;
    const CHANGES_GROUP: bool = true;
    const ACCESS: Access = Access::Write;

    fn read(fields: &Fields) -> Result<Self, Error> {
        Ok(RenameConversation {
            name: NAME.required_text(fields)?,
        })
    }

    fn statements(&self, guard: &Guard, ctx: &Context) -> Vec<Statement> {
        vec![
            Statement::new(
                concat!(
                    "update conversations set name = ?3 where id = ?1 and name <> ?3 and ",
                    may_change!("?1", 1)
                ),
                [
                    guard.conversation_id.into(),
                    ctx.user_id.into(),
                    self.name.as_str().into(),
                ],
            ),
            raise_rev(guard, ctx, Members::Same),
            state(guard),
        ]
    }

    fn conclude(
        &self,
        _: &Guard,
        _: &Context,
        rows: &[Rows],
        out: &mut Outbox,
    ) -> Result<Reply, Error> {
        let state = State::of(&rows[3])?;
        let is_changed = state.has_changed || Guard::is_done(&rows[0]);
        Ok(state.answer(Self::TYPE, is_changed, &state.conversation, out))
    }
}
