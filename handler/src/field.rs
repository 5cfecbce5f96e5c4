//! What an event declares about a field: its name, what its value means, and the error for a wrong
//! value.

use crate::error::Error;
use crate::fields::{Fields, WrongType};

/// A field of an event.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub presence: Presence,
    /// As many listed users the field counts for if it is present.
    pub(crate) users: usize,
    /// The error text for a value of the wrong type or out of range, and for a missing value that
    /// is required.
    wrong: Option<&'static str>,
    /// The error text for an empty value, if it is a different one.
    empty: Option<&'static str>,
    /// The name of the field in the error text for a value that is too long. The error code is then
    /// `too_large`.
    too_large: Option<&'static str>,
}

/// What a value is or refers to. This is enough to generate both valid and invalid values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The id of a conversation.
    Conversation,
    /// The id of a message in the conversation that the event names or, if it names none, in any
    /// conversation of the caller.
    Message,
    /// A position in the order of message ids. It need not be the id of an existing message.
    Position,
    /// A username.
    User,
    /// The username of a member of the conversation that the event names.
    Member,
    /// A list of usernames.
    Users,
    /// An object that maps conversation ids to revs.
    Revs,
    /// The id that the sender gives a message.
    ClientId(Length),
    Text(Length),
    Integer {
        min: i64,
        max: i64,
    },
    Flag,
    /// One of these texts.
    Choice(&'static [&'static str]),
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
    /// Unicode characters.
    Characters,
    /// Bytes of UTF-8.
    Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Required,
    Optional,
    /// Optional, and not allowed together with the field of this name.
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
            // Counting takes longer than the check.
            Unit::Characters if !text.is_ascii() => text.chars().count(),
            Unit::Characters | Unit::Bytes => text.len(),
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
            users: 0,
            wrong: None,
            empty: None,
            too_large: None,
        }
    }

    pub(crate) const fn counts_for(self, users: usize) -> Self {
        Field { users, ..self }
    }

    /// Sets the text of the error, in place of the one derived from the kind.
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

    /// A signed 64-bit integer, within the kind's range if it has one.
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

    /// Like [`Field::integer`], but the field must be present.
    #[inline]
    pub fn required_integer(&self, fields: &Fields) -> Result<i64, Error> {
        self.integer(fields)?.ok_or_else(|| self.error())
    }

    /// Text whose length is within the kind's limits.
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

    /// Like [`Field::text`], but the field must be present.
    #[inline]
    pub fn required_text(&self, fields: &Fields) -> Result<String, Error> {
        self.text(fields)?.ok_or_else(|| self.error())
    }

    pub fn required_flag(&self, fields: &Fields) -> Result<bool, Error> {
        self.flag(fields)?.ok_or_else(|| self.error())
    }

    pub fn flag(&self, fields: &Fields) -> Result<Option<bool>, Error> {
        self.typed(fields.flag(self.name))
    }

    /// The place of the text among the kind's choices.
    pub fn choice(&self, fields: &Fields) -> Result<Option<usize>, Error> {
        let Some(text) = self.text(fields)? else {
            return Ok(None);
        };
        let Kind::Choice(choices) = self.kind else {
            return Err(self.error());
        };
        let place = choices.iter().position(|choice| *choice == text);
        place.map(Some).ok_or_else(|| self.error())
    }

    /// Like [`Field::choice`], but the field must be present.
    pub fn required_choice(&self, fields: &Fields) -> Result<usize, Error> {
        self.choice(fields)?.ok_or_else(|| self.error())
    }

    #[inline]
    fn typed<T>(&self, read: Result<Option<T>, WrongType>) -> Result<Option<T>, Error> {
        read.map_err(|WrongType| self.error())
    }

    /// The error that the value is not what was declared.
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
            (None, Kind::User | Kind::Member) => "a string".to_owned(),
            (None, Kind::Conversation | Kind::Message | Kind::Position) => "an integer".to_owned(),
            (None, Kind::Flag) => "true or false".to_owned(),
            (None, Kind::Choice(choices)) => format!("one of {}", choices.join(", ")),
        };
        Error::Invalid(format!("{name} should be {text}"))
    }
}
