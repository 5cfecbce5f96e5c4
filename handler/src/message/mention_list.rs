//! `get_mentions`: the messages that mention the caller.

use crate::answer_budget::AnswerBudget;
use crate::declaration::Declared;
use crate::error::Error;
use crate::field::{Field, Kind};
use crate::fields::Fields;
use crate::message::{Message, message_columns, sender};
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::reply::{Reply, json};
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
        vec![Statement::new(
            concat!(
                "select ",
                message_columns!(),
                " from mentions mn cross join messages m on m.id = mn.message_id",
                sender!(),
                " where mn.user_id = ?1 and mn.message_id < ?2
                     and exists (select 1 from members where conversation_id = mn.conversation_id and user_id = ?1)
                 order by mn.message_id desc limit +?3"
            ),
            [
                ctx.user_id.into(),
                self.before.into(),
                // One message more than was asked for shows whether there are more.
                (self.limit + 1).into(),
            ],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        let found = rows.first().map_or(&[][..], |rows| &rows.0);
        let mut budget = AnswerBudget::new(self.limit);
        let messages: Vec<String> = found
            .iter()
            .map_while(|row| budget.take(json(&Message::read(&mut row.columns()))))
            .collect();
        let has_more = messages.len() < found.len();
        Ok(Reply(format!(
            r#"{{"messages":[{}],"has_more":{has_more}}}"#,
            messages.join(",")
        )))
    }
}
