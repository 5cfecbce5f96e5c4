//! What an event declares, once, for everything that must hold for all events.

use crate::conversation::MEMBERS_MAX;
use crate::data::{Data, DataType};
use crate::error::Error;
use crate::field::{Field, Kind};
use crate::fields::Fields;
use crate::operation::Operation;
use crate::reply::Reply;
use crate::role::Role;

/// A list counts for at least as many users, however short it is. So nobody puts another user into
/// more than 500 conversations at once, and then into one a second: see
/// `host/src/limits/user_rates.rs`.
pub(crate) const LIST_USERS_MIN: usize = 20;

/// One event of the protocol. The event's file holds all of it.
pub trait Declared: Operation<Output = Reply> + Sized + 'static {
    /// Its `type`.
    const TYPE: &'static str;
    /// Its fields besides `type` and `ref`, in the order in which PROTOCOL.md names them.
    const FIELDS: &'static [Field];
    const WHO: Who = Who::User;
    /// The `data` of its reply.
    type Data: Data;

    /// Reads the fields. `fields` contains only the fields that `FIELDS` declares.
    fn read(fields: &Fields) -> Result<Self, Error>;
}

/// Who may send an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Every logged-in user.
    User,
    /// A member of the conversation that the event names, with at least this role.
    Member(Role),
    /// A member of the conversation of the message that the event names.
    MemberOfMessage,
}

/// An event, as an entry of the list of events.
pub struct Declaration {
    pub kind: &'static str,
    pub fields: &'static [Field],
    pub who: Who,
    /// The `data` of its reply.
    pub data: DataType,
    /// Few events do, and all others need not look for it.
    counts_for_users: bool,
    read: fn(&Fields) -> Result<EventOperation, Error>,
}

/// A push of the protocol, as an entry of the list of pushes.
pub struct Push {
    pub kind: &'static str,
    pub data: DataType,
}

impl Push {
    pub(crate) const fn of<D: Data>(kind: &'static str) -> Self {
        Push {
            kind,
            data: DataType::of::<D>(),
        }
    }

    /// The push with which others hear of an event: its data is that of the reply.
    pub(crate) const fn of_event<E: Declared>() -> Self {
        Push::of::<E::Data>(E::TYPE)
    }
}

/// Any operation that answers an event.
pub type EventOperation = Box<dyn Operation<Output = Reply>>;

impl Declaration {
    pub(crate) const fn of<E: Declared>() -> Self {
        Declaration {
            kind: E::TYPE,
            fields: E::FIELDS,
            who: E::WHO,
            data: DataType::of::<E::Data>(),
            counts_for_users: const {
                let mut index = 0;
                let mut found = false;
                while index < E::FIELDS.len() {
                    let field = &E::FIELDS[index];
                    found |= matches!(field.kind, Kind::Users) || field.users > 0;
                    index += 1;
                }
                found
            },
            read: |fields| Ok(Box::new(E::read(fields)?)),
        }
    }

    /// The number of users that the event counts for: those in its lists, of which a short one counts
    /// for [`LIST_USERS_MIN`], and what its other fields count for.
    pub(crate) fn users(&self, fields: &Fields) -> usize {
        if !self.counts_for_users {
            return 0;
        }
        let users = self.fields.iter().map(|field| match field.kind {
            Kind::Users => match fields.list(field.name, MEMBERS_MAX) {
                Ok(Some(items)) if !items.is_empty() => items.len().max(LIST_USERS_MIN),
                _ => 0,
            },
            _ => fields.raw(field.name).map_or(0, |_| field.users),
        });
        users.sum()
    }

    pub(crate) fn read(&self, fields: Fields) -> Result<EventOperation, Error> {
        let is_declared = |name: &str| self.fields.iter().any(|field| field.name == name);
        (self.read)(&fields.only(is_declared))
    }
}
