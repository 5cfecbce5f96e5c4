//! What the table says of a route, for the description of the HTTP interface.

use crate::http::answers::ErrorFormat;
use crate::http::route::{Effect, Handler, Route};

pub struct RouteSummary {
    pub method: String,
    pub path: &'static str,
    pub changes_state: bool,
    pub needs_login: bool,
    /// Errors are JSON, not text.
    pub has_json_errors: bool,
}

impl RouteSummary {
    pub(super) fn of(route: &Route) -> Self {
        RouteSummary {
            method: route.method.to_string(),
            path: route.path,
            changes_state: route.effect == Effect::ChangesState,
            needs_login: matches!(route.handler, Handler::LoggedIn(_)),
            has_json_errors: matches!(route.errors, ErrorFormat::Json),
        }
    }
}
