//! Registration, login, and who is logged in.

use handler::Error;
use handler::account::login::Credentials;
use handler::account::register::Registration;
use handler::account::token::LIFETIME_SECONDS;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderValue};

use crate::accounts::Accounts;
use crate::http::answers::{Answer, HttpError, text};
use crate::http::call::{Call, read_whole};

const COOKIE: &str = "login-token";
/// The same token under a name that browsers accept only from this very host, never from a sibling
/// subdomain (RFC 6265bis, section 4.1.3.2).
const HOST_COOKIE: &str = "__Host-login-token";
/// It outlives its token by far: as long as a browser sends it, no other cookie counts, so that a
/// sibling subdomain cannot wait for the token to expire.
const HOST_COOKIE_SECONDS: i64 = 30 * 24 * 3600;

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
    let mut answer = text(StatusCode::ACCEPTED, "login successful");
    // Some clients read only the first one.
    for (name, seconds) in [
        (COOKIE, LIFETIME_SECONDS),
        (HOST_COOKIE, HOST_COOKIE_SECONDS),
    ] {
        let cookie = format!(
            "{name}={token}; HttpOnly; Max-Age={seconds}; Path=/; Secure; SameSite={same_site}"
        );
        let cookie = HeaderValue::try_from(cookie)
            .map_err(|_| Error::Internal("a token that is no header value".into()))?;
        answer.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(answer)
}

pub async fn verify(_: Call, username: String) -> Result<Answer, HttpError> {
    Ok(text(StatusCode::OK, format!("Hello, {username}")))
}

/// The username of the first valid login token among the request's cookies and its bearer token. If
/// there is a `__Host-` cookie, other cookies do not count: another site may have set them.
pub fn username(accounts: &Accounts, headers: &HeaderMap) -> Result<String, Error> {
    let mut text = "login-token required";
    let name = match cookies(headers, HOST_COOKIE).next() {
        Some(_) => HOST_COOKIE,
        None => COOKIE,
    };
    for token in cookies(headers, name).chain(bearer(headers)) {
        match accounts.verify(token) {
            Some(username) => return Ok(username),
            None => text = "invalid login-token",
        }
    }
    Err(Error::Unauthorized(text.into()))
}

/// The values of the cookies of this name. Other cookies in the same header may hold any bytes.
fn cookies<'a>(headers: &'a HeaderMap, wanted: &str) -> impl Iterator<Item = &'a str> {
    let headers = headers.get_all(header::COOKIE).into_iter();
    let pairs = headers.flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
        (name.trim() == wanted).then(|| value.trim().trim_matches('"'))
    })
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let authorization = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
