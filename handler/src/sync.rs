//! `sync`: what a client has missed, found by the revs it has.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::answer_budget::{ANSWER_BYTES_MAX, AnswerBudget};
use crate::conversation::{
    Conversation, UNREAD_MAX, UNREAD_REVS_MAX, raw, read_rev, roles, unread_column,
};
use crate::declaration::Declared;
use crate::error::Error;
use crate::field::{Field, Kind, Length};
use crate::fields::Fields;
use crate::message::{Message, message_bytes, message_columns, sender};
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::reply::{Reply, json, push};
use crate::role::Role;
use crate::sql::{Row, Rows, Statement};

/// The most conversations whose revs a client may send. Each costs a reader some microseconds.
pub const SYNC_REVS_MAX: usize = 20_000;
/// The most messages in one answer.
pub const SYNC_MESSAGES_MAX: i64 = 1_000;
const SYNC_MESSAGES_DEFAULT: i64 = 500;
/// The number of latest messages sent of a conversation that the client has never seen.
const SYNC_NEW_MESSAGES: i64 = 100;

/// The longest `epoch`, in characters.
pub const EPOCH_CHARS_MAX: usize = 64;

const REVS: Field = Field::optional("revs", Kind::Revs);
const LIMIT: Field = Field::optional(
    "limit",
    Kind::Integer {
        min: 1,
        max: SYNC_MESSAGES_MAX,
    },
);
const EPOCH: Field = Field::optional("epoch", Kind::Text(Length::characters(0, EPOCH_CHARS_MAX)));

/// `sync {revs: {"<conversation id>": rev}, limit?, epoch?}` → [`Synced`].
///
/// The answer has each of the caller's conversations whose rev is higher than the given one: the
/// conversation, `read_id`, `unread` and, in rev order, the messages that changed since. For a
/// conversation that the client has never seen, or has at rev 0, these are the latest 100 messages.
/// If a conversation's messages are cut short, its `rev` is that of the last message in the answer.
///
/// `left` lists the conversations of `revs` that the caller is not in. With `more`, the client
/// applies the answer and asks again. `epoch` is in the answer if it was in the request. It changes
/// when a backup is restored, because ids and revs may then be assigned anew; `revs` sent with an
/// old epoch are ignored.
pub struct Sync {
    /// JSON, with each conversation once.
    revs: String,
    limit: i64,
    epoch: Option<String>,
}

/// What a client has missed. As a push, it only tells the client that it may have missed something
/// and should ask.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Synced<'a> {
    conversations: Vec<ChangedConversation<'a>>,
    /// The conversations of the request's `revs` that the caller is not in.
    left: Vec<i64>,
    /// Whether there is more: the client applies this answer and asks again.
    more: bool,
    /// In the answer if it was in the request. It changes when a backup is restored, because ids and
    /// revs may then be assigned anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
}

/// A conversation that has changed. Its `rev` is the one that the client has after it has taken the
/// answer in.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChangedConversation<'a> {
    #[serde(flatten)]
    conversation: Conversation<'a>,
    /// The id of the message up to which the caller has read; 0 if there is none.
    read_id: i64,
    /// The number of messages of others after `read_id` that are not deleted. `UNREAD_MAX` stands
    /// for itself and every higher number.
    unread: i64,
    /// The messages that have changed, in the order of their revs, in their present state.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<Message>"))]
    messages: Vec<Box<RawValue>>,
}

