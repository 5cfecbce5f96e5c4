//! What pages of other sites may do: the `Origin` of requests that change state, and the permissions
//! of CORS.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use crate::audit;
use crate::exposure::is_loopback;
use crate::http::answers::{Answer, whole_body};
use crate::limits::refusal::Refusal;

/// How long a browser may remember a preflight.
const PREFLIGHT_SECONDS: &str = "600";

/// Says whether the request comes from a page of another site, also for a link, which has no `Origin`.
/// Not every browser sends it (W3C Fetch Metadata).
const FETCH_SITE: &str = "sec-fetch-site";

/// Whether a request may change state: with the server's own `Origin` or a configured one, or without
/// one if it is not a link of another site. A page of any other site must not act with the user's
/// cookie; its attempt is logged.
pub fn admit(
    origins: &[HeaderValue],
    headers: &HeaderMap,
    address: IpAddr,
    is_proxied: bool,
) -> bool {
    let foreign = foreign_origin(origins, headers, is_proxied);
    let is_foreign_link = is_foreign_link(headers);
    if let Some(origin) = foreign {
        audit::refused_origin(address, origin, origins);
    } else if is_foreign_link {
        audit::refused(Refusal::Origin, address, None);
    }
    foreign.is_none() && !is_foreign_link
}

/// Sibling subdomains are other sites here.
fn is_foreign_link(headers: &HeaderMap) -> bool {
    let site = headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
    !headers.contains_key(header::ORIGIN) && matches!(site, Some(b"cross-site" | b"same-site"))
}

/// The request's `Origin`, if it is neither the server's own nor a configured one.
fn foreign_origin<'a>(
    origins: &[HeaderValue],
    headers: &'a HeaderMap,
    is_proxied: bool,
) -> Option<&'a HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    let is_own = || {
        let (scheme, authority) = origin.to_str().ok()?.split_once("://")?;
        let own = headers.get(header::HOST)?.to_str().ok()?;
        let is_scheme = match scheme {
            "https" => true,
            // Anybody in the network can be a site without TLS. It is this one only if nothing is
            // between the browser and this program.
            "http" => !is_proxied || is_loopback(authority),
            _ => false,
        };
        Some(is_scheme && authority.eq_ignore_ascii_case(own))
    };
    let is_trusted = origins.contains(origin) || is_own() == Some(true);
    (!is_trusted).then_some(origin)
}

/// The configured origin that the request comes from.
pub fn allowed_origin(origins: &[HeaderValue], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    origins.contains(origin).then(|| origin.clone())
}

/// The answer to `OPTIONS`, with what a configured origin may ask for. The refusal of a preflight is logged: after it, the
/// browser does not send the request itself.
pub fn preflight(
    allow: HeaderValue,
    origins: &[HeaderValue],
    headers: &HeaderMap,
    address: IpAddr,
    is_proxied: bool,
) -> Answer {
    let mut answer = Response::new(whole_body(""));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let permissions = answer.headers_mut();
    permissions.insert(header::ALLOW, allow);
    if allowed_origin(origins, headers).is_none() {
        if headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
            admit(origins, headers, address, is_proxied);
        }
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

/// Says that an answer is for pages of this site only (W3C Fetch, section 3.7).
pub const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Lets pages of a configured origin read the answer, unless it is for this site only. The latter is the same for all
/// origins and says so: with `Vary: Origin`, a service worker would not find the scripts that it keeps, because browsers
/// ask for module scripts with an `Origin` and for what a worker adds to its cache without one.
pub fn permit(answer: &mut Answer, allowed: Option<HeaderValue>) {
    let headers = answer.headers_mut();
    if headers.contains_key(RESOURCE_POLICY) {
        return;
    }
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
    }
}
