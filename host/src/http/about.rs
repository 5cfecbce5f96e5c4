//! `GET /`: tells people who open the server's address in a browser what they have found.

use hyper::StatusCode;

use crate::http::answers::{Answer, HttpError, text};
use crate::http::call::Call;

const TEXT: &str = concat!(
    "chatapp ",
    env!("CARGO_PKG_VERSION"),
    ", a chat server: HTTP for accounts, and JSON events on one WebSocket, /ws, for everything else.\n\n\
     The protocol is described in handler/PROTOCOL.md of the repository.\n\
     GET /misc/ping answers \"pong\". GET /readyz says whether the server is ready.\n"
);

pub async fn about(_: Call) -> Result<Answer, HttpError> {
    Ok(text(StatusCode::OK, TEXT))
}
