//! What an event declares of a field: its name, what its value means, and how a wrong one is refused.

use crate::error::Error;
use crate::fields::{Fields, WrongType};

/// A field of an event.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub presence: Presence,
    /// The error text for a value of another type or range, and for none where one is required.
    wrong: Option<&'static str>,
    /// The error text for an empty one, where it is another.
    empty: Option<&'static str>,
    /// What the error text calls it where it is longer than it may be; that is `too_large` then.
    too_large: Option<&'static str>,
}

/// What a value is or names: enough to make values of it, right ones and wrong ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The id of a conversation.
    Conversation,
    /// The id of a message of the conversation that the event names.
    Message,
    /// A place in the order of message ids, whether or not there is a message.
    Position,
    /// A username.
    User,
    /// A list of usernames.
    Users,
    /// An object from ids of conversations to revs.
    Revs,
    /// The sender's own name for a message.
    ClientId(Length),
    Text(Length),
    Integer {
        min: i64,
        max: i64,
    },
    Flag,
}

/// How long a text may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    pub min: usize,
    pub max: usize,
    pub unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Of Unicode.
    Characters,
    /// Of UTF-8.
    Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Required,
    Optional,
    /// Optional, and not beside the field of this name.
    InsteadOf(&'static str),
}

impl Length {
    pub const fn characters(min: usize, max: usize) -> Self {
        let unit = Unit::Characters;
        Length { min, max, unit }
    }

    pub const fn bytes(min: usize, max: usize) -> Self {
        let unit = Unit::Bytes;
        Length { min, max, unit }
    }

    fn of(self, text: &str) -> usize {
        match self.unit {
            Unit::Characters => text.chars().count(),
            Unit::Bytes => text.len(),
        }
    }
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Characters => "characters",
            Unit::Bytes => "bytes",
        }
    }
}

impl Field {
    pub const fn required(name: &'static str, kind: Kind) -> Self {
        Self::new(name, kind, Presence::Required)
    }

    pub const fn optional(name: &'static str, kind: Kind) -> Self {
        Self::new(name, kind, Presence::Optional)
    }

    pub const fn instead_of(other: &'static str, name: &'static str, kind: Kind) -> Self {
        Self::new(name, kind, Presence::InsteadOf(other))
    }

    const fn new(name: &'static str, kind: Kind, presence: Presence) -> Self {
        Field {
            name,
            kind,
            presence,
            wrong: None,
            empty: None,
            too_large: None,
        }
    }

    /// The text of its error, in place of one that is made of its kind.
    pub const fn wrong(self, text: &'static str) -> Self {
        Field {
            wrong: Some(text),
            ..self
        }
    }

    pub const fn empty(self, text: &'static str) -> Self {
        Field {
            empty: Some(text),
            ..self
        }
    }

    pub const fn too_large(self, name: &'static str) -> Self {
        Field {
            too_large: Some(name),
            ..self
        }
    }

    /// A signed 64-bit integer, in its range where it has one.
    #[inline]
    pub fn integer(&self, fields: &Fields) -> Result<Option<i64>, Error> {
        let value = self.typed(fields.integer(self.name))?;
        match (self.kind, value) {
            (Kind::Integer { min, max }, Some(number)) if !(min..=max).contains(&number) => {
                Err(self.error())
            }
            _ => Ok(value),
        }
    }

    /// As [`Field::integer`], where it has to be there.
    #[inline]
    pub fn required_integer(&self, fields: &Fields) -> Result<i64, Error> {
        self.integer(fields)?.ok_or_else(|| self.error())
    }

    /// Text of a length that it may have.
    #[inline]
    pub fn text(&self, fields: &Fields) -> Result<Option<String>, Error> {
        let value = self.typed(fields.text(self.name))?;
        if let (Kind::Text(length) | Kind::ClientId(length), Some(text)) = (self.kind, &value) {
            let found = length.of(text);
            if found < length.min {
                return Err(match self.empty {
                    Some(text) => Error::Invalid(text.into()),
                    None => self.error(),
                });
            }
            if found > length.max {
                return Err(match self.too_large {
                    Some(name) => {
                        let (max, unit) = (length.max, length.unit.name());
                        Error::TooLarge(format!("{name} should be at most {max} {unit}"))
                    }
                    None => self.error(),
                });
            }
        }
        Ok(value)
    }

    /// As [`Field::text`], where it has to be there.
    #[inline]
    pub fn required_text(&self, fields: &Fields) -> Result<String, Error> {
        self.text(fields)?.ok_or_else(|| self.error())
    }

    pub fn required_flag(&self, fields: &Fields) -> Result<bool, Error> {
        self.typed(fields.flag(self.name))?
            .ok_or_else(|| self.error())
    }

    #[inline]
    fn typed<T>(&self, read: Result<Option<T>, WrongType>) -> Result<Option<T>, Error> {
        read.map_err(|WrongType| self.error())
    }

    /// That it is not what was declared.
    pub fn error(&self) -> Error {
        let name = self.name;
        let text = match (self.wrong, self.kind) {
            (Some(text), _) => return Error::Invalid(text.into()),
            (None, Kind::Integer { min, max }) => format!("an integer from {min} to {max}"),
            (None, Kind::Text(length) | Kind::ClientId(length)) => {
                let Length { min, max, unit } = length;
                match (min, unit.name()) {
                    (0, unit) => format!("a string of at most {max} {unit}"),
                    (_, unit) => format!("a string of {min} to {max} {unit}"),
                }
            }
            (None, Kind::Users) => "a list of strings".to_owned(),
            (None, Kind::Revs) => "an object from conversation ids to integers".to_owned(),
            (None, Kind::User) => "a string".to_owned(),
            (None, Kind::Conversation | Kind::Message | Kind::Position) => "an integer".to_owned(),
            (None, Kind::Flag) => "true or false".to_owned(),
        };
        Error::Invalid(format!("{name} should be {text}"))
    }
}
