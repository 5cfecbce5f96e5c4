//! What each HTTP route takes and answers, beside what the host's table of routes says.

use handler::Error;
use handler::account::export::Export;
use handler::account::provision::{ListedUser, ListedUsers};
use handler::account::register::{FULLNAME_CHARS_MAX, PASSWORD_BYTES_MAX, USERNAME_CHARS_MAX};
use handler::account::session::Session;
use host::ListedRoute;
use once_cell::sync::Lazy;
use serde_json::{Value, json};

use super::field::{self, BYTES_MAX};
use super::{Definitions, events};

/// A route, as a row of `ROUTES`.
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    /// The name of the body's definition.
    pub takes: Option<&'static str>,
    /// The answers that only this route has.
    pub answers: &'static [(u16, Body)],
    pub summary: &'static str,
}

/// The body of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// There is none, which means this.
    Empty(&'static str),
    /// Exactly this text.
    Exactly(&'static str),
    /// A text for people, or an error, which this describes.
    Text(&'static str),
    /// JSON, of this definition.
    Json(&'static str),
    /// A file of the page.
    File,
}

use Body::{Empty, Exactly, File, Json, Text};

const fn route(
    method: &'static str,
    path: &'static str,
    takes: Option<&'static str>,
    answers: &'static [(u16, Body)],
    summary: &'static str,
) -> Route {
    Route {
        method,
        path,
        takes,
        answers,
        summary,
    }
}

const fn file(path: &'static str) -> Route {
    let answers = &[
        (200, File),
        (304, Empty("The client has it.")),
        (404, Text("The page is turned off.")),
    ];
    route("GET", path, None, answers, "A file of the page to chat in.")
}

// A row is a line.
#[rustfmt::skip]
pub const ROUTES: &[Route] = &[
    file("/"), file("/app.js"), file("/chunk.js"), file("/more.js"), file("/app.css"), file("/sw.js"),
    file("/app.webmanifest"), file("/icon.svg"), file("/icon-192.png"), file("/icon-512.png"),
    file("/licences.txt"),
    route("GET",    "/misc/ping",          None,                   &[(200, Exactly("pong"))], "Whether the server answers."),
    route("GET",    "/healthz",            None,                   &[(200, Exactly("ok"))], "Whether the process is alive."),
    route("GET",    "/readyz",             None,                   &[(200, Exactly("ready")), (503, Text("What the server lacks."))], "Whether the server is ready."),
    route("POST",   "/register",           Some("Registration"),   &[(201, Exactly("registered")), (409, Text("The username is taken, or looks like one that is."))], "Creates an account."),
    route("POST",   "/auth/login",         Some("Credentials"),    &[(202, Exactly("login successful")), (401, Text(WRONG)), (403, Text(BANNED))], "Logs in: sets the cookies with the login token."),
    route("POST",   "/auth/token",         Some("Credentials"),    &[(200, Json("Token")), (401, Text(WRONG)), (403, Text(BANNED))], "Logs in without cookies."),
    route("GET",    "/auth/verify",        None,                   &[(200, Text("`Hello, ` and the username."))], "Whether the login token is valid."),
    route("POST",   "/auth/refresh",       None,                   &[(200, Json("Token")), (403, Text("The token has no session, or a page of another site has sent it."))], "A new token for the same session, in the cookies too."),
    route("POST",   "/auth/logout",        None,                   &[(204, Empty("The session has ended."))], "Ends this session, and closes its sockets."),
    route("GET",    "/auth/sessions",      None,                   &[(200, Json("Sessions"))], "The caller's sessions, the one used last first."),
    route("DELETE", "/auth/sessions/{id}", None,                   &[(204, Empty("The session has ended.")), (404, Text("The caller has no such session."))], "Ends a session, and closes its sockets."),
    route("POST",   "/auth/password",      Some("PasswordChange"), &[(204, Empty("All other logins have ended.")), (403, Text("The old password is wrong, or a page of another site has sent it.")), (409, Text("The password was changed at the same time."))], "Changes the password, and ends all other logins."),
    route("POST",   "/events",             Some("Request"),        &[(200, Json("Reply")), (404, Text("It does not exist, or the caller may not see it.")), (409, Text("It contradicts what is there already."))], "One event, without a socket. A program with an API key of the scope `events` names the user in the field `as`."),
    route("GET",    "/account/export",     None,                   &[(200, Json("Export")), (503, Text("Too many exports are under way: try again after `Retry-After`."))], "Everything that is stored about the caller."),
    route("DELETE", "/account",            Some("Farewell"),       &[(204, Empty("The account is deleted.")), (403, Text("The password is wrong, or a page of another site has sent it."))], "Deletes the account."),
    route("GET",    "/users",              None,                   &[(200, Json("ListedUsers"))], "Users, in the order of their names: at most `limit`, behind `after`."),
    route("GET",    "/users/{username}",   None,                   &[(200, Json("ListedUser")), (404, Text(NO_USER))], "A user."),
    route("PUT",    "/users/{username}",   Some("UserChange"),     &[(200, Json("ListedUser")), (201, Json("ListedUser")), (409, Text("The username belongs to a deleted account, or looks like one that exists."))], "Creates or changes a user."),
    route("DELETE", "/users/{username}",   None,                   &[(204, Empty("The account is deleted.")), (404, Text(NO_USER))], "Deletes a user."),
    route("GET",    "/ws",                 None,                   &[(101, Empty("The socket is open.")), (426, Text("It is not a WebSocket handshake."))], "Opens the socket. asyncapi.json describes what passes through it."),
];

const NO_USER: &str = "There is no such user.";
const WRONG: &str = "The username or the password is wrong.";
const BANNED: &str = "The account is banned, or a page of another site has sent it.";

impl Route {
    /// The row of the host's table.
    pub fn row(&self) -> &'static ListedRoute {
        static ROWS: Lazy<Vec<ListedRoute>> = Lazy::new(host::listed_routes);
        let mut rows = ROWS.iter();
        let row = rows.find(|row| row.method == self.method && row.path == self.path);
        row.unwrap_or_else(|| panic!("the host has no {} {}", self.method, self.path))
    }

    /// All answers, those that follow from the row's columns among them.
    pub fn all_answers(&self) -> Vec<(u16, Body)> {
        let row = self.row();
        let mut answers = self.answers.to_vec();
        let mut add = |applies: bool, status: u16, text: &'static str| {
            if applies && answers.iter().all(|(known, _)| *known != status) {
                answers.push((status, Text(text)));
            }
        };
        let has_body = self.takes.is_some();
        add(true, 400, "The request is not valid.");
        add(row.is_for_logged_in, 401, "There is no valid login token.");
        add(row.scope.is_some(), 401, "There is no valid API key.");
        add(
            row.scope.is_some(),
            403,
            "The API key may not do this, or a page of another site has sent it.",
        );
        add(
            row.changes_state,
            403,
            "A page of another site has sent it.",
        );
        add(has_body, 408, "The body took too long.");
        add(has_body, 413, "The body is too large.");
        add(
            true,
            429,
            "Too many requests: try again after `Retry-After`.",
        );
        add(true, 500, "A fault of the server.");
        add(
            has_body,
            503,
            "The server is busy: try again after `Retry-After`.",
        );
        answers.sort_by_key(|(status, _)| *status);
        answers
    }

    /// Whether a request for this path, which may have parameters, belongs to this route.
    pub fn is_for(&self, method: &str, path: &str) -> bool {
        let path = path.split('?').next().unwrap_or_default();
        let (mut own, mut given) = (self.path.split('/'), path.split('/'));
        let is_path = loop {
            match (own.next(), given.next()) {
                (None, None) => break true,
                (Some(own), Some(given)) if own == given || own.starts_with('{') => {}
                _ => break false,
            }
        };
        is_path && self.method == method
    }
}

/// The bodies of requests, answers and errors.
pub fn definitions() -> Definitions {
    let text = |max: usize| json!({ "type": "string", "minLength": 1, "maxLength": max });
    let unbounded = || json!({ "type": "string", "minLength": 1 });
    let mut password = text(PASSWORD_BYTES_MAX);
    password[BYTES_MAX] = PASSWORD_BYTES_MAX.into();
    let codes = Error::CODES.into_iter();
    let codes: Vec<_> = codes.chain(["timeout", "method_not_allowed"]).collect();
    let mut generator = events::generator();
    generator.subschema_for::<Session>();
    generator.subschema_for::<Export>();
    generator.subschema_for::<ListedUser>();
    generator.subschema_for::<ListedUsers>();
    let mut described = generator.take_definitions(true);
    described.values_mut().for_each(events::tidy);
    let mut credentials = object(
        "An account's name and password.",
        json!({ "username": unbounded(), "password": unbounded() }),
    );
    credentials["properties"]["remember"] = json!({
        "type": ["boolean", "null"],
        "description": "The login lasts for 30 days instead of an hour.",
    });
    let mut optional = password.clone();
    optional["type"] = json!(["string", "null"]);
    let mut user_change = object(
        "What a user is to be. What is missing stays as it is.",
        json!({
            "fullname": { "type": ["string", "null"], "minLength": 1, "maxLength": FULLNAME_CHARS_MAX },
            "password": optional,
            "banned": { "type": ["boolean", "null"] },
        }),
    );
    user_change["required"] = json!([]);
    let definitions = [
        (
            "Registration",
            object(
                "A new account.",
                json!({
                    "username": text(USERNAME_CHARS_MAX),
                    "password": password,
                    "fullname": text(FULLNAME_CHARS_MAX),
                }),
            ),
        ),
        ("Credentials", credentials),
        ("UserChange", user_change),
        (
            "PasswordChange",
            object(
                "A new password.",
                json!({ "old_password": unbounded(), "new_password": password }),
            ),
        ),
        (
            "Token",
            object(
                "A login token, and until when it is valid, in Unix seconds.",
                json!({ "token": { "type": "string" }, "expires_at": field::integer() }),
            ),
        ),
        (
            "Farewell",
            object(
                "The password of the account that is deleted.",
                json!({ "password": unbounded() }),
            ),
        ),
        (
            "Sessions",
            object(
                "Sessions of a user.",
                json!({ "sessions": {
                    "type": "array",
                    "items": { "$ref": events::reference("Session") },
                } }),
            ),
        ),
        (
            "HttpError",
            object(
                "Why a request failed.",
                json!({ "error": { "type": "string" }, "code": { "enum": codes } }),
            ),
        ),
    ];
    described.extend(definitions.map(|(name, definition)| (name.to_owned(), definition)));
    described
}

/// An object that has all of these fields.
fn object(description: &str, properties: Value) -> Value {
    let names = properties.as_object().into_iter().flatten();
    let names: Vec<_> = names.map(|(name, _)| name.clone()).collect();
    json!({
        "description": description,
        "type": "object",
        "properties": properties,
        "required": names,
    })
}
