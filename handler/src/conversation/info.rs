//! `get_conversation_info`.

use crate::conversation::{Conversation, no_such_conversation};
use crate::error::Error;
use crate::field::{Field, Kind};
use crate::fields::Fields;
use crate::member::{Guard, MemberEvent};
use crate::message::read::READ_RECEIPT_MEMBERS_MAX;
use crate::operation::{Access, Context};
use crate::outbox::Outbox;
use crate::reply::Reply;
use crate::sql::{Row, Rows, Statement};

const ID: Field = Field::required("id", Kind::Conversation).wrong("id is required as int");

/// `get_conversation_info {id}` → the [`Conversation`]. If it has at most
/// `READ_RECEIPT_MEMBERS_MAX` members, the answer also says what each of them has read.
pub struct GetConversationInfo;

impl MemberEvent for GetConversationInfo {
    const TYPE: &'static str = "get_conversation_info";
    const FIELDS: &'static [Field] = &[ID];
    const ACCESS: Access = Access::Read;

    fn read(_: &Fields) -> Result<Self, Error> {
        Ok(GetConversationInfo)
    }

    fn statements(&self, guard: &Guard, ctx: &Context) -> Vec<Statement> {
        let parameters = || [guard.conversation_id.into(), ctx.user_id.into()];
        vec![
            Statement::new(
                "select cast(name as blob), rev from conversations where id = ?1
                     and exists (select 1 from members where conversation_id = ?1 and user_id = ?2)",
                parameters(),
            ),
            Statement::new(
                "select cast(u.username as blob), m.read_id
                 from members m join users u on u.id = m.user_id
                 where m.conversation_id = ?1
                     and exists (select 1 from members where conversation_id = ?1 and user_id = ?2)
                 order by m.rowid",
                parameters(),
            ),
        ]
    }

    fn conclude(
        &self,
        guard: &Guard,
        ctx: &Context,
        rows: &[Rows],
        _: &mut Outbox,
    ) -> Result<Reply, Error> {
        let id = guard.conversation_id;
        // The conversation no longer exists, but a row of a member was left behind.
        let Some(row) = rows[1].first() else {
            return Err(Self::stranger(id, ctx));
        };
        let mut columns = row.columns();
        let (name, rev) = (columns.text(), columns.integer());
        let member = |row: &Row| {
            let mut columns = row.columns();
            (columns.text(), columns.integer())
        };
        let (members, read_ids): (Vec<_>, Vec<_>) = rows[2].0.iter().map(member).unzip();
        let few = members.len() as i64 <= READ_RECEIPT_MEMBERS_MAX;
        let usernames = members.iter().map(String::as_str);
        Ok(Reply::of(&Conversation {
            id,
            name: &name,
            rev,
            members: &members,
            read: few.then(|| usernames.zip(read_ids).collect()),
        }))
    }

    fn stranger(conversation_id: i64, ctx: &Context) -> Error {
        no_such_conversation(conversation_id, ctx)
    }
}
