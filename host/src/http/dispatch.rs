//! From a request to its answer: checks what the table says of its route, then calls its handler.

use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use handler::Error;
use handler::account::api_key::Scope;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode, Version};
use tracing::Instrument;

use crate::audit;
use crate::http::answers::{Answer, ErrorFormat, HttpError, until_sent, with};
use crate::http::call::Call;
use crate::http::cors;
use crate::http::login_token;
use crate::http::program::{self, Program, Sender};
use crate::http::route::{Effect, Handler, Route};
use crate::http::services::Services;
use crate::http::table::{Path, Table};
use crate::limits::client_address::{client_address, is_proxied};
use crate::limits::places::ConnectionPlace;
use crate::limits::refusal::Refusal;
use crate::logins::Login;
use crate::metrics::METRICS;

/// The header with the name of a request, which the log has too.
const REQUEST_ID: &str = "x-request-id";

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Address(IpAddr),
    /// The socket beside the data file.
    Operator,
}

/// Characters of a request's method and of its path in each line that is logged meanwhile. A client
/// may make them as long as the head of a request.
const LOGGED_CHARS_MAX: usize = 256;

/// Answers one request of a connection from `peer`. The connection holds `place` as long as it speaks HTTP.
pub async fn answer(
    table: &'static Table,
    services: Arc<Services>,
    request: Request<Incoming>,
    peer: Peer,
    place: Arc<ConnectionPlace>,
) -> Answer {
    let is_operator = peer == Peer::Operator;
    let peer = match peer {
        Peer::Address(address) => address,
        Peer::Operator => Ipv4Addr::LOCALHOST.into(),
    };
    let started = Instant::now();
    let number = services.next_request.fetch_add(1, Ordering::Relaxed);
    let id = format!("{:016x}", services.request_ids.hash_one(number));
    let address = client_address(peer, request.headers(), &services.trusted_proxies);
    let is_proxied = is_proxied(peer, request.headers(), &services.trusted_proxies);
    // Every line that is logged meanwhile has it, whatever LOG_LEVEL is.
    let span = tracing::error_span!(
        "request",
        id,
        %address,
        method = audit::short(request.method().as_str(), LOGGED_CHARS_MAX),
        path = audit::short(request.uri().path(), LOGGED_CHARS_MAX)
    );
    let found = table.find(request.uri().path());
    let label = found.as_ref().map_or("other", |(path, _)| path.pattern);
    let allowed = cors::allowed_origin(&services.origins, request.headers());
    let answering = async {
        check_host(&request)?;
        let (path, parameters) = found.ok_or(HttpError::NOT_FOUND)?;
        if request.method() == Method::OPTIONS {
            let allow = path.allow.clone();
            let (origins, headers) = (&services.origins, request.headers());
            return Ok(cors::preflight(
                allow, origins, headers, address, is_proxied,
            ));
        }
        let call = Call {
            services,
            request,
            address,
            is_operator,
            is_proxied,
            parameters,
            place,
        };
        Ok(answer_at(path, call).await)
    };
    let answer = answering.instrument(span.clone()).await;
    let mut answer = answer.unwrap_or_else(|error: HttpError| error.answer(ErrorFormat::Text));
    cors::permit(&mut answer, allowed);
    let status = answer.status();
    let labels = [label, status.as_str()];
    METRICS.http_requests.with_label_values(&labels).inc();
    span.in_scope(|| {
        let elapsed = started.elapsed();
        match status.is_server_error() {
            true => tracing::warn!(status = status.as_u16(), ?elapsed, "answered"),
            false => tracing::debug!(status = status.as_u16(), ?elapsed, "answered"),
        }
    });
    if let Ok(id) = HeaderValue::try_from(id) {
        answer.headers_mut().insert(REQUEST_ID, id);
    }
    answer
}

/// RFC 9112, section 3.2: a request without a `Host`, or with two, is bad. A proxy and this server
/// could each choose another one.
fn check_host<B>(request: &Request<B>) -> Result<(), HttpError> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    if hosts == 1 || hosts == 0 && request.version() < Version::HTTP_11 {
        return Ok(());
    }
    let status = StatusCode::BAD_REQUEST;
    Err(HttpError::new(
        status,
        "invalid",
        "one host header required",
    ))
}

