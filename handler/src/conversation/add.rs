//! `add_members`.

use std::collections::HashSet;

use serde::Serialize;

use crate::conversation::change::{Members, State, note_members_change, raise_rev, state};
use crate::conversation::{
    CONVERSATIONS_MAX, Conversation, MEMBERS, MEMBERS_MAX, conversation_count, members,
    members_rev, no_such_user, too_many_conversations, too_many_members,
};
use crate::error::Error;
use crate::field::Field;
use crate::fields::Fields;
use crate::member::{CONVERSATION_ID, Guard, MemberEvent, may_change};
use crate::operation::{Access, Context};
use crate::outbox::{Outbox, Output};
use crate::reply::{Reply, json};
use crate::role::Role;
use crate::sql::{Row, Rows, Statement};
use crate::user::{Refusal, refusal};

/// `add_members {conversation_id, members}` → [`AddedMembers`], sent to every member, also to the new
/// ones. Those who are members already are left out.
pub struct AddMembers {
    /// Each once.
    usernames: Vec<String>,
}

/// The conversation, and who is new in it.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AddedMembers<'a> {
    #[serde(flatten)]
    conversation: &'a Conversation<'a>,
    /// The usernames of the new members.
    added: Vec<&'a str>,
}

/// A user whom the request names, before the change.
struct Named {
    user_id: i64,
    username: String,
    is_member: bool,
    /// Joined at the latest change of the members.
    is_newest: bool,
}

impl Named {
    fn read(row: &Row) -> Self {
        let mut columns = row.columns();
        Named {
            user_id: columns.integer(),
            username: columns.text(),
            is_member: columns.flag(),
            is_newest: columns.flag(),
        }
    }
}

/// The users in `?3` who are not in conversation `?1` yet.
macro_rules! newcomers {
    () => {
        "from json_each(?3) join users u on u.username = value
         where not exists (select 1 from members where conversation_id = ?1 and user_id = u.id)"
    };
}

/// Whether the user `u` is in the `?4` conversations that one may be in, or the caller `?2` cannot
/// put the user into one.
macro_rules! is_refused {
    () => {
        concat!(
            "(",
            refusal!("?2"),
            " > 0 or ",
            conversation_count!(),
            " >= ?4)"
        )
    };
}

impl MemberEvent for AddMembers {
    const TYPE: &'static str = "add_members";
    const FIELDS: &'static [Field] = &[CONVERSATION_ID, MEMBERS];
    type Data = AddedMembers<'static>;
    const LEAST: Role = Role::Admin;
    const CHANGES_GROUP: bool = true;
    const ACCESS: Access = Access::Write;

    fn read(fields: &Fields) -> Result<Self, Error> {
        let mut usernames = members(fields, MEMBERS_MAX)?;
        let mut seen = HashSet::new();
        usernames.retain(|name| seen.insert(name.clone()));
        Ok(AddMembers { usernames })
    }

    fn statements(&self, guard: &Guard, ctx: &Context) -> Vec<Statement> {
        let usernames = json(&self.usernames);
        vec![
            Statement::new(
                concat!(
                    "select u.id, cast(u.username as blob), mb.user_id is not null, mb.joined_rev = ",
                    members_rev!("?1"),
                    " from json_each(?2) join users u on u.username = value
                         left join members mb on mb.conversation_id = ?1 and mb.user_id = u.id
                     order by key"
                ),
                [guard.conversation_id.into(), usernames.as_str().into()],
            ),
            Statement::new(
                concat!(
                    "insert into members (conversation_id, user_id, joined_rev)
                     select ?1, u.id, (select rev + 1 from conversations where id = ?1) ",
                    newcomers!(),
                    " and ",
                    may_change!("?1", 1),
                    " and not exists (select 1 from json_each(?3)
                          where not exists (select 1 from users where username = value))
                      and not exists (select 1 ",
                    newcomers!(),
                    " and ",
                    is_refused!(),
                    ") and (select member_count from conversations where id = ?1) + (select count(*) ",
                    newcomers!(),
                    ") <= ?5
                     order by key"
                ),
                [
                    guard.conversation_id.into(),
                    ctx.user_id.into(),
                    usernames.as_str().into(),
                    CONVERSATIONS_MAX.into(),
                    (MEMBERS_MAX as i64).into(),
                ],
            ),
            raise_rev(guard, ctx, Members::Joined),
            note_members_change(guard),
            // Finds out why nobody was added. changes() is 0 then.
            Statement::new(
                concat!(
                    "select cast(u.username as blob), ",
                    refusal!("?2"),
                    " ",
                    newcomers!(),
                    " and changes() = 0 and ",
                    may_change!("?1", 1),
                    " and ",
                    is_refused!(),
                    " order by key limit 1"
                ),
                [
                    guard.conversation_id.into(),
                    ctx.user_id.into(),
                    usernames.into(),
                    CONVERSATIONS_MAX.into(),
                ],
            ),
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
        let named: Vec<Named> = rows[1].0.iter().map(Named::read).collect();
        let is_done = Guard::is_done(&rows[0]);
        // If the answer was lost, they are members already.
        let is_new = |named: &&Named| match is_done {
            true => named.is_newest,
            false => !named.is_member,
        };
        let new = named.iter().filter(is_new);
        let (ids, added): (Vec<i64>, Vec<&str>) =
            new.clone().map(|new| (new.user_id, &*new.username)).unzip();
        let state = State::of(&rows[6])?;
        let is_changed = state.has_changed || is_done;
        if !is_changed && named.len() < self.usernames.len() {
            let known: HashSet<_> = named.iter().map(|named| &named.username).collect();
            let mut unknown = self.usernames.iter().filter(|name| !known.contains(name));
            return Err(no_such_user(unknown.next().map_or("", String::as_str)));
        }
        if !is_changed && !added.is_empty() {
            let refused = rows[5].first().map(|row| {
                let mut columns = row.columns();
                let username = columns.text();
                match Refusal::of(columns.integer()) {
                    Some(refusal) => refusal.error(&username),
                    None => too_many_conversations(&username),
                }
            });
            return Err(refused.unwrap_or_else(too_many_members));
        }
        if is_changed {
            out.push(Output::Join(state.members_change(ids)));
        }
        let added = AddedMembers {
            conversation: &state.conversation,
            added,
        };
        Ok(state.answer(Self::TYPE, is_changed, &added, out))
    }
}
