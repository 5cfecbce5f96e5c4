//! `send_message`.

use std::borrow::Cow;

use libsql::Value;
use serde::Serialize;

use crate::answer_budget::SMALL_ANSWER_BYTES_MAX;
use crate::conversation::members_rev;
use crate::error::Error;
use crate::field::{Field, Kind, Length};
use crate::fields::Fields;
use crate::member::{CONVERSATION_ID, Guard, MemberEvent};
use crate::message::mention::{ALL_MEMBERS_MAX, Candidates, insert_mentions, mentioned};
use crate::message::sends::SENDS;
use crate::message::{Message, message_columns, no_such_message, sender};
use crate::operation::{Access, Context};
use crate::outbox::{Audience, Outbox, Output};
use crate::reply::{Reply, json, push};
use crate::set::Element;
use crate::sql::{Rows, Statement};

/// The longest content of a message, in bytes of UTF-8.
pub const CONTENT_BYTES_MAX: usize = 64 * 1024;

/// The longest `client_id`, in characters.
pub const CLIENT_ID_CHARS_MAX: usize = 64;

/// The most mentions of a message that is stored in a set with others. One with more would hold them
/// up.
const MENTIONS_IN_SET_MAX: usize = 10;

pub(crate) const CONTENT: Field =
    Field::required("content", Kind::Text(Length::bytes(1, CONTENT_BYTES_MAX)))
        .wrong("expected content as string")
        .empty("message content should be non empty string")
        .too_large("message content");
const REPLY_ID: Field = Field::optional("reply_id", Kind::Message)
    .wrong("if reply_id is provided then expected integer");
const CLIENT_ID: Field = Field::optional(
    "client_id",
    Kind::ClientId(Length::characters(1, CLIENT_ID_CHARS_MAX)),
);

/// `send_message {conversation_id, content, reply_id?, client_id?}` → the [`Message`], sent to
/// every member. If the same `client_id` is sent again → [`Sent`] with `duplicate`, sent only to the
/// caller. It holds the message as it is now: others may have reacted to it, or deleted it.
pub struct SendMessage {
    content: String,
    candidates: Option<Candidates>,
    reply_id: Option<i64>,
    client_id: Option<String>,
}

/// The message that is stored.
// A new message is serialised without this struct.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sent<'a> {
    #[serde(flatten)]
    message: Message<'a>,
    /// `true` if it was stored already: the same sender had sent the same `client_id` to the same
    /// conversation. Otherwise left out.
    #[cfg_attr(feature = "schema", schemars(skip_serializing_if = "std::ops::Not::not", extend("const" = true)))]
    duplicate: bool,
}

/// The number of the statement that returns a row if the message was stored.
const STORED: usize = 2;

impl SendMessage {
    /// Whether the message may be stored already, or answer one that does not exist.
    fn has_reasons(&self, ctx: &Context) -> bool {
        self.reply_id.is_some() || self.client_id.is_some() || ctx.is_repeat
    }
}

impl MemberEvent for SendMessage {
    const TYPE: &'static str = "send_message";
    const FIELDS: &'static [Field] = &[CONVERSATION_ID, CONTENT, REPLY_ID, CLIENT_ID];
    type Data = Sent<'static>;
    const ACCESS: Access = Access::Write;
    /// If the message is stored, no other statement is needed.
    const IS_GUARDED_FIRST: bool = false;

    fn read(fields: &Fields) -> Result<Self, Error> {
        let content = CONTENT.required_text(fields)?;
        Ok(SendMessage {
            candidates: Candidates::of(&content),
            content,
            reply_id: REPLY_ID.integer(fields)?,
            client_id: CLIENT_ID.text(fields)?,
        })
    }

    fn answer_bytes_max(&self) -> usize {
        match self.client_id {
            // The message that is stored already may be a longer one. In JSON it may have six times as
            // many bytes, and others may have reacted to it. That is counted when it is known.
            Some(_) => CONTENT_BYTES_MAX,
            None => SMALL_ANSWER_BYTES_MAX,
        }
    }

    fn mentions_max(&self) -> usize {
        let candidates = self.candidates.as_ref();
        candidates.map_or(0, |candidates| candidates.mentions_max)
    }

