//! HTTP bodies: the parser agrees with `serde_json::Value` and the documented rules, in the
//! documented order.
#![no_main]

use handler::Error;
use handler::account::login::Credentials;
use handler::account::provision::UserChange;
use handler::account::register::{
    FULLNAME_CHARS_MAX, PASSWORD_BYTES_MAX, Registration, USERNAME_CHARS_MAX,
};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

const NAMES: [&str; 3] = ["username", "password", "fullname"];

fuzz_target!(|body: &[u8]| {
    let found = Registration::parse(body).map(|it| vec![it.username, it.password, it.fullname]);
    if let Some(expected) = expected(body, &NAMES, true) {
        assert_eq!(found.map_err(text), expected);
    }
    if let Some(expected) = expected_credentials(body) {
        assert_eq!(Credentials::parse(body).map_err(text), expected);
    }
    if let Some(expected) = expected_change(body) {
        assert_eq!(UserChange::parse(body).map_err(text), expected);
    }
});

fn text(error: Error) -> String {
    match error {
        Error::Invalid(text) => text,
        error => panic!("{error:?}"),
    }
}

/// `None` if the body exceeds a limit that serde_json has and our reader does not.
fn object(body: &[u8]) -> Option<Result<Map<String, Value>, String>> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Some(Ok(object)),
        Err(error) if fuzz::is_value_limit(&error) => None,
        _ => Some(Err("not a valid json".into())),
    }
}

fn longer(name: &str, text: &str) -> Option<String> {
    let (length, max, unit) = match name {
        "username" => (text.chars().count(), USERNAME_CHARS_MAX, "characters"),
        "password" => (text.len(), PASSWORD_BYTES_MAX, "bytes"),
        _ => (text.chars().count(), FULLNAME_CHARS_MAX, "characters"),
    };
    (length > max).then(|| format!("{name} should be at most {max} {unit}"))
}

fn flag(object: &Map<String, Value>, name: &str) -> Result<Option<bool>, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(format!("{name} should be true or false")),
    }
}

fn expected_credentials(body: &[u8]) -> Option<Result<Credentials, String>> {
    let texts = expected(body, &NAMES[..2], false)?;
    let credentials = |texts: Vec<String>| {
        let [username, password] = texts.try_into().expect("two names, two texts");
        let remember = flag(&object(body).expect("read before")?, "remember")?.unwrap_or(false);
        Ok(Credentials {
            username,
            password,
            remember,
        })
    };
    Some(texts.and_then(credentials))
}

/// A change of a user: what is missing or `null` stays as it is.
fn expected_change(body: &[u8]) -> Option<Result<UserChange, String>> {
    let object = match body {
        b"" => Map::new(),
        body => match object(body)? {
            Ok(object) => object,
            Err(error) => return Some(Err(error)),
        },
    };
    let value = |name: &str| object.get(name).filter(|value| !value.is_null());
    let read = |name: &str| match value(name) {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Err(format!("{name} should not be empty")),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("{name} should be a string")),
    };
    let change = || {
        let (fullname, password) = (read("fullname")?, read("password")?);
        let banned = flag(&object, "banned")?;
        for (name, text) in [("fullname", &fullname), ("password", &password)] {
            if let Some(error) = text.as_ref().and_then(|text| longer(name, text)) {
                return Err(error);
            }
        }
        Ok(UserChange {
            fullname,
            password,
            banned,
        })
    };
    Some(change())
}

/// `None` as of `object`.
fn expected(body: &[u8], names: &[&str], has_limits: bool) -> Option<Result<Vec<String>, String>> {
    let object = match object(body)? {
        Ok(object) => object,
        Err(error) => return Some(Err(error)),
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
        let mut named = names.iter().zip(&texts);
        named.find_map(|(name, text)| longer(name, text))
    };
    let missing = names.iter().find(|name| !object.contains_key(**name));
    let error = missing
        .map(|name| format!("{name} required"))
        .or_else(|| fault(|value| !value.is_string(), "should be a string"))
        .or_else(|| fault(|value| value == "", "should not be empty"))
        .or_else(|| if has_limits { limit() } else { None });
    Some(error.map_or(Ok(texts), Err))
}
