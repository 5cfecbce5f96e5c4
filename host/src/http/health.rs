//! Whether the server is alive, and whether it is ready.

use hyper::StatusCode;

use crate::http::answers::{Answer, HttpError, text};
use crate::http::call::Call;

pub async fn ping(_: Call) -> Result<Answer, HttpError> {
    Ok(text(StatusCode::OK, "pong"))
}

/// Of `/healthz`: the process answers.
pub async fn say_ok(_: Call) -> Result<Answer, HttpError> {
    Ok(text(StatusCode::OK, "ok"))
}

/// Of `/readyz`.
pub async fn readiness(call: Call) -> Result<Answer, HttpError> {
    Ok(match call.services.readiness.check().await {
        Ok(()) => text(StatusCode::OK, "ready"),
        Err(missing) => text(StatusCode::SERVICE_UNAVAILABLE, missing),
    })
}
