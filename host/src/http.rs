//! HTTP: the routes of accounts and the handshake of sockets.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use handler::account::login::{Credentials, FindAccount, ReplacePasswordHash};
use handler::account::password::{self, Verdict};
use handler::account::register::{Register, Registration};
use handler::account::token::{LIFETIME_SECONDS, TokenKey};
use handler::{Context, Error};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::upgrade::{OnUpgrade, Parts, Upgraded};
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::clock;
use crate::cluster::{Cluster, Readiness};
use crate::config::SameSite;
use crate::limits::{
    AccountRates, Flood, Full as FullPlaces, Origin, Places, SocketPlaces, UserRates,
    client_address,
};
use crate::metrics::METRICS;
use crate::password::PasswordThreads;
use crate::security;
use crate::socket::{self, CloseReason, Session, Socket, Visitor};
use crate::store::Store;

/// Longest body of a request.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long a browser may remember a preflight.
const PREFLIGHT_SECONDS: &str = "600";

const COOKIE: &str = "login-token";
/// Names a request in the log.
const REQUEST_ID: &str = "x-request-id";

type Answer = Response<Full<Bytes>>;

/// What every request may need.
pub struct Host {
    pub store: Store,
    pub cluster: Arc<Cluster>,
    pub readiness: Readiness,
    pub passwords: PasswordThreads,
    pub token_key: TokenKey,
    /// Origins of other sites whose pages may use this server with the user's cookie.
    pub origins: Vec<HeaderValue>,
    pub trusted_proxies: Vec<IpNet>,
    pub same_site: SameSite,
    pub account_rates: AccountRates,
    pub user_rates: UserRates,
    /// Requests under way, by the address of the client.
    pub request_places: Arc<Places<Origin>>,
    pub socket_places: Arc<SocketPlaces>,
    /// Time for a body to arrive.
    pub body_timeout: Duration,
    /// Time for a whole message on a socket.
    pub message_timeout: Duration,
    /// The tasks of open sockets.
    pub sockets: TaskTracker,
    pub next_socket_id: AtomicU64,
    pub next_request_id: AtomicU64,
}

/// A path and the methods it knows.
#[derive(Clone, Copy)]
enum Route {
    Ping,
    Health,
    Readiness,
    Register,
    Login,
    Verify,
    Socket,
}

impl Route {
    const ALL: [Route; 7] = [
        Route::Ping,
        Route::Health,
        Route::Readiness,
        Route::Register,
        Route::Login,
        Route::Verify,
        Route::Socket,
    ];

    fn find(path: &str) -> Option<Route> {
        Self::ALL.into_iter().find(|route| route.path() == path)
    }

    fn path(self) -> &'static str {
        match self {
            Route::Ping => "/misc/ping",
            Route::Health => "/healthz",
            Route::Readiness => "/readyz",
            Route::Register => "/register",
            Route::Login => "/auth/login",
            Route::Verify => "/auth/verify",
            Route::Socket => "/ws",
        }
    }

    /// For the `Allow` header.
    fn methods(self) -> &'static str {
        match self {
            Route::Ping | Route::Health | Route::Readiness | Route::Verify => "GET, HEAD, OPTIONS",
            Route::Register | Route::Login => "POST, OPTIONS",
            Route::Socket => "GET, OPTIONS",
        }
    }
}

/// Answers one request of a connection from `peer`. `permit` is held for as long as it is HTTP.
pub async fn answer<P: Clone + Send + 'static>(
    host: Arc<Host>,
    request: Request<Incoming>,
    peer: IpAddr,
    permit: P,
) -> Answer {
    let started = Instant::now();
    let id = host.next_request_id.fetch_add(1, Ordering::Relaxed);
    let id = format!("{id:016x}");
    let address = client_address(peer, request.headers(), &host.trusted_proxies);
    let route = Route::find(request.uri().path());
    // In each line that is logged meanwhile, whatever LOG_LEVEL says.
    let span = tracing::error_span!(
        "request",
        id,
        %address,
        method = %request.method(),
        path = request.uri().path()
    );
    let mut answer = answer_route(&host, route, request, address, permit)
        .instrument(span.clone())
        .await;
    let status = answer.status();
    let path = route.map_or("other", Route::path);
    let labels = [path, status.as_str()];
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

/// With the permissions for pages of other sites.
async fn answer_route<P: Clone + Send + 'static>(
    host: &Arc<Host>,
    route: Option<Route>,
    request: Request<Incoming>,
    address: IpAddr,
    permit: P,
) -> Answer {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let allowed = origin.filter(|origin| host.origins.contains(origin));
    let mut answer = run_route(host, route, request, address, permit).await;
    let headers = answer.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
    } else {
        for name in [
            header::ACCESS_CONTROL_ALLOW_METHODS,
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            header::ACCESS_CONTROL_MAX_AGE,
        ] {
            headers.remove(name);
        }
    }
    answer
}

