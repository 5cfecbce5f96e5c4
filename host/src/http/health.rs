//! Whether the server is alive, and whether it is ready.

use hyper::StatusCode;

use crate::http::answers::{Answer, HttpError, text};
use crate::http::call::Call;

pub async fn ping(_: Call) -> Result<Answer, HttpError> {
    Ok(text(StatusCode::OK, "pong"))
}

/// `/healthz`: shows that the process is alive.
pub async fn say_ok(_: Call) -> Result<Answer, HttpError> {
    Ok(text(StatusCode::OK, "ok"))
}

/// `/readyz`: says what the server lacks, if it is not ready.
pub async fn readiness(call: Call) -> Result<Answer, HttpError> {
    Ok(match call.services.readiness.check().await {
        Ok(()) => text(StatusCode::OK, "ready"),
        Err(missing) => text(StatusCode::SERVICE_UNAVAILABLE, missing),
    })
}
