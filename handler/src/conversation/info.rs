//! `get_conversation_info`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::conversation::change::LISTED_MEMBERS_MAX;
use crate::conversation::{Conversation, no_such_conversation, raw, roles};
use crate::error::Error;
use crate::field::{Field, Kind};
use crate::fields::Fields;
use crate::member::{Guard, MemberEvent};
use crate::message::read::READ_RECEIPT_MEMBERS_MAX;
use crate::operation::{Access, Context};
use crate::outbox::Outbox;
use crate::reply::{Reply, json};
use crate::role::Role;
use crate::sql::{Row, Rows, Statement};
use crate::user::{Profile, profile_columns};

const ID: Field = Field::required("id", Kind::Conversation).wrong("id is required as int");

/// `get_conversation_info {id}` → [`ConversationInfo`].
pub struct GetConversationInfo;

/// A conversation with all its members.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConversationInfo<'a> {
    #[serde(flatten)]
    conversation: Conversation<'a>,
    /// The id of the last message that each member has read, by username, if the conversation has
    /// at most `READ_RECEIPT_MEMBERS_MAX` members.
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<BTreeMap<&'a str, i64>>,
    /// In the order of the members, if there are at most `LISTED_MEMBERS_MAX`.
    #[serde(skip_serializing_if = "Option::is_none")]
    profiles: Option<Vec<&'a Profile>>,
}

struct Member {
    role: Role,
    read_id: i64,
    profile: Profile,
}

impl Member {
    fn read(row: &Row) -> Self {
        let mut columns = row.columns();
        Member {
            role: Role::of(columns.integer()),
            read_id: columns.integer(),
            profile: Profile::read(&mut columns),
        }
    }

    fn username(&self) -> &str {
        &self.profile.username
    }
}

impl MemberEvent for GetConversationInfo {
    const TYPE: &'static str = "get_conversation_info";
    const FIELDS: &'static [Field] = &[ID];
    type Data = ConversationInfo<'static>;
    const ACCESS: Access = Access::Read;

    fn read(_: &Fields) -> Result<Self, Error> {
        Ok(GetConversationInfo)
    }

    fn statements(&self, guard: &Guard, ctx: &Context) -> Vec<Statement> {
        let parameters = || [guard.conversation_id.into(), ctx.user_id.into()];
        vec![
            Statement::new(
                "select cast(name as blob), rev, direct is not null, created_at from conversations where id = ?1
                     and exists (select 1 from members where conversation_id = ?1 and user_id = ?2)",
                parameters(),
            ),
            Statement::new(
                concat!(
                    "select mb.role, mb.read_id, ",
                    profile_columns!("?2"),
                    " from members mb left join users u on u.id = mb.user_id
                     where mb.conversation_id = ?1
                         and (u.id is not null or (select direct from conversations where id = ?1) is not null)
                         and exists (select 1 from members where conversation_id = ?1 and user_id = ?2)
                     order by mb.rowid"
                ),
                parameters(),
            ),
        ]
    }

    fn conclude(
        &self,
        guard: &Guard,
        ctx: &Context,
        rows: &[Rows],
        _: &mut Outbox,
    ) -> Result<Reply, Error> {
        let id = guard.conversation_id;
        // The conversation no longer exists, but a row of a member was left behind.
        let Some(row) = rows[1].first() else {
            return Err(Self::stranger(id, ctx));
        };
        let members: Vec<Member> = rows[2].0.iter().map(Member::read).collect();
        let count = members.len() as i64;
        let mut columns = row.columns();
        Ok(Reply::of(&ConversationInfo {
            conversation: Conversation {
                id,
                name: columns.str(),
                rev: columns.integer(),
                direct: columns.flag(),
                created_at: columns.optional_integer(),
                members: Some(raw(json(
                    &members.iter().map(Member::username).collect::<Vec<_>>(),
                ))),
                roles: roles(
                    members
                        .iter()
                        .map(|member| (member.username(), member.role)),
                ),
            },
            read: (count <= READ_RECEIPT_MEMBERS_MAX).then(|| {
                let read = members.iter();
                read.map(|member| (member.username(), member.read_id))
                    .collect()
            }),
            profiles: (count <= LISTED_MEMBERS_MAX)
                .then(|| members.iter().map(|member| &member.profile).collect()),
        }))
    }

    fn stranger(conversation_id: i64, ctx: &Context) -> Error {
        no_such_conversation(conversation_id, ctx)
    }
}
