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
    let fields = std::str::from_utf8(body).ok().and_then(Fields::parse);
    let fields = fields.ok_or_else(|| Error::Invalid("not a valid json".into()))?;
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
