//! Messages: sending one, reading the history, marking it read.

use std::borrow::Cow;

use serde::Serialize;

use crate::error::Error;
use crate::event::{Reply, json, push};
use crate::fields::Fields;
use crate::operation::{Access, Context, Operation};
use crate::outbox::{Audience, Outbox, Output};
use crate::statement::{Row, Rows, Statement};

/// Longest content of a message, in bytes of UTF-8.
pub const CONTENT_BYTES_MAX: usize = 64 * 1024;

/// Longest `client_id`, in characters.
pub const CLIENT_ID_CHARS_MAX: usize = 64;

/// Messages in one answer of `get_messages`.
pub const PAGE_MESSAGES_MAX: i64 = 100;

/// Bytes of JSON after which an answer takes no further message.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Members up to which everyone hears who has read what.
pub const READ_RECEIPT_MEMBERS_MAX: i64 = 100;

/// The columns of a `Message`, of a `messages` row called `m`. A `client_id` that is no text is a request's id, given by
/// the host where the client gave none.
macro_rules! message_columns {
    () => {
        "m.id, m.conversation_id, m.rev, cast(m.reply_id as integer), cast(m.sent_at as integer), \
         cast((select username from users where id = m.sender_id) as blob), cast(m.content as blob), \
         case typeof(m.client_id) when 'text' then cast(m.client_id as blob) end"
    };
}
pub(crate) use message_columns;

/// `sent_at` is Unix seconds.
#[derive(Serialize)]
pub(crate) struct Message<'a> {
    pub id: i64,
    pub conversation_id: i64,
    pub rev: i64,
    reply_id: Option<i64>,
    sent_at: i64,
    sender_username: Cow<'a, str>,
    content: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<Cow<'a, str>>,
}

impl<'a> Message<'a> {
    /// From the columns of `message_columns!()`, the first of which is at `at`.
    pub fn of(row: &'a Row, at: usize) -> Self {
        Message {
            id: row.integer(at),
            conversation_id: row.integer(at + 1),
            rev: row.integer(at + 2),
            reply_id: row.optional_integer(at + 3),
            sent_at: row.integer(at + 4),
            sender_username: row.str(at + 5),
            content: row.str(at + 6),
            client_id: row.optional_str(at + 7),
        }
    }
}

/// `send_message {conversation_id, content, reply_id?, client_id?}` → the message, to every member. The same `client_id`
/// again → the stored message and `duplicate: true`, to the caller alone.
pub struct SendMessage {
    conversation_id: i64,
    /// Judged after membership: a stranger to the conversation hears of nothing else.
    body: Result<Body, Error>,
}

