//! What programs with an API key, and the operator, do with users.

use std::borrow::Cow;

use handler::Error;
use handler::account::provision::{USERS_LISTED_MAX, UserChange};
use hyper::StatusCode;
use percent_encoding::percent_decode_str;

use crate::audit::{self, Deed};
use crate::http::answers::{Answer, HttpError, json, nothing};
use crate::http::call::{Call, read_whole};
use crate::http::program::Program;

/// `PUT /users/{username}`
pub async fn put(call: Call, program: Program) -> Result<Answer, HttpError> {
    let username = username(&call)?;
    let services = call.services;
    let body = read_whole(call.request.into_body(), services.body_timeout).await?;
    let change = UserChange::parse(&body)?;
    let mut deeds = Deed::of(&change);
    let put = services.accounts.put_user(&username, change).await;
    let is_new = matches!(put, Ok((_, true)));
    if is_new {
        deeds.insert(0, Deed::Create);
    }
    for deed in deeds {
        audit::provisioned(deed, &put, call.address, program.name(), &username);
    }
    let (user, _) = put?;
    let status = match is_new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    Ok(json(status, &user))
}

/// `GET /users/{username}`
pub async fn get(call: Call, _: Program) -> Result<Answer, HttpError> {
    let username = username(&call)?;
    let user = call.services.accounts.find_user(&username).await?;
    Ok(json(StatusCode::OK, &user))
}

/// `DELETE /users/{username}`
pub async fn delete(call: Call, program: Program) -> Result<Answer, HttpError> {
    let username = username(&call)?;
    let deleted = call.services.accounts.delete_user(&username).await;
    let (address, program) = (call.address, program.name());
    audit::provisioned(Deed::Delete, &deleted, address, program, &username);
    deleted?;
    Ok(nothing())
}

/// `GET /users?after=…&limit=…`
pub async fn list(call: Call, _: Program) -> Result<Answer, HttpError> {
    let query = call.request.uri().query().unwrap_or_default();
    let (mut after, mut limit) = (String::new(), USERS_LISTED_MAX);
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match name {
            "after" => after = decoded(name, value)?.into_owned(),
            "limit" => {
                let number = value.parse().ok();
                let number = number.filter(|number| (1..=USERS_LISTED_MAX).contains(number));
                limit = number.ok_or_else(|| {
                    let text = format!("limit should be a number from 1 to {USERS_LISTED_MAX}");
                    Error::Invalid(text)
                })?;
            }
            _ => {}
        }
    }
    let users = call.services.accounts.list_users(after, limit).await?;
    Ok(json(StatusCode::OK, &users))
}

/// The username in the path.
fn username(call: &Call) -> Result<String, Error> {
    let name = call.parameters.get("username");
    decoded("username", name).map(Cow::into_owned)
}

fn decoded<'a>(name: &str, value: &'a str) -> Result<Cow<'a, str>, Error> {
    let decoded = percent_decode_str(value).decode_utf8();
    decoded.map_err(|_| Error::Invalid(format!("{name} should be UTF-8, percent-encoded")))
}