async fn run_route<P: Clone + Send + 'static>(
    host: &Arc<Host>,
    route: Option<Route>,
    request: Request<Incoming>,
    address: IpAddr,
    permit: P,
) -> Answer {
    let Some(route) = route else {
        return text(StatusCode::NOT_FOUND, "not found");
    };
    let method = request.method().clone();
    if method == Method::OPTIONS {
        return preflight(route, request.headers());
    }
    if !route
        .methods()
        .split(", ")
        .any(|allowed| allowed == method.as_str())
    {
        return with(
            text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"),
            header::ALLOW,
            HeaderValue::from_static(route.methods()),
        );
    }
    let Some(_place) = host.request_places.take(address.into()) else {
        security::refused("requests_of_address", address, None);
        return Refusal::from(Error::RateLimited {
            retry_after_seconds: 1,
        })
        .answer();
    };
    let changes_state = method == Method::POST || matches!(route, Route::Socket);
    if changes_state && !is_origin_trusted(host, request.headers()) {
        security::refused("origin", address, None);
        return text(StatusCode::FORBIDDEN, "origin not allowed");
    }
    let result = match route {
        Route::Ping => Ok(text(StatusCode::OK, "pong")),
        Route::Health => Ok(text(StatusCode::OK, "ok")),
        Route::Readiness => Ok(match host.readiness.check().await {
            Ok(()) => text(StatusCode::OK, "ready"),
            Err(missing) => text(StatusCode::SERVICE_UNAVAILABLE, missing),
        }),
        Route::Register => register(host, request, address).await,
        Route::Login => login(host, request, address).await,
        Route::Verify => verify(host, request.headers()),
        Route::Socket => Ok(open_socket(host, request, address, permit)),
    };
    result.unwrap_or_else(|refusal| refusal.answer())
}

async fn register(
    host: &Host,
    request: Request<Incoming>,
    address: IpAddr,
) -> Result<Answer, Refusal> {
    limited(
        "registration",
        host.account_rates.registration(address),
        address,
    )?;
    let registration = Registration::parse(&body(host, request).await?)?;
    let username = registration.username.clone();
    let outcome = store_account(host, registration).await;
    let result = outcome.as_ref().map_or_else(Error::code, |()| "ok");
    METRICS.registrations.with_label_values(&[result]).inc();
    security::account("registration", result, address, &username);
    outcome?;
    Ok(text(StatusCode::CREATED, "registered"))
}

/// Notes that a login or a registration was refused before anybody has looked who wants it.
fn limited(what: &'static str, checked: Result<(), Error>, address: IpAddr) -> Result<(), Error> {
    checked.inspect_err(|error| {
        let result = [error.code()];
        match what {
            "login" => METRICS.logins.with_label_values(&result).inc(),
            _ => METRICS.registrations.with_label_values(&result).inc(),
        }
        security::refused(what, address, None);
    })
}

async fn store_account(host: &Host, registration: Registration) -> Result<(), Error> {
    let Registration {
        username,
        password,
        fullname,
    } = registration;
    let place = host.passwords.reserve()?;
    let ctx = Context::anonymous(clock::now());
    let find = FindAccount {
        username: username.clone(),
    };
    // The database has the last word; this spares the hashing for a name that is taken already.
    if host.store.run(ctx.clone(), find).await?.is_some() {
        return Err(Error::Conflict("username already exists".into()));
    }
    let salt = salt()?;
    let password_hash = place.run(move || password::hash(&password, salt)).await?;
    let register = Register {
        username,
        fullname,
        password_hash,
    };
    host.store.run(ctx, register).await
}

async fn login(
    host: &Host,
    request: Request<Incoming>,
    address: IpAddr,
) -> Result<Answer, Refusal> {
    limited("login", host.account_rates.login(address), address)?;
    let credentials = Credentials::parse(&body(host, request).await?)?;
    let username = credentials.username.clone();
    let outcome = check_password(host, credentials, address).await;
    let result = outcome.as_ref().map_or_else(Error::code, |()| "ok");
    METRICS.logins.with_label_values(&[result]).inc();
    security::account("login", result, address, &username);
    outcome?;
    let token = host.token_key.sign(&username, clock::now());
    let same_site = host.same_site.text();
    let cookie = format!(
        "{COOKIE}={token}; HttpOnly; Max-Age={LIFETIME_SECONDS}; Path=/; Secure; SameSite={same_site}"
    );
    let cookie = HeaderValue::try_from(cookie)
        .map_err(|_| Error::Internal("a token that is no header value".into()))?;
    let answer = text(StatusCode::ACCEPTED, "login successful");
    Ok(with(answer, header::SET_COOKIE, cookie))
}

