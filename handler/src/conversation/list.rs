//! `get_conversations`.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::answer_budget::{ANSWER_BYTES_MAX, AnswerBudget};
use crate::conversation::{
    UNREAD_MAX, UNREAD_REVS_MAX, mentions_column, no_such_conversation, raw, read_rev,
    unread_column,
};
use crate::declaration::Declared;
use crate::error::Error;
use crate::field::{Field, Kind};
use crate::fields::Fields;
use crate::member::Guard;
use crate::message::{Message, message_bytes, message_columns, sender};
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::reply::{Reply, json};
use crate::sql::{Columns, Rows, Statement};
use crate::user::{Profile, profile_json};

/// The most conversations in one answer to a request with a `limit`.
pub const PAGE_CONVERSATIONS_MAX: i64 = 1_000;
/// The most members that are listed, so that a list can be drawn without further requests.
const LISTED_USERNAMES_MAX: i64 = 10;
/// The most bytes of JSON in an answer to a request without a `limit`.
pub const CONVERSATIONS_BYTES_MAX: usize = 16 * 1024 * 1024;

const LIMIT: Field = Field::optional(
    "limit",
    Kind::Integer {
        min: 1,
        max: PAGE_CONVERSATIONS_MAX,
    },
);
const BEFORE: Field =
    Field::optional("before", Kind::Conversation).wrong("expected before as integer");

/// `get_conversations {limit?, before?}` → a list of [`ListedConversation`], the most recently active first: by
/// the latest message or, before there is one, by creation. `before` is the id of the last
/// conversation of the previous page. With a `limit`, the answer has fewer conversations if more
/// would exceed `ANSWER_BYTES_MAX`; the page after the last one is empty.
pub struct GetConversations {
    limit: Option<i64>,
    before: Option<i64>,
}

/// A conversation in the list of the caller's conversations.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListedConversation<'a> {
    id: i64,
    name: Cow<'a, str>,
    /// The number of lasting changes in it.
    rev: i64,
    /// Whether it is the one conversation of two users, which cannot be changed.
    direct: bool,
    member_count: i64,
    /// The usernames, in any order, if there are at most `LISTED_USERNAMES_MAX`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<String>>"))]
    members: Option<Box<RawValue>>,
    /// The profile of the other member of a direct conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Profile>"))]
    profile: Option<Box<RawValue>>,
    /// The id of the message up to which the caller has read; 0 if there is none.
    read_id: i64,
    /// The number of messages of others after `read_id` that are not deleted. `UNREAD_MAX` stands
    /// for itself and every higher number.
    unread: i64,
    /// How many of these mention the caller.
    mentions: i64,
    last_message: Option<Message<'a>>,
}

impl<'a> ListedConversation<'a> {
    /// Returns `None` if the contents up to and including this conversation's exceed the allowed
    /// bytes.
    fn read(mut columns: Columns<'a>) -> Option<Self> {
        let is_beyond = columns.flag();
        let has_message = columns.flag();
        (!is_beyond).then(|| {
            let mut listed = ListedConversation {
                id: columns.integer(),
                name: columns.str(),
                rev: columns.integer(),
                direct: columns.flag(),
                member_count: columns.integer(),
                members: columns.optional_str().map(|members| raw(members.into())),
                profile: columns.optional_str().map(|profile| raw(profile.into())),
                read_id: columns.integer(),
                unread: columns.integer(),
                mentions: columns.integer(),
                last_message: has_message.then(|| Message::read(&mut columns)),
            };
            if listed.direct && listed.profile.is_none() {
                listed.profile = Some(raw(json(&Profile::deleted())));
            }
            listed
        })
    }
}

impl Declared for GetConversations {
    const TYPE: &'static str = "get_conversations";
    const FIELDS: &'static [Field] = &[LIMIT, BEFORE];
    type Data = Vec<ListedConversation<'static>>;

    fn read(fields: &Fields) -> Result<Self, Error> {
        Ok(GetConversations {
            before: BEFORE.integer(fields)?,
            limit: LIMIT.integer(fields)?,
        })
    }
}

