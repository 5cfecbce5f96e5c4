//! Answers, and how errors become answers.

use std::borrow::Cow;
use std::io;

use bytes::Bytes;
use handler::{Error, Reply};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// A body, whole or sent in pieces as the client reads them.
pub type AnswerBody = UnsyncBoxBody<Bytes, io::Error>;
pub type Answer = Response<AnswerBody>;

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// What the errors of a route look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorFormat {
    /// The text alone.
    Text,
    /// `{"error": text, "code": code}`.
    Json,
}

/// An error as an HTTP answer.
#[derive(Debug)]
pub struct HttpError {
    status: StatusCode,
    code: &'static str,
    text: Cow<'static, str>,
    retry_after_seconds: Option<u32>,
}

impl HttpError {
    /// There is nothing at the request's path.
    pub const NOT_FOUND: HttpError =
        HttpError::new(StatusCode::NOT_FOUND, "not_found", "not found");

    /// An error about HTTP itself.
    pub const fn new(status: StatusCode, code: &'static str, text: &'static str) -> Self {
        HttpError {
            status,
            code,
            text: Cow::Borrowed(text),
            retry_after_seconds: None,
        }
    }

    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        self.code
    }

    pub fn answer(self, format: ErrorFormat) -> Answer {
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'a str,
            code: &'static str,
        }
        let answer = match format {
            ErrorFormat::Text => text(self.status, self.text.into_owned()),
            ErrorFormat::Json => {
                let (error, code) = (&*self.text, self.code);
                let body = serde_json::to_vec(&Body { error, code });
                let body = body.expect("two texts always serialise");
                whole(self.status, "application/json", body)
            }
        };
        match self.retry_after_seconds {
            Some(seconds) => with(answer, header::RETRY_AFTER, seconds.into()),
            None => answer,
        }
    }
}

impl From<Error> for HttpError {
    fn from(error: Error) -> Self {
        HttpError {
            status: status(&error),
            code: error.code(),
            text: error.to_string().into(),
            retry_after_seconds: error.retry_after_seconds(),
        }
    }
}

/// The status of each error.
fn status(error: &Error) -> StatusCode {
    match error {
        Error::Invalid(_) => StatusCode::BAD_REQUEST,
        Error::Unauthorized(_) => StatusCode::UNAUTHORIZED,
        Error::Forbidden(_) => StatusCode::FORBIDDEN,
        Error::NotFound(_) => StatusCode::NOT_FOUND,
        Error::Conflict(_) => StatusCode::CONFLICT,
        Error::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        Error::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
        Error::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Error::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// JSON that is for the caller alone, and for no cache.
pub fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(body).expect("strings, integers and lists always serialise");
    let answer = whole(status, "application/json", body);
    with(answer, header::CACHE_CONTROL, NO_STORE)
}

/// The reply to an event, which is JSON, with the status of its outcome.
pub fn reply(outcome: &Result<Reply, Error>, body: Bytes) -> Answer {
    let status = outcome.as_ref().map_or_else(status, |_| StatusCode::OK);
    let answer = whole(status, "application/json", body);
    let answer = with(answer, header::CACHE_CONTROL, NO_STORE);
    let seconds = outcome.as_ref().err().and_then(Error::retry_after_seconds);
    match seconds {
        Some(seconds) => with(answer, header::RETRY_AFTER, seconds.into()),
        None => answer,
    }
}

pub fn nothing() -> Answer {
    let mut answer = Response::new(whole_body(""));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    whole(status, "text/plain; charset=utf-8", body)
}

pub fn whole(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(whole_body(body));
    *answer.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    with(answer, header::CONTENT_TYPE, content_type)
}

pub fn whole_body(body: impl Into<Bytes>) -> AnswerBody {
    let body = Full::new(body.into());
    body.map_err(|never| match never {}).boxed_unsync()
}

pub fn with(mut answer: Answer, name: HeaderName, value: HeaderValue) -> Answer {
    answer.headers_mut().insert(name, value);
    answer
}