/// Answers a request to a path in the table. In a task of its own, so that it is done to its end, and
/// logged, though the client leaves. Until then it counts as the client's.
async fn answer_at(path: &'static Path, call: Call) -> Answer {
    let Some(route) = path.route(call.request.method()) else {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let error = HttpError::new(status, "method_not_allowed", "method not allowed");
        // No row has this method. The first row of the path says what its errors look like.
        let answer = error.answer(path.routes[0].errors);
        return with(answer, header::ALLOW, path.allow.clone());
    };
    let Some(place) = call.services.request_places.take(call.address.into()) else {
        audit::refused(Refusal::RequestsOfAddress, call.address, None);
        let error = HttpError::from(Error::RateLimited {
            retry_after_seconds: 1,
        });
        return error.answer(route.errors);
    };
    let (services, connection) = (call.services.clone(), call.place.clone());
    let answering = async move {
        let answered = answer_as(route, call).await;
        drop(connection);
        let answer = answered.unwrap_or_else(|error| error.answer(route.errors));
        until_sent(answer, place)
    };
    let answered = services.tasks.spawn(answering.in_current_span()).await;
    answered.unwrap_or_else(|_| {
        // The panic has been logged.
        let error = HttpError::from(Error::Internal("a panic".into()));
        error.answer(route.errors)
    })
}

/// Checks the row's columns from left to right.
async fn answer_as(route: &Route, call: Call) -> Result<Answer, HttpError> {
    let (services, address) = (call.services.clone(), call.address);
    let headers = call.request.headers();
    if route.effect == Effect::ChangesState
        && !cors::admit(&services.origins, headers, address, call.is_proxied)
    {
        let status = StatusCode::FORBIDDEN;
        return Err(HttpError::new(status, "forbidden", "origin not allowed"));
    }
    if let Some(attempt) = route.limit {
        services.accounts.admit(attempt, address)?;
    }
    match &route.handler {
        // The operator has no login, and the socket is for nothing else.
        Handler::Open(_) | Handler::LoggedIn(_) if call.is_operator => Err(HttpError::NOT_FOUND),
        Handler::Open(handler) => handler(call).await,
        Handler::LoggedIn(handler) => {
            let (call, login) = log_in(call).await?;
            handler(call, login).await
        }
        Handler::Sending(scope, handler) => match program::is_of_program(&call) {
            true => {
                let (call, program) = authorize(call, *scope).await?;
                handler(call, Sender::Program(program)).await
            }
            false => {
                let (call, login) = log_in(call).await?;
                handler(call, Sender::User(login)).await
            }
        },
        Handler::Program(scope, handler) => {
            let (call, program) = authorize(call, *scope).await?;
            handler(call, program).await
        }
    }
}

/// The login of a request's token, as it is when the whole body is there. The body is read only if the
/// token once was a login.
async fn log_in(call: Call) -> Result<(Call<Bytes>, Login), HttpError> {
    let address = call.address;
    let claim = login_token::claim(&call.services, call.request.headers(), address).await?;
    let username = claim.username.clone();
    let call = call.whole().await?;
    let found = call.services.find_login(claim, address).await;
    let login = found.inspect_err(|error| {
        if let Error::Unauthorized(_) = error {
            audit::refused(Refusal::Token, address, Some(&username));
        }
    })?;
    Ok((call, login))
}

