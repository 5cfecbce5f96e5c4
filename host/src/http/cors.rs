//! What pages of other sites may do: the `Origin` of requests that change state, and the permissions of CORS.

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

use crate::http::answers::{Answer, whole_body};

/// How long a browser may remember a preflight.
const PREFLIGHT_SECONDS: &str = "600";

/// `None`, the server's own, and the configured ones. A page of any other site must not act with the user's cookie.
pub fn is_origin_trusted(origins: &[HeaderValue], headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    // Behind a TLS proxy the scheme is not known here; the host and port are.
    let is_own = || {
        let (_, authority) = origin.to_str().ok()?.split_once("://")?;
        let own = headers.get(header::HOST)?.to_str().ok()?;
        Some(authority.eq_ignore_ascii_case(own))
    };
    origins.contains(origin) || is_own() == Some(true)
}

/// The configured origin that the request comes from.
pub fn allowed_origin(origins: &[HeaderValue], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    origins.contains(origin).then(|| origin.clone())
}

/// The answer to `OPTIONS`, with what a configured origin may ask for.
pub fn preflight(allow: HeaderValue, headers: &HeaderMap, is_allowed: bool) -> Answer {
    let mut answer = Response::new(whole_body(""));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let permissions = answer.headers_mut();
    permissions.insert(header::ALLOW, allow);
    if !is_allowed {
        return answer;
    }
    let echoed = [
        (
            header::ACCESS_CONTROL_REQUEST_METHOD,
            header::ACCESS_CONTROL_ALLOW_METHODS,
        ),
        (
            header::ACCESS_CONTROL_REQUEST_HEADERS,
            header::ACCESS_CONTROL_ALLOW_HEADERS,
        ),
    ];
    for (requested, allowed) in echoed {
        if let Some(value) = headers.get(requested) {
            permissions.insert(allowed, value.clone());
        }
    }
    let seconds = HeaderValue::from_static(PREFLIGHT_SECONDS);
    permissions.insert(header::ACCESS_CONTROL_MAX_AGE, seconds);
    answer
}

/// Lets pages of a configured origin read the answer.
pub fn permit(answer: &mut Answer, allowed: Option<HeaderValue>) {
    let headers = answer.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
    }
}
