//! `create_conversation`.

use std::collections::HashSet;

use crate::answer_budget::SMALL_ANSWER_BYTES_MAX;
use crate::conversation::change::{State, state_columns};
use crate::conversation::{
    CONVERSATIONS_MAX, Conversation, FIRST_REV, MEMBERS, MEMBERS_MAX, NAME_CHARS_MAX,
    conversation_count, members, no_such_user, raw, roles, too_many_conversations,
};
use crate::declaration::Declared;
use crate::error::Error;
use crate::field::{Field, Kind, Length};
use crate::fields::Fields;
use crate::operation::{Access, Context, Operation};
use crate::outbox::{Audience, MembersChange, Outbox, Output};
use crate::reply::{Reply, json, push};
use crate::role::Role;
use crate::sql::{Rows, Statement};
use crate::user::{Refusal, refusal};

/// A name made from usernames stops growing at about this many characters.
const MADE_NAME_CHARS_MAX: usize = 80;

const NAME: Field = Field::optional("name", Kind::Text(Length::characters(1, NAME_CHARS_MAX)))
    .wrong("name value expected as a non zero string")
    .too_large("name");
const DIRECT: Field = Field::instead_of("name", "direct", Kind::Flag);

/// `create_conversation {members, name? | direct?}` → the [`Conversation`], sent to every member.
/// The creator is its owner.
///
/// A direct conversation has one other member and no owner. If the two have one already, it is the
/// answer, sent only to the caller.
pub struct CreateConversation {
    name: Option<String>,
    members: Vec<String>,
    is_direct: bool,
}

impl Declared for CreateConversation {
    const TYPE: &'static str = "create_conversation";
    const FIELDS: &'static [Field] = &[MEMBERS, NAME, DIRECT];
    type Data = Conversation<'static>;

    fn read(fields: &Fields) -> Result<Self, Error> {
        let name = NAME.text(fields)?;
        // The creator is one more.
        let members = members(fields, MEMBERS_MAX - 1)?;
        let is_direct = DIRECT.flag(fields)?.unwrap_or_default();
        if is_direct && name.is_some() {
            let text = "a direct conversation has no name of its own";
            return Err(Error::Invalid(text.into()));
        }
        Ok(CreateConversation {
            name,
            members,
            is_direct,
        })
    }
}

impl CreateConversation {
    /// The caller, then the others in the order in which they were named, each once.
    fn usernames<'a>(&'a self, ctx: &'a Context) -> Vec<&'a str> {
        let mut seen = HashSet::new();
        std::iter::once(&*ctx.username)
            .chain(self.members.iter().map(String::as_str))
            .filter(|name| seen.insert(*name))
            .collect()
    }

    /// The given name, or one made from the usernames: "alice, bob, carol +7".
    fn name(&self, usernames: &[&str]) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let mut name = String::new();
        for (index, username) in usernames.iter().enumerate() {
            if name.chars().count() + username.chars().count() > MADE_NAME_CHARS_MAX && index > 0 {
                return format!("{name} +{}", usernames.len() - index);
            }
            if index > 0 {
                name.push_str(", ");
            }
            name.push_str(username);
        }
        name
    }
}

