//! What the events that change a conversation share: its new rev, its present state, and who is
//! told.

use serde::Serialize;
use serde_json::value::RawValue;

#[cfg(feature = "schema")]
use crate::conversation::roles_schema;
use crate::conversation::{Conversation, raw};
use crate::error::Error;
use crate::member::Guard;
use crate::operation::Context;
use crate::outbox::{Audience, MembersChange, Outbox, Output};
use crate::reply::{Reply, json, push};
use crate::sql::{Row, Rows, Statement};

macro_rules! listed_members_max {
    () => {
        100
    };
}

/// The most members that are listed when a conversation has changed, and the most whose profiles
/// `get_conversation_info` gives. A change of a larger conversation costs no more, and its pushes
/// are no larger.
pub const LISTED_MEMBERS_MAX: i64 = listed_members_max!();

/// Raises the rev, if the previous statement has changed a row: changes() is how many it was.
/// `joined` and `left` say whether these rows were new or former members.
pub(super) fn raise_rev(guard: &Guard, ctx: &Context, members: Members) -> Statement {
    let factor = match members {
        Members::Same => 0,
        Members::Joined => 1,
        Members::Left => -1,
    };
    Statement::new(
        "update conversations set rev = rev + 1, changed_by = ?2, member_count = member_count + ?3 * changes()
         where id = ?1 and changes() > 0",
        [
            guard.conversation_id.into(),
            ctx.request_key(),
            factor.into(),
        ],
    )
}

/// How a change affects the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Members {
    Same,
    Joined,
    Left,
}

/// Notes the new rev as `members_rev`, if the previous statement has raised the rev.
pub(super) fn note_members_change(guard: &Guard) -> Statement {
    Statement::new(
        "insert into members_changes (conversation_id, members_rev, previous_rev)
         select id, rev, 1 from conversations where id = ?1 and changes() = 1
         on conflict (conversation_id) do update set previous_rev = members_rev, members_rev = excluded.members_rev",
        [guard.conversation_id.into()],
    )
}

/// The columns of a [`State`], from a `conversations` row called `c`. A member whose account is
/// deleted is `deleted` in a direct conversation, and leaves any other one soon.
macro_rules! state_columns {
    () => {
        concat!(
            "c.id, cast(c.name as blob), c.rev, c.direct is not null, c.created_at,
             (select cast('{' || coalesce(group_concat(json_quote(u.username) || iif(mb.role = 2, ':\"owner\"', ':\"admin\"')), '') || '}' as blob)
                 from members mb join users u on u.id = mb.user_id
                 where mb.conversation_id = c.id and mb.role > 0),
             case when c.member_count <= ",
            $crate::conversation::change::listed_members_max!(),
            " then (select cast(json_group_array(username) as blob) from (
                 select coalesce(u.username, 'deleted') as username
                 from members mb left join users u on u.id = mb.user_id
                 where mb.conversation_id = c.id and (u.id is not null or c.direct is not null) order by mb.rowid)) end, ",
            $crate::conversation::members_rev!("c.id"),
            ", coalesce((select previous_rev from members_changes where conversation_id = c.id), 0)"
        )
    };
}
pub(super) use {listed_members_max, state_columns};

/// A conversation after a change.
pub(super) struct State<'a> {
    pub conversation: Conversation<'a>,
    /// Whether the statements before have changed it.
    pub has_changed: bool,
    /// The rev of the latest change of the members, and of the one before.
    members_rev: i64,
    before: i64,
}

/// The statement for [`State::of`].
pub(super) fn state(guard: &Guard) -> Statement {
    Statement::new(
        concat!(
            "select ",
            state_columns!(),
            ", changes() > 0 from conversations c where c.id = ?1"
        ),
        [guard.conversation_id.into()],
    )
}

impl<'a> State<'a> {
    pub fn of(rows: &'a Rows) -> Result<Self, Error> {
        let row = rows.first();
        row.map(State::read)
            .ok_or_else(|| Error::Internal("a conversation with members does not exist".into()))
    }

    pub fn read(row: &'a Row) -> Self {
        let mut columns = row.columns();
        let conversation = Conversation {
            id: columns.integer(),
            name: columns.str(),
            rev: columns.integer(),
            direct: columns.flag(),
            created_at: columns.optional_integer(),
            roles: raw(columns.text()),
            members: columns.optional_str().map(|members| raw(members.into())),
        };
        State {
            conversation,
            members_rev: columns.integer(),
            before: columns.integer(),
            has_changed: columns.flag(),
        }
    }

    /// The members after the change.
    pub fn members_change(&self, user_ids: Vec<i64>) -> MembersChange {
        MembersChange {
            conversation_id: self.conversation.id,
            user_ids,
            before: self.before,
            members_rev: self.members_rev,
        }
    }

    /// The answer to the event that may have changed the conversation. If it has, the others get the
    /// same.
    pub fn answer<D: Serialize>(
        &self,
        kind: &'static str,
        is_changed: bool,
        data: &D,
        out: &mut Outbox,
    ) -> Reply {
        let data = json(data);
        if is_changed {
            out.push(self.push(kind, &data));
        }
        Reply(data)
    }

    /// The push of this data to the members after the change.
    pub fn push(&self, kind: &'static str, data: &str) -> Output {
        Output::Push {
            to: Audience::Conversation {
                id: self.conversation.id,
                members_rev: self.members_rev,
            },
            event: push(kind, data),
            is_droppable: false,
        }
    }
}

/// Somebody is no longer a member.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MemberLeft<'a> {
    conversation_id: i64,
    /// Who has left or was removed.
    username: &'a str,
    /// The conversation's rev after the change.
    rev: i64,
    /// The roles after the change: the last owner leaves the ownership to somebody.
    #[cfg_attr(feature = "schema", schemars(schema_with = "roles_schema"))]
    roles: &'a RawValue,
    /// `true` if the account is deleted. Otherwise left out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    deleted: bool,
}

impl MemberLeft<'_> {
    /// Tells the devices of the one who left, as the last they hear, and the other members. Returns
    /// the data.
    pub(super) fn tell(
        kind: &'static str,
        (user_id, username): (i64, &str),
        deleted: bool,
        state: &State,
        out: &mut Outbox,
    ) -> String {
        let data = json(&MemberLeft {
            conversation_id: state.conversation.id,
            username,
            rev: state.conversation.rev,
            roles: &state.conversation.roles,
            deleted,
        });
        out.push(Output::Push {
            to: Audience::Users(vec![user_id]),
            event: push(kind, &data),
            is_droppable: false,
        });
        out.push(Output::Leave(state.members_change(vec![user_id])));
        out.push(state.push(kind, &data));
        data
    }
}
