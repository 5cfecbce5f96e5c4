//! Stories of logins: sessions that are started, refreshed and ended, and what a login that does not
//! hold may do.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use host::{ListedRoute, listed_routes};
use serde_json::{Value, json};
use tests::data::open;
use tests::host::{Begun, Http, ORIGIN, PASSWORD, SECRET, login, request};
use tests::tokens::{foreign_token, unix_now};
use tests::{Client, Form, Host, until};

use crate::stories::in_every_form;

const ENDED: (u16, &str) = (1008, "session ended");

/// A login of a client that keeps no cookies.
struct Device {
    token: String,
    bearer: String,
}

impl Device {
    fn of(token: &str) -> Self {
        Device {
            token: token.to_owned(),
            bearer: format!("Bearer {token}"),
        }
    }

    async fn log_in(host: &Host, username: &str, more: Value) -> Self {
        let mut body = json!({ "username": username, "password": PASSWORD });
        body.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        let agent = [("user-agent", "a test")];
        let answer = host.http("POST", "/auth/token", &agent, body.to_string());
        let answer = json_of(&answer.await, 200);
        Device::of(answer["token"].as_str().expect("a token"))
    }

    /// Asks each host in turn.
    async fn ask(&self, host: &Host, method: &str, path: &str, body: &str) -> Http {
        let headers = [("authorization", self.bearer.as_str())];
        request(host.next_address(), method, path, &headers, body.to_owned()).await
    }

    async fn connect(&self, host: &Host) -> Client {
        let headers = [("authorization", self.bearer.as_str())];
        let mut client = Client::connect_with(host.next_address(), &headers).await;
        client.ok(json!({ "type": "ping" })).await;
        client
    }

    async fn sessions(&self, host: &Host) -> Vec<Value> {
        let answer = self.ask(host, "GET", "/auth/sessions", "").await;
        let body = json_of(&answer, 200);
        body["sessions"].as_array().expect("a list").clone()
    }

    /// The public id of its own session.
    async fn id(&self, host: &Host) -> String {
        let sessions = self.sessions(host).await;
        let mut current = sessions.iter().filter(|session| session["current"] == true);
        let id = current.next().expect("a session")["id"].clone();
        id.as_str().expect("a text").to_owned()
    }

    /// On every host and every way, at once.
    async fn is_refused(&self, host: &Host) {
        for address in &host.addresses {
            let headers = [("authorization", self.bearer.as_str())];
            let answer = request(*address, "GET", "/auth/verify", &headers, "").await;
            assert_eq!((answer.status, &*answer.body), (401, "invalid login-token"));
            let mut client = Client::connect_with(*address, &headers).await;
            let reason = "invalid login-token".to_owned();
            assert_eq!(client.closed().await, (1000, reason));
        }
    }

