//! A request on its way to a handler.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use handler::Error;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::{Request, StatusCode};

use crate::awake;
use crate::http::answers::HttpError;
use crate::http::services::Services;
use crate::limits::places::ConnectionPlace;
use crate::limits::unfinished;
use crate::store::source::Source;

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
        let body = read_whole(body, &self.services, self.address).await?;
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

/// The whole body, which has to arrive in time. It counts as long as it exists; if there is no room
/// for it, the request is refused.
pub async fn read_whole(
    body: Incoming,
    services: &Services,
    address: IpAddr,
) -> Result<Bytes, HttpError> {
    let mut body = pin!(Limited::new(body, BODY_BYTES_MAX));
    let mut room = BodyRoom::new(services.store.source(address));
    let reading = async {
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let data = frame.map_err(Unread::Broken)?.into_data();
            bytes.extend_from_slice(&data.unwrap_or_default());
            room.grow(bytes.len()).map_err(Unread::NoRoom)?;
        }
        Ok(bytes.freeze())
    };
    match awake::timeout(services.body_timeout, reading).await {
        Some(Ok(body)) => Ok(room.hold(body)),
        Some(Err(Unread::NoRoom(error))) => Err(error.into()),
        Some(Err(Unread::Broken(error))) if error.is::<LengthLimitError>() => {
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

/// Why a body is not there.
enum Unread {
    NoRoom(Error),
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

/// Room for what has come of a body, given back when it is dropped.
struct BodyRoom {
    source: Arc<Source>,
    bytes: usize,
}

impl BodyRoom {
    fn new(source: Arc<Source>) -> Self {
        BodyRoom { source, bytes: 0 }
    }

    /// So many bytes have come by now.
    fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        let before = std::mem::replace(&mut self.bytes, bytes);
        match unfinished::note(
            [&self.source.bodies, &self.source.all.bodies],
            before,
            bytes,
        ) {
            true => Ok(()),
            false => Err(Error::Unavailable {
                retry_after_seconds: 1,
            }),
        }
    }

    fn hold(self, body: Bytes) -> Bytes {
        match unfinished::is_free(self.bytes) {
            true => body,
            false => Bytes::from_owner(HeldBody { body, _room: self }),
        }
    }
}

impl Drop for BodyRoom {
    fn drop(&mut self) {
        let bodies = [&self.source.bodies, &self.source.all.bodies];
        let _ = unfinished::note(bodies, self.bytes, 0);
    }
}

/// A body with its room.
struct HeldBody {
    body: Bytes,
    _room: BodyRoom,
}

impl AsRef<[u8]> for HeldBody {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}