struct Body {
    content: String,
    reply_id: Option<i64>,
    client_id: Option<String>,
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
        let client_id = match fields.text("client_id") {
            Ok(client_id)
                if client_id.as_ref().is_none_or(|id| {
                    !id.is_empty() && id.chars().count() <= CLIENT_ID_CHARS_MAX
                }) =>
            {
                client_id
            }
            _ => {
                return Err(Error::Invalid(format!(
                    "client_id should be a string of 1 to {CLIENT_ID_CHARS_MAX} characters"
                )));
            }
        };
        Ok(Body {
            content,
            reply_id,
            client_id,
        })
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
        let key = match &body.client_id {
            Some(client_id) => client_id.as_str().into(),
            None => ctx.request_key(),
        };
        // "or fail": SQLite keeps no copy of the pages that the statement changes. It has one row: there is nothing to undo.
        let insert = Statement::new(
            "insert or fail into messages (sender_id, conversation_id, reply_id, sent_at, content, client_id, rev)
             select ?1, ?2, ?3, ?4, ?5, ?6, c.rev + 1 from conversations c
             where c.id = ?2
                 and exists (select 1 from members where conversation_id = ?2 and user_id = ?1)
                 and (?3 is null or exists (select 1 from messages where id = ?3 and conversation_id = ?2))
                 and (?6 is null or not exists (select 1 from messages
                     where conversation_id = ?2 and sender_id = ?1 and client_id = ?6))
             returning id, rev",
            [
                ctx.user_id.into(),
                self.conversation_id.into(),
                body.reply_id.into(),
                ctx.now.into(),
                body.content.as_str().into(),
                key.clone(),
            ],
        );
        // changes() is 1 where the statement before has stored the message, and 0 where it has not.
        let bump = Statement::new(
            "update conversations set rev = rev + 1, activity = last_insert_rowid()
             where id = ?1 and changes() = 1",
            [self.conversation_id.into()],
        );
        let mut statements = vec![insert, bump];
        // Why it was not stored, where there can be more than one reason.
        if body.reply_id.is_some() || body.client_id.is_some() || ctx.is_repeat {
            statements.push(member);
            statements.push(Statement::new(
                concat!(
                    "select ",
                    message_columns!(),
                    " from messages m
                     where changes() = 0 and m.conversation_id = ?1 and m.sender_id = ?2 and m.client_id = ?3"
                ),
                [self.conversation_id.into(), ctx.user_id.into(), key],
            ));
        }
        statements
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<Reply, Error> {
        let conversation_id = self.conversation_id;
        let body = match &self.body {
            Ok(body) => body,
            Err(error) => {
                members_only(&rows[0], conversation_id, ctx)?;
                return Err(error.clone());
            }
        };
        let message = match (rows[0].first(), rows.get(2..)) {
            (Some(row), _) => Message {
                id: row.integer(0),
                conversation_id,
                rev: row.integer(1),
                reply_id: body.reply_id,
                sent_at: ctx.now,
                sender_username: (&*ctx.username).into(),
                content: body.content.as_str().into(),
                client_id: body.client_id.as_deref().map(Cow::from),
            },
            (None, Some([member, stored])) => {
                members_only(member, conversation_id, ctx)?;
                let Some(row) = stored.first() else {
                    return Err(no_such_message(
                        body.reply_id.unwrap_or_default(),
                        conversation_id,
                    ));
                };
                let message = Message::of(row, 0);
                if !ctx.is_repeat {
                    #[derive(Serialize)]
                    struct Duplicate<'a> {
                        #[serde(flatten)]
                        message: Message<'a>,
                        duplicate: bool,
                    }
                    return Ok(Reply::of(&Duplicate {
                        message,
                        duplicate: true,
                    }));
                }
                message
            }
            (None, _) => return Err(not_a_member(conversation_id, ctx)),
        };
        let data = json(&message);
        out.push(Output::Push {
            to: Audience::Conversation(conversation_id),
            event: push("send_message", &data),
            is_droppable: false,
        });
        Ok(Reply(data))
    }
}

/// `get_messages {conversation_id, before? | after?, limit?}` → `{conversation_id, messages, has_more}`, newest first: as
/// many as `limit` and `PAGE_BYTES_MAX` allow, and at least one where there is one.
pub struct GetMessages {
    conversation_id: i64,
    /// Judged after membership.
    range: Result<Range, Error>,
}

enum Bound {
    /// The latest ones.
    None,
    /// The latest ones before this id.
    Before(i64),
    /// The ones that follow this id directly.
    After(i64),
}

/// The rev of the last message of conversation `?1` whose id is below `?2` (`"<"`), or not above it (`"<="`); 0 where
/// there is none. `?2` is mostly a message of the conversation, and `$exact` is it then. Anything else is searched for among
/// the revs: `last` is not below `low` and not above `high`.
macro_rules! last_rev {
    ($exact:literal, $compare:literal) => {
        concat!(
            "coalesce((select ", $exact, " from messages where id = ?2 and conversation_id = ?1), (
                 with recursive search(low, middle, high) as (
                     select 0, (rev + 1) / 2, rev from conversations where id = ?1
                     union all
                     select iif(m.id ", $compare, " ?2, middle, low),
                         iif(m.id ", $compare, " ?2, middle + high + 1, low + middle) / 2,
                         iif(m.id ", $compare, " ?2, high, middle - 1)
                     from search left join messages m on m.conversation_id = ?1 and m.rev = (
                         select rev from messages where conversation_id = ?1 and rev >= middle order by rev limit 1)
                     where low < high
                 )
                 select max(low) from search))"
        )
    };
}

/// A page of the messages of conversation `?1`, for its member `?3`, at most `?4` of them.
macro_rules! page {
    ($bound:expr, $order:literal) => {
        concat!(
            "select ",
            message_columns!(),
            " from messages m
             where m.conversation_id = ?1
                 and exists (select 1 from members where conversation_id = ?1 and user_id = ?3)",
            $bound,
            " ",
            $order,
            " limit ?4"
        )
    };
}

