//! The fields of a JSON object, read lazily and strictly: only the fields that a request uses are
//! parsed.
//!
//! The syntax of the other values is checked without recursion or allocation, so that their depth,
//! size and numbers do no harm. What an event declares about a field is in `field.rs`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// No event has as many fields. Text with more is not parsed to its end.
const FIELDS_MAX: usize = 256;

/// The fields of one JSON object. If a name occurs more than once, the last one counts. `null`
/// counts as absent.
pub struct Fields<'a>(Vec<(Cow<'a, str>, &'a str)>);

/// The field is present, but its type is not the one that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongType;

impl<'a> Fields<'a> {
    /// Returns `None` if the text is not a JSON object, or one of more than `FIELDS_MAX` fields.
    pub fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Keeps only the fields whose names `is_kept` accepts.
    pub fn only(mut self, is_kept: impl Fn(&str) -> bool) -> Self {
        self.0.retain(|(name, _)| is_kept(name));
        self
    }

    /// Whether a field with this name is present, even if it is `null`.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// The JSON text of a field.
    pub fn raw(&self, name: &str) -> Option<&'a str> {
        let (_, value) = self.0.iter().rev().find(|(key, _)| key == name)?;
        (*value != "null").then_some(value)
    }

    /// A string of whole Unicode characters, borrowed unless it contains escapes. One with a lone
    /// surrogate is the wrong type.
    pub fn str(&self, name: &str) -> Result<Option<Cow<'a, str>>, WrongType> {
        self.value(name, |raw| match unquoted(raw) {
            Some(text) => Some(text.into()),
            None => Some(serde_json::from_str::<String>(raw).ok()?.into()),
        })
    }

    /// Like `str`, but owned.
    pub fn text(&self, name: &str) -> Result<Option<String>, WrongType> {
        Ok(self.str(name)?.map(Cow::into_owned))
    }

    /// A signed 64-bit integer, written without a fraction or exponent.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, WrongType> {
        self.value(name, |raw| raw.parse().ok())
    }

    pub fn flag(&self, name: &str) -> Result<Option<bool>, WrongType> {
        self.value(name, |raw| raw.parse().ok())
    }

    /// A list; each item is JSON text. Of one with more than `max` items, the first `max` and one more.
    pub fn list(&self, name: &str, max: usize) -> Result<Option<Vec<&'a str>>, WrongType> {
        self.value(name, |raw| {
            let (mut found, mut json) = (Vec::new(), serde_json::Deserializer::from_str(raw));
            let items = Items {
                found: &mut found,
                max,
            };
            // It ends with an error if there are more.
            let is_read = items.deserialize(&mut json).is_ok();
            (is_read || found.len() > max).then_some(found)
        })
    }

    fn value<T>(
        &self,
        name: &str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<Option<T>, WrongType> {
        match self.raw(name) {
            None => Ok(None),
            Some(raw) => read(raw).map(Some).ok_or(WrongType),
        }
    }
}

/// The string that this JSON text contains, if it is a string without escapes: then it needs no
/// second parsing.
fn unquoted(raw: &str) -> Option<&str> {
    let text = raw.strip_prefix('"')?.strip_suffix('"')?;
    (!text.contains('\\')).then_some(text)
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    if fields.len() == FIELDS_MAX {
                        return Err(A::Error::custom("too many fields"));
                    }
                    fields.push((name, map.next_value::<&RawValue>()?.get()));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Takes the items of a list, up to one more than `max`.
struct Items<'t, 'a> {
    found: &'t mut Vec<&'a str>,
    max: usize,
}

impl<'de> DeserializeSeed<'de> for Items<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while self.found.len() <= self.max
            && let Some(item) = items.next_element::<&RawValue>()?
        {
            self.found.push(item.get());
        }
        Ok(())
    }
}

/// A field's name, borrowed unless it contains escapes (serde's own `Cow<str>` always copies).
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}