impl GetConversations {
    fn bytes_max(&self) -> usize {
        match self.limit {
            Some(_) => ANSWER_BYTES_MAX,
            None => CONVERSATIONS_BYTES_MAX,
        }
    }

    fn guard(&self) -> Option<Guard> {
        let guard = |id| Guard::of_reference(id, no_such_conversation);
        self.before.map(guard)
    }
}

impl Operation for GetConversations {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Read
    }

    fn answer_bytes_max(&self) -> usize {
        self.bytes_max()
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        // Unread messages are counted, and latest messages looked up, only for this page.
        let page = Statement::new(
            concat!(
                "with page as materialized (
                     select c.id, c.name, c.rev, c.activity, c.direct, c.member_count, mb.read_id
                     from members mb join conversations c on c.id = mb.conversation_id
                     where mb.user_id = ?1 and (?2 is null
                         or (c.activity, c.id) < (select activity, id from conversations where id = ?2))
                     order by c.activity desc, c.id desc limit +?3
                 ),
                 sized as (
                     select page.*, ",
                read_rev!("?7"),
                " as read_rev, sum(",
                message_bytes!(),
                ") over (order by activity desc, page.id desc rows unbounded preceding) as bytes
                     from page left join messages m on m.id = activity and m.conversation_id = page.id
                 )
                 select bytes > ?4, m.id is not null, page.id, cast(page.name as blob), page.rev,
                     page.direct is not null, page.member_count,
                     case when page.member_count <= ?6 then (
                         select cast(json_group_array(coalesce(o.username, 'deleted')) as blob)
                         from members mb left join users o on o.id = mb.user_id
                         where mb.conversation_id = page.id and (o.id is not null or page.direct is not null)) end,
                     case when page.direct is not null then (
                         select ",
                profile_json!("other", "?1"),
                " from users other where other.id = (
                             select user_id from members where conversation_id = page.id and user_id <> ?1)) end",
                ", page.read_id, ",
                unread_column!("+?5"),
                ", ",
                mentions_column!("+?5"),
                ", ",
                message_columns!(),
                " from sized as page left join messages m on m.id = page.activity and m.conversation_id = page.id and bytes <= ?4",
                sender!(),
                " order by page.activity desc, page.id desc"
            ),
            [
                ctx.user_id.into(),
                self.before.into(),
                // SQLite treats a negative limit as no limit.
                self.limit.unwrap_or(-1).into(),
                (self.bytes_max() as i64).into(),
                UNREAD_MAX.into(),
                LISTED_USERNAMES_MAX.into(),
                UNREAD_REVS_MAX.into(),
            ],
        );
        let mut statements = vec![page];
        statements.extend(self.guard().map(|guard| guard.statement(ctx)));
        statements
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        if let Some(guard) = self.guard() {
            guard.check(&rows[1], ctx)?;
        }
        let listed = rows[0].0.iter();
        let listed = listed.map_while(|row| Some(json(&ListedConversation::read(row.columns())?)));
        let mut budget = AnswerBudget::new(i64::MAX);
        // The answer may be large, so no second copy of it is made.
        let (mut answer, mut count) = (String::from("["), 0);
        for text in listed {
            let fitting = match self.limit {
                Some(_) => budget.take(text),
                None => {
                    Some(text).filter(|text| answer.len() + text.len() <= CONVERSATIONS_BYTES_MAX)
                }
            };
            let Some(text) = fitting else {
                break;
            };
            if count > 0 {
                answer.push(',');
            }
            answer.push_str(&text);
            count += 1;
        }
        answer.push(']');
        // A client that sends no limit does not know pages, and gets all conversations or none.
        if self.limit.is_none() && count < rows[0].0.len() {
            let mib = CONVERSATIONS_BYTES_MAX / (1024 * 1024);
            return Err(Error::TooLarge(format!(
                "these are more than {mib} MiB: ask for pages of them, with limit"
            )));
        }
        Ok(Reply(answer))
    }
}
