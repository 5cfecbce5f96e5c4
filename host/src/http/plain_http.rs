//! Pages that come without TLS from another machine: whoever is between reads the passwords, and
//! browsers drop the login cookie.

use std::sync::atomic::{AtomicBool, Ordering};

use hyper::header::{self, HeaderMap};

use crate::exposure::is_loopback;

/// Logs the first login from such a page.
pub fn note_login(headers: &HeaderMap) {
    static IS_LOGGED: AtomicBool = AtomicBool::new(false);
    let Some(page) = page_without_tls(headers) else {
        return;
    };
    if !IS_LOGGED.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            "a login comes from a page without TLS ({page}): anyone in between can read the password, and the \
             browser drops the login cookie; serve the page and this server over https. Further such logins are \
             not logged"
        );
    }
}

/// The origin of the page that makes this request, if it has no TLS and comes from another machine
/// than the browser's.
fn page_without_tls(headers: &HeaderMap) -> Option<&str> {
    let origin = headers.get(header::ORIGIN)?.to_str().ok()?;
    let authority = origin.strip_prefix("http://")?;
    (!is_loopback(authority)).then_some(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_without_tls_from_other_machines_are_known() {
        for (origin, is_known) in [
            ("http://192.168.1.5:8000", true),
            ("http://chat.example", true),
            ("https://chat.example", false),
            ("http://localhost:5173", false),
            ("http://127.0.0.1:8000", false),
            ("http://[::1]:8000", false),
            ("capacitor://localhost", false),
            ("null", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, origin.parse().expect("a header"));
            assert_eq!(page_without_tls(&headers).is_some(), is_known, "{origin}");
        }
        assert_eq!(page_without_tls(&HeaderMap::new()), None);
    }
}