/// A push that contains only `more`: it tells the client that it may have missed something and
/// should ask.
pub fn hint() -> String {
    push("sync", r#"{"conversations":[],"left":[],"more":true}"#)
}

impl Declared for Sync {
    const TYPE: &'static str = "sync";
    const FIELDS: &'static [Field] = &[REVS, LIMIT, EPOCH];
    type Data = Synced<'static>;

    fn read(fields: &Fields) -> Result<Self, Error> {
        let revs = fields.raw(REVS.name).unwrap_or("{}");
        // If there are too many conversations, the text is not parsed: each has a colon.
        if revs.bytes().filter(|byte| *byte == b':').count() > SYNC_REVS_MAX {
            return Err(Error::TooLarge(format!(
                "revs should have at most {SYNC_REVS_MAX} conversations"
            )));
        }
        let revs: BTreeMap<i64, Option<i64>> =
            serde_json::from_str(revs).map_err(|_| REVS.error())?;
        let revs: BTreeMap<_, _> = revs
            .into_iter()
            .map(|(id, rev)| (id, rev.unwrap_or_default()))
            .collect();
        Ok(Sync {
            revs: json(&revs),
            epoch: EPOCH.text(fields)?,
            limit: LIMIT.integer(fields)?.unwrap_or(SYNC_MESSAGES_DEFAULT),
        })
    }
}

/// `given`: the client's revs. `changed`: the conversations that are newer; `since` is null if the
/// client has never seen one. `size` is at least the number of changed messages, found without
/// counting them, because each change has a rev of its own; twenty members weigh as much as one
/// message. `page`: as many of `changed`, in id order, as fit the limit; only the last one can be
/// cut short.
///
/// `?1` is the caller, `?2` the revs as JSON, `?3` the epoch of the revs, `?4` the limit, `?5`
/// `SYNC_NEW_MESSAGES`.
macro_rules! page {
    () => {
        "with given as materialized (
             select cast(key as integer) as id, value as rev
             from json_each(iif(?3 is null or ?3 = (select id from community), ?2, '{}'))
         ), changed as materialized (
             select c.id, c.name, c.rev, c.direct, c.created_at, mb.read_id, g.rev as since,
                 iif(g.rev is null, min(c.rev, ?5), c.rev - g.rev)
                     + c.member_count / 20 as size
             from members mb
                 cross join conversations c on c.id = mb.conversation_id
                 left join given g on g.id = c.id and g.rev > 0
             where mb.user_id = ?1 and c.rev > coalesce(g.rev, 0)
         ), page as materialized (
             select * from (
                 select *, sum(size) over (order by id rows unbounded preceding) - size as taken from changed
             ) where taken < ?4
         )"
    };
}

