//! Events that change a message: who may send them, and what all of them do.

use crate::answer_budget::SMALL_ANSWER_BYTES_MAX;
use crate::declaration::{Declared, Who};
use crate::error::Error;
use crate::field::Field;
use crate::fields::Fields;
use crate::member::silent;
use crate::message::Message;
use crate::operation::{Access, Context, Operation};
use crate::outbox::{Audience, Outbox, Output};
use crate::reply::{Reply, json, push};
use crate::sql::{Rows, Statement};

/// An event that changes a message, and is answered with the [`Message`] in its present state. If it
/// changes something, every member of the conversation is told.
pub trait Change: Send + Sync + Sized + 'static {
    const TYPE: &'static str;
    /// The first field is `MESSAGE_ID`.
    const FIELDS: &'static [Field];
    /// `found!` with a condition: may the caller make this change at all?
    const FOUND: &'static str;
    /// The error for a member who may not.
    const FORBIDDEN: &'static str;

    /// See [`Operation::answer_bytes_max`].
    const ANSWER_BYTES_MAX: usize;

    /// Reads the other fields. Only someone who may make the change sees its errors.
    fn read(fields: &Fields) -> Result<Self, Error>;

    /// See [`Operation::mentions_max`].
    fn mentions_max(&self) -> usize {
        0
    }

    /// Makes the change, and sets `changed_rev` to `next_rev!`. Each statement guards itself. The last
    /// one changes one row or none.
    fn statements(&self, message_id: i64, ctx: &Context) -> Vec<Statement>;

    /// What `changed_messages` keeps of the change.
    fn kept(&self, ctx: &Context) -> Kept;

    /// Brings the tables that hold more of the message up to date. If nothing has changed, these
    /// statements change nothing.
    fn afterwards(&self, message_id: i64) -> Vec<Statement>;

    /// Whether the change shows the others something that the caller has written. Then it is refused
    /// in a direct conversation in which one of the two has blocked the other, as a message is.
    fn is_said(&self) -> bool;

    /// Why nothing has changed, or `Ok` if the message is already as it should be.
    fn check(&self, message: &Message, ctx: &Context) -> Result<(), Error>;
}

/// Whether `?2` is in the conversation of the `messages` row called `m`.
macro_rules! is_member {
    () => {
        "exists (select 1 from members where conversation_id = m.conversation_id and user_id = ?2)"
    };
}
pub(crate) use is_member;

/// Whether the `messages` row called `m` is deleted.
macro_rules! is_deleted {
    () => {
        "exists (select 1 from changed_messages where message_id = m.id and is_deleted = 1)"
    };
}
pub(crate) use is_deleted;

/// The message `?1`, if the caller `?2` is in its conversation: whether the statement before has
/// changed something, whether `$may`, the conversation's `is_silent` and `members_rev`, and the
/// columns of a `Message`. `changes()` stays as it is.
macro_rules! found {
    ($may:expr) => {
        concat!(
            "select changes(), ",
            $may,
            ", ",
            $crate::message::change::is_silent!(),
            ", ",
            $crate::conversation::members_rev!("m.conversation_id"),
            ", ",
            $crate::message::message_columns!(),
            " from messages m",
            $crate::message::sender!(),
            " where m.id = ?1 and ",
            $crate::message::change::is_member!()
        )
    };
}
pub(crate) use found;

/// Whether one of the two in the direct conversation of the message `m` has blocked the other.
macro_rules! is_silent {
    () => {
        "(select is_silent from conversations where id = m.conversation_id)"
    };
}
pub(crate) use is_silent;

/// The rev of a change of the message `m`: the conversation's next one.
macro_rules! next_rev {
    () => {
        "(select rev + 1 from conversations where id = m.conversation_id)"
    };
}
pub(crate) use next_rev;

/// Raises the rev of the conversation of the message, if the statement before has changed the
/// message. `changes()` stays 1.
pub(crate) fn raise_rev(message_id: i64) -> Statement {
    Statement::new(
        "update conversations set rev = rev + 1
         where id = (select conversation_id from messages where id = ?1) and changes() = 1",
        [message_id.into()],
    )
}

