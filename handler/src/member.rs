//! Who may do what in a conversation: the guard for events that only members may send.

use crate::answer_budget::{ANSWER_BYTES_MAX, NAMES_ANSWER_BYTES_MAX, SMALL_ANSWER_BYTES_MAX};
use crate::conversation::members_rev;
use crate::data::Data;
use crate::declaration::{Declared, Who};
use crate::error::Error;
use crate::field::{Field, Kind};
use crate::fields::Fields;
use crate::operation::{Access, Context, Operation};
use crate::outbox::{Audience, Outbox};
use crate::reply::Reply;
use crate::role::Role;
use crate::set::Element;
use crate::sql::{Rows, Statement};

/// The field that comes first in most of these events.
pub(crate) const CONVERSATION_ID: Field = Field::required("conversation_id", Kind::Conversation)
    .wrong("expected conversation_id as integer");

/// Whether conversation `?1` has an owner. If it has none, as in a file of the first backend, every
/// member may do what an owner may.
macro_rules! has_owner {
    ($conversation:literal) => {
        concat!(
            "exists (select 1 from members where conversation_id = ",
            $conversation,
            " and role > 0 and role = 2)"
        )
    };
}
pub(crate) use has_owner;

/// Whether `?2` may change this conversation, as a member whose role has at least this number.
macro_rules! may_change {
    ($conversation:literal, $least:literal) => {
        concat!(
            "exists (select 1 from members mb join conversations c on c.id = mb.conversation_id
                 where mb.conversation_id = ",
            $conversation,
            " and mb.user_id = ?2 and c.direct is null and (mb.role >= ",
            $least,
            " or not ",
            $crate::member::has_owner!($conversation),
            "))"
        )
    };
}
pub(crate) use may_change;

/// The error for a message to a direct conversation in which one of the two has blocked the other. It
/// does not say who.
pub(crate) fn silent() -> Error {
    Error::Forbidden("no messages can be sent in this conversation now".into())
}

/// An event that only a member of the conversation may send.
pub trait MemberEvent: Send + Sync + Sized + 'static {
    const TYPE: &'static str;
    /// The first field names the conversation.
    const FIELDS: &'static [Field];
    /// The `data` of its reply.
    type Data: Data;
    /// The least role that the caller must have.
    const LEAST: Role = Role::Member;
    /// Whether it changes the conversation's name, members or roles. Direct conversations refuse
    /// such an event. It records its request in `changed_by`, and so finds out whether it has been
    /// done already when it is repeated.
    const CHANGES_GROUP: bool = false;
    const ACCESS: Access;
    /// Whether the guard's statement comes first. An event that cannot afford that extra statement
    /// sets this to `false`. It then guards each of its statements itself, and runs the guard's
    /// only to find out why they did nothing.
    const IS_GUARDED_FIRST: bool = true;

    /// Reads the other fields. Only members see its errors.
    fn read(fields: &Fields) -> Result<Self, Error>;

    /// See [`Operation::answer_bytes_max`].
    fn answer_bytes_max(&self) -> usize {
        match Self::CHANGES_GROUP {
            true => NAMES_ANSWER_BYTES_MAX,
            false => ANSWER_BYTES_MAX,
        }
    }

    /// See [`Operation::mentions_max`].
    fn mentions_max(&self) -> usize {
        0
    }

    /// The statements after the guard's. Each of them must guard itself too.
    fn statements(&self, guard: &Guard, ctx: &Context) -> Vec<Statement>;

    /// See [`Operation::element`]. Its rows have to start with the guard's, if these come first.
    fn element(&self, _: &Guard, _: &Context) -> Option<Element> {
        None
    }

    /// Like [`Operation::conclude`]. `rows` start with the guard's, which has already let the
    /// caller pass.
    fn conclude(
        &self,
        guard: &Guard,
        ctx: &Context,
        rows: &[Rows],
        out: &mut Outbox,
    ) -> Result<Reply, Error>;

    /// The error for a caller who is not a member. It is the same if the conversation does not
    /// exist.
    fn stranger(conversation_id: i64, ctx: &Context) -> Error {
        Error::NotFound(format!(
            "{} not part of conversation with {conversation_id} id",
            ctx.username
        ))
    }
}

/// An event for the members of a conversation. Its checks run in this order: the conversation's id
/// is valid; the caller is a member; the conversation is not direct, if the event changes it; the
/// caller's role is high enough; the other fields are valid; the event's own conditions hold. So someone who is not a member learns nothing about the
/// conversation.
pub struct ByMember<E> {
    guard: Guard,
    event: Result<E, Error>,
}

impl<E: MemberEvent> ByMember<E> {
    /// An event about this conversation that was not read from a frame.
    pub(crate) fn new(conversation_id: i64, event: E) -> Self {
        ByMember {
            guard: Guard::of_event::<E>(conversation_id),
            event: Ok(event),
        }
    }
}

impl<E: MemberEvent> Declared for ByMember<E> {
    const TYPE: &'static str = E::TYPE;
    const FIELDS: &'static [Field] = E::FIELDS;
    const WHO: Who = Who::Member(E::LEAST);
    type Data = E::Data;

    fn read(fields: &Fields) -> Result<Self, Error> {
        Ok(ByMember {
            guard: Guard::of_event::<E>(E::FIELDS[0].required_integer(fields)?),
            event: E::read(fields),
        })
    }
}

impl<E: MemberEvent> Operation for ByMember<E> {
    type Output = Reply;

    fn access(&self) -> Access {
        match self.event {
            Ok(_) => E::ACCESS,
            Err(_) => Access::Read,
        }
    }

    fn answer_bytes_max(&self) -> usize {
        match &self.event {
            Ok(event) => event.answer_bytes_max(),
            Err(_) => SMALL_ANSWER_BYTES_MAX,
        }
    }

