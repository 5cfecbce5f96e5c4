//! Conversations and their members.

use std::collections::HashSet;

use serde::Serialize;

use crate::error::Error;
use crate::event::{Reply, json, push};
use crate::fields::Fields;
use crate::operation::{Access, Context, Operation};
use crate::outbox::{Audience, Outbox, Output};
use crate::statement::{Rows, Statement};

/// Longest name of a conversation, in characters.
pub const NAME_CHARS_MAX: usize = 256;

/// Members of one conversation, its creator included.
pub const MEMBERS_MAX: usize = 10_000;

/// A name made of members stops growing at this many characters.
const MADE_NAME_CHARS_MAX: usize = 80;

#[derive(Serialize)]
struct Conversation<'a> {
    id: i64,
    name: &'a str,
    members: &'a [String],
}

/// `create_conversation {members, name?}` → the conversation, to every member.
pub struct CreateConversation {
    name: Option<String>,
    members: Vec<String>,
}

impl CreateConversation {
    pub fn parse(fields: &Fields) -> Result<Self, Error> {
        let name = match fields.text("name") {
            Ok(Some(name)) if name.is_empty() => Err(()),
            Ok(name) => Ok(name),
            Err(_) => Err(()),
        };
        let name =
            name.map_err(|()| Error::Invalid("name value expected as a non zero string".into()))?;
        if name
            .as_ref()
            .is_some_and(|name| name.chars().count() > NAME_CHARS_MAX)
        {
            return Err(Error::TooLarge(format!(
                "name should be at most {NAME_CHARS_MAX} characters"
            )));
        }
        let Ok(Some(items)) = fields.list("members") else {
            return Err(Error::Invalid("members value expected a list".into()));
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

    /// The caller, then the others in the order they were named, each once.
    fn usernames<'a>(&'a self, ctx: &'a Context) -> Vec<&'a str> {
        let mut seen = HashSet::new();
        std::iter::once(&*ctx.username)
            .chain(self.members.iter().map(String::as_str))
            .filter(|name| seen.insert(*name))
            .collect()
    }

    /// The given name, or one made of the members: "alice, bob, carol +7".
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

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let usernames = self.usernames(ctx);
        let name = self.name(&usernames);
        let usernames = json(&usernames);
        vec![
            Statement::new(
                "select cast(value as blob) from json_each(?1)
                 where not exists (select 1 from users where username = value) order by key limit 1",
                [usernames.as_str().into()],
            ),
            Statement::new(
                "insert into conversations (name) select ?2
                 where not exists (select 1 from json_each(?1)
                     where not exists (select 1 from users where username = value))
                 returning id",
                [usernames.as_str().into(), name.into()],
            ),
            // The conversation of the statement before is the one with the highest id; where none was made, the
            // same guard holds this one back.
            Statement::new(
                "insert into members (conversation_id, user_id)
                 select (select max(id) from conversations), u.id
                 from json_each(?1) join users u on u.username = value
                 where not exists (select 1 from json_each(?1)
                     where not exists (select 1 from users where username = value))
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
        let id = row.integer(0);
        let usernames = self.usernames(ctx);
        let data = json(&Conversation {
            id,
            name: &self.name(&usernames),
            members: &usernames
                .iter()
                .map(|name| name.to_string())
                .collect::<Vec<_>>(),
        });
        out.push(Output::Join {
            conversation_id: id,
            user_ids: joined.integers(),
        });
        out.push(Output::Push {
            to: Audience::Conversation(id),
            event: push("create_conversation", &data),
        });
        Ok(Reply(data))
    }
}

/// `get_conversations` → `[{id, name}]`, the newest first.
pub struct GetConversations;

impl Operation for GetConversations {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "select c.id, cast(c.name as blob)
             from members m join conversations c on c.id = m.conversation_id
             where m.user_id = ?1 order by m.conversation_id desc",
            [ctx.user_id.into()],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        #[derive(Serialize)]
        struct Listed {
            id: i64,
            name: String,
        }
        let listed = rows[0].0.iter().map(|row| Listed {
            id: row.integer(0),
            name: row.text(1),
        });
        Ok(Reply::of(&listed.collect::<Vec<_>>()))
    }
}

/// `get_conversation_info {id}` → the conversation, members in the order of joining.
pub struct GetConversationInfo {
    id: i64,
}

impl GetConversationInfo {
    pub fn parse(fields: &Fields) -> Result<Self, Error> {
        match fields.integer("id") {
            Ok(Some(id)) => Ok(GetConversationInfo { id }),
            _ => Err(Error::Invalid("id is required as int".into())),
        }
    }
}

impl Operation for GetConversationInfo {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        vec![
            Statement::new(
                "select cast(name as blob) from conversations where id = ?1
                     and exists (select 1 from members where conversation_id = ?1 and user_id = ?2)",
                [self.id.into(), ctx.user_id.into()],
            ),
            Statement::new(
                "select cast(u.username as blob)
                 from members m join users u on u.id = m.user_id
                 where m.conversation_id = ?1
                     and exists (select 1 from members where conversation_id = ?1 and user_id = ?2)
                 order by m.rowid",
                [self.id.into(), ctx.user_id.into()],
            ),
        ]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        let Some(row) = rows[0].first() else {
            return Err(Error::NotFound(format!(
                "{} is not part of any conversation with {} id",
                ctx.username, self.id
            )));
        };
        Ok(Reply::of(&Conversation {
            id: self.id,
            name: &row.text(0),
            members: &rows[1].texts(),
        }))
    }
}