struct Range {
    bound: Bound,
    limit: i64,
}

impl GetMessages {
    pub fn parse(fields: &Fields) -> Result<Self, Error> {
        Ok(GetMessages {
            conversation_id: conversation_id(fields)?,
            range: Range::parse(fields),
        })
    }
}

impl Range {
    fn parse(fields: &Fields) -> Result<Self, Error> {
        let integer = |name: &str| {
            let value = fields.integer(name);
            value.map_err(|_| Error::Invalid(format!("expected {name} as integer")))
        };
        let bound = match (integer("before")?, integer("after")?) {
            (Some(_), Some(_)) => {
                let text = "before and after exclude each other";
                return Err(Error::Invalid(text.into()));
            }
            (None, Some(after)) => Bound::After(after),
            (Some(before), None) => Bound::Before(before),
            (None, None) => Bound::None,
        };
        let limit = limit(fields, PAGE_MESSAGES_MAX)?.unwrap_or(PAGE_MESSAGES_MAX);
        Ok(Range { bound, limit })
    }
}

impl Operation for GetMessages {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let member = is_member(self.conversation_id, ctx);
        let Ok(range) = &self.range else {
            return vec![member];
        };
        // One more than is asked for tells whether there are more.
        let count = range.limit + 1;
        let (sql, bound) = match range.bound {
            Bound::None => (page!("", "order by m.rev desc"), 0),
            Bound::Before(id) => (
                page!(
                    concat!(" and m.rev <= ", last_rev!("rev - 1", "<")),
                    "order by m.rev desc"
                ),
                id,
            ),
            Bound::After(id) => (
                page!(
                    concat!(" and m.rev > ", last_rev!("rev", "<=")),
                    "order by m.rev"
                ),
                id,
            ),
        };
        let messages = Statement::new(
            sql,
            [
                self.conversation_id.into(),
                bound.into(),
                ctx.user_id.into(),
                count.into(),
            ],
        );
        vec![member, messages]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        let conversation_id = self.conversation_id;
        members_only(&rows[0], conversation_id, ctx)?;
        let range = self.range.as_ref().map_err(Error::clone)?;
        let found = &rows[1].0;
        let mut page = Page::new(range.limit);
        let mut messages: Vec<String> = found
            .iter()
            .map_while(|row| page.take(json(&Message::of(row, 0))))
            .collect();
        let has_more = messages.len() < found.len();
        if let Bound::After(_) = range.bound {
            messages.reverse();
        }
        Ok(Reply(format!(
            r#"{{"conversation_id":{conversation_id},"messages":[{}],"has_more":{has_more}}}"#,
            messages.join(",")
        )))
    }
}

/// What still fits into an answer.
pub(crate) struct Page {
    messages: i64,
    bytes: usize,
    is_empty: bool,
}

impl Page {
    pub fn new(messages: i64) -> Self {
        Page {
            messages,
            bytes: PAGE_BYTES_MAX,
            is_empty: true,
        }
    }

    /// Whether this many bytes of something else fit; as with messages, the first thing always does.
    pub fn charge(&mut self, bytes: usize) -> bool {
        let fits = self.is_empty || bytes <= self.bytes;
        self.bytes = self.bytes.saturating_sub(bytes);
        fits
    }

    /// Gives the message back if it fits; the first one always does. Nothing fits after one that did not.
    pub fn take(&mut self, message: String) -> Option<String> {
        let fits = self.is_empty || message.len() <= self.bytes;
        if self.messages == 0 || !fits {
            self.messages = 0;
            return None;
        }
        self.is_empty = false;
        self.messages -= 1;
        self.bytes = self.bytes.saturating_sub(message.len());
        Some(message)
    }
}

/// `mark_read {conversation_id, message_id}` → `{conversation_id, username, message_id}`: read up to there. Only forward: an
/// older message is answered with what is read already. Told to the caller's other sockets, and to all members of a
/// conversation of at most `READ_RECEIPT_MEMBERS_MAX`.
pub struct MarkRead {
    conversation_id: i64,
    message_id: Result<i64, Error>,
}

