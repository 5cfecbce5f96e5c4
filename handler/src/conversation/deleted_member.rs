//! A direct conversation one of whose two members has deleted the account.

use crate::account::delete::AccountDeleted;
use crate::conversation::change::{State, state};
use crate::conversation::no_such_conversation;
use crate::error::Error;
use crate::member::Guard;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::reply::json;
use crate::sql::{Rows, Statement};

/// Tells the other member of a direct conversation that the caller's account is deleted. The caller
/// stays a member, who is shown as `deleted`, and the conversation gets a new rev. If its name was
/// made from the two usernames, it is made anew.
pub struct NoteDeletedMember {
    pub conversation_id: i64,
}

impl NoteDeletedMember {
    fn guard(&self) -> Guard {
        Guard::of_reference(self.conversation_id, no_such_conversation)
    }
}

impl Operation for NoteDeletedMember {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let state = state(&self.guard());
        let ids = || [self.conversation_id.into(), ctx.user_id.into()];
        if ctx.is_repeat {
            let noted = "select 1 from deleted_accounts where user_id = ?2 and left_through >= ?1";
            return vec![Statement::new(noted, ids()), state];
        }
        let [conversation_id, user_id] = ids();
        vec![
            Statement::new(
                "update conversations set rev = rev + 1, name = (
                     select case conversations.name
                         when ?3 || ', ' || other then 'deleted, ' || other
                         when other || ', ' || ?3 then other || ', deleted'
                         when ?3 || ' +1' then 'deleted +1'
                         else conversations.name end
                     from (select coalesce((
                         select u.username from members mb cross join users u on u.id = mb.user_id
                         where mb.conversation_id = ?1 and mb.user_id <> ?2), 'deleted') as other))
                 where id = ?1 and direct is not null
                     and exists (select 1 from members where conversation_id = ?1 and user_id = ?2)
                     and exists (select 1 from deleted_accounts where user_id = ?2 and left_through < ?1)
                 returning 1",
                [conversation_id, user_id, (&*ctx.username).into()],
            ),
            Statement::new(
                "update deleted_accounts set left_through = ?1 where user_id = ?2 and left_through < ?1",
                ids(),
            ),
            state,
        ]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<(), Error> {
        let [noted, .., state] = rows else {
            return Err(Error::Internal("statements have results".into()));
        };
        // If not, another host has told it, or the conversation no longer exists.
        let Some(row) = state.first().filter(|_| !noted.is_empty()) else {
            return Ok(());
        };
        let state = State::read(row);
        let data = json(&AccountDeleted {
            conversation_id: Some(self.conversation_id),
            username: &ctx.username,
            rev: Some(state.conversation.rev),
        });
        out.push(state.push(AccountDeleted::TYPE, &data));
        Ok(())
    }
}
