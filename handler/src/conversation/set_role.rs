//! `set_role`.

use crate::conversation::Conversation;
use crate::conversation::change::{Members, State, raise_rev, state};
use crate::conversation::no_such_member;
use crate::error::Error;
use crate::field::{Field, Kind};
use crate::fields::Fields;
use crate::member::{CONVERSATION_ID, Guard, MemberEvent, may_change};
use crate::operation::{Access, Context};
use crate::outbox::Outbox;
use crate::reply::Reply;
use crate::role::Role;
use crate::sql::{Rows, Statement};

/// The most owners and admins of a conversation: all of them are named whenever it has changed.
pub const OWNERS_AND_ADMINS_MAX: i64 = 100;

const USERNAME: Field = Field::required("username", Kind::Member);
const ROLE: Field = Field::required("role", Kind::Choice(Role::NAMES));

/// `set_role {conversation_id, username, role}` → the [`Conversation`], sent to every member. The last owner cannot
/// become less.
pub struct SetRole {
    username: String,
    /// As in the database.
    role: i64,
}

impl MemberEvent for SetRole {
    const TYPE: &'static str = "set_role";
    const FIELDS: &'static [Field] = &[CONVERSATION_ID, USERNAME, ROLE];
    type Data = Conversation<'static>;
    const LEAST: Role = Role::Owner;
    const CHANGES_GROUP: bool = true;
    const ACCESS: Access = Access::Write;

    fn read(fields: &Fields) -> Result<Self, Error> {
        Ok(SetRole {
            username: USERNAME.required_text(fields)?,
            role: ROLE.required_choice(fields)? as i64,
        })
    }

    fn statements(&self, guard: &Guard, ctx: &Context) -> Vec<Statement> {
        vec![
            Statement::new(
                "select role from members
                 where conversation_id = ?1 and user_id = (select id from users where username = ?2)",
                [guard.conversation_id.into(), self.username.as_str().into()],
            ),
            Statement::new(
                concat!(
                    "update members as target set role = ?4
                     where conversation_id = ?1 and user_id = (select id from users where username = ?3)
                         and role <> ?4 and ",
                    may_change!("?1", 2),
                    " and (role < 2 or exists (select 1 from members mb
                          where mb.conversation_id = ?1 and mb.role > 0 and mb.role = 2 and mb.user_id <> target.user_id))
                      and (?4 = 0 or role > 0 or ?5 > (select count(*) from members mb
                          where mb.conversation_id = ?1 and mb.role > 0))"
                ),
                [
                    guard.conversation_id.into(),
                    ctx.user_id.into(),
                    self.username.as_str().into(),
                    self.role.into(),
                    OWNERS_AND_ADMINS_MAX.into(),
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
        let state = State::of(&rows[4])?;
        let is_changed = state.has_changed || Guard::is_done(&rows[0]);
        let Some(row) = rows[1].first() else {
            return Err(no_such_member(&self.username));
        };
        let before = row.columns().integer();
        if !is_changed && before != self.role {
            return Err(match Role::of(before) {
                Role::Owner => Error::Conflict("a conversation keeps at least one owner".into()),
                Role::Admin | Role::Member => Error::TooLarge(format!(
                    "a conversation can have at most {OWNERS_AND_ADMINS_MAX} owners and admins"
                )),
            });
        }
        Ok(state.answer(Self::TYPE, is_changed, &state.conversation, out))
    }
}