impl Operation for Sync {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let given = || {
            [
                ctx.user_id.into(),
                self.revs.as_str().into(),
                self.epoch.clone().into(),
            ]
        };
        let page = || {
            let [user_id, revs, epoch] = given();
            let (limit, new) = (self.limit.into(), SYNC_NEW_MESSAGES.into());
            [user_id, revs, epoch, limit, new]
        };
        let with = |last: i64| {
            let [user_id, revs, epoch, limit, new] = page();
            [user_id, revs, epoch, limit, new, last.into()]
        };
        let unread = || {
            let [user_id, revs, epoch, limit, new, last] = with(UNREAD_MAX);
            let revs_max = UNREAD_REVS_MAX.into();
            [user_id, revs, epoch, limit, new, last, revs_max]
        };
        let mut statements = vec![
            Statement::new(
                concat!(
                    page!(),
                    ", counted as materialized (select page.*, ",
                    read_rev!("?7"),
                    " as read_rev from page)
                     select (select count(*) from changed) > (select count(*) from page),
                         page.id, cast(page.name as blob), page.rev, page.direct is not null, page.created_at, page.read_id, ",
                    unread_column!("+?6"),
                    " from counted as page order by page.id"
                ),
                unread(),
            ),
            Statement::new(
                concat!(
                    page!(),
                    " select page.id, cast(coalesce(u.username, 'deleted') as blob), mb.role
                     from page cross join members mb on mb.conversation_id = page.id
                         left join users u on u.id = mb.user_id
                     where u.id is not null or page.direct is not null
                     order by page.id, mb.rowid"
                ),
                page(),
            ),
            // `touched`: for each conversation, the new messages that nothing has changed and the
            // changed messages; of each kind at most one more than fits the answer, which shows
            // that it is cut short. `chosen`: adds how many bytes of content come before each
            // message, so that only about `?6` bytes and the message that shows the cut are read.
            Statement::new(
                concat!(
                    page!(),
                    ", touched as materialized (
                         select m.id, m.conversation_id, m.rev, ",
                    message_bytes!(),
                    " as bytes
                         from page cross join messages m on m.id in (
                             select id from messages
                             where conversation_id = page.id and rev > page.since and changed_rev is null
                             order by rev limit ?4 + 1)
                         where page.since is not null
                         union all
                         select m.id, m.conversation_id, m.changed_rev, ",
                    message_bytes!(),
                    "
                         from page cross join messages m on m.id in (
                             select message_id from changed_messages
                             where conversation_id = page.id and changed_rev > page.since
                             order by changed_rev limit ?4 + 1)
                         where page.since is not null
                         union all
                         select m.id, m.conversation_id, coalesce(m.changed_rev, m.rev), ",
                    message_bytes!(),
                    "
                         from page cross join messages m on m.conversation_id = page.id
                             and m.rev >= coalesce((select rev from messages
                                 where conversation_id = page.id order by rev desc limit 1 offset ?5 - 1), 0)
                         where page.since is null
                     ), chosen as materialized (
                         select id, conversation_id, rev, sum(bytes) over (
                             order by conversation_id, rev rows unbounded preceding) - bytes as taken
                         from touched
                     )
                     select ",
                    message_columns!(),
                    " from chosen cross join messages m on m.id = chosen.id",
                    sender!(),
                    " where chosen.taken <= ?6 order by chosen.conversation_id, chosen.rev"
                ),
                with(ANSWER_BYTES_MAX as i64),
            ),
            Statement::new(
                "select cast(key as integer) as id
                 from json_each(iif(?3 is null or ?3 = (select id from community), ?2, '{}'))
                 where not exists (select 1 from members where conversation_id = cast(key as integer) and user_id = ?1)",
                given(),
            ),
        ];
        if self.epoch.is_some() {
            let epoch = "select cast(id as blob) from community";
            statements.push(Statement::new(epoch, []));
        }
        statements
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        let [conversations, members, messages, left, epoch @ ..] = rows else {
            return Err(Error::Internal("four statements, four results".into()));
        };
        let member = |row: &Row| {
            let mut columns = row.columns();
            (
                columns.integer(),
                columns.text(),
                Role::of(columns.integer()),
            )
        };
        let mut members = members.0.iter().map(member).peekable();
        let message = |row| Message::read(&mut Row::columns(row));
        let mut messages = messages.0.iter().map(message).peekable();
        let mut budget = AnswerBudget::new(self.limit);
        let mut answer = Synced {
            conversations: Vec::new(),
            left: left.integers(),
            more: conversations
                .first()
                .is_some_and(|row| row.columns().flag()),
            epoch: epoch
                .first()
                .and_then(Rows::first)
                .map(|row| row.columns().text()),
        };
        for row in &conversations.0 {
            let mut columns = row.columns();
            let _more = columns.flag();
            let id = columns.integer();
            let members = std::iter::from_fn(|| members.next_if(|(of, _, _)| *of == id));
            let (usernames, roles_of): (Vec<String>, Vec<Role>) =
                members.map(|(_, username, role)| (username, role)).unzip();
            let names = || usernames.iter().map(String::as_str);
            let mut changed = ChangedConversation {
                conversation: Conversation {
                    id,
                    name: columns.str(),
                    rev: columns.integer(),
                    direct: columns.flag(),
                    created_at: columns.optional_integer(),
                    members: Some(raw(json(&usernames))),
                    roles: roles(names().zip(roles_of)),
                },
                read_id: columns.integer(),
                unread: columns.integer(),
                messages: Vec::new(),
            };
            // With all its names as they are in JSON.
            if !budget.charge(json(&changed).len()) {
                answer.more = true;
                return Ok(Reply::of(&answer));
            }
            let mut last_rev = None;
            while let Some(message) = messages.next_if(|message| message.conversation_id == id) {
                match budget.take(json(&message)) {
                    Some(text) => changed.messages.push(
                        RawValue::from_string(text)
                            .expect("text that this crate serialised is JSON"),
                    ),
                    None => {
                        answer.more = true;
                        // None of its messages fits, so the conversation comes with the next page.
                        let Some(rev) = last_rev else {
                            return Ok(Reply::of(&answer));
                        };
                        changed.conversation.rev = rev;
                        answer.conversations.push(changed);
                        return Ok(Reply::of(&answer));
                    }
                }
                last_rev = Some(message.rev);
            }
            answer.conversations.push(changed);
        }
        Ok(Reply::of(&answer))
    }
}