/// The part of a change that `changed_messages` keeps.
#[derive(Default)]
pub struct Kept {
    /// Unix seconds.
    pub edited_at: Option<i64>,
    pub is_deleted: bool,
    /// How many reactions came (1) or went (-1).
    pub reactions: i64,
}

impl Kept {
    /// Keeps the change that the statement before has made to the message. `changes()` stays 1.
    pub fn statement(&self, message_id: i64) -> Statement {
        Statement::new(
            "insert into changed_messages (message_id, conversation_id, rev, changed_rev, edited_at, is_deleted, reactions)
             select id, conversation_id, rev, changed_rev, ?2, ?3, ?4 from messages where id = ?1 and changes() = 1
             on conflict (message_id) do update set
                 changed_rev = excluded.changed_rev,
                 edited_at = coalesce(excluded.edited_at, edited_at),
                 is_deleted = excluded.is_deleted,
                 reactions = iif(excluded.is_deleted, 0, reactions + excluded.reactions)",
            [
                message_id.into(),
                self.edited_at.into(),
                i64::from(self.is_deleted).into(),
                self.reactions.into(),
            ],
        )
    }
}

/// An event that changes a message. Its checks run in this order: the message's id is valid; the
/// caller is in the message's conversation; the caller may make this change; the other fields are
/// valid; the event's own conditions hold. So someone who is not a member learns nothing about the
/// message.
pub struct ByMessage<E> {
    message_id: i64,
    event: Result<E, Error>,
}

impl<E: Change> Declared for ByMessage<E> {
    const TYPE: &'static str = E::TYPE;
    const FIELDS: &'static [Field] = E::FIELDS;
    const WHO: Who = Who::MemberOfMessage;
    type Data = Message<'static>;

    fn read(fields: &Fields) -> Result<Self, Error> {
        Ok(ByMessage {
            message_id: E::FIELDS[0].required_integer(fields)?,
            event: E::read(fields),
        })
    }
}

impl<E: Change> Operation for ByMessage<E> {
    type Output = Reply;

    fn access(&self) -> Access {
        match self.event {
            Ok(_) => Access::Write,
            Err(_) => Access::Read,
        }
    }

    fn answer_bytes_max(&self) -> usize {
        match self.event {
            Ok(_) => E::ANSWER_BYTES_MAX,
            Err(_) => SMALL_ANSWER_BYTES_MAX,
        }
    }

    fn mentions_max(&self) -> usize {
        self.event.as_ref().map_or(0, E::mentions_max)
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let id = self.message_id;
        let found = Statement::new(E::FOUND, [id.into(), ctx.user_id.into()]);
        match &self.event {
            // A repeat would undo what somebody else has changed since.
            Ok(event) if !ctx.is_repeat => {
                let mut statements = event.statements(id, ctx);
                statements.extend([raise_rev(id), event.kept(ctx).statement(id), found]);
                statements.extend(event.afterwards(id));
                statements
            }
            _ => vec![found],
        }
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<Reply, Error> {
        // Only `found!` returns a row.
        let Some(found) = rows.iter().find_map(Rows::first) else {
            let text = format!("No such {} message id found", self.message_id);
            return Err(Error::NotFound(text));
        };
        let mut columns = found.columns();
        let (has_changed, may_change) = (columns.flag() && !ctx.is_repeat, columns.flag());
        if !may_change {
            return Err(Error::Forbidden(E::FORBIDDEN.into()));
        }
        let event = self.event.as_ref().map_err(Error::clone)?;
        let (is_silent, members_rev) = (columns.flag(), columns.integer());
        let message = Message::read(&mut columns);
        if !has_changed {
            if is_silent && event.is_said() && !ctx.is_repeat {
                return Err(silent());
            }
            event.check(&message, ctx)?;
        }
        let data = json(&message);
        if has_changed || ctx.is_repeat {
            out.push(Output::Push {
                to: Audience::Conversation {
                    id: message.conversation_id,
                    members_rev: if ctx.is_shared() { members_rev } else { 0 },
                },
                event: push(E::TYPE, &data),
                is_droppable: false,
            });
        }
        Ok(Reply(data))
    }
}

pub(crate) fn deleted() -> Error {
    Error::Conflict("the message is deleted".into())
}