    fn mentions_max(&self) -> usize {
        self.event.as_ref().map_or(0, E::mentions_max)
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        match &self.event {
            Ok(event) if !E::IS_GUARDED_FIRST => event.statements(&self.guard, ctx),
            Ok(event) => {
                let mut statements = vec![self.guard.statement(ctx)];
                statements.extend(event.statements(&self.guard, ctx));
                statements
            }
            Err(_) => vec![self.guard.statement(ctx)],
        }
    }

    fn element(&self, ctx: &Context) -> Option<Element> {
        self.event.as_ref().ok()?.element(&self.guard, ctx)
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<Reply, Error> {
        if E::IS_GUARDED_FIRST || self.event.is_err() {
            self.guard.check(&rows[0], ctx)?;
        }
        let event = self.event.as_ref().map_err(Error::clone)?;
        event.conclude(&self.guard, ctx, rows, out)
    }
}

/// Whether the caller may do something in a conversation.
pub struct Guard {
    pub conversation_id: i64,
    least: Role,
    changes_group: bool,
    stranger: fn(i64, &Context) -> Error,
}

impl Guard {
    fn of_event<E: MemberEvent>(conversation_id: i64) -> Self {
        Guard {
            conversation_id,
            least: E::LEAST,
            changes_group: E::CHANGES_GROUP,
            stranger: E::stranger,
        }
    }

    /// A guard for a conversation that an event only refers to.
    pub fn of_reference(conversation_id: i64, stranger: fn(i64, &Context) -> Error) -> Self {
        Guard {
            conversation_id,
            least: Role::Member,
            changes_group: false,
            stranger,
        }
    }

    /// Like `statement`, to find out why a message was not stored: the row also has the
    /// conversation's `is_silent`.
    pub fn statement_with_silence(&self, ctx: &Context) -> Statement {
        Statement::new(
            concat!(
                "select 0, ",
                members_rev!("?1"),
                ", c.is_silent from members mb join conversations c on c.id = mb.conversation_id
                 where mb.conversation_id = ?1 and mb.user_id = ?2"
            ),
            [self.conversation_id.into(), ctx.user_id.into()],
        )
    }

    /// Returns one row if the caller is a member, and none otherwise: the role and, if other hosts
    /// may use the same database, the conversation's `members_rev`.
    pub fn statement(&self, ctx: &Context) -> Statement {
        if self.changes_group {
            return self.statement_for_change(ctx);
        }
        let sql = match ctx.is_shared() {
            true => concat!(
                "select 0, ",
                members_rev!("?1"),
                " from members where conversation_id = ?1 and user_id = ?2"
            ),
            false => "select 0 from members where conversation_id = ?1 and user_id = ?2",
        };
        Statement::new(sql, [self.conversation_id.into(), ctx.user_id.into()])
    }

    /// Returns one row if the caller is a member, or has left by this very request: the role,
    /// whether the conversation is direct, and whether this request has been done already.
    fn statement_for_change(&self, ctx: &Context) -> Statement {
        Statement::new(
            concat!(
                "select iif(",
                has_owner!("?1"),
                ", coalesce(m.role, 0), 2), c.direct is not null, c.changed_by is ?3 and ?3 is not null
                 from conversations c left join members m on m.conversation_id = c.id and m.user_id = ?2
                 where c.id = ?1 and (m.user_id is not null or c.changed_by = ?3)"
            ),
            [
                self.conversation_id.into(),
                ctx.user_id.into(),
                ctx.request_key(),
            ],
        )
    }

    /// Fails with `NotFound` if the caller is not a member, and with `Forbidden` if the caller's
    /// role is too low or the conversation cannot be changed. A request that has been done already
    /// passes.
    pub fn check(&self, rows: &Rows, ctx: &Context) -> Result<(), Error> {
        let Some(row) = rows.first() else {
            return Err(self.stranger(ctx));
        };
        let mut columns = row.columns();
        let role = Role::of(columns.integer());
        if self.changes_group {
            let (is_direct, is_done) = (columns.flag(), columns.flag());
            if is_done {
                return Ok(());
            }
            if is_direct {
                let text = "a direct conversation cannot be changed";
                return Err(Error::Forbidden(text.into()));
            }
        }
        match role >= self.least {
            true => Ok(()),
            false => Err(Error::Forbidden(format!(
                "only {} may do this",
                self.least.who()
            ))),
        }
    }

    /// Whether this request has been done already, from the rows of an event that changes the
    /// conversation.
    pub fn is_done(rows: &Rows) -> bool {
        rows.first().is_some_and(|row| {
            let mut columns = row.columns();
            let (_role, _is_direct) = (columns.integer(), columns.flag());
            columns.flag()
        })
    }

    /// Fails with `Forbidden` if the conversation takes no messages, from the rows of
    /// `statement_with_silence`.
    pub fn check_silence(rows: &Rows) -> Result<(), Error> {
        let is_silent = rows.first().is_some_and(|row| {
            let mut columns = row.columns();
            let (_role, _members_rev) = (columns.integer(), columns.integer());
            columns.flag()
        });
        match is_silent {
            true => Err(silent()),
            false => Ok(()),
        }
    }

    pub fn stranger(&self, ctx: &Context) -> Error {
        (self.stranger)(self.conversation_id, ctx)
    }

    /// Everyone in the conversation, with the `members_rev` of the guard's rows; 0 if they have
    /// none.
    pub fn audience(&self, rows: &Rows) -> Audience {
        let mut columns = rows.first().map(|row| row.columns());
        let mut next = || columns.as_mut().map_or(0, |columns| columns.integer());
        let _role = next();
        Audience::Conversation {
            id: self.conversation_id,
            members_rev: next(),
        }
    }
}
