//! Registration, login, and who is logged in.

use handler::Error;
use handler::account::login::Credentials;
use handler::account::register::Registration;
use handler::account::token::LIFETIME_SECONDS;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderValue};

use crate::accounts::Accounts;
use crate::http::answers::{Answer, HttpError, text, with};
use crate::http::call::{Call, read_whole};

const COOKIE: &str = "login-token";

pub async fn register(call: Call) -> Result<Answer, HttpError> {
    let services = call.services;
    let body = read_whole(call.request.into_body(), services.body_timeout).await?;
    let registration = Registration::parse(&body)?;
    let accounts = &services.accounts;
    accounts.register(registration, call.address).await?;
    Ok(text(StatusCode::CREATED, "registered"))
}

pub async fn log_in(call: Call) -> Result<Answer, HttpError> {
    let services = call.services;
    let body = read_whole(call.request.into_body(), services.body_timeout).await?;
    let credentials = Credentials::parse(&body)?;
    let accounts = &services.accounts;
    let token = accounts.log_in(credentials, call.address).await?;
    let same_site = services.same_site.text();
    let cookie = format!(
        "{COOKIE}={token}; HttpOnly; Max-Age={LIFETIME_SECONDS}; Path=/; Secure; SameSite={same_site}"
    );
    let cookie = HeaderValue::try_from(cookie)
        .map_err(|_| Error::Internal("a token that is no header value".into()))?;
    let answer = text(StatusCode::ACCEPTED, "login successful");
    Ok(with(answer, header::SET_COOKIE, cookie))
}

pub async fn verify(_: Call, username: String) -> Result<Answer, HttpError> {
    Ok(text(StatusCode::OK, format!("Hello, {username}")))
}

/// The username of the first valid login token among the request's cookies and its bearer token.
pub fn username(accounts: &Accounts, headers: &HeaderMap) -> Result<String, Error> {
    let mut text = "login-token required";
    for token in cookies(headers).chain(bearer(headers)) {
        match accounts.verify(token) {
            Some(username) => return Ok(username),
            None => text = "invalid login-token",
        }
    }
    Err(Error::Unauthorized(text.into()))
}

/// The values of our cookie. Other cookies in the same header may hold any bytes.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let headers = headers.get_all(header::COOKIE).into_iter();
    let pairs = headers.flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(|pair| {
        let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
        (name.trim() == COOKIE).then(|| value.trim().trim_matches('"'))
    })
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let authorization = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
