//! What an event declares of itself, once, for everything that has to hold for all events.

use crate::error::Error;
use crate::field::Field;
use crate::fields::Fields;
use crate::operation::Operation;
use crate::reply::Reply;
use crate::role::Role;

/// One event of the protocol. Its file holds all of it.
pub trait Declared: Operation<Output = Reply> + Sized + 'static {
    /// Its `type`.
    const TYPE: &'static str;
    /// Its fields, beside `type` and `ref`, in the order in which the documentation names them.
    const FIELDS: &'static [Field];
    const WHO: Who = Who::User;

    /// Reads the fields. What `FIELDS` does not declare is not there to be read.
    fn read(fields: &Fields) -> Result<Self, Error>;
}

/// Who may ask for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Every user who is logged in.
    User,
    /// A member of the conversation that it names, with at least this role.
    Member(Role),
}

/// An event as the list of events holds it.
pub struct Declaration {
    pub kind: &'static str,
    pub fields: &'static [Field],
    pub who: Who,
    read: fn(&Fields) -> Result<EventOperation, Error>,
}

/// Any operation that answers an event.
pub type EventOperation = Box<dyn Operation<Output = Reply>>;

impl Declaration {
    pub(crate) const fn of<E: Declared>() -> Self {
        Declaration {
            kind: E::TYPE,
            fields: E::FIELDS,
            who: E::WHO,
            read: |fields| Ok(Box::new(E::read(fields)?)),
        }
    }

    pub(crate) fn read(&self, fields: Fields) -> Result<EventOperation, Error> {
        let is_declared = |name: &str| self.fields.iter().any(|field| field.name == name);
        (self.read)(&fields.only(is_declared))
    }
}
