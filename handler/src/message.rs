//! Messages: sending one, reading the history.

use serde::Serialize;

use crate::error::Error;
use crate::event::{Reply, json, push};
use crate::fields::Fields;
use crate::operation::{Access, Context, Operation};
use crate::outbox::{Audience, Outbox, Output};
use crate::statement::{Rows, Statement};

/// Longest content of a message, in bytes of UTF-8.
pub const CONTENT_BYTES_MAX: usize = 64 * 1024;

/// Messages in one answer of `get_messages`.
pub const PAGE_MESSAGES_MAX: i64 = 100;

/// Bytes of JSON after which an answer of `get_messages` takes no further message.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// `sent_at` is Unix seconds.
#[derive(Serialize)]
struct Message<'a> {
    id: i64,
    conversation_id: i64,
    sender_username: &'a str,
    content: &'a str,
    reply_id: Option<i64>,
    sent_at: i64,
}

/// `send_message {conversation_id, content, reply_id?}` → the message, to every member.
pub struct SendMessage {
    conversation_id: i64,
    /// Judged after membership: a stranger to the conversation hears of nothing else.
    body: Result<Body, Error>,
}

struct Body {
    content: String,
    reply_id: Option<i64>,
}

impl SendMessage {
    pub fn parse(fields: &Fields) -> Result<Self, Error> {
        Ok(SendMessage {
            conversation_id: conversation_id(fields)?,
            body: Body::parse(fields),
        })
    }
}

impl Body {
    fn parse(fields: &Fields) -> Result<Self, Error> {
        let content = match fields.text("content") {
            Ok(Some(content)) => content,
            _ => return Err(Error::Invalid("expected content as string".into())),
        };
        if content.is_empty() {
            let text = "message content should be non empty string";
            return Err(Error::Invalid(text.into()));
        }
        if content.len() > CONTENT_BYTES_MAX {
            return Err(Error::TooLarge(format!(
                "message content should be at most {CONTENT_BYTES_MAX} bytes"
            )));
        }
        let reply_id = fields
            .integer("reply_id")
            .map_err(|_| Error::Invalid("if reply_id is provided then expected integer".into()))?;
        Ok(Body { content, reply_id })
    }
}

impl Operation for SendMessage {
    type Output = Reply;

    fn access(&self) -> Access {
        match self.body {
            Ok(_) => Access::Write,
            Err(_) => Access::Read,
        }
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let member = is_member(self.conversation_id, ctx);
        let Ok(body) = &self.body else {
            return vec![member];
        };
        let insert = Statement::new(
            "insert into messages (sender_id, conversation_id, reply_id, sent_at, content)
             select ?1, ?2, ?3, ?4, ?5
             where exists (select 1 from members where conversation_id = ?2 and user_id = ?1)
                 and (?3 is null or exists (select 1 from messages where id = ?3 and conversation_id = ?2))
             returning id",
            [
                ctx.user_id.into(),
                self.conversation_id.into(),
                body.reply_id.into(),
                ctx.now.into(),
                body.content.as_str().into(),
            ],
        );
        vec![member, insert]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<Reply, Error> {
        let conversation_id = self.conversation_id;
        members_only(&rows[0], conversation_id, ctx)?;
        let body = self.body.as_ref().map_err(Error::clone)?;
        let Some(row) = rows[1].first() else {
            let reply_id = body.reply_id.unwrap_or_default();
            return Err(Error::NotFound(format!(
                "No such {reply_id} message id found in {conversation_id} conversation_id"
            )));
        };
        let data = json(&Message {
            id: row.integer(0),
            conversation_id,
            sender_username: &ctx.username,
            content: &body.content,
            reply_id: body.reply_id,
            sent_at: ctx.now,
        });
        out.push(Output::Push {
            to: Audience::Conversation(conversation_id),
            event: push("send_message", &data),
        });
        Ok(Reply(data))
    }
}

/// `get_messages {conversation_id, before?}` → `{conversation_id, messages}`, newest first: as many as `PAGE_MESSAGES_MAX`
/// and `PAGE_BYTES_MAX` allow, and at least one where there is one.
pub struct GetMessages {
    conversation_id: i64,
    /// Judged after membership.
    before: Result<Option<i64>, Error>,
}

impl GetMessages {
    pub fn parse(fields: &Fields) -> Result<Self, Error> {
        Ok(GetMessages {
            conversation_id: conversation_id(fields)?,
            before: fields
                .integer("before")
                .map_err(|_| Error::Invalid("expected before as integer".into())),
        })
    }
}

impl Operation for GetMessages {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let member = is_member(self.conversation_id, ctx);
        let Ok(before) = self.before else {
            return vec![member];
        };
        let messages = Statement::new(
            "select m.id, cast(m.reply_id as integer), cast(m.sent_at as integer),
                 cast((select username from users where id = m.sender_id) as blob), cast(m.content as blob)
             from messages m
             where m.conversation_id = ?1 and (?2 is null or m.id < ?2)
                 and exists (select 1 from members where conversation_id = ?1 and user_id = ?3)
             order by m.id desc limit ?4",
            [
                self.conversation_id.into(),
                before.into(),
                ctx.user_id.into(),
                PAGE_MESSAGES_MAX.into(),
            ],
        );
        vec![member, messages]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        let conversation_id = self.conversation_id;
        members_only(&rows[0], conversation_id, ctx)?;
        self.before.as_ref().map_err(Error::clone)?;
        let mut data = format!(r#"{{"conversation_id":{conversation_id},"messages":["#);
        for (index, row) in rows[1].0.iter().enumerate() {
            let message = json(&Message {
                id: row.integer(0),
                conversation_id,
                sender_username: &row.text(3),
                content: &row.text(4),
                reply_id: row.optional_integer(1),
                sent_at: row.integer(2),
            });
            if index > 0 {
                if data.len() + message.len() > PAGE_BYTES_MAX {
                    break;
                }
                data.push(',');
            }
            data.push_str(&message);
        }
        data.push_str("]}");
        Ok(Reply(data))
    }
}

fn conversation_id(fields: &Fields) -> Result<i64, Error> {
    match fields.integer("conversation_id") {
        Ok(Some(id)) => Ok(id),
        _ => Err(Error::Invalid("expected conversation_id as integer".into())),
    }
}

/// One row where the caller is a member, none where not.
fn is_member(conversation_id: i64, ctx: &Context) -> Statement {
    Statement::new(
        "select 1 from members where conversation_id = ?1 and user_id = ?2",
        [conversation_id.into(), ctx.user_id.into()],
    )
}

fn members_only(member: &Rows, conversation_id: i64, ctx: &Context) -> Result<(), Error> {
    if member.is_empty() {
        return Err(Error::NotFound(format!(
            "{} not part of conversation with {conversation_id} id",
            ctx.username
        )));
    }
    Ok(())
}
