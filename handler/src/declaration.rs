//! What an event declares, once, for everything that must hold for all events.

use crate::data::{Data, DataType};
use crate::error::Error;
use crate::field::{Field, Kind};
use crate::fields::Fields;
use crate::operation::Operation;
use crate::reply::Reply;
use crate::role::Role;

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
    lists_users: bool,
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
            lists_users: const {
                let mut index = 0;
                let mut found = false;
                while index < E::FIELDS.len() {
                    found |= matches!(E::FIELDS[index].kind, Kind::Users);
                    index += 1;
                }
                found
            },
            read: |fields| Ok(Box::new(E::read(fields)?)),
        }
    }

    /// The number of users in the event's lists of users.
    pub(crate) fn users(&self, fields: &Fields) -> usize {
        if !self.lists_users {
            return 0;
        }
        let lists = self.fields.iter().filter(|field| field.kind == Kind::Users);
        let items = lists.map(|field| fields.list(field.name).ok().flatten().unwrap_or_default());
        items.map(|items| items.len()).sum()
    }

    pub(crate) fn read(&self, fields: Fields) -> Result<EventOperation, Error> {
        let is_declared = |name: &str| self.fields.iter().any(|field| field.name == name);
        (self.read)(&fields.only(is_declared))
    }
}
