//! `create_conversation`.

use std::collections::HashSet;

use crate::answer_budget::SMALL_ANSWER_BYTES_MAX;
use crate::conversation::{Conversation, FIRST_REV};
use crate::declaration::Declared;
use crate::error::Error;
use crate::field::{Field, Kind, Length};
use crate::fields::Fields;
use crate::operation::{Access, Context, Operation};
use crate::outbox::{Audience, MembersChange, Outbox, Output};
use crate::reply::{Reply, json, push};
use crate::sql::{Rows, Statement};

/// The longest name of a conversation, in characters.
pub const NAME_CHARS_MAX: usize = 256;

/// The most members of a conversation, including its creator.
pub const MEMBERS_MAX: usize = 10_000;

/// A name made from usernames stops growing at about this many characters.
const MADE_NAME_CHARS_MAX: usize = 80;

const MEMBERS: Field =
    Field::required("members", Kind::Users).wrong("members value expected a list");
const NAME: Field = Field::optional("name", Kind::Text(Length::characters(1, NAME_CHARS_MAX)))
    .wrong("name value expected as a non zero string")
    .too_large("name");

/// `create_conversation {members, name?}` → the [`Conversation`], sent to every member.
pub struct CreateConversation {
    name: Option<String>,
    members: Vec<String>,
}

impl Declared for CreateConversation {
    const TYPE: &'static str = "create_conversation";
    const FIELDS: &'static [Field] = &[MEMBERS, NAME];

    fn read(fields: &Fields) -> Result<Self, Error> {
        let name = NAME.text(fields)?;
        let Ok(Some(items)) = fields.list(MEMBERS.name) else {
            return Err(MEMBERS.error());
        };
        if items.len() >= MEMBERS_MAX {
            return Err(Error::TooLarge(format!(
                "a conversation can have at most {MEMBERS_MAX} members"
            )));
        }
        let members: Result<Vec<String>, _> = items.into_iter().map(serde_json::from_str).collect();
        let members =
            members.map_err(|_| Error::Invalid("members should be a list of string".into()))?;
        Ok(CreateConversation { name, members })
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
        SMALL_ANSWER_BYTES_MAX
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let usernames = self.usernames(ctx);
        let name = self.name(&usernames);
        let usernames = json(&usernames);
        let unknown = Statement::new(
            "select cast(value as blob) from json_each(?1)
             where not exists (select 1 from users where username = value) order by key limit 1",
            [usernames.as_str().into()],
        );
        if ctx.is_repeat {
            return vec![
                unknown,
                Statement::new(
                    "select id from conversations where request_id = ?1",
                    [ctx.request_key()],
                ),
                Statement::new(
                    "select user_id from members
                     where conversation_id = (select id from conversations where request_id = ?1) order by rowid",
                    [ctx.request_key()],
                ),
            ];
        }
        vec![
            unknown,
            Statement::new(
                "insert into conversations (name, activity, request_id)
                 select ?2, (select coalesce(max(id), 0) from messages), ?3
                 where not exists (select 1 from json_each(?1)
                     where not exists (select 1 from users where username = value))
                     and (?3 is null or not exists (select 1 from conversations where request_id = ?3))
                 returning id",
                [usernames.as_str().into(), name.into(), ctx.request_key()],
            ),
            // changes() is 1 if the previous statement has created the conversation, and 0 if not.
            Statement::new(
                "insert into members (conversation_id, user_id)
                 select last_insert_rowid(), u.id
                 from json_each(?1) join users u on u.username = value
                 where changes() = 1
                 order by key
                 returning user_id",
                [usernames.into()],
            ),
        ]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<Reply, Error> {
        let [unknown, created, joined] = rows else {
            return Err(Error::Internal("three statements, three results".into()));
        };
        let Some(row) = created.first() else {
            let name = unknown.texts().concat();
            return Err(Error::NotFound(format!("'{name}' is not a valid username")));
        };
        let id = row.columns().integer();
        let usernames = self.usernames(ctx);
        let members: Vec<_> = usernames.iter().map(|name| name.to_string()).collect();
        let data = json(&Conversation {
            id,
            name: &self.name(&usernames),
            rev: FIRST_REV,
            members: &members,
            read: None,
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