    fn statements(&self, guard: &Guard, ctx: &Context) -> Vec<Statement> {
        let conversation_id = guard.conversation_id;
        let key = match &self.client_id {
            Some(client_id) => client_id.as_str().into(),
            None => ctx.request_key(),
        };
        /// With "or fail", SQLite keeps no copy of the pages that the statement changes. The
        /// statement inserts one row, so there is nothing to undo.
        macro_rules! insert {
            ($guard:expr) => {
                insert!($guard, "", "")
            };
            ($guard:expr, $column:literal, $value:expr) => {
                concat!(
                    "insert or fail into messages (sender_id, conversation_id, reply_id, sent_at, content, client_id, rev",
                    $column,
                    ")
                     select ?1, ?2, ?3, ?4, ?5, ?6, c.rev + 1",
                    $value,
                    " from conversations c
                     where c.id = ?2 and c.is_silent = 0
                         and exists (select 1 from members where conversation_id = ?2 and user_id = ?1)",
                    $guard
                )
            };
        }
        macro_rules! is_valid_and_new {
            () => {
                " and (?3 is null or exists (select 1 from messages where id = ?3 and conversation_id = ?2))
                  and (?6 is null or not exists (select 1 from messages
                      where conversation_id = ?2 and sender_id = ?1 and client_id = ?6))"
            };
        }
        // Most messages only need to be stored.
        let insert = match (&self.reply_id, &key, &self.candidates) {
            (None, Value::Null, None) => insert!(""),
            (_, _, None) => insert!(is_valid_and_new!()),
            (_, _, Some(_)) => insert!(
                is_valid_and_new!(),
                ", mentions",
                concat!(", ", mentioned!("?2", "?1", "?7", "?8"))
            ),
        };
        let mut insert = Statement::new(
            insert,
            [
                ctx.user_id.into(),
                conversation_id.into(),
                self.reply_id.into(),
                ctx.now.into(),
                self.content.as_str().into(),
                key.clone(),
            ],
        );
        if let Some(Candidates { names, .. }) = &self.candidates {
            let more = [names.as_str().into(), ALL_MEMBERS_MAX.into()];
            insert.parameters.extend(more);
        }
        // changes() is 1 if the previous statement has stored the message, and 0 if not.
        let raise_rev = Statement::new(
            "update conversations set rev = rev + 1, activity = last_insert_rowid()
             where id = ?1 and changes() = 1",
            [conversation_id.into()],
        );
        // With "returning" instead, both statements would make a temporary table for their one row,
        // and cost three times as much.
        let stored = Statement::new(
            match ctx.is_shared() {
                true => concat!(
                    "select activity, rev, ",
                    members_rev!("id"),
                    " from conversations where id = ?1 and changes() = 1"
                ),
                false => {
                    "select activity, rev, 0 from conversations where id = ?1 and changes() = 1"
                }
            },
            [conversation_id.into()],
        );
        let mut statements = vec![insert, raise_rev, stored];
        // Find out why the message was not stored.
        let silence = guard.statement_with_silence(ctx);
        statements.push(silence.explaining(STORED));
        if self.has_reasons(ctx) {
            let stored = Statement::new(
                concat!(
                    "select ",
                    message_columns!(),
                    " from messages m",
                    sender!(),
                    " where changes() = 0 and m.conversation_id = ?1 and m.sender_id = ?2 and m.client_id = ?3"
                ),
                [conversation_id.into(), ctx.user_id.into(), key],
            );
            statements.push(stored.explaining(STORED));
        }
        // Last, because after it changes() says something else.
        if self.candidates.is_some() {
            statements.push(Statement::new(
                concat!(
                    "select ",
                    message_columns!(),
                    " from messages m",
                    sender!(),
                    " where changes() = 1 and m.id = last_insert_rowid()"
                ),
                [],
            ));
            statements.push(Statement::new(
                insert_mentions!("m.id = (select last_insert_rowid()) and changes() = 1"),
                [],
            ));
        }
        statements
    }

    fn element(&self, guard: &Guard, ctx: &Context) -> Option<Element> {
        if ctx.is_repeat || self.mentions_max() > MENTIONS_IN_SET_MAX {
            return None;
        }
        let candidates = self.candidates.as_ref();
        let values = vec![
            ctx.user_id.into(),
            guard.conversation_id.into(),
            self.reply_id.into(),
            ctx.now.into(),
            self.client_id.as_deref().into(),
            self.content.as_str().into(),
            candidates
                .map(|candidates| candidates.names.as_str())
                .into(),
        ];
        // Without a client_id, it is no other's repetition.
        let client_id = self.client_id.as_deref();
        let key = client_id.map(|id| (ctx.user_id, guard.conversation_id, id));
        Element::new(&SENDS, key, values)
    }

    fn conclude(
        &self,
        guard: &Guard,
        ctx: &Context,
        rows: &[Rows],
        out: &mut Outbox,
    ) -> Result<Reply, Error> {
        let conversation_id = guard.conversation_id;
        let (reason, message) = match self.has_reasons(ctx) {
            true => (rows.get(4), rows.get(5)),
            false => (None, rows.get(4)),
        };
        let (message, to) = match (rows[STORED].first(), reason.and_then(Rows::first)) {
            (Some(row), _) => {
                let mut columns = row.columns();
                let (id, rev, members_rev) =
                    (columns.integer(), columns.integer(), columns.integer());
                let message = match message.and_then(Rows::first) {
                    // The database knows whom it mentions.
                    Some(row) => Message::read(&mut row.columns()),
                    None => Message {
                        id,
                        conversation_id,
                        rev,
                        reply_id: self.reply_id,
                        sent_at: ctx.now,
                        sender_username: (&*ctx.username).into(),
                        content: self.content.as_str().into(),
                        client_id: self.client_id.as_deref().map(Cow::from),
                        details: None,
                    },
                };
                let id = conversation_id;
                (message, Audience::Conversation { id, members_rev })
            }
            (None, Some(stored)) => {
                guard.check(&rows[3], ctx)?;
                let message = Message::read(&mut stored.columns());
                if !ctx.is_repeat {
                    return Ok(Reply::of(&Sent {
                        message,
                        duplicate: true,
                    }));
                }
                (message, guard.audience(&rows[3]))
            }
            (None, None) => {
                guard.check(&rows[3], ctx)?;
                Guard::check_silence(&rows[3])?;
                let reply_id = self.reply_id.unwrap_or_default();
                return Err(no_such_message(reply_id, conversation_id));
            }
        };
        let data = json(&message);
        out.push(Output::Push {
            to,
            event: push(Self::TYPE, &data),
            is_droppable: false,
        });
        Ok(Reply(data))
    }
}
