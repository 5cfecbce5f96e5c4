//! `remove_member`.

use crate::conversation::change::{
    MemberLeft, Members, State, note_members_change, raise_rev, state,
};
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

const USERNAME: Field = Field::required("username", Kind::Member);

/// `remove_member {conversation_id, username}` → [`MemberLeft`], sent to every member and to the one who
/// was removed. An admin cannot remove an owner.
pub struct RemoveMember {
    username: String,
}

impl MemberEvent for RemoveMember {
    const TYPE: &'static str = "remove_member";
    const FIELDS: &'static [Field] = &[CONVERSATION_ID, USERNAME];
    type Data = MemberLeft<'static>;
    const LEAST: Role = Role::Admin;
    const CHANGES_GROUP: bool = true;
    const ACCESS: Access = Access::Write;

    fn read(fields: &Fields) -> Result<Self, Error> {
        Ok(RemoveMember {
            username: USERNAME.required_text(fields)?,
        })
    }

    fn statements(&self, guard: &Guard, ctx: &Context) -> Vec<Statement> {
        vec![
            Statement::new(
                "select u.id, mb.user_id is not null, mb.role
                 from users u left join members mb on mb.conversation_id = ?1 and mb.user_id = u.id
                 where u.username = ?2",
                [guard.conversation_id.into(), self.username.as_str().into()],
            ),
            Statement::new(
                concat!(
                    "delete from members
                     where conversation_id = ?1 and user_id = (select id from users where username = ?3)
                         and user_id <> ?2 and ",
                    may_change!("?1", 1),
                    " and (role < 2 or exists (select 1 from members
                          where conversation_id = ?1 and user_id = ?2 and role = 2))"
                ),
                [
                    guard.conversation_id.into(),
                    ctx.user_id.into(),
                    self.username.as_str().into(),
                ],
            ),
            raise_rev(guard, ctx, Members::Left),
            note_members_change(guard),
            state(guard),
        ]
    }

    fn conclude(
        &self,
        _: &Guard,
        ctx: &Context,
        rows: &[Rows],
        out: &mut Outbox,
    ) -> Result<Reply, Error> {
        if *self.username == *ctx.username {
            let text = "leave_conversation is for leaving";
            return Err(Error::Invalid(text.into()));
        }
        let mut target = rows[1].first().map(|row| row.columns());
        let mut next = || target.as_mut().map_or(0, |columns| columns.integer());
        let (user_id, is_member, role) = (next(), next() != 0, Role::of(next()));
        let state = State::of(&rows[5])?;
        if !state.has_changed && !Guard::is_done(&rows[0]) {
            return Err(match is_member && role == Role::Owner {
                true => Error::Forbidden("admins cannot remove owners".into()),
                false => no_such_member(&self.username),
            });
        }
        let left = (user_id, &*self.username);
        Ok(Reply(MemberLeft::tell(
            Self::TYPE,
            left,
            false,
            &state,
            out,
        )))
    }
}
