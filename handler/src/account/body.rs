//! The bodies of requests about accounts.

use crate::error::Error;
use crate::fields::Fields;

/// Reads fields that must be present and must be non-empty strings. As in the first backend, all
/// fields are first checked for presence, then for type, then for being empty. `null` is present
/// but has the wrong type.
pub(crate) fn required_texts<const N: usize>(
    body: &[u8],
    names: [&'static str; N],
) -> Result<[String; N], Error> {
    let fields = fields(body)?;
    for name in names {
        if !fields.has(name) {
            return Err(Error::Invalid(format!("{name} required")));
        }
    }
    let mut texts = [const { String::new() }; N];
    for (name, text) in names.iter().zip(&mut texts) {
        match fields.text(name) {
            Ok(Some(value)) => *text = value,
            _ => return Err(Error::Invalid(format!("{name} should be a string"))),
        }
    }
    for (name, text) in names.iter().zip(&texts) {
        if text.is_empty() {
            return Err(Error::Invalid(format!("{name} should not be empty")));
        }
    }
    Ok(texts)
}

/// A field that may be missing; then it is false.
pub(crate) fn optional_flag(body: &[u8], name: &'static str) -> Result<bool, Error> {
    match fields(body)?.flag(name) {
        Ok(flag) => Ok(flag.unwrap_or(false)),
        Err(_) => Err(Error::Invalid(format!("{name} should be true or false"))),
    }
}

pub(crate) fn at_most(name: &str, length: usize, max: usize, unit: &str) -> Result<(), Error> {
    if length > max {
        let text = format!("{name} should be at most {max} {unit}");
        return Err(Error::Invalid(text));
    }
    Ok(())
}

pub(crate) fn fields(body: &[u8]) -> Result<Fields<'_>, Error> {
    let fields = std::str::from_utf8(body).ok().and_then(Fields::parse);
    fields.ok_or_else(|| Error::Invalid("not a valid json".into()))
}
