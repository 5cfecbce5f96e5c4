//! The WebSocket handshake.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use handler::account::token::Claim;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::upgrade::{OnUpgrade, Parts, Upgraded};
use hyper::{StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::audit;
use crate::http::answers::{Answer, HttpError, text, whole_body, with};
use crate::http::call::Call;
use crate::http::login_token;
use crate::http::services::Services;
use crate::limits::places::Full;
use crate::limits::refusal::Refusal;
use crate::limits::user_rates::Flood;
use crate::socket::close_reason::CloseReason;
use crate::socket::connection::{self, Admission, Connection};
use crate::socket::handle::Socket;

/// Completes the upgrade even if the login is invalid or no more sockets may be open, because a
/// browser cannot read an HTTP refusal. The socket then closes with the reason.
pub async fn open_socket(call: Call) -> Result<Answer, HttpError> {
    let Call {
        services,
        mut request,
        address,
        place,
        ..
    } = call;
    let is_upgrade = fastwebsockets::upgrade::is_upgrade_request(&request);
    if !is_upgrade || request.version() != Version::HTTP_11 {
        let answer = text(StatusCode::UPGRADE_REQUIRED, "websocket upgrade required");
        let answer = with(
            answer,
            header::CONNECTION,
            HeaderValue::from_static("upgrade"),
        );
        let websocket = HeaderValue::from_static("websocket");
        return Ok(with(answer, header::UPGRADE, websocket));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let switching = fastwebsockets::upgrade::upgrade(&mut request);
    let (Ok((switching, _)), true) = (switching, has_websocket_key(request.headers())) else {
        let answer = text(StatusCode::BAD_REQUEST, "bad websocket handshake");
        let version = HeaderValue::from_static("13");
        return Ok(with(answer, header::SEC_WEBSOCKET_VERSION, version));
    };
    let headers = request.headers();
    let admitted = admit(&services, headers, address).await;
    let names_subprotocol = login_token::names_subprotocol(headers);
    let id = services.next_socket_id.fetch_add(1, Ordering::Relaxed);
    let (presence, tasks) = (services.presence.clone(), services.tasks.clone());
    let opening = Box::pin(async move {
        let (stream, unread) = raw_stream(upgrade).await?;
        let socket = Arc::new(Socket::new(id, stream));
        match admitted {
            Ok((claim, admission)) => {
                services.create_unknown(&claim, admission.address).await;
                let (username, login): (Arc<str>, _) = (claim.username.into(), claim.login);
                // The socket has a place of its own.
                drop(place);
                let whose = (username.clone(), login);
                match Connection::open(socket.clone(), whose, admission, presence).await {
                    Ok(connection) => {
                        let unread = (!unread.is_empty()).then(|| Box::new(unread));
                        return Some((connection, unread));
                    }
                    Err(reason) => {
                        if reason.is_refusal() {
                            services.user_rates.refused(&username, login);
                        }
                        // While it closes it counts nowhere: a user opens few sockets a second.
                        connection::refuse(&socket, reason).await;
                    }
                }
            }
            Err(reason) => {
                // A refused socket still counts as an HTTP connection.
                connection::refuse(&socket, reason).await;
                drop(place);
            }
        }
        None
    });
    tasks.spawn(async move {
        if let Some((mut connection, unread)) = opening.await {
            connection.serve(unread).await;
        }
    });
    let answer = switching.map(|_| whole_body(""));
    Ok(match names_subprotocol {
        // A browser that names protocols wants one of them.
        true => {
            let chosen = HeaderValue::from_static(login_token::SUBPROTOCOL);
            with(answer, header::SEC_WEBSOCKET_PROTOCOL, chosen)
        }
        false => answer,
    })
}

/// Returns whose the new socket is, by a login that may have ended, or the reason to close it.
async fn admit(
    services: &Services,
    headers: &HeaderMap,
    address: IpAddr,
) -> Result<(Claim, Box<Admission>), CloseReason> {
    let claim = login_token::claim_of_handshake(services, headers, address).await;
    let claim = claim.map_err(|error| {
        audit::refused(Refusal::Token, address, None);
        CloseReason::refused(error.to_string())
    })?;
    let username: Arc<str> = claim.username.as_str().into();
    if services.user_rates.is_refused(&username, claim.login) {
        audit::refused(Refusal::Token, address, Some(&username));
        return Err(CloseReason::refused("invalid login-token".into()));
    }
    let place = services.socket_places.take(&username, address);
    let place = place.map_err(|full| {
        let (reason, refusal) = match full {
            Full::All => (CloseReason::UNAVAILABLE, Refusal::Sockets),
            Full::User => (CloseReason::TOO_MANY_OF_USER, Refusal::SocketsOfUser),
            Full::Address => (CloseReason::TOO_MANY_OF_ADDRESS, Refusal::SocketsOfAddress),
        };
        audit::refused(refusal, address, Some(&username));
        reason
    })?;
    let rates = services.user_rates.connect(&username).map_err(|Flood| {
        audit::refused(Refusal::Flood, address, Some(&username));
        CloseReason::FLOOD
    })?;
    let admission = Admission {
        address,
        rates,
        source: services.store.source(address),
        message_milliseconds: services.message_timeout.as_millis() as u32,
        _place: place,
    };
    Ok((claim, Box::new(admission)))
}

/// RFC 6455 section 4.2.1: the key is 16 bytes in base64. The library only checks that it exists.
fn has_websocket_key(headers: &HeaderMap) -> bool {
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .map(HeaderValue::as_bytes);
    key.is_some_and(|key| {
        let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(is_digit)
    })
}

/// The TCP stream of an upgraded connection, and what hyper had read past the handshake.
async fn raw_stream(upgrade: OnUpgrade) -> Option<(TcpStream, Bytes)> {
    // It fails if the client left before the answer was written.
    let upgraded: Upgraded = upgrade.await.ok()?;
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(Parts { io, read_buf, .. }) => Some((io.into_inner(), read_buf)),
        Err(_) => {
            tracing::error!("an upgraded connection is not a TCP stream");
            None
        }
    }
}
