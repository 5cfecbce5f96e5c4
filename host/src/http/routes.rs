//! The table of routes.

use hyper::Method;
use once_cell::sync::Lazy;

use crate::http::about::about;
use crate::http::answers::ErrorFormat::Text;
use crate::http::health::{ping, readiness, say_ok};
use crate::http::login::{log_in, register, verify};
use crate::http::route::Effect::{ChangesState, Reads};
use crate::http::route::{Route, logged_in, open};
use crate::http::summary::RouteSummary;
use crate::http::table::Table;
use crate::http::upgrade::open_socket;
use crate::limits::account_guesses::Attempt::{Login, Registration};

const GET: Method = Method::GET;
const POST: Method = Method::POST;

// A row is a line.
#[rustfmt::skip]
pub static ROUTES: Lazy<Table> = Lazy::new(|| {
    Table::new([
        Route::new(GET,  "/",            Reads,        None,               Text, open(about)),
        Route::new(GET,  "/misc/ping",   Reads,        None,               Text, open(ping)),
        Route::new(GET,  "/healthz",     Reads,        None,               Text, open(say_ok)),
        Route::new(GET,  "/readyz",      Reads,        None,               Text, open(readiness)),
        Route::new(POST, "/register",    ChangesState, Some(Registration), Text, open(register)),
        Route::new(POST, "/auth/login",  ChangesState, Some(Login),        Text, open(log_in)),
        Route::new(GET,  "/auth/verify", Reads,        None,               Text, logged_in(verify)),
        // What is done on the socket changes state.
        Route::new(GET,  "/ws",          ChangesState, None,               Text, open(open_socket)),
    ])
});

/// What the table says of each route.
pub fn route_summaries() -> &'static [RouteSummary] {
    &ROUTES.summaries
}
