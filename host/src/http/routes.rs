//! The table of routes.

use hyper::Method;
use once_cell::sync::Lazy;

use crate::http::answers::ErrorFormat::Text;
use crate::http::health::{ping, readiness, say_ok};
use crate::http::login::{log_in, register, verify};
use crate::http::page;
use crate::http::route::Effect::{ChangesState, Reads};
use crate::http::route::{Route, logged_in, open};
use crate::http::table::Table;
use crate::http::upgrade::open_socket;
use crate::limits::account_guesses::Attempt::{Login, Registration};

const GET: Method = Method::GET;
const POST: Method = Method::POST;

// A row is a line.
#[rustfmt::skip]
pub static ROUTES: Lazy<Table> = Lazy::new(|| {
    Table::new([
        Route::new(GET,  "/",            Reads,        None,               Text, open(page::file)),
        Route::new(GET,  "/app.js",      Reads,        None,               Text, open(page::file)),
        Route::new(GET,  "/chunk.js",    Reads,        None,               Text, open(page::file)),
        Route::new(GET,  "/more.js",     Reads,        None,               Text, open(page::file)),
        Route::new(GET,  "/app.css",     Reads,        None,               Text, open(page::file)),
        Route::new(GET,  "/sw.js",       Reads,        None,               Text, open(page::file)),
        Route::new(GET,  "/app.webmanifest", Reads,    None,               Text, open(page::file)),
        Route::new(GET,  "/icon.svg",    Reads,        None,               Text, open(page::file)),
        Route::new(GET,  "/icon-192.png", Reads,       None,               Text, open(page::file)),
        Route::new(GET,  "/icon-512.png", Reads,       None,               Text, open(page::file)),
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
