//! `get_messages`: the history of a conversation, in pages.

use crate::answer_budget::ANSWER_BYTES_MAX;
use crate::error::Error;
use crate::field::{Field, Kind};
use crate::fields::Fields;
use crate::member::{CONVERSATION_ID, Guard, MemberEvent};
use crate::message::{Message, fitting, fitting_messages, message_bytes, message_columns, sender};
use crate::operation::{Access, Context};
use crate::outbox::Outbox;
use crate::reply::Reply;
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

/// A page of at most `?4` messages of conversation `?1`, for its member `?3`: first the statement for a file,
/// then that for a server, with no more than `?5` bytes and one message.
macro_rules! page {
    ($bound:expr, $direction:literal, $place:literal) => {
        [
            concat!(
                "select ",
                message_columns!(),
                " from messages m",
                sender!(),
                chosen!($bound),
                " order by m.rev ",
                $direction,
                " limit +?4"
            ),
            concat!(
                "with found as materialized (select m.id, ",
                $place,
                " as place, ",
                message_bytes!(),
                " as bytes from messages m",
                chosen!($bound),
                " order by m.rev ",
                $direction,
                " limit +?4)",
                fitting_messages!("?5")
            ),
        ]
    };
}

macro_rules! chosen {
    ($bound:expr) => {
        concat!(
            " where m.conversation_id = ?1
                 and exists (select 1 from members where conversation_id = ?1 and user_id = ?3)",
            $bound
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
        let ([on_file, on_server], bound) = match self.bound {
            Bound::None => (page!("", "desc", "-m.rev"), 0),
            Bound::Before(id) => (
                page!(
                    concat!(" and m.rev <= ", last_rev!("rev - 1", "<")),
                    "desc",
                    "-m.rev"
                ),
                id,
            ),
            Bound::After(id) => (
                page!(
                    concat!(" and m.rev > ", last_rev!("rev", "<=")),
                    "asc",
                    "m.rev"
                ),
                id,
            ),
        };
        let [conversation_id, user_id] = [guard.conversation_id, ctx.user_id].map(Into::into);
        // One message more than was asked for shows whether there are more.
        let page = [
            conversation_id,
            bound.into(),
            user_id,
            (self.limit + 1).into(),
        ];
        vec![match ctx.is_shared() {
            true => {
                let [conversation_id, bound, user_id, limit] = page;
                let bytes = (ANSWER_BYTES_MAX as i64).into();
                Statement::new(on_server, [conversation_id, bound, user_id, limit, bytes])
            }
            false => Statement::new(on_file, page),
        }]
    }

    fn conclude(
        &self,
        guard: &Guard,
        _: &Context,
        rows: &[Rows],
        _: &mut Outbox,
    ) -> Result<Reply, Error> {
        let conversation_id = guard.conversation_id;
        let (mut messages, has_more) = fitting(&rows[1].0, self.limit);
        if let Bound::After(_) = self.bound {
            messages.reverse();
        }
        Ok(Reply(format!(
            r#"{{"conversation_id":{conversation_id},"messages":[{}],"has_more":{has_more}}}"#,
            messages.join(",")
        )))
    }
}
