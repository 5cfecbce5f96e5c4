//! Conversations and their members.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use crate::error::Error;
use crate::event::{Reply, json, push};
use crate::fields::Fields;
use crate::message::{self, Message, Page, READ_RECEIPT_MEMBERS_MAX, message_columns};
use crate::operation::{Access, Context, Operation};
use crate::outbox::{Audience, Outbox, Output};
use crate::statement::{Row, Rows, Statement};

/// Longest name of a conversation, in characters.
pub const NAME_CHARS_MAX: usize = 256;

/// Members of one conversation, its creator included.
pub const MEMBERS_MAX: usize = 10_000;

/// Conversations in one answer of `get_conversations` that has a `limit`.
pub const PAGE_CONVERSATIONS_MAX: i64 = 1_000;
/// Bytes of JSON of all conversations at once, where no `limit` was given.
pub const CONVERSATIONS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Unread messages are counted up to this number, which stands for as many or more. It is in `unread_column!()`.
pub const UNREAD_MAX: i64 = 100;

/// The number of messages that others have sent after `page.read_id` in `page.id`; `?1` is the caller.
macro_rules! unread_column {
    () => {
        "(select count(*) from (select 1 from messages
             where conversation_id = page.id and sender_id <> ?1 and rev > coalesce(
                 (select rev from messages where id = page.read_id and conversation_id = page.id), 0) limit 100))"
    };
}
pub(crate) use unread_column;

/// A name made of members stops growing at this many characters.
const MADE_NAME_CHARS_MAX: usize = 80;

#[derive(Serialize)]
struct Conversation<'a> {
    id: i64,
    name: &'a str,
    rev: i64,
    members: &'a [String],
    /// What each member has read up to.
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<BTreeMap<&'a str, i64>>,
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
        let mut statements = vec![
            Statement::new(
                "select cast(value as blob) from json_each(?1)
                 where not exists (select 1 from users where username = value) order by key limit 1",
                [usernames.as_str().into()],
            ),
            Statement::new(
                "insert into conversations (name, activity, request_id)
                 select ?2, (select coalesce(max(id), 0) from messages), ?3
                 where not exists (select 1 from json_each(?1)
                     where not exists (select 1 from users where username = value))
                     and (?3 is null or not exists (select 1 from conversations where request_id = ?3))
                 returning id, rev",
                [usernames.as_str().into(), name.into(), ctx.request_key()],
            ),
            // changes() is 1 where the statement before has made the conversation, and 0 where it has not.
            Statement::new(
                "insert into members (conversation_id, user_id)
                 select last_insert_rowid(), u.id
                 from json_each(?1) join users u on u.username = value
                 where changes() = 1
                 order by key
                 returning user_id",
                [usernames.into()],
            ),
        ];
        if ctx.is_repeat {
            let made = "select id, 1 from conversations where request_id = ?1";
            statements[1] = Statement::new(made, [ctx.request_key()]);
            statements[2] = Statement::new(
                "select user_id from members
                 where conversation_id = (select id from conversations where request_id = ?1) order by rowid",
                [ctx.request_key()],
            );
        }
        statements
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
            rev: row.integer(1),
            members: &usernames
                .iter()
                .map(|name| name.to_string())
                .collect::<Vec<_>>(),
            read: None,
        });
        out.push(Output::Join {
            conversation_id: id,
            user_ids: joined.integers(),
        });
        out.push(Output::Push {
            to: Audience::Conversation(id),
            event: push("create_conversation", &data),
            is_droppable: false,
        });
        Ok(Reply(data))
    }
}

/// `get_conversations {limit?, before?}` → `[{id, name, rev, unread, read_id, last_message}]`, the most recently active
/// first: by the latest message or, before there is one, by the making. `before`: the id of the last one of the page
/// before. With a `limit`, fewer where they would pass `PAGE_BYTES_MAX`: the last page is an empty one. `unread` counts the messages of others after `read_id`, at most `UNREAD_MAX`.
pub struct GetConversations {
    before: Option<i64>,
    limit: Option<i64>,
}

impl GetConversations {
    pub fn parse(fields: &Fields) -> Result<Self, Error> {
        let before = fields
            .integer("before")
            .map_err(|_| Error::Invalid("expected before as integer".into()))?;
        let limit = message::limit(fields, PAGE_CONVERSATIONS_MAX)?;
        Ok(GetConversations { before, limit })
    }
}

