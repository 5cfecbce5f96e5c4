//! What each HTTP route takes and answers, beside what the host's table of routes says.

use handler::Error;
use handler::account::register::{FULLNAME_CHARS_MAX, PASSWORD_BYTES_MAX, USERNAME_CHARS_MAX};
use host::RouteSummary;
use serde_json::{Value, json};

use super::Definitions;
use super::field::BYTES_MAX;

/// A route, as a row of `ROUTES`.
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub summary: &'static str,
    /// The name of the body's definition.
    pub takes: Option<&'static str>,
    /// The answers that only this route has.
    pub answers: &'static [(u16, Body)],
}

/// The body of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    None,
    /// Exactly this text.
    Exactly(&'static str),
    /// A text for people, which this describes.
    Text(&'static str),
}

use Body::{Exactly, None as Nothing, Text};

// A row is a line.
#[rustfmt::skip]
pub const ROUTES: &[Route] = &[
    Route { method: "GET",  path: "/",            takes: None,                 summary: "What this server is.", answers: &[(200, Text("What this server is."))] },
    Route { method: "GET",  path: "/misc/ping",   takes: None,                 summary: "Whether the server answers.", answers: &[(200, Exactly("pong"))] },
    Route { method: "GET",  path: "/healthz",     takes: None,                 summary: "Whether the process is alive.", answers: &[(200, Exactly("ok"))] },
    Route { method: "GET",  path: "/readyz",      takes: None,                 summary: "Whether the server is ready.", answers: &[(200, Exactly("ready")), (503, Text("What the server lacks."))] },
    Route { method: "POST", path: "/register",    takes: Some("Registration"), summary: "Creates an account.", answers: &[(201, Exactly("registered")), (409, Text("The username is taken, or looks like one that is."))] },
    Route { method: "POST", path: "/auth/login",  takes: Some("Credentials"),  summary: "Logs in: sets the cookies with the login token.", answers: &[(202, Exactly("login successful")), (401, Text("The username or the password is wrong."))] },
    Route { method: "GET",  path: "/auth/verify", takes: None,                 summary: "Whether the login token is valid.", answers: &[(200, Text("Hello, and the username."))] },
    Route { method: "GET",  path: "/ws",          takes: None,                 summary: "Opens the socket. asyncapi.json describes what passes through it.", answers: &[(101, Nothing), (426, Text("It is not a WebSocket handshake."))] },
];

impl Route {
    /// The row of the host's table.
    pub fn row(&self) -> &'static RouteSummary {
        let mut rows = host::route_summaries().iter();
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
        add(row.needs_login, 401, "There is no valid login token.");
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

/// The bodies of requests and errors.
pub fn definitions() -> Definitions {
    let text = |max: usize| json!({ "type": "string", "minLength": 1, "maxLength": max });
    let mut password = text(PASSWORD_BYTES_MAX);
    password[BYTES_MAX] = PASSWORD_BYTES_MAX.into();
    let unbounded = json!({ "type": "string", "minLength": 1 });
    let username = text(USERNAME_CHARS_MAX);
    let fullname = text(FULLNAME_CHARS_MAX);
    let object = |description: &str, fields: &[(&str, &Value)]| {
        let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
        let fields = fields.iter();
        let fields = fields.map(|(name, field)| ((*name).to_owned(), (*field).clone()));
        json!({
            "description": description,
            "type": "object",
            "properties": fields.collect::<Definitions>(),
            "required": names,
        })
    };
    let registration = [
        ("username", &username),
        ("password", &password),
        ("fullname", &fullname),
    ];
    let credentials = [("username", &unbounded), ("password", &unbounded)];
    let codes = Error::CODES.into_iter();
    let codes: Vec<_> = codes.chain(["timeout", "method_not_allowed"]).collect();
    let error = [
        ("error", &json!({ "type": "string" })),
        ("code", &json!({ "enum": codes })),
    ];
    [
        ("Registration", object("A new account.", &registration)),
        (
            "Credentials",
            object("An account's name and password.", &credentials),
        ),
        ("HttpError", object("Why a request failed.", &error)),
    ]
    .map(|(name, definition)| (name.to_owned(), definition))
    .into_iter()
    .collect()
}
