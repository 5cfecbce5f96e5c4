//! The login token of a request.

use std::net::IpAddr;

use handler::Error;
use handler::account::token::Claim;
use hyper::header::{self, HeaderMap, HeaderValue};

use crate::http::answers::Answer;
use crate::http::services::Services;
use crate::logins::Token;

const COOKIE: &str = "login-token";
/// The same token under a name that browsers accept only from this very host, never from a sibling
/// subdomain (RFC 6265bis, section 4.1.3.2).
const HOST_COOKIE: &str = "__Host-login-token";
/// It outlives a token of an hour by far: as long as a browser sends it, no other cookie counts, so
/// that a sibling subdomain cannot wait for the token to expire.
const HOST_COOKIE_SECONDS: i64 = 30 * 24 * 3600;
/// The protocol that a client may name in its WebSocket handshake, beside its token.
pub const SUBPROTOCOL: &str = "chat";
/// The tokens of a request that are looked at: an app may send one, and a browser has one cookie, or a few
/// if sibling subdomains have set others.
const TOKENS_MAX: usize = 4;
/// Begins the name of a protocol that is no protocol, but a token.
const BEARER_SUBPROTOCOL: &str = "bearer.";

/// The claim of the request's login token: of the first one that this server's secret or a trusted issuer
/// signed and that is valid now, of the first `TOKENS_MAX`. One that the client puts into the request
/// counts before the cookies, which a browser adds by itself. If there is a `__Host-` cookie, other
/// cookies do not count: another site may have set them.
pub async fn claim(
    services: &Services,
    headers: &HeaderMap,
    address: IpAddr,
) -> Result<Claim, Error> {
    let tokens = bearer(headers).into_iter().chain(of_cookies(headers));
    first_valid(services, tokens, address).await
}

/// Like `claim`, for a WebSocket handshake. A page cannot give it a header of its own, but
/// protocols.
pub async fn claim_of_handshake(
    services: &Services,
    headers: &HeaderMap,
    address: IpAddr,
) -> Result<Claim, Error> {
    let named = subprotocols(headers).filter_map(|name| name.strip_prefix(BEARER_SUBPROTOCOL));
    let tokens = named.chain(bearer(headers)).chain(of_cookies(headers));
    first_valid(services, tokens, address).await
}

async fn first_valid<'a>(
    services: &Services,
    tokens: impl Iterator<Item = &'a str>,
    address: IpAddr,
) -> Result<Claim, Error> {
    let mut text = "login-token required";
    for token in tokens.take(TOKENS_MAX) {
        match services.verify(token, address).await {
            Some(claim) => return Ok(claim),
            None => text = "invalid login-token",
        }
    }
    Err(Error::Unauthorized(text.into()))
}

/// Whether a handshake names the protocol of the chat.
pub fn names_subprotocol(headers: &HeaderMap) -> bool {
    subprotocols(headers).any(|name| name == SUBPROTOCOL)
}

/// Adds the cookies with a token to an answer.
pub fn set_cookies(answer: &mut Answer, token: &Token, same_site: &str) -> Result<(), Error> {
    let seconds = token.lifetime_seconds;
    let host_seconds = HOST_COOKIE_SECONDS.max(seconds);
    add_cookies(answer, &token.text, [seconds, host_seconds], same_site)
}

/// Has the browser forget the cookies.
pub fn drop_cookies(answer: &mut Answer, same_site: &str) -> Result<(), Error> {
    add_cookies(answer, "", [0, 0], same_site)
}

fn add_cookies(
    answer: &mut Answer,
    value: &str,
    seconds: [i64; 2],
    same_site: &str,
) -> Result<(), Error> {
    // Some clients read only the first one.
    for (name, seconds) in [COOKIE, HOST_COOKIE].into_iter().zip(seconds) {
        let cookie = format!(
            "{name}={value}; HttpOnly; Max-Age={seconds}; Path=/; Secure; SameSite={same_site}"
        );
        let cookie = HeaderValue::try_from(cookie)
            .map_err(|_| Error::Internal("a token that is no header value".into()))?;
        answer.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(())
}

fn of_cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let name = match cookies(headers, HOST_COOKIE).next() {
        Some(_) => HOST_COOKIE,
        None => COOKIE,
    };
    cookies(headers, name)
}

/// The values of the cookies of this name. Other cookies in the same header may hold any bytes. Only
/// spaces and tabs are not part of a name: a browser lets any host set a name that begins with
/// U+2003, for which `str::trim` would take it away.
fn cookies<'a>(headers: &'a HeaderMap, wanted: &'static str) -> impl Iterator<Item = &'a str> {
    let headers = headers.get_all(header::COOKIE).into_iter();
    let pairs = headers.flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
        let blank = [' ', '\t'];
        let value = value.trim_matches(blank).trim_matches('"');
        (name.trim_matches(blank) == wanted).then_some(value)
    })
}

/// The token in `Authorization`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let authorization = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    let lists = lists.filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim)
}