impl Operation for GetConversations {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        // What is counted and looked up is so for the page alone.
        let member = message::is_member(self.before.unwrap_or_default(), ctx);
        let page = Statement::new(
            concat!(
                "with page as materialized (
                     select c.id, c.name, c.rev, c.activity, mb.read_id
                     from members mb join conversations c on c.id = mb.conversation_id
                     where mb.user_id = ?1 and (?2 is null
                         or (c.activity, c.id) < (select activity, id from conversations where id = ?2))
                     order by c.activity desc, c.id desc limit ?3
                 ),
                 sized as (
                     select page.*, sum(coalesce(octet_length(m.content), 0)) over (order by activity desc, page.id desc) as bytes
                     from page left join messages m on m.id = activity and m.conversation_id = page.id
                 )
                 select page.id, cast(page.name as blob), page.rev, page.read_id, ",
                unread_column!(),
                ", bytes > ?4, ",
                message_columns!(),
                " from sized as page left join messages m on m.id = page.activity and m.conversation_id = page.id and bytes <= ?4
                 order by page.activity desc, page.id desc"
            ),
            [
                ctx.user_id.into(),
                self.before.into(),
                // SQLite takes a negative limit for none.
                self.limit.unwrap_or(-1).into(),
                match self.limit {
                    Some(_) => message::PAGE_BYTES_MAX as i64,
                    None => CONVERSATIONS_BYTES_MAX as i64,
                }
                .into(),
            ],
        );
        vec![member, page]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        if let (Some(before), true) = (self.before, rows[0].is_empty()) {
            return Err(no_such_conversation(before, ctx));
        }
        #[derive(Serialize)]
        struct Listed<'a> {
            id: i64,
            name: String,
            rev: i64,
            read_id: i64,
            unread: i64,
            last_message: Option<Message<'a>>,
        }
        let is_whole = |row: &&Row| !row.flag(5);
        let listed = rows[1].0.iter().take_while(is_whole).map(|row| {
            json(&Listed {
                id: row.integer(0),
                name: row.text(1),
                rev: row.integer(2),
                read_id: row.integer(3),
                unread: row.integer(4),
                last_message: row.optional_integer(6).map(|_| Message::of(row, 6)),
            })
        });
        let listed: Vec<String> = match self.limit {
            Some(_) => {
                let mut page = Page::new(i64::MAX);
                listed.map_while(|text| page.take(text)).collect()
            }
            // Whoever asks without a limit knows no pages, and gets all or nothing.
            None => {
                let mut left = CONVERSATIONS_BYTES_MAX;
                let listed = listed.map_while(|text| {
                    left = left.checked_sub(text.len())?;
                    Some(text)
                });
                listed.collect()
            }
        };
        if self.limit.is_none() && listed.len() < rows[1].0.len() {
            let text = "these are more than 16 MiB: ask for pages of them, with limit";
            return Err(Error::TooLarge(text.into()));
        }
        Ok(Reply(format!("[{}]", listed.join(","))))
    }
}

/// `get_conversation_info {id}` → the conversation, members in the order of joining; with what each has read, where it has
/// at most `READ_RECEIPT_MEMBERS_MAX`.
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
                "select cast(name as blob), rev from conversations where id = ?1
                     and exists (select 1 from members where conversation_id = ?1 and user_id = ?2)",
                [self.id.into(), ctx.user_id.into()],
            ),
            Statement::new(
                "select cast(u.username as blob), m.read_id
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
            return Err(no_such_conversation(self.id, ctx));
        };
        let members = rows[1].texts();
        let few = members.len() as i64 <= READ_RECEIPT_MEMBERS_MAX;
        let read_ids = rows[1].0.iter().map(|row| row.integer(1));
        Ok(Reply::of(&Conversation {
            id: self.id,
            name: &row.text(0),
            rev: row.integer(1),
            members: &members,
            read: few.then(|| members.iter().map(String::as_str).zip(read_ids).collect()),
        }))
    }
}

fn no_such_conversation(id: i64, ctx: &Context) -> Error {
    Error::NotFound(format!(
        "{} is not part of any conversation with {id} id",
        ctx.username
    ))
}