/// `Unauthorized` where the password is not this user's, after the same time where there is no such user.
async fn check_password(
    host: &Host,
    credentials: Credentials,
    address: IpAddr,
) -> Result<(), Error> {
    let Credentials { username, password } = credentials;
    // First, so that a password that is not looked at does not count as a guess.
    let place = host.passwords.reserve()?;
    host.account_rates.password(&username, address)?;
    let ctx = Context::anonymous(clock::now());
    let find = FindAccount {
        username: username.clone(),
    };
    let account = host.store.run(ctx.clone(), find).await?;
    let stored = account
        .as_ref()
        .map(|account| account.password_hash.clone());
    let salt = salt()?;
    let (verdict, new_hash) = place
        .run(move || {
            let verdict = password::verify(&password, stored.as_deref());
            let outdated = verdict == Verdict::Outdated;
            (verdict, outdated.then(|| password::hash(&password, salt)))
        })
        .await?;
    if verdict == Verdict::Wrong {
        let text = "mismatch username and password";
        return Err(Error::Unauthorized(text.into()));
    }
    host.account_rates.logged_in(&username, address);
    if let (Some(account), Some(new)) = (account, new_hash) {
        let replace = ReplacePasswordHash {
            user_id: account.user_id,
            old: account.password_hash,
            new,
        };
        // The login holds without it; the store has logged why it failed, and the next login tries again.
        let _ = host.store.run(ctx, replace).await;
    }
    Ok(())
}

fn verify(host: &Host, headers: &HeaderMap) -> Result<Answer, Refusal> {
    let username = logged_in(host, headers)?;
    Ok(text(StatusCode::OK, format!("Hello, {username}")))
}

/// The username of the request's login token: the first one that holds, of cookies and bearer token.
fn logged_in(host: &Host, headers: &HeaderMap) -> Result<String, Error> {
    let now = clock::now();
    let mut text = "login-token required";
    for token in cookies(headers).chain(bearer(headers)) {
        match host.token_key.verify(token, now) {
            Some(username) => return Ok(username),
            None => text = "invalid login-token",
        }
    }
    Err(Error::Unauthorized(text.into()))
}

/// The values of our cookie. Other cookies of the same header may hold any bytes.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let headers = headers.get_all(header::COOKIE).into_iter();
    let pairs = headers.flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(|pair| {
        let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
        (name.trim() == COOKIE).then(|| value.trim().trim_matches('"'))
    })
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let authorization = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Completes the upgrade whatever the login is worth, and also where no more sockets may be open, because a browser cannot
/// read an HTTP refusal; the socket then closes with the reason.
fn open_socket<P: Send + 'static>(
    host: &Arc<Host>,
    mut request: Request<Incoming>,
    address: IpAddr,
    permit: P,
) -> Answer {
    let is_upgrade = fastwebsockets::upgrade::is_upgrade_request(&request);
    if !is_upgrade || request.version() != Version::HTTP_11 {
        let answer = text(StatusCode::UPGRADE_REQUIRED, "websocket upgrade required");
        let answer = with(
            answer,
            header::CONNECTION,
            HeaderValue::from_static("upgrade"),
        );
        return with(
            answer,
            header::UPGRADE,
            HeaderValue::from_static("websocket"),
        );
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let switching = fastwebsockets::upgrade::upgrade(&mut request);
    let (Ok((switching, _)), true) = (switching, has_websocket_key(request.headers())) else {
        let answer = text(StatusCode::BAD_REQUEST, "bad websocket handshake");
        return with(
            answer,
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
    };
    let visitor = admit(host, request.headers(), address);
    let id = host.next_socket_id.fetch_add(1, Ordering::Relaxed);
    let cluster = host.cluster.clone();
    let opening = Box::pin(async move {
        let (stream, unread) = raw_stream(upgrade).await?;
        let socket = Arc::new(Socket::new(id, stream));
        match visitor {
            Ok((username, visitor)) => {
                // It has a place of its own.
                drop(permit);
                let session = Session::open(socket, username, visitor, cluster).await?;
                let unread = (!unread.is_empty()).then(|| Box::new(unread));
                Some((session, unread))
            }
            Err(reason) => {
                // Those that are refused still count as connections.
                socket::refuse(&socket, reason).await;
                drop(permit);
                None
            }
        }
    });
    host.sockets.spawn(async move {
        if let Some((mut session, unread)) = opening.await {
            session.serve(unread).await;
        }
    });
    switching.map(|_| Full::default())
}

/// Who may open a socket, or the reason to close it with.
fn admit(
    host: &Host,
    headers: &HeaderMap,
    address: IpAddr,
) -> Result<(Arc<str>, Box<Visitor>), CloseReason> {
    let username = logged_in(host, headers);
    let username: Arc<str> = username
        .map_err(|error| {
            security::refused("token", address, None);
            CloseReason::refused(error.to_string())
        })?
        .into();
    let place = host.socket_places.take(&username, address);
    let place = place.map_err(|full| {
        let (reason, why) = match full {
            FullPlaces::All => (CloseReason::UNAVAILABLE, "sockets"),
            FullPlaces::User => (CloseReason::TOO_MANY_OF_USER, "sockets_of_user"),
            FullPlaces::Address => (CloseReason::TOO_MANY_OF_ADDRESS, "sockets_of_address"),
        };
        security::refused(why, address, Some(&username));
        reason
    })?;
    let rates = host.user_rates.connect(&username).map_err(|Flood| {
        security::refused("flood", address, Some(&username));
        CloseReason::FLOOD
    })?;
    let visitor = Visitor {
        address,
        rates,
        source: host.store.source(address),
        message_milliseconds: host.message_timeout.as_millis() as u32,
        _place: place,
    };
    Ok((username, Box::new(visitor)))
}

/// RFC 6455 section 4.2.1: 16 bytes in base64. The library only asks that there is one.
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
    // The client left before the answer was written.
    let upgraded: Upgraded = upgrade.await.ok()?;
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(Parts { io, read_buf, .. }) => Some((io.into_inner(), read_buf)),
        Err(_) => {
            tracing::error!("an upgraded connection is not a TCP stream");
            None
        }
    }
}