impl Operation for CreateConversation {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Write
    }

    fn answer_bytes_max(&self) -> usize {
        // It may have a name that is not in the request: one that was derived from the usernames, or
        // that of the direct conversation that exists already.
        8 * SMALL_ANSWER_BYTES_MAX
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let usernames = self.usernames(ctx);
        let name = self.name(&usernames);
        let is_direct = i64::from(self.is_direct);
        // A direct conversation with another number of members is refused.
        let usernames = match self.is_direct && usernames.len() != 2 {
            true => "[]".to_owned(),
            false => json(&usernames),
        };
        let list = || usernames.as_str().into();
        /// The users in `?1` who do not exist, whom the caller `$caller` cannot put into a
        /// conversation, or who can be in no more than the `?2` conversations.
        macro_rules! refused {
            ($caller:literal) => {
                concat!(
                    "from json_each(?1) left join users u on u.username = value
                     where (u.id is null or ",
                    refusal!($caller),
                    " > 0 or ",
                    conversation_count!(),
                    " >= ?2)"
                )
            };
        }
        /// The ids of the two users in `?1`.
        macro_rules! pair {
            () => {
                "(select min(u.id) || ':' || max(u.id) from json_each(?1) join users u on u.username = value)"
            };
        }
        let (created, joined) = match ctx.is_repeat {
            true => (
                Statement::new(
                    "select id from conversations where request_id = ?1",
                    [ctx.request_key()],
                ),
                Statement::new(
                    "select user_id from members
                     where conversation_id = (select id from conversations where request_id = ?1) order by rowid",
                    [ctx.request_key()],
                ),
            ),
            false => (
                Statement::new(
                    concat!(
                        "insert into conversations (name, activity, request_id, created_at, direct, member_count)
                         select ?3, (select coalesce(max(id), 0) from messages), ?4, ?5, iif(?6, ",
                        pair!(),
                        ", null), json_array_length(?1)
                         where json_array_length(?1) > 0 and not exists (select 1 ",
                        refused!("?7"),
                        ") on conflict do nothing returning id"
                    ),
                    [
                        list(),
                        CONVERSATIONS_MAX.into(),
                        name.into(),
                        ctx.request_key(),
                        ctx.now.into(),
                        is_direct.into(),
                        ctx.user_id.into(),
                    ],
                ),
                // changes() is 1 if the previous statement has created the conversation, and 0 if
                // not.
                Statement::new(
                    "insert into members (conversation_id, user_id, role)
                     select last_insert_rowid(), u.id, iif(key = 0 and not ?2, 2, 0)
                     from json_each(?1) join users u on u.username = value
                     where changes() = 1
                     order by key
                     returning user_id",
                    [list(), is_direct.into()],
                ),
            ),
        };
        // Finds out why nothing was created. changes() is 0 then.
        let refused = Statement::new(
            concat!(
                "select cast(value as blob), u.id is null, ",
                refusal!("?4"),
                " ",
                refused!("?4"),
                " and (?3 or changes() = 0) order by u.id is not null, key limit 1"
            ),
            [
                list(),
                CONVERSATIONS_MAX.into(),
                ctx.is_repeat.into(),
                ctx.user_id.into(),
            ],
        );
        let mut statements = vec![created, joined, refused];
        if self.is_direct {
            statements.push(Statement::new(
                concat!(
                    "select ",
                    state_columns!(),
                    " from conversations c where c.direct = ",
                    pair!()
                ),
                [list()],
            ));
        }
        statements
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<Reply, Error> {
        let [created, joined, refused, existing @ ..] = rows else {
            return Err(Error::Internal("three statements, three results".into()));
        };
        let usernames = self.usernames(ctx);
        if self.is_direct && usernames.len() != 2 {
            let text = "a direct conversation has one other member";
            return Err(Error::Invalid(text.into()));
        }
        let Some(row) = created.first() else {
            if let Some(row) = existing.first().and_then(Rows::first) {
                return Ok(Reply::of(&State::read(row).conversation));
            }
            let Some(row) = refused.first() else {
                return Err(Error::Internal("refused without a reason".into()));
            };
            let mut columns = row.columns();
            let (name, is_unknown) = (columns.text(), columns.flag());
            return Err(match Refusal::of(columns.integer()) {
                _ if is_unknown => no_such_user(&name),
                Some(refusal) => refusal.error(&name),
                None => too_many_conversations(&name),
            });
        };
        let id = row.columns().integer();
        let owner = (!self.is_direct).then_some((&*ctx.username, Role::Owner));
        let data = json(&Conversation {
            id,
            name: self.name(&usernames).into(),
            rev: FIRST_REV,
            direct: self.is_direct,
            created_at: Some(ctx.now),
            members: Some(raw(json(&usernames))),
            roles: roles(owner.into_iter()),
        });
        out.push(Output::Join(MembersChange {
            conversation_id: id,
            user_ids: joined.integers(),
            before: 0,
            members_rev: FIRST_REV,
        }));
        out.push(Output::Push {
            to: Audience::Conversation {
                id,
                members_rev: FIRST_REV,
            },
            event: push(Self::TYPE, &data),
            is_droppable: false,
        });
        Ok(Reply(data))
    }
}
