//! HTTP bodies: the parser agrees with `serde_json::Value` and the documented rules, in the
//! documented order.
#![no_main]

use handler::Error;
use handler::account::login::Credentials;
use handler::account::register::{
    FULLNAME_CHARS_MAX, PASSWORD_BYTES_MAX, Registration, USERNAME_CHARS_MAX,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const NAMES: [&str; 3] = ["username", "password", "fullname"];

fuzz_target!(|body: &[u8]| {
    let found = Registration::parse(body).map(|it| vec![it.username, it.password, it.fullname]);
    check(body, &NAMES, true, found);
    let found = Credentials::parse(body).map(|it| vec![it.username, it.password]);
    check(body, &NAMES[..2], false, found);
});

fn check(body: &[u8], names: &[&str], has_limits: bool, found: Result<Vec<String>, Error>) {
    let found = found.map_err(|error| match error {
        Error::Invalid(text) => text,
        error => panic!("{error:?}"),
    });
    if let Some(expected) = expected(body, names, has_limits) {
        assert_eq!(found, expected);
    }
}

/// `None` if the body exceeds a limit that serde_json has and our reader does not.
fn expected(body: &[u8], names: &[&str], has_limits: bool) -> Option<Result<Vec<String>, String>> {
    let object = match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => object,
        Err(error) if fuzz::is_value_limit(&error) => return None,
        _ => return Some(Err("not a valid json".into())),
    };
    let value = |name: &str| object.get(name).unwrap_or(&Value::Null);
    let fault = |is_faulty: fn(&Value) -> bool, text| {
        let name = names.iter().find(|name| is_faulty(value(name)))?;
        Some(format!("{name} {text}"))
    };
    let texts: Vec<String> = names
        .iter()
        .filter_map(|name| Some(value(name).as_str()?.into()))
        .collect();
    let limit = || {
        names.iter().zip(&texts).find_map(|(name, text)| {
            let (length, max, unit) = match *name {
                "username" => (text.chars().count(), USERNAME_CHARS_MAX, "characters"),
                "password" => (text.len(), PASSWORD_BYTES_MAX, "bytes"),
                _ => (text.chars().count(), FULLNAME_CHARS_MAX, "characters"),
            };
            (length > max).then(|| format!("{name} should be at most {max} {unit}"))
        })
    };
    let missing = names.iter().find(|name| !object.contains_key(**name));
    let error = missing
        .map(|name| format!("{name} required"))
        .or_else(|| fault(|value| !value.is_string(), "should be a string"))
        .or_else(|| fault(|value| value == "", "should not be empty"))
        .or_else(|| if has_limits { limit() } else { None });
    Some(error.map_or(Ok(texts), Err))
}