/// `None`, the server's own, and the configured ones. A page of any other site must not act with the user's cookie.
fn is_origin_trusted(host: &Host, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    // Behind a TLS proxy the scheme is not known here; the host and port are.
    let is_own = || {
        let (_, authority) = origin.to_str().ok()?.split_once("://")?;
        let own = headers.get(header::HOST)?.to_str().ok()?;
        Some(authority.eq_ignore_ascii_case(own))
    };
    host.origins.contains(origin) || is_own() == Some(true)
}

/// The answer to `OPTIONS`. `answer` takes the permissions away again where the origin is not a configured one.
fn preflight(route: Route, headers: &HeaderMap) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let permissions = answer.headers_mut();
    permissions.insert(header::ALLOW, HeaderValue::from_static(route.methods()));
    let echoed = [
        (
            header::ACCESS_CONTROL_REQUEST_METHOD,
            header::ACCESS_CONTROL_ALLOW_METHODS,
        ),
        (
            header::ACCESS_CONTROL_REQUEST_HEADERS,
            header::ACCESS_CONTROL_ALLOW_HEADERS,
        ),
    ];
    for (requested, allowed) in echoed {
        if let Some(value) = headers.get(requested) {
            permissions.insert(allowed, value.clone());
        }
    }
    permissions.insert(
        header::ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from_static(PREFLIGHT_SECONDS),
    );
    answer
}

async fn body(host: &Host, request: Request<Incoming>) -> Result<Bytes, Refusal> {
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
    match timeout(host.body_timeout, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let text = format!("body should be at most {BODY_BYTES_MAX} bytes");
            Err(Error::TooLarge(text).into())
        }
        Ok(Err(_)) => Err(Refusal::Http(StatusCode::BAD_REQUEST, "body cut short")),
        Err(_) => Err(Refusal::Http(
            StatusCode::REQUEST_TIMEOUT,
            "body took too long",
        )),
    }
}

fn salt() -> Result<[u8; 16], Error> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| {
        tracing::error!(%error, "no randomness");
        Error::Internal("no randomness".into())
    })?;
    Ok(salt)
}

/// Why a request is not answered as it hoped.
enum Refusal {
    Handler(Error),
    /// About HTTP itself.
    Http(StatusCode, &'static str),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Handler(error)
    }
}

impl Refusal {
    fn answer(&self) -> Answer {
        match self {
            Refusal::Http(status, reason) => text(*status, *reason),
            Refusal::Handler(error) => {
                let answer = text(status(error), error.to_string());
                match error.retry_after_seconds() {
                    Some(seconds) => with(answer, header::RETRY_AFTER, seconds.into()),
                    None => answer,
                }
            }
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

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    with(
        answer,
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    )
}

fn with(mut answer: Answer, name: header::HeaderName, value: HeaderValue) -> Answer {
    answer.headers_mut().insert(name, value);
    answer
}