/// The program of a request's key, as it is when the whole body is there. Anyone can make up a key, so
/// the body is read only if the key holds.
async fn authorize(call: Call, scope: Scope) -> Result<(Call<Bytes>, Program), HttpError> {
    let mut program = program::authorize(&call, scope).await?;
    let has_body = call.has_body();
    let call = call.whole().await?;
    if has_body {
        program = program::authorize(&call, scope).await?;
    }
    Ok((call, program))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use futures_util::stream;
    use handler::account::register::Register;
    use http_body_util::combinators::UnsyncBoxBody;
    use http_body_util::{BodyExt, Full, StreamBody};
    use hyper::body::Frame;
    use hyper::service::service_fn;
    use hyper::{Response, client, server};
    use hyper_util::rt::TokioIo;
    use once_cell::sync::Lazy;
    use tempfile::TempDir;
    use tokio::sync::{Semaphore, mpsc};
    use tokio::task::spawn_blocking;

    use super::*;
    use crate::config::Config;
    use crate::http::answers::text;
    use crate::http::route::{logged_in, open};
    use crate::limits::account_guesses::Attempt;
    use crate::socket::presence::Presence;
    use crate::store::Store;

    const THINGS: &str = "/things/{id}/of/{owner}";

    /// Future routes need these columns; none of the present routes has them.
    #[rustfmt::skip]
    static TABLE: Lazy<Table> = Lazy::new(|| {
        use super::ErrorFormat::{Json, Text};
        use super::Effect::{ChangesState, Reads};
        let limit = Some(Attempt::Registration);
        Table::new([
            Route::new(Method::GET,    THINGS,  Reads,        None,  Json, open(find_thing)),
            Route::new(Method::PUT,    THINGS,  ChangesState, None,  Json, logged_in(change_thing)),
            Route::new(Method::PATCH,  THINGS,  ChangesState, None,  Json, logged_in(change_thing)),
            Route::new(Method::DELETE, THINGS,  ChangesState, None,  Json, logged_in(change_thing)),
            Route::new(Method::POST,   "/echo", ChangesState, limit, Text, open(echo)),
        ])
    });

    async fn find_thing(call: Call) -> Result<Answer, HttpError> {
        match call.parameters.get("id") {
            "0" => Err(Error::NotFound("no such thing".into()).into()),
            id => {
                let owner = call.parameters.get("owner");
                Ok(text(StatusCode::OK, format!("{id} of {owner}")))
            }
        }
    }

    async fn change_thing(call: Call<Bytes>, login: Login) -> Result<Answer, HttpError> {
        let (method, username) = (call.request.method(), login.username);
        Ok(text(StatusCode::OK, format!("{method} by {username}")))
    }

    /// Answers with the request's body, piece by piece.
    async fn echo(call: Call) -> Result<Answer, HttpError> {
        let body = call.request.into_body().map_err(std::io::Error::other);
        Ok(Response::new(body.boxed_unsync()))
    }

    type Body = UnsyncBoxBody<Bytes, Infallible>;

    /// Answers requests from `TABLE`.
    struct Site {
        services: Arc<Services>,
        _folder: TempDir,
    }

    impl Site {
        async fn open() -> Self {
            let folder = TempDir::new().expect("a folder");
            let path = folder.path().join("chat.db");
            let variable = |name: &str| match name {
                "DBPATH" => Some(path.clone().into()),
                "REGISTRATIONS_PER_HOUR" => Some("1".into()),
                _ => None,
            };
            let (config, _) = Config::read(variable).expect("a configuration");
            let (deliveries, mut delivered) = mpsc::channel(1);
            let database = config.database.clone();
            let open = move || Store::open(&database, 0, Duration::from_secs(10), deliveries);
            let opened = spawn_blocking(open).await.expect("no panic");
            let (store, _) = opened.expect("a store");
            tokio::spawn(async move { while delivered.recv().await.is_some() {} });
            let presence = Arc::new(Presence::new(store));
            let services = Services::new(&config, presence, None, Arc::default());
            Site {
                services: services.into(),
                _folder: folder,
            }
        }

        async fn send(&self, request: Request<Body>) -> Response<Incoming> {
            let (client, server) = tokio::io::duplex(64 * 1024);
            let permits = Arc::new(Semaphore::new(1));
            let permit = permits.try_acquire_owned().expect("a permit");
            let place = Arc::new(ConnectionPlace::new(permit, None));
            let services = self.services.clone();
            let service = service_fn(move |request| {
                let peer = Peer::Address(Ipv4Addr::LOCALHOST.into());
                let answer = answer(&TABLE, services.clone(), request, peer, place.clone());
                async { Ok::<_, Infallible>(answer.await) }
            });
            let served = server::conn::http1::Builder::new()
                .max_buf_size(64 * 1024)
                .serve_connection(TokioIo::new(server), service);
            tokio::spawn(served);
            let handshake = client::conn::http1::handshake(TokioIo::new(client)).await;
            let (mut sender, connection) = handshake.expect("a connection");
            tokio::spawn(connection);
            sender.send_request(request).await.expect("an answer")
        }

        /// The answer's status, its `Allow` or else its content type, and its body.
        async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
            let mut request = Request::builder().method(method).uri(path);
            request = request.header("host", "chat.example");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Full::default().boxed_unsync());
            let answer = self.send(request.expect("a request")).await;
            let status = answer.status().as_u16();
            let header = |name| answer.headers().get(name).cloned();
            let header = header(header::ALLOW).or(header(header::CONTENT_TYPE));
            let header = header.expect("one of them");
            let body = answer.into_body().collect().await.expect("a body");
            let body = String::from_utf8(body.to_bytes().into()).expect("a text");
            let header = header.to_str().expect("a text");
            (status, format!("{header}: {body}"))
        }
    }

    #[tokio::test]
    async fn rows_say_what_is_answered() {
        const TEXT: &str = "text/plain; charset=utf-8";
        const JSON: &str = "application/json";
        const ALLOW: &str = "GET, HEAD, PUT, PATCH, DELETE, OPTIONS";
        let site = Site::open().await;
        let register = Register {
            username: "alice".into(),
            fullname: "alice".into(),
            password_hash: "none".into(),
        };
        let registered = site.services.store.run_now(register).await;
        registered.expect("registered");
        let token = site.services.logins.sign_without_session("alice");
        let bearer = format!("Bearer {token}");
        let alice = ("authorization", bearer.as_str());
        let evil = ("origin", "http://evil.example");
        let configured = ("origin", "http://localhost:5173");
        let [cross_site, same_site, own, typed] =
            ["cross-site", "same-site", "same-origin", "none"].map(|site| ("sec-fetch-site", site));
        let missing = r#"{"error":"login-token required","code":"unauthorized"}"#;
        let forbidden = r#"{"error":"origin not allowed","code":"forbidden"}"#;
        let unknown = r#"{"error":"method not allowed","code":"method_not_allowed"}"#;
        let nothing = r#"{"error":"no such thing","code":"not_found"}"#;
        let of = "/things/7/of/bob";
        for (method, path, headers, status, header, body) in [
            ("GET", of, vec![], 200, TEXT, "7 of bob"),
            ("HEAD", of, vec![], 200, TEXT, ""),
            ("GET", of, vec![evil], 200, TEXT, "7 of bob"),
            ("GET", "/things/0/of/bob", vec![], 404, JSON, nothing),
            ("GET", "/things/7", vec![], 404, TEXT, "not found"),
            ("POST", of, vec![], 405, ALLOW, unknown),
            ("OPTIONS", of, vec![], 204, ALLOW, ""),
            ("PUT", of, vec![], 401, JSON, missing),
            ("PUT", of, vec![alice], 200, TEXT, "PUT by alice"),
            (
                "DELETE",
                of,
                vec![alice, configured],
                200,
                TEXT,
                "DELETE by alice",
            ),
            ("PUT", of, vec![alice, evil], 403, JSON, forbidden),
            ("PATCH", of, vec![alice, evil], 403, JSON, forbidden),
            ("DELETE", of, vec![alice, evil], 403, JSON, forbidden),
            ("POST", "/echo", vec![evil], 403, TEXT, "origin not allowed"),
            ("GET", of, vec![cross_site], 200, TEXT, "7 of bob"),
            ("PUT", of, vec![alice, cross_site], 403, JSON, forbidden),
            ("PUT", of, vec![alice, same_site], 403, JSON, forbidden),
            ("PUT", of, vec![alice, own], 200, TEXT, "PUT by alice"),
            ("PUT", of, vec![alice, typed], 200, TEXT, "PUT by alice"),
            (
                "PUT",
                of,
                vec![alice, configured, cross_site],
                200,
                TEXT,
                "PUT by alice",
            ),
        ] {
            let answered = site.ask(method, path, &headers).await;
            let expected = (status, format!("{header}: {body}"));
            assert_eq!(answered, expected, "{method} {path} {headers:?}");
        }
    }

    #[tokio::test]
    async fn a_row_has_its_limit() {
        let site = Site::open().await;
        for status in [200, 429] {
            let request = Request::post("/echo").header("host", "chat.example");
            let request = request.body(Full::default().boxed_unsync());
            let answer = site.send(request.expect("a request")).await;
            assert_eq!(answer.status(), status);
        }
    }

    #[tokio::test]
    async fn bodies_pass_in_pieces() {
        const PIECE: usize = 64 * 1024;
        const PIECES: usize = 1024;
        // Bytes that the buffers of both connections may hold.
        const AHEAD_MAX: usize = 1024 * 1024;
        let site = Site::open().await;
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let pieces = stream::iter((0..PIECES).map(move |_| {
            count.fetch_add(PIECE, Ordering::Relaxed);
            Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; PIECE])))
        }));
        let body = StreamBody::new(pieces).boxed_unsync();
        let request = Request::post("/echo").header("host", "chat.example");
        let request = request.body(body).expect("a request");
        let mut answer = site.send(request).await.into_body();
        let mut received = 0;
        while let Some(frame) = answer.frame().await {
            let data = frame.expect("a frame").into_data().expect("data");
            received += data.len();
            let ahead = made.load(Ordering::Relaxed) - received;
            assert!(ahead <= AHEAD_MAX, "{ahead} bytes wait");
        }
        assert_eq!(received, PIECE * PIECES);
    }
}
