//! `get_conversations`.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Serialize;

use crate::answer_budget::{ANSWER_BYTES_MAX, AnswerBudget};
use crate::conversation::{
    UNREAD_MAX, mentions_column, no_such_conversation, read_rev, unread_column,
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
use crate::user::{Profile, profile_columns};

/// The most conversations in one answer to a request with a `limit`.
pub const PAGE_CONVERSATIONS_MAX: i64 = 1_000;
/// The most members that are listed, so that a list can be drawn without further requests.
const LISTED_MEMBERS_MAX: i64 = 10;
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

/// `get_conversations {limit?, before?}` → a list of [`Listed`], the most recently active first: by
/// the latest message or, before there is one, by creation. `before` is the id of the last
/// conversation of the previous page. With a `limit`, the answer has fewer conversations if more
/// would exceed `ANSWER_BYTES_MAX`; the page after the last one is empty.
pub struct GetConversations {
    limit: Option<i64>,
    before: Option<i64>,
}

/// `unread` counts the messages of others after `read_id` that are not deleted, up to `UNREAD_MAX`;
/// `mentions` those of them that mention the caller. `members` are the usernames, in any order, if
/// there are at most `LISTED_MEMBERS_MAX`, and `profile` is that of the other member of a direct
/// conversation.
#[derive(Serialize)]
struct Listed<'a> {
    id: i64,
    name: Cow<'a, str>,
    rev: i64,
    direct: bool,
    member_count: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'a Profile>,
    read_id: i64,
    unread: i64,
    mentions: i64,
    last_message: Option<Message<'a>>,
}

/// A member of a conversation that lists its members.
struct Member {
    /// The member that is not the caller, of a direct conversation.
    is_other_side: bool,
    profile: Profile,
}

/// The members of each conversation that lists them.
fn members_of(rows: &Rows) -> HashMap<i64, Vec<Member>> {
    let mut members: HashMap<i64, Vec<Member>> = HashMap::new();
    for row in &rows.0 {
        let mut columns = row.columns();
        let of = members.entry(columns.integer()).or_default();
        of.push(Member {
            is_other_side: columns.flag(),
            profile: Profile::read(&mut columns),
        });
    }
    members
}

impl<'a> Listed<'a> {
    /// Returns `None` if the contents up to and including this conversation's exceed the allowed
    /// bytes.
    fn read(mut columns: Columns<'a>, members: &'a HashMap<i64, Vec<Member>>) -> Option<Self> {
        let is_beyond = columns.flag();
        let has_message = columns.flag();
        let id = columns.integer();
        let members = members.get(&id);
        (!is_beyond).then(|| Listed {
            id,
            name: columns.str(),
            rev: columns.integer(),
            direct: columns.flag(),
            member_count: columns.integer(),
            members: members.map(|members| {
                let profiles = members.iter().map(|member| &member.profile);
                profiles.map(|profile| profile.username.as_str()).collect()
            }),
            profile: members.and_then(|members| {
                let other = members.iter().find(|member| member.is_other_side);
                other.map(|member| &member.profile)
            }),
            read_id: columns.integer(),
            unread: columns.integer(),
            mentions: columns.integer(),
            last_message: has_message.then(|| Message::read(&mut columns)),
        })
    }
}

impl Declared for GetConversations {
    const TYPE: &'static str = "get_conversations";
    const FIELDS: &'static [Field] = &[LIMIT, BEFORE];

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

/// The conversations of this page. `?1` is the caller, `?2` is `before`, `?3` the limit.
macro_rules! page {
    () => {
        "with page as materialized (
             select c.id, c.name, c.rev, c.activity, c.direct, c.member_count, mb.read_id
             from members mb join conversations c on c.id = mb.conversation_id
             where mb.user_id = ?1 and (?2 is null
                 or (c.activity, c.id) < (select activity, id from conversations where id = ?2))
             order by c.activity desc, c.id desc limit +?3
         )"
    };
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
        // SQLite treats a negative limit as no limit.
        let limit = self.limit.unwrap_or(-1);
        // Unread messages are counted, and latest messages looked up, only for this page.
        let page = Statement::new(
            concat!(
                page!(),
                ", sized as (
                     select page.*, ",
                read_rev!(),
                " as read_rev, sum(",
                message_bytes!(),
                ") over (order by activity desc, page.id desc) as bytes
                     from page left join messages m on m.id = activity and m.conversation_id = page.id
                 )
                 select bytes > ?4, m.id is not null, page.id, cast(page.name as blob), page.rev,
                     page.direct is not null, page.member_count, page.read_id, ",
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
                limit.into(),
                (self.bytes_max() as i64).into(),
                UNREAD_MAX.into(),
            ],
        );
        // A list made in a subselect for each conversation would cost three times as much.
        let members = Statement::new(
            concat!(
                page!(),
                " select page.id, page.direct is not null and mb.user_id <> ?1, ",
                profile_columns!(),
                " from page cross join members mb on mb.conversation_id = page.id
                     cross join users u on u.id = mb.user_id
                 where page.member_count <= ?4"
            ),
            [
                ctx.user_id.into(),
                self.before.into(),
                limit.into(),
                LISTED_MEMBERS_MAX.into(),
            ],
        );
        let mut statements = vec![page, members];
        statements.extend(self.guard().map(|guard| guard.statement(ctx)));
        statements
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        if let Some(guard) = self.guard() {
            guard.check(&rows[2], ctx)?;
        }
        let members = members_of(&rows[1]);
        let listed = rows[0].0.iter();
        let listed = listed.map_while(|row| Some(json(&Listed::read(row.columns(), &members)?)));
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
