//! What programs with an API key, and the operator, do with users.

use std::borrow::Cow;

use bytes::Bytes;
use handler::Error;
use handler::account::provision::{ListedUsers, USERS_LISTED_MAX, UserChange};
use hyper::StatusCode;
use percent_encoding::percent_decode_str;

use crate::audit::{Deed, Provisioning};
use crate::http::answers::{Answer, HttpError, json, nothing};
use crate::http::call::Call;
use crate::http::program::Program;

/// `PUT /users/{username}`
pub async fn put(call: Call<Bytes>, program: Program) -> Result<Answer, HttpError> {
    let mut audited = begin(Deed::Change, &call, &program);
    let putting = async {
        let username = username(&call)?;
        let services = call.services;
        let change = UserChange::parse(call.request.body())?;
        let deeds = Deed::of(&change);
        if !deeds.is_empty() {
            audited.deeds = deeds;
        }
        Ok(services.accounts.put_user(&username, change).await?)
    };
    let put = putting.await;
    let is_new = matches!(put, Ok((_, true)));
    if is_new {
        // The rest of the change is part of it.
        audited.deeds.retain(|deed| *deed != Deed::Change);
        audited.deeds.insert(0, Deed::Create);
    }
    audited.end(result(&put));
    let (user, _) = put?;
    let status = match is_new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    Ok(json(status, &user))
}

/// `GET /users/{username}`
pub async fn get(call: Call<Bytes>, program: Program) -> Result<Answer, HttpError> {
    let audited = begin(Deed::Read, &call, &program);
    let finding = async { Ok(call.services.accounts.find_user(&username(&call)?).await?) };
    let user = finding.await;
    audited.end(result(&user));
    Ok(json(StatusCode::OK, &user?))
}

/// `DELETE /users/{username}`
pub async fn delete(call: Call<Bytes>, program: Program) -> Result<Answer, HttpError> {
    let audited = begin(Deed::Delete, &call, &program);
    let accounts = &call.services.accounts;
    let deleting = async { Ok(accounts.delete_user(&username(&call)?).await?) };
    let deleted = deleting.await;
    audited.end(result(&deleted));
    deleted?;
    Ok(nothing())
}

/// `GET /users?after=…&limit=…`
pub async fn list(call: Call<Bytes>, program: Program) -> Result<Answer, HttpError> {
    let audited = begin(Deed::List, &call, &program);
    let listed = page(&call).await;
    audited.end(result(&listed));
    Ok(json(StatusCode::OK, &listed?))
}

async fn page(call: &Call<Bytes>) -> Result<ListedUsers, HttpError> {
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
    Ok(call.services.accounts.list_users(after, limit).await?)
}

fn begin(deed: Deed, call: &Call<Bytes>, program: &Program) -> Provisioning {
    let name = call.parameters.get("username");
    let name = percent_decode_str(name).decode_utf8_lossy();
    let username = (!name.is_empty()).then(|| name.into_owned());
    Provisioning::begin(deed, call.address, program.name(), username)
}

fn result<T>(outcome: &Result<T, HttpError>) -> &'static str {
    outcome.as_ref().map_or_else(HttpError::code, |_| "ok")
}

/// The username in the path.
fn username(call: &Call<Bytes>) -> Result<String, Error> {
    let name = call.parameters.get("username");
    decoded("username", name).map(Cow::into_owned)
}

fn decoded<'a>(name: &str, value: &'a str) -> Result<Cow<'a, str>, Error> {
    let decoded = percent_decode_str(value).decode_utf8();
    decoded.map_err(|_| Error::Invalid(format!("{name} should be UTF-8, percent-encoded")))
}
