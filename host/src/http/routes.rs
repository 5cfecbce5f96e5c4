//! The table of routes.

use handler::account::api_key::Scope::{Events, Users};
use hyper::Method;
use once_cell::sync::Lazy;

use crate::http::account::{delete, export};
use crate::http::answers::ErrorFormat::{Json, Text};
use crate::http::events::answer_event;
use crate::http::health::{ping, readiness, say_ok};
use crate::http::login::{
    change_password, end_session, give_token, list_sessions, log_in, log_out, refresh, register,
    verify,
};
use crate::http::page;
use crate::http::route::Effect::{ChangesState, Reads};
use crate::http::route::{Handler, Route, logged_in, open, program, sending};
use crate::http::table::Table;
use crate::http::upgrade::open_socket;
use crate::http::users;
use crate::limits::account_guesses::Attempt::{Login, Registration, Session};

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const DELETE: Method = Method::DELETE;

pub static ROUTES: Lazy<Table> = Lazy::new(|| Table::new(rows()));

/// What the table says of a route.
#[derive(Debug, Clone)]
pub struct ListedRoute {
    pub method: String,
    pub path: &'static str,
    pub is_for_logged_in: bool,
    /// The scope of the API keys that are let in.
    pub scope: Option<&'static str>,
    pub changes_state: bool,
    /// Errors are JSON, not text.
    pub has_json_errors: bool,
}

/// All routes, for the schema of the protocol and for tests of what must hold for each.
pub fn listed_routes() -> Vec<ListedRoute> {
    let listed = |route: Route| ListedRoute {
        method: route.method.to_string(),
        path: route.path,
        is_for_logged_in: matches!(route.handler, Handler::LoggedIn(_) | Handler::Sending(..)),
        scope: match route.handler {
            Handler::Sending(scope, _) | Handler::Program(scope, _) => Some(scope.name()),
            Handler::Open(_) | Handler::LoggedIn(_) => None,
        },
        changes_state: route.effect == ChangesState,
        has_json_errors: route.errors == Json,
    };
    rows().into_iter().map(listed).collect()
}

// A row is a line.
#[rustfmt::skip]
fn rows() -> Vec<Route> {
    vec![
        Route::new(GET,    "/",                   Reads,        None,               Text, open(page::file)),
        Route::new(GET,    "/app.js",             Reads,        None,               Text, open(page::file)),
        Route::new(GET,    "/chunk.js",           Reads,        None,               Text, open(page::file)),
        Route::new(GET,    "/more.js",            Reads,        None,               Text, open(page::file)),
        Route::new(GET,    "/app.css",            Reads,        None,               Text, open(page::file)),
        Route::new(GET,    "/sw.js",              Reads,        None,               Text, open(page::file)),
        Route::new(GET,    "/app.webmanifest",    Reads,        None,               Text, open(page::file)),
        Route::new(GET,    "/licences.txt",       Reads,        None,               Text, open(page::file)),
        Route::new(GET,    "/icon.svg",           Reads,        None,               Text, open(page::file)),
        Route::new(GET,    "/icon-192.png",       Reads,        None,               Text, open(page::file)),
        Route::new(GET,    "/icon-512.png",       Reads,        None,               Text, open(page::file)),
        Route::new(GET,    "/misc/ping",          Reads,        None,               Text, open(ping)),
        Route::new(GET,    "/healthz",            Reads,        None,               Text, open(say_ok)),
        Route::new(GET,    "/readyz",             Reads,        None,               Text, open(readiness)),
        Route::new(POST,   "/register",           ChangesState, Some(Registration), Text, open(register)),
        Route::new(POST,   "/auth/login",         ChangesState, Some(Login),        Text, open(log_in)),
        Route::new(POST,   "/auth/token",         ChangesState, Some(Login),        Json, open(give_token)),
        Route::new(GET,    "/auth/verify",        Reads,        None,               Text, logged_in(verify)),
        Route::new(POST,   "/auth/refresh",       ChangesState, Some(Session),      Json, logged_in(refresh)),
        Route::new(POST,   "/auth/logout",        ChangesState, Some(Session),      Json, logged_in(log_out)),
        Route::new(GET,    "/auth/sessions",      Reads,        None,               Json, logged_in(list_sessions)),
        Route::new(DELETE, "/auth/sessions/{id}", ChangesState, Some(Session),      Json, logged_in(end_session)),
        Route::new(POST,   "/auth/password",      ChangesState, Some(Login),        Json, logged_in(change_password)),
        Route::new(POST,   "/events",             ChangesState, None,               Json, sending(Events, answer_event)),
        // It costs as much as a change. So HEAD does not run it, nor does a page of another site.
        Route::new(GET,    "/account/export",     ChangesState, Some(Session),      Json, logged_in(export)),
        Route::new(DELETE, "/account",            ChangesState, Some(Login),        Json, logged_in(delete)),
        Route::new(GET,    "/users",              Reads,        None,               Json, program(Users, users::list)),
        Route::new(GET,    "/users/{username}",   Reads,        None,               Json, program(Users, users::get)),
        Route::new(PUT,    "/users/{username}",   ChangesState, None,               Json, program(Users, users::put)),
        Route::new(DELETE, "/users/{username}",   ChangesState, None,               Json, program(Users, users::delete)),
        // What is done on the socket changes state.
        Route::new(GET,    "/ws",                 ChangesState, None,               Text, open(open_socket)),
    ]
}
