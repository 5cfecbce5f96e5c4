//! Answers, and how errors become answers.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use handler::{Error, Reply};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, SizeHint};
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

/// Keeps `held` until the last bytes of the answer have gone to the system.
pub fn until_sent<T: Send + Sync + 'static>(answer: Answer, held: T) -> Answer {
    let held = Arc::new(held);
    answer.map(|body| HoldingBody { body, held }.boxed_unsync())
}

/// A body whose bytes hold something, also while they wait for the client in hyper's buffer.
struct HoldingBody<T> {
    body: AnswerBody,
    held: Arc<T>,
}

impl<T: Send + Sync + 'static> Body for HoldingBody<T> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let hold = |bytes| {
            let _held = self.held.clone();
            Bytes::from_owner(Held { bytes, _held })
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(hold))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct Held<T> {
    bytes: Bytes,
    _held: Arc<T>,
}

impl<T> AsRef<[u8]> for Held<T> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

pub fn with(mut answer: Answer, name: HeaderName, value: HeaderValue) -> Answer {
    answer.headers_mut().insert(name, value);
    answer
}
