//! `leave_conversation`.

use crate::conversation::change::{
    MemberLeft, Members, State, note_members_change, raise_rev, state,
};
use crate::error::Error;
use crate::field::Field;
use crate::fields::Fields;
use crate::member::{ByMember, CONVERSATION_ID, Guard, MemberEvent, may_change};
use crate::operation::{Access, Context};
use crate::outbox::Outbox;
use crate::reply::Reply;
use crate::sql::{Rows, Statement};

/// `leave_conversation {conversation_id}` → [`MemberLeft`], sent to every member and to the caller's
/// other devices. If the last owner leaves, the longest-standing admin becomes owner or, if there
/// is none, the longest-standing member. A conversation that its last member has left keeps its
/// messages, but nobody can see them.
pub struct LeaveConversation {
    /// Whether it is left because the account is deleted.
    is_deleted: bool,
}

impl LeaveConversation {
    /// The caller, whose account is deleted, leaves this conversation.
    pub fn of_deleted(conversation_id: i64) -> ByMember<Self> {
        ByMember::new(conversation_id, LeaveConversation { is_deleted: true })
    }
}

impl MemberEvent for LeaveConversation {
    const TYPE: &'static str = "leave_conversation";
    const FIELDS: &'static [Field] = &[CONVERSATION_ID];
    type Data = MemberLeft<'static>;
    const CHANGES_GROUP: bool = true;
    const ACCESS: Access = Access::Write;

    fn read(_: &Fields) -> Result<Self, Error> {
        Ok(LeaveConversation { is_deleted: false })
    }

    fn statements(&self, guard: &Guard, ctx: &Context) -> Vec<Statement> {
        let ids = || [guard.conversation_id.into(), ctx.user_id.into()];
        vec![
            // The row with the least rowid is that of the member who joined first. It is looked for
            // among all members, so only if the last owner leaves.
            Statement::new(
                "update members set role = 2
                 where rowid = case
                     when exists (select 1 from members where conversation_id = ?1 and user_id = ?2 and role = 2)
                         and not exists (select 1 from members
                             where conversation_id = ?1 and role > 0 and role = 2 and user_id <> ?2)
                     then coalesce(
                         (select min(rowid) from members where conversation_id = ?1 and role > 0 and role = 1),
                         (select min(rowid) from members where conversation_id = ?1 and user_id <> ?2)) end",
                ids(),
            ),
            Statement::new(
                concat!(
                    "delete from members where conversation_id = ?1 and user_id = ?2 and ",
                    may_change!("?1", 0)
                ),
                ids(),
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
        let state = State::of(&rows[5])?;
        let left = (ctx.user_id, &*ctx.username);
        let data = MemberLeft::tell(Self::TYPE, left, self.is_deleted, &state, out);
        Ok(Reply(data))
    }
}
