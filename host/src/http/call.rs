//! A request on its way to a handler.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use handler::Error;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::{Request, StatusCode};

use crate::awake;
use crate::http::answers::HttpError;
use crate::http::services::Services;
use crate::limits::places::ConnectionPlace;

/// Longest body of a request that is read whole.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// A request that its route has admitted. Its body is still to be read, piece by piece or with
/// `read_whole`, or it is there.
pub struct Call<B = Incoming> {
    pub services: Arc<Services>,
    pub request: Request<B>,
    pub address: IpAddr,
    /// It came over the socket beside the data file, which only the operator can open.
    pub is_operator: bool,
    /// It came through a proxy, which may have taken it over TLS.
    pub is_proxied: bool,
    pub parameters: Parameters,
    pub place: Arc<ConnectionPlace>,
}

impl Call {
    pub fn has_body(&self) -> bool {
        !self.request.body().is_end_stream()
    }

    /// The same with its whole body.
    pub async fn whole(self) -> Result<Call<Bytes>, HttpError> {
        let (head, body) = self.request.into_parts();
        let body = read_whole(body, self.services.body_timeout).await?;
        Ok(Call {
            services: self.services,
            request: Request::from_parts(head, body),
            address: self.address,
            is_operator: self.is_operator,
            is_proxied: self.is_proxied,
            parameters: self.parameters,
            place: self.place,
        })
    }
}

/// The values of the route's path parameters, percent-encoded as they came.
#[derive(Default)]
pub struct Parameters(pub Vec<(String, String)>);

impl Parameters {
    /// Empty if the route's path has no parameter of this name.
    pub fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

/// The whole body, which has to arrive in `time`.
pub async fn read_whole(body: Incoming, time: Duration) -> Result<Bytes, HttpError> {
    let body = Limited::new(body, BODY_BYTES_MAX).collect();
    match awake::timeout(time, body).await {
        Some(Ok(body)) => Ok(body.to_bytes()),
        Some(Err(error)) if error.is::<LengthLimitError>() => {
            let text = format!("body should be at most {BODY_BYTES_MAX} bytes");
            Err(Error::TooLarge(text).into())
        }
        Some(Err(_)) => {
            let status = StatusCode::BAD_REQUEST;
            Err(HttpError::new(status, "invalid", "body cut short"))
        }
        None => {
            let status = StatusCode::REQUEST_TIMEOUT;
            Err(HttpError::new(status, "timeout", "body took too long"))
        }
    }
}