impl MarkRead {
    pub fn parse(fields: &Fields) -> Result<Self, Error> {
        Ok(MarkRead {
            conversation_id: conversation_id(fields)?,
            message_id: match fields.integer("message_id") {
                Ok(Some(id)) => Ok(id),
                _ => Err(Error::Invalid("expected message_id as integer".into())),
            },
        })
    }
}

impl Operation for MarkRead {
    type Output = Reply;

    fn access(&self) -> Access {
        match self.message_id {
            Ok(_) => Access::Write,
            Err(_) => Access::Read,
        }
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let conversation_id = self.conversation_id;
        let Ok(message_id) = self.message_id else {
            return vec![is_member(conversation_id, ctx)];
        };
        vec![
            is_member(conversation_id, ctx),
            Statement::new(
                "update members set read_id = ?3
                 where conversation_id = ?1 and user_id = ?2 and read_id < ?3
                     and exists (select 1 from messages where id = ?3 and conversation_id = ?1)
                 returning 1",
                [
                    conversation_id.into(),
                    ctx.user_id.into(),
                    message_id.into(),
                ],
            ),
            Statement::new(
                "select read_id, (select count(*) from messages where id = ?3 and conversation_id = ?1),
                     (select count(*) from (select 1 from members where conversation_id = ?1 limit ?4))
                 from members where conversation_id = ?1 and user_id = ?2",
                [
                    conversation_id.into(),
                    ctx.user_id.into(),
                    message_id.into(),
                    (READ_RECEIPT_MEMBERS_MAX + 1).into(),
                ],
            ),
        ]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<Reply, Error> {
        let conversation_id = self.conversation_id;
        members_only(&rows[0], conversation_id, ctx)?;
        let message_id = self.message_id.clone()?;
        let state = rows[2].first();
        let column = |index| state.map_or(0, |row| row.integer(index));
        let (read_id, exists, members) = (column(0), column(1), column(2));
        if exists == 0 {
            return Err(no_such_message(message_id, conversation_id));
        }
        #[derive(Serialize)]
        struct Read<'a> {
            conversation_id: i64,
            username: &'a str,
            message_id: i64,
        }
        let data = json(&Read {
            conversation_id,
            username: &ctx.username,
            message_id: read_id,
        });
        if !rows[1].is_empty() || ctx.is_repeat {
            let to = match members {
                ..=READ_RECEIPT_MEMBERS_MAX => Audience::Conversation(conversation_id),
                _ => Audience::Users(vec![ctx.user_id]),
            };
            out.push(Output::Push {
                to,
                event: push("mark_read", &data),
                is_droppable: false,
            });
        }
        Ok(Reply(data))
    }
}

pub(crate) fn conversation_id(fields: &Fields) -> Result<i64, Error> {
    match fields.integer("conversation_id") {
        Ok(Some(id)) => Ok(id),
        _ => Err(Error::Invalid("expected conversation_id as integer".into())),
    }
}

/// `limit`, from 1 to `max`.
pub(crate) fn limit(fields: &Fields, max: i64) -> Result<Option<i64>, Error> {
    match fields.integer("limit") {
        Ok(None) => Ok(None),
        Ok(Some(limit)) if (1..=max).contains(&limit) => Ok(Some(limit)),
        _ => Err(Error::Invalid(format!(
            "limit should be an integer from 1 to {max}"
        ))),
    }
}

/// One row where the caller is a member, none where not.
pub(crate) fn is_member(conversation_id: i64, ctx: &Context) -> Statement {
    Statement::new(
        "select 1 from members where conversation_id = ?1 and user_id = ?2",
        [conversation_id.into(), ctx.user_id.into()],
    )
}

pub(crate) fn members_only(
    member: &Rows,
    conversation_id: i64,
    ctx: &Context,
) -> Result<(), Error> {
    match member.is_empty() {
        true => Err(not_a_member(conversation_id, ctx)),
        false => Ok(()),
    }
}

fn not_a_member(conversation_id: i64, ctx: &Context) -> Error {
    Error::NotFound(format!(
        "{} not part of conversation with {conversation_id} id",
        ctx.username
    ))
}

fn no_such_message(message_id: i64, conversation_id: i64) -> Error {
    Error::NotFound(format!(
        "No such {message_id} message id found in {conversation_id} conversation_id"
    ))
}
