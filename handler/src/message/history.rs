//! `get_messages`: the history of a conversation, in pages.

use crate::answer_budget::AnswerBudget;
use crate::error::Error;
use crate::field::{Field, Kind};
use crate::fields::Fields;
use crate::member::{CONVERSATION_ID, Guard, MemberEvent};
use crate::message::{Message, message_columns, sender};
use crate::operation::{Access, Context};
use crate::outbox::Outbox;
use crate::reply::{Reply, json};
use crate::sql::{Rows, Statement};

/// The most messages in one answer.
pub const HISTORY_MESSAGES_MAX: i64 = 100;

const BEFORE: Field = Field::optional("before", Kind::Position).wrong("expected before as integer");
const AFTER: Field =
    Field::instead_of("before", "after", Kind::Position).wrong("expected after as integer");
const LIMIT: Field = Field::optional(
    "limit",
    Kind::Integer {
        min: 1,
        max: HISTORY_MESSAGES_MAX,
    },
);

/// `get_messages {conversation_id, before? | after?, limit?}` → a page of the [`History`]: as many
/// messages as `limit` and `ANSWER_BYTES_MAX` allow, and at least one if there is any.
pub struct GetMessages {
    bound: Bound,
    limit: i64,
}

/// Messages of a conversation.
// They are serialised one by one.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct History<'a> {
    pub conversation_id: i64,
    /// The newest first.
    pub messages: Vec<Message<'a>>,
    /// Whether there are more in this direction.
    pub has_more: bool,
}

enum Bound {
    /// The latest messages.
    None,
    /// The latest messages before this id.
    Before(i64),
    /// The messages that directly follow this id.
    After(i64),
}

/// The rev of the last message of conversation `?1` whose id is less than `?2` (`"<"`), or at most
/// `?2` (`"<="`); 0 if there is none. Usually `?2` is a message of the conversation, and the result
/// is `$exact`. Otherwise a binary search over the revs finds the last message; its rev is at least
/// `low` and at most `high`.
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

/// A page of at most `?4` messages of conversation `?1`, for its member `?3`.
macro_rules! page {
    ($bound:expr, $order:literal) => {
        concat!(
            "select ",
            message_columns!(),
            " from messages m",
            sender!(),
            " where m.conversation_id = ?1
                 and exists (select 1 from members where conversation_id = ?1 and user_id = ?3)",
            $bound,
            " ",
            $order,
            " limit +?4"
        )
    };
}

impl MemberEvent for GetMessages {
    const TYPE: &'static str = "get_messages";
    const FIELDS: &'static [Field] = &[CONVERSATION_ID, BEFORE, AFTER, LIMIT];
    type Data = History<'static>;
    const ACCESS: Access = Access::Read;

    fn read(fields: &Fields) -> Result<Self, Error> {
        let bound = match (BEFORE.integer(fields)?, AFTER.integer(fields)?) {
            (Some(_), Some(_)) => {
                let text = "before and after exclude each other";
                return Err(Error::Invalid(text.into()));
            }
            (None, Some(after)) => Bound::After(after),
            (Some(before), None) => Bound::Before(before),
            (None, None) => Bound::None,
        };
        let limit = LIMIT.integer(fields)?.unwrap_or(HISTORY_MESSAGES_MAX);
        Ok(GetMessages { bound, limit })
    }

    fn statements(&self, guard: &Guard, ctx: &Context) -> Vec<Statement> {
        let (sql, bound) = match self.bound {
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
        vec![Statement::new(
            sql,
            [
                guard.conversation_id.into(),
                bound.into(),
                ctx.user_id.into(),
                // One message more than was asked for shows whether there are more.
                (self.limit + 1).into(),
            ],
        )]
    }

    fn conclude(
        &self,
        guard: &Guard,
        _: &Context,
        rows: &[Rows],
        _: &mut Outbox,
    ) -> Result<Reply, Error> {
        let conversation_id = guard.conversation_id;
        let found = &rows[1].0;
        let mut budget = AnswerBudget::new(self.limit);
        let mut messages: Vec<String> = found
            .iter()
            .map_while(|row| budget.take(json(&Message::read(&mut row.columns()))))
            .collect();
        let has_more = messages.len() < found.len();
        if let Bound::After(_) = self.bound {
            messages.reverse();
        }
        Ok(Reply(format!(
            r#"{{"conversation_id":{conversation_id},"messages":[{}],"has_more":{has_more}}}"#,
            messages.join(",")
        )))
    }
}