    async fn holds(&self, host: &Host) {
        for address in &host.addresses {
            let headers = [("authorization", self.bearer.as_str())];
            let answer = request(*address, "GET", "/auth/verify", &headers, "").await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
}

fn json_of(answer: &Http, status: u16) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    serde_json::from_str(&answer.body).expect("JSON")
}

fn is_done(answer: &Http) {
    assert_eq!((answer.status, &*answer.body), (204, ""), "{answer:?}");
}

in_every_form! {
    a_logout_ends_one_session_at_once
    another_session_is_listed_and_ended
    a_new_password_ends_all_other_logins
    sockets_of_an_ended_login_close_within_a_second
    a_session_in_use_does_not_end
    one_event_is_answered_without_a_socket
}

async fn a_logout_ends_one_session_at_once(form: Form) {
    let host = Host::start_as(form).await;
    host.register("alice").await;
    let (here, there) = (
        Device::log_in(&host, "alice", json!({})).await,
        Device::log_in(&host, "alice", json!({})).await,
    );
    let mut sockets = [here.connect(&host).await, here.connect(&host).await];
    let mut other = there.connect(&host).await;
    let answer = here.ask(&host, "POST", "/auth/logout", "").await;
    is_done(&answer);
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    let dropped = "login-token=; HttpOnly; Max-Age=0; Path=/; Secure; SameSite=Lax";
    assert_eq!(cookies, [dropped, &format!("__Host-{dropped}")]);
    for socket in &mut sockets {
        let (code, reason) = socket.closed().await;
        assert_eq!((code, &*reason), ENDED);
    }
    here.is_refused(&host).await;
    there.holds(&host).await;
    other.ok(json!({ "type": "self" })).await;
    let answer = here.ask(&host, "POST", "/auth/refresh", "").await;
    let expected = json!({ "error": "invalid login-token", "code": "unauthorized" });
    assert_eq!(json_of(&answer, 401), expected);
}

/// Whoever has a token that no longer holds cannot use up what its user may do.
#[tokio::test]
async fn a_login_that_has_ended_takes_no_sockets_from_its_user() {
    let host = Host::start_with(Form::File, |config| {
        config.limits.sockets_per_user = 10;
    })
    .await;
    host.register("alice").await;
    let (ended, other) = (
        Device::log_in(&host, "alice", json!({})).await,
        Device::log_in(&host, "alice", json!({})).await,
    );
    is_done(&ended.ask(&host, "POST", "/auth/logout", "").await);
    // Twice as many as she may open at once, and none of them is closed on this side.
    let mut refused = Vec::new();
    for _ in 0..40 {
        let headers = [("authorization", ended.bearer.as_str())];
        let mut socket = Client::connect_with(host.address, &headers).await;
        let reason = "invalid login-token".to_owned();
        assert_eq!(socket.closed().await, (1000, reason));
        refused.push(socket);
    }
    let mut socket = other.connect(&host).await;
    socket.ok(json!({ "type": "self" })).await;
}

async fn another_session_is_listed_and_ended(form: Form) {
    let host = Host::start_as(form).await;
    host.register("alice").await;
    host.register("bob").await;
    let before = unix_now();
    let (phone, laptop, bob) = (
        Device::log_in(&host, "alice", json!({ "remember": true })).await,
        Device::log_in(&host, "alice", json!({ "remember": false })).await,
        Device::log_in(&host, "bob", json!({ "remember": null })).await,
    );
    let mut socket = phone.connect(&host).await;
    let sessions = laptop.sessions(&host).await;
    assert_eq!(sessions.len(), 2);
    for session in &sessions {
        assert_eq!(session["user_agent"], "a test");
        for time in ["created_at", "last_seen"] {
            let time = session[time].as_i64().expect("a time");
            assert!((before..=unix_now()).contains(&time), "{session}");
        }
    }
    let (own, id) = (laptop.id(&host).await, phone.id(&host).await);
    assert_ne!(own, id);
    // What is listed is no login.
    Device::of(&id).is_refused(&host).await;
    let path = format!("/auth/sessions/{id}");
    let missing = json!({ "error": "no such session", "code": "not_found" });
    for nobody in [
        bob.ask(&host, "DELETE", &path, "").await,
        laptop.ask(&host, "DELETE", "/auth/sessions/7", "").await,
        laptop
            .ask(&host, "DELETE", "/auth/sessions/0000000000000007", "")
            .await,
    ] {
        assert_eq!(json_of(&nobody, 404), missing);
    }
    phone.holds(&host).await;
    is_done(&laptop.ask(&host, "DELETE", &path, "").await);
    let (code, reason) = socket.closed().await;
    assert_eq!((code, &*reason), ENDED);
    phone.is_refused(&host).await;
    assert_eq!(
        json_of(&laptop.ask(&host, "DELETE", &path, "").await, 404),
        missing
    );
    assert_eq!(laptop.sessions(&host).await.len(), 1);
    bob.holds(&host).await;
}

async fn a_new_password_ends_all_other_logins(form: Form) {
    let host = Host::start_as(form).await;
    host.register("alice").await;
    host.register("bob").await;
    let (here, there, bob) = (
        Device::log_in(&host, "alice", json!({})).await,
        Device::log_in(&host, "alice", json!({ "remember": true })).await,
        Device::of(&foreign_token(SECRET, "bob")),
    );
    let foreign = Device::of(&foreign_token(SECRET, "alice"));
    let mut kept = here.connect(&host).await;
    let mut closed = [there.connect(&host).await, foreign.connect(&host).await];
    let mut bobs = bob.connect(&host).await;
    let change = |old: &str, new: &str| json!({ "old_password": old, "new_password": new });
    for (body, status, error) in [
        (json!([]), 400, "not a valid json"),
        (json!({ "new_password": "x" }), 400, "old_password required"),
        (
            change(PASSWORD, ""),
            400,
            "new_password should not be empty",
        ),
        (
            change(PASSWORD, &"x".repeat(1025)),
            400,
            "new_password should be at most 1024 bytes",
        ),
        (change("wrong", "new"), 403, "wrong password"),
    ] {
        let answer = here
            .ask(&host, "POST", "/auth/password", &body.to_string())
            .await;
        assert_eq!(json_of(&answer, status)["error"], error);
    }
    foreign.holds(&host).await;
    let body = change(PASSWORD, "new").to_string();
    is_done(&here.ask(&host, "POST", "/auth/password", &body).await);
    for socket in &mut closed {
        let (code, reason) = socket.closed().await;
        assert_eq!((code, &*reason), ENDED);
    }
    there.is_refused(&host).await;
    foreign.is_refused(&host).await;
    here.holds(&host).await;
    kept.ok(json!({ "type": "self" })).await;
    bobs.ok(json!({ "type": "self" })).await;
    assert_eq!(here.sessions(&host).await.len(), 1);
    for (password, status) in [(PASSWORD, 401), ("new", 200)] {
        let body = json!({ "username": "alice", "password": password }).to_string();
        let answer = host.http("POST", "/auth/token", &[], body).await;
        assert_eq!(answer.status, status, "{password}");
    }
}

async fn sockets_of_an_ended_login_close_within_a_second(form: Form) {
    /// A busy machine may be late, but not this often.
    const ROUNDS: usize = 20;
    // The check of all open sockets, once a minute, comes too late to close one here.
    let day = Duration::from_secs(24 * 3600);
    let host = Host::start_with(form, |config| config.account_interval = day).await;
    for (method, path) in [
        ("POST", "/auth/logout"),
        ("DELETE", "/auth/sessions/{id}"),
        ("POST", "/auth/password"),
        ("DELETE", "/account"),
    ] {
        let mut times = Vec::new();
        while times.iter().all(|time| *time >= Duration::from_secs(1)) {
            assert!(times.len() < ROUNDS, "{path} closed after {times:?}");
            let alice = format!("alice {} {path}", times.len());
            host.register(&alice).await;
            let ended = Device::log_in(&host, &alice, json!({})).await;
            let other = Device::log_in(&host, &alice, json!({})).await;
            let mut sockets = Vec::new();
            for _ in &host.addresses {
                sockets.push(ended.connect(&host).await);
            }
            let by = if path == "/auth/logout" {
                &ended
            } else {
                &other
            };
            let route = path.replace("{id}", &ended.id(&host).await);
            let body = json!({
                "password": PASSWORD, "old_password": PASSWORD, "new_password": PASSWORD,
            });
            let answer = by.ask(&host, method, &route, &body.to_string()).await;
            let answered = Instant::now();
            is_done(&answer);
            let closed = join_all(sockets.iter_mut().map(Client::closed)).await;
            times.push(answered.elapsed());
            for (code, reason) in closed {
                assert_eq!((code, &*reason), ENDED, "{path}");
            }
        }
    }
}

async fn a_session_in_use_does_not_end(form: Form) {
    let host = Host::start_as(form).await;
    host.register("alice").await;
    for (remember, lifetime) in [(false, 3600), (true, 30 * 24 * 3600)] {
        let device = Device::log_in(&host, "alice", json!({ "remember": remember })).await;
        let id = device.id(&host).await;
        let before = unix_now();
        let answer = device.ask(&host, "POST", "/auth/refresh", "").await;
        let body = json_of(&answer, 200);
        let expires_at = body["expires_at"].as_i64().expect("a time");
        assert!((before..=unix_now()).contains(&(expires_at - lifetime)));
        let cookie = answer.header("set-cookie").expect("a cookie");
        let token = body["token"].as_str().expect("a token");
        let expected = format!("login-token={token}; HttpOnly; Max-Age={lifetime}; ");
        assert!(cookie.starts_with(&expected), "{cookie}");
        let refreshed = Device::of(token);
        assert_eq!(refreshed.id(&host).await, id, "the same session");
        refreshed.holds(&host).await;
        device.holds(&host).await;
        is_done(&refreshed.ask(&host, "POST", "/auth/logout", "").await);
        device.is_refused(&host).await;
    }
    // A token without a session has nothing to refresh.
    let foreign = Device::of(&foreign_token(SECRET, "alice"));
    let answer = foreign.ask(&host, "POST", "/auth/refresh", "").await;
    assert_eq!(json_of(&answer, 403)["code"], "forbidden");
    is_done(&foreign.ask(&host, "POST", "/auth/logout", "").await);
    foreign.holds(&host).await;
}

#[tokio::test]
async fn a_login_with_a_cookie_may_be_remembered() {
    let host = Host::start().await;
    host.register("alice").await;
    for (remember, seconds) in [("false", 3600), ("true", 30 * 24 * 3600), ("null", 3600)] {
        let body =
            format!(r#"{{"username": "alice", "password": "{PASSWORD}", "remember": {remember}}}"#);
        let answer = host.http("POST", "/auth/login", &[], body).await;
        assert_eq!((answer.status, &*answer.body), (202, "login successful"));
        let cookie = answer.header("set-cookie").expect("a cookie");
        let expected = format!("; HttpOnly; Max-Age={seconds}; Path=/; Secure; SameSite=Lax");
        assert!(cookie.ends_with(&expected), "{cookie}");
    }
    let body = format!(r#"{{"username": "alice", "password": "{PASSWORD}", "remember": 1}}"#);
    let answer = host.http("POST", "/auth/login", &[], body).await;
    let error = "remember should be true or false";
    assert_eq!((answer.status, &*answer.body), (400, error));
}

/// The body that a route needs.
fn body_of(route: &ListedRoute) -> String {
    let body = match route.path {
        "/auth/password" => json!({ "old_password": PASSWORD, "new_password": PASSWORD }),
        "/account" => json!({ "password": PASSWORD }),
        "/events" => json!({ "type": "self" }),
        _ => json!({}),
    };
    body.to_string()
}

async fn ask(host: &Host, route: &ListedRoute, id: &str, headers: &[(&str, &str)]) -> Http {
    let path = route.path.replace("{id}", id).replace("{username}", "zoe");
    host.http(&route.method, &path, headers, body_of(route))
        .await
}

/// The routes for logged-in users, from the table.
fn routes() -> Vec<ListedRoute> {
    let mut routes = listed_routes();
    routes.retain(|route| route.is_for_logged_in);
    assert!(routes.len() >= 7, "{routes:?}");
    routes
}

#[tokio::test]
async fn every_route_for_users_refuses_a_login_that_does_not_hold() {
    let host = Host::start().await;
    for name in ["alice", "bob", "gone"] {
        host.register(name).await;
    }
    let ended = Device::log_in(&host, "alice", json!({})).await;
    let id = Device::log_in(&host, "alice", json!({}))
        .await
        .id(&host)
        .await;
    is_done(&ended.ask(&host, "POST", "/auth/logout", "").await);
    let gone = Device::log_in(&host, "gone", json!({})).await;
    let db = open(&host.database()).await;
    let delete = "pragma busy_timeout = 60000; delete from users where username = 'gone'";
    db.execute_batch(delete).await.expect("deleted");
    let token = |claims: Value| {
        let header = jsonwebtoken::Header::default();
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
        jsonwebtoken::encode(&header, &claims, &key).expect("a token")
    };
    let other_algorithm = {
        let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS512);
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
        let claims = json!({ "username": "alice", "exp": unix_now() + 100 });
        jsonwebtoken::encode(&header, &claims, &key).expect("a token")
    };
    let later = unix_now() + 100;
    let tokens = [
        ("of an ended session", ended.token),
        ("of a user who is gone", gone.token),
        (
            "without a session, of a user who is gone",
            foreign_token(SECRET, "gone"),
        ),
        ("of a user who never was", foreign_token(SECRET, "nobody")),
        (
            "of another secret",
            foreign_token("another secret of some length", "alice"),
        ),
        (
            "expired",
            token(json!({ "username": "alice", "exp": unix_now() - 1 })),
        ),
        (
            "not yet valid",
            token(json!({ "username": "alice", "exp": later, "nbf": later - 10 })),
        ),
        ("of another algorithm", other_algorithm),
        (
            "of a session that never was",
            token(json!({ "username": "alice", "exp": later, "sid": "0123456789abcdef" })),
        ),
        (
            "of another user's session",
            token(json!({ "username": "bob", "exp": later, "sid": id })),
        ),
        (
            "with an empty session",
            token(json!({ "username": "alice", "exp": later, "sid": "" })),
        ),
    ];
    for (number, route) in routes().into_iter().enumerate() {
        let answer = ask(&host, &route, &id, &[]).await;
        assert_eq!(answer.status, 401, "{route:?}");
        assert!(answer.body.contains("login-token required"), "{answer:?}");
        for (what, token) in &tokens {
            for header in [
                ("authorization", format!("Bearer {token}")),
                ("cookie", format!("login-token={token}")),
            ] {
                let answer = ask(&host, &route, &id, &[(header.0, &*header.1)]).await;
                assert_eq!(answer.status, 401, "{route:?} with a token {what}");
                assert!(answer.body.contains("invalid login-token"), "{answer:?}");
            }
        }
        // A token of the first backend is a login on each of them. A new user for each, because a
        // new password ends it.
        let username = format!("user {number}");
        host.register(&username).await;
        let foreign = format!("Bearer {}", foreign_token(SECRET, &username));
        let answer = ask(&host, &route, &id, &[("authorization", &foreign)]).await;
        assert_ne!(answer.status, 401, "{route:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_body_that_comes_after_the_end_of_its_login_does_nothing() {
    let host = Host::start().await;
    for (number, (method, path)) in [
        ("POST", "/auth/logout"),
        ("DELETE", "/auth/sessions/{id}"),
        ("POST", "/auth/password"),
        ("DELETE", "/account"),
    ]
    .into_iter()
    .enumerate()
    {
        let alice = format!("alice {number}");
        host.register(&alice).await;
        let ended = Device::log_in(&host, &alice, json!({})).await;
        let other = Device::log_in(&host, &alice, json!({})).await;
        let id = ended.id(&host).await;
        let mut begun = Vec::new();
        for route in routes() {
            let (asked, body) = (route.path.replace("{id}", &id), body_of(&route));
            let sent = Begun::send(host.address, &route.method, &asked, &ended.bearer, body);
            begun.push((sent.await, route));
        }
        let by = match path {
            "/auth/logout" => &ended,
            _ => &other,
        };
        let end = listed_routes().into_iter();
        let mut end = end.filter(|route| (&*route.method, route.path) == (method, path));
        let body = body_of(&end.next().expect("a route"));
        is_done(
            &by.ask(&host, method, &path.replace("{id}", &id), &body)
                .await,
        );
        for (begun, route) in begun {
            let (status, answer) = begun.end().await;
            assert_eq!(status, 401, "{route:?} after {path}: {answer}");
            assert!(answer.contains("invalid login-token"), "{answer}");
        }
    }
}

#[tokio::test]
async fn no_route_lets_one_user_end_the_login_of_another() {
    let host = Host::start().await;
    host.register("alice").await;
    let alice = Device::log_in(&host, "alice", json!({})).await;
    let id = alice.id(&host).await;
    for (number, route) in routes().iter().enumerate() {
        let mallory = format!("mallory {number}");
        host.register(&mallory).await;
        let mallory = Device::log_in(&host, &mallory, json!({})).await;
        let headers = [("authorization", mallory.bearer.as_str())];
        let answer = ask(&host, route, &id, &headers).await;
        let expected = if route.path.contains("{id}") {
            404..405
        } else {
            200..205
        };
        assert!(expected.contains(&answer.status), "{route:?}: {answer:?}");
        assert!(!answer.body.contains("alice"), "{answer:?}");
        alice.holds(&host).await;
        assert_eq!(alice.id(&host).await, id);
    }
}

#[tokio::test]
async fn pages_of_other_sites_cannot_use_a_route_that_changes_anything() {
    let host = Host::start().await;
    let routes = listed_routes();
    let changing = routes.iter().filter(|route| route.changes_state);
    for (number, route) in changing.enumerate() {
        // A user for each, because one of the routes deletes its account.
        let username = format!("user {number}");
        host.register(&username).await;
        let cookie = login(host.address, &username).await;
        let token = cookie.split_once('=').expect("a cookie").1;
        let id = Device::of(token).id(&host).await;
        for (origin, is_refused) in [
            ("http://evil.example", true),
            ("null", true),
            (ORIGIN, false),
        ] {
            let headers = [("cookie", cookie.as_str()), ("origin", origin)];
            let answer = ask(&host, route, &id, &headers).await;
            assert_eq!(answer.status == 403, is_refused, "{route:?}: {answer:?}");
            if is_refused {
                assert!(answer.body.contains("origin not allowed"), "{answer:?}");
                Device::of(token).holds(&host).await;
            }
        }
    }
}

#[tokio::test]
async fn a_socket_takes_its_token_as_a_subprotocol() {
    let host = Host::start().await;
    host.register("alice").await;
    let device = Device::log_in(&host, "alice", json!({})).await;
    let stale = foreign_token("another secret of some length", "alice");
    let named = |token: &str| format!("chat, bearer.{token}");
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for (protocols, chosen) in [
        (named(&device.token), Some("chat")),
        ("chat".to_owned(), Some("chat")),
        (format!("bearer.{}", device.token), None),
        ("other".to_owned(), None),
    ] {
        let headers = [&upgrade[..], &[("sec-websocket-protocol", &*protocols)]].concat();
        let answer = host.http("GET", "/ws", &headers, "").await;
        assert_eq!(answer.status, 101);
        assert_eq!(
            answer.header("sec-websocket-protocol"),
            chosen,
            "{protocols}"
        );
    }
    // It counts before a cookie, which the browser adds by itself.
    let cookie = format!("login-token={}", foreign_token(SECRET, "nobody"));
    let protocols = named(&device.token);
    let headers = [
        ("cookie", cookie.as_str()),
        ("sec-websocket-protocol", protocols.as_str()),
    ];
    let mut client = Client::connect_with(host.address, &headers).await;
    let profile = client.ok(json!({ "type": "self" })).await;
    assert_eq!(profile["username"], "alice");
    let protocols = named(&stale);
    let headers = [("sec-websocket-protocol", protocols.as_str())];
    let mut client = Client::connect_with(host.address, &headers).await;
    assert_eq!(client.closed().await, (1000, "invalid login-token".into()));
}

#[tokio::test]
async fn the_hundred_and_first_session_ends_the_one_used_longest_ago() {
    let host = Host::start().await;
    host.register("alice").await;
    let first = Device::log_in(&host, "alice", json!({})).await;
    let mut socket = first.connect(&host).await;
    // Those that the next login finds; only the first one was seen before them.
    let fill = format!(
        "pragma busy_timeout = 60000;
         with recursive n(i) as (select 1 union all select i + 1 from n where i < 99)
             insert into sessions (id, user_id, lifetime, created_at, last_seen, ends_at, user_agent)
             select i, 1, 3600, {now}, {now} + 10, {now} + 3600, '' from n;",
        now = unix_now()
    );
    let db = open(&host.database()).await;
    db.execute_batch(&fill).await.expect("filled");
    first.holds(&host).await;
    assert_eq!(first.sessions(&host).await.len(), 100);
    let last = Device::log_in(&host, "alice", json!({})).await;
    let (code, reason) = socket.closed().await;
    assert_eq!((code, &*reason), ENDED);
    first.is_refused(&host).await;
    assert_eq!(last.sessions(&host).await.len(), 100);
    // One that has expired ends before one that is used.
    let expired = "update sessions set ends_at = 0, last_seen = last_seen + 100 where id = 50";
    db.execute_batch(expired).await.expect("expired");
    let more = Device::log_in(&host, "alice", json!({})).await;
    last.holds(&host).await;
    let ids = more.sessions(&host).await;
    let ids: Vec<_> = ids.iter().map(|session| session["id"].clone()).collect();
    assert_eq!(ids.len(), 100);
    assert!(
        ids.contains(&json!("0000000000000001")),
        "it was not seen longest ago"
    );
    assert!(!ids.contains(&json!("0000000000000032")), "it has expired");
}

#[tokio::test]
async fn sessions_are_seen_and_swept() {
    let host = Host::start_with(Form::File, |config| {
        config.account_interval = Duration::from_millis(50);
    })
    .await;
    for name in ["alice", "bob"] {
        host.register(name).await;
    }
    let alice = Device::log_in(&host, "alice", json!({})).await;
    let bob = Device::log_in(&host, "bob", json!({})).await;
    let mut socket = alice.connect(&host).await;
    let db = open(&host.database()).await;
    // As if nothing had happened for three hours. The tokens of alice's session still hold: if they
    // had expired too, it could be swept before the host looks at its sockets again.
    let (now, alice_ends) = (unix_now(), unix_now() + 600);
    let age = format!(
        "pragma busy_timeout = 60000;
         update sessions set created_at = {at}, last_seen = {at},
             ends_at = iif(user_id = 1, {alice_ends}, {now})",
        at = now - 3 * 3600
    );
    db.execute_batch(&age).await.expect("aged");
    until("a sweep", async || {
        let ends = "select count(*), min(ends_at) from sessions";
        let mut rows = db.query(ends, ()).await.expect("a count");
        let row = rows.next().await.expect("a row").expect("a row");
        let number = |column| row.get::<i64>(column).expect("a number");
        number(0) == 1 && number(1) > alice_ends
    })
    .await;
    bob.is_refused(&host).await;
    // An open socket keeps its session, and counts as its use.
    socket.ok(json!({ "type": "self" })).await;
    let sessions = alice.sessions(&host).await;
    assert!(
        sessions[0]["last_seen"].as_i64() > Some(unix_now() - 600),
        "{sessions:?}"
    );
}

#[tokio::test]
async fn sockets_of_logins_that_ended_unheard_are_closed() {
    let host = Host::start_with(Form::File, |config| {
        config.account_interval = Duration::from_millis(50);
    })
    .await;
    host.register("alice").await;
    let ended = Device::log_in(&host, "alice", json!({})).await;
    let other = Device::log_in(&host, "alice", json!({})).await;
    let foreign = Device::of(&foreign_token(SECRET, "alice"));
    let mut sockets = [ended.connect(&host).await, foreign.connect(&host).await];
    let mut kept = other.connect(&host).await;
    // As another host does whose news the bus loses.
    let id = i64::from_str_radix(&ended.id(&host).await, 16).expect("a number");
    let end = format!(
        "pragma busy_timeout = 60000;
         delete from sessions where id = {id};
         update users set tokens_from = {}",
        unix_now()
    );
    let db = open(&host.database()).await;
    db.execute_batch(&end).await.expect("ended");
    for socket in &mut sockets {
        let (code, reason) = socket.closed().await;
        assert_eq!((code, &*reason), ENDED);
    }
    kept.ok(json!({ "type": "self" })).await;
}

#[tokio::test]
async fn floods_of_logins_and_refreshes_have_a_rate() {
    let host = Host::start_with(Form::File, |config| config.limits.logins_per_minute = 3).await;
    host.register("alice").await;
    let device = Device::log_in(&host, "alice", json!({})).await;
    let body = json!({ "username": "alice", "password": PASSWORD }).to_string();
    for status in [200, 200, 429] {
        let answer = host.http("POST", "/auth/token", &[], body.clone()).await;
        assert_eq!(answer.status, status);
    }
    // Refreshes are counted apart, and with them the ends of sessions.
    for (path, status) in [
        ("/auth/refresh", 200),
        ("/auth/refresh", 200),
        ("/auth/refresh", 200),
        ("/auth/refresh", 429),
        ("/auth/logout", 429),
    ] {
        let answer = device.ask(&host, "POST", path, "").await;
        assert_eq!(answer.status, status, "{path}");
    }
    let answer = device.ask(&host, "POST", "/auth/refresh", "").await;
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    let change = json!({ "old_password": PASSWORD, "new_password": "x" }).to_string();
    let answer = device.ask(&host, "POST", "/auth/password", &change).await;
    assert_eq!(answer.status, 429, "it is a guess like a login");
}

#[tokio::test]
async fn a_short_or_common_password_is_refused_if_the_operator_wants_it() {
    let host = Host::start_with(Form::File, |config| config.password_chars_min = 8).await;
    let good = "seven-Teal/otters";
    let body = json!({ "username": "alice", "password": good, "fullname": "Alice" });
    let registered = host.http("POST", "/register", &[], body.to_string()).await;
    assert_eq!(registered.status, 201);
    let alice = Device::log_in(&host, "alice", json!({ "password": good })).await;
    for (password, error) in [
        ("sevench", Some("should have at least 8 characters")),
        (
            "password1",
            Some("is too easy to guess: take a longer or less usual one"),
        ),
        ("k9-Tabasco/lime", None),
    ] {
        let body = json!({ "username": "eve", "password": password, "fullname": "Eve" });
        let registered = host.http("POST", "/register", &[], body.to_string()).await;
        let body = json!({ "old_password": good, "new_password": password });
        let changed = alice
            .ask(&host, "POST", "/auth/password", &body.to_string())
            .await;
        match error {
            Some(error) => {
                let of_register = format!("password {error}");
                assert_eq!((registered.status, registered.body), (400, of_register));
                let of_change = json!(format!("new_password {error}"));
                assert_eq!(json_of(&changed, 400)["error"], of_change);
            }
            None => {
                assert_eq!(registered.status, 201);
                is_done(&changed);
            }
        }
    }
}

async fn one_event_is_answered_without_a_socket(form: Form) {
    let host = Host::start_as(form).await;
    for name in ["alice", "bob"] {
        host.register(name).await;
    }
    let alice = Device::log_in(&host, "alice", json!({})).await;
    let mut bob = host.connect("bob").await;
    let create = json!({ "type": "create_conversation", "members": ["bob"], "ref": "a" });
    let answer = alice
        .ask(&host, "POST", "/events", &create.to_string())
        .await;
    let reply = json_of(&answer, 200);
    assert_eq!(
        (&reply["type"], &reply["ref"]),
        (&json!("create_conversation"), &json!("a"))
    );
    assert_eq!(bob.push().await["data"]["id"], reply["data"]["id"]);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    for (body, status, kind, code) in [
        ("nonsense", 400, "root", "invalid"),
        ("\u{0}", 400, "root", "invalid"),
        (r#"{"type": "nothing"}"#, 400, "root", "invalid"),
        (r#"{"type": "ping"}"#, 200, "ping", ""),
        (
            r#"{"type": "get_messages", "conversation_id": 7}"#,
            404,
            "get_messages",
            "not_found",
        ),
        (
            r#"{"type": "add_contact", "contact_username": "alice"}"#,
            400,
            "add_contact",
            "invalid",
        ),
    ] {
        let answer = alice.ask(&host, "POST", "/events", body).await;
        let reply = json_of(&answer, status);
        assert_eq!(reply["type"], kind, "{reply}");
        assert_eq!(reply["code"].as_str().unwrap_or_default(), code, "{reply}");
    }
    let large = alice
        .ask(&host, "POST", "/events", &" ".repeat(65 * 1024))
        .await;
    assert_eq!(json_of(&large, 413)["code"], "too_large");
}

#[tokio::test]
async fn events_without_a_socket_have_the_rate_of_their_user() {
    let host = Host::start_with(Form::File, |config| config.limits.events_per_second = 2).await;
    for name in ["alice", "bob"] {
        host.register(name).await;
    }
    let alice = Device::log_in(&host, "alice", json!({})).await;
    let mut refused = None;
    for _ in 0..200 {
        let answer = alice
            .ask(&host, "POST", "/events", r#"{"type": "ping", "ref": 1}"#)
            .await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a refusal");
    assert!(refused.header("retry-after").is_some());
    let reply = json_of(&refused, 429);
    assert_eq!(
        (&reply["code"], &reply["ref"]),
        (&json!("rate_limited"), &json!(1))
    );
    let other = Device::of(&foreign_token(SECRET, "bob"));
    let answer = other.ask(&host, "POST", "/events", r#"{"type": "ping"}"#);
    assert_eq!(answer.await.status, 200);
}
