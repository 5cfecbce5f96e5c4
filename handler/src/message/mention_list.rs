//! `get_mentions`: the messages that mention the caller.

use crate::answer_budget::ANSWER_BYTES_MAX;
use crate::declaration::Declared;
use crate::error::Error;
use crate::field::{Field, Kind};
use crate::fields::Fields;
use crate::message::{Message, fitting, fitting_messages, message_bytes, message_columns, sender};
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::reply::Reply;
use crate::sql::{Rows, Statement};

/// The most messages in one answer.
pub const MENTIONS_PAGE_MAX: i64 = 100;

const BEFORE: Field = Field::optional("before", Kind::Position).wrong("expected before as integer");
const LIMIT: Field = Field::optional(
    "limit",
    Kind::Integer {
        min: 1,
        max: MENTIONS_PAGE_MAX,
    },
);

/// `get_mentions {before?, limit?}` → a page of the [`MentionList`]. `before` is a message's id.
pub struct GetMentions {
    before: i64,
    limit: i64,
}

/// Messages of others, in the caller's conversations, that mention the caller.
// They are serialised one by one.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MentionList<'a> {
    /// The newest first.
    pub messages: Vec<Message<'a>>,
    /// Whether there are older ones.
    pub has_more: bool,
}

impl Declared for GetMentions {
    const TYPE: &'static str = "get_mentions";
    const FIELDS: &'static [Field] = &[BEFORE, LIMIT];
    type Data = MentionList<'static>;

    fn read(fields: &Fields) -> Result<Self, Error> {
        Ok(GetMentions {
            before: BEFORE.integer(fields)?.unwrap_or(i64::MAX),
            limit: LIMIT.integer(fields)?.unwrap_or(MENTIONS_PAGE_MAX),
        })
    }
}

impl Operation for GetMentions {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        // Each of the newest mentions is in one of the conversations with the newest latest mentions,
        // and is one of the newest there. So this takes a look into each of the caller's
        // conversations, and a page of mentions from as many of them as there are in a page.
        // Mentions in conversations that the caller has left, of any number, are not looked at.
        vec![Statement::new(
            concat!(
                "with latest as materialized (
                     select mb.conversation_id, (
                         select max(message_id) from mentions
                         where user_id = ?1 and conversation_id = mb.conversation_id and message_id < ?2) as message_id
                     from members mb where mb.user_id = ?1
                 ), newest as materialized (
                     select conversation_id, message_id from latest where message_id is not null
                     order by message_id desc limit +?3
                 ), listed as materialized (
                     select mn.message_id
                     from newest cross join mentions mn
                         on mn.user_id = ?1 and mn.conversation_id = newest.conversation_id
                             and mn.message_id <= newest.message_id
                             and mn.message_id >= coalesce((
                                 select message_id from mentions
                                 where user_id = ?1 and conversation_id = newest.conversation_id
                                     and message_id <= newest.message_id
                                 order by message_id desc limit 1 offset ?3 - 1), 0)
                     order by mn.message_id desc limit +?3
                 ), found as materialized (
                     select m.id, -m.id as place, ",
                message_bytes!(),
                " as bytes from listed cross join messages m on m.id = listed.message_id
                 )",
                fitting_messages!("?4")
            ),
            [
                ctx.user_id.into(),
                self.before.into(),
                // One message more than was asked for shows whether there are more.
                (self.limit + 1).into(),
                (ANSWER_BYTES_MAX as i64).into(),
            ],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        let found = rows.first().map_or(&[][..], |rows| &rows.0);
        let (messages, has_more) = fitting(found, self.limit);
        Ok(Reply(format!(
            r#"{{"messages":[{}],"has_more":{has_more}}}"#,
            messages.join(",")
        )))
    }
}
