//! HTTP: each row of the reference behaviour, and the cases of browsers and careless clients.

use std::time::Duration;

use serde_json::json;
use tests::host::{Http, ORIGIN, PASSWORD, login};
use tests::{Form, Host};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TEXT: &str = "text/plain; charset=utf-8";

fn told(answer: &Http) -> (u16, &str) {
    assert_eq!(answer.header("content-type"), Some(TEXT), "{answer:?}");
    (answer.status, &answer.body)
}

#[tokio::test]
async fn register_and_login() {
    let host = Host::start().await;
    let good = json!({ "username": "hizz", "password": "xyz", "fullname": "Snakey" }).to_string();
    for (path, body, expected) in [
        ("/register", "", (400, "not a valid json")),
        ("/register", "username=hizz", (400, "not a valid json")),
        (
            "/register",
            r#"{"password": "", "fullname": ""}"#,
            (400, "username required"),
        ),
        (
            "/register",
            r#"{"username": 1, "fullname": ""}"#,
            (400, "password required"),
        ),
        (
            "/register",
            r#"{"username": 1, "password": 1}"#,
            (400, "fullname required"),
        ),
        (
            "/register",
            r#"{"username": 1, "password": 1, "fullname": 1}"#,
            (400, "username should be a string"),
        ),
        (
            "/register",
            r#"{"username": "", "password": "", "fullname": ""}"#,
            (400, "username should not be empty"),
        ),
        ("/register", &good, (201, "registered")),
        ("/register", &good, (409, "username already exists")),
        ("/auth/login", "[]", (400, "not a valid json")),
        ("/auth/login", "{}", (400, "username required")),
        (
            "/auth/login",
            r#"{"username": "hizz", "password": "nope"}"#,
            (401, "mismatch username and password"),
        ),
        (
            "/auth/login",
            r#"{"username": "nobody", "password": "xyz"}"#,
            (401, "mismatch username and password"),
        ),
        (
            "/auth/login",
            r#"{"username": "HIZZ", "password": "xyz"}"#,
            (401, "mismatch username and password"),
        ),
        (
            "/auth/login",
            r#"{"username": "hizz", "password": "xyz"}"#,
            (202, "login successful"),
        ),
    ] {
        // The content type makes no difference.
        for content_type in [
            "application/x-www-form-urlencoded",
            "text/plain",
            "application/json",
        ] {
            if expected.0 == 201 && content_type != "text/plain" {
                continue;
            }
            let answer = host
                .http(
                    "POST",
                    path,
                    &[("content-type", content_type)],
                    body.to_owned(),
                )
                .await;
            assert_eq!(told(&answer), expected, "{path} {body}");
            assert_eq!(answer.header("set-cookie").is_some(), expected.0 == 202);
        }
    }
}

#[tokio::test]
async fn the_cookie_is_the_seeds_and_verifies() {
    let host = Host::start().await;
    host.register("hizz \u{202e}é\"").await;
    let body = json!({ "username": "hizz \u{202e}é\"", "password": PASSWORD }).to_string();
    let answer = host.http("POST", "/auth/login", &[], body).await;
    let cookie = answer.header("set-cookie").expect("a cookie");
    let (token, attributes) = cookie.split_once(';').expect("attributes");
    assert_eq!(
        attributes,
        " HttpOnly; Max-Age=3600; Path=/; Secure; SameSite=Lax"
    );
    let bearer = token.replace("login-token=", "Bearer ");
    let among = format!("a=b; {token}; c=\"d\"");
    let foreign = format!("theme=日; {token}");
    let quoted = token.replace('=', "=\"") + "\"";
    let several = format!("login-token=; login-token=x.y.z; {token}");
    let hello = (200, "Hello, hizz \u{202e}é\"");
    for (headers, expected) in [
        (vec![("cookie", token)], hello),
        (vec![("cookie", &among)], hello),
        (vec![("cookie", "a=b"), ("cookie", token)], hello),
        (vec![("authorization", &bearer)], hello),
        (vec![("cookie", &foreign)], hello),
        (vec![("cookie", &quoted)], hello),
        (vec![("cookie", &several)], hello),
        (
            vec![("cookie", "login-token=x"), ("authorization", &bearer)],
            hello,
        ),
        (vec![], (401, "login-token required")),
        (vec![("cookie", "other=1")], (401, "login-token required")),
        (
            vec![("authorization", "Basic eDp5")],
            (401, "login-token required"),
        ),
        (
            vec![("cookie", "login-token=x")],
            (401, "invalid login-token"),
        ),
        (
            vec![("cookie", "login-token=")],
            (401, "invalid login-token"),
        ),
        (
            vec![("authorization", "Bearer x")],
            (401, "invalid login-token"),
        ),
    ] {
        let answer = host.http("GET", "/auth/verify", &headers, "").await;
        assert_eq!(told(&answer), expected, "{headers:?}");
    }
}

#[tokio::test]
async fn methods_and_paths() {
    let host = Host::start().await;
    for (method, path, status, allow) in [
        ("GET", "/misc/ping", 200, None),
        ("HEAD", "/misc/ping", 200, None),
        ("GET", "/misc/ping?x=y", 200, None),
        ("POST", "/misc/ping", 405, Some("GET, HEAD, OPTIONS")),
        ("GET", "/register", 405, Some("POST, OPTIONS")),
        ("HEAD", "/register", 405, Some("POST, OPTIONS")),
        ("PUT", "/auth/login", 405, Some("POST, OPTIONS")),
        ("DELETE", "/auth/verify", 405, Some("GET, HEAD, OPTIONS")),
        ("POST", "/ws", 405, Some("GET, OPTIONS")),
        ("GET", "/ws", 426, None),
        ("OPTIONS", "/register", 204, Some("POST, OPTIONS")),
        ("GET", "/", 200, None),
        ("POST", "/", 405, Some("GET, HEAD, OPTIONS")),
        ("GET", "/misc/ping/", 404, None),
        ("OPTIONS", "/nowhere", 404, None),
    ] {
        let answer = host.http(method, path, &[], "").await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (status, allow),
            "{method} {path}"
        );
        if method == "HEAD" {
            assert_eq!(answer.body, "");
        }
    }
    let head = host.http("HEAD", "/misc/ping", &[], "").await;
    assert_eq!(
        (head.header("content-length"), head.header("content-type")),
        (Some("4"), Some(TEXT))
    );
}

#[tokio::test]
async fn the_root_says_what_this_is() {
    let host = Host::start().await;
    let answer = host.http("GET", "/", &[], "").await;
    let (status, text) = told(&answer);
    assert_eq!(status, 200);
    let begin = format!("chatapp {}, a chat server", env!("CARGO_PKG_VERSION"));
    assert!(text.starts_with(&begin), "{text}");
    for named in ["handler/PROTOCOL.md", "/misc/ping", "/readyz", "/ws"] {
        assert!(text.contains(named), "{named}: {text}");
    }
}

#[tokio::test]
async fn cors_is_for_the_configured_origins() {
    let origins = [ORIGIN, "https://chat.example"];
    let host = Host::start_with(Form::File, |config| {
        config.origins = origins
            .map(|origin| origin.parse().expect("a header"))
            .into();
    })
    .await;
    for origin in origins {
        let answer = host
            .http("GET", "/misc/ping", &[("origin", origin)], "")
            .await;
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        assert_eq!(
            answer.header("access-control-allow-credentials"),
            Some("true")
        );
        // Errors have the headers too; otherwise a page could not read them.
        let answer = host
            .http("POST", "/auth/login", &[("origin", origin)], "x")
            .await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
    }
    let preflight = [
        ("origin", ORIGIN),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type, x-other"),
    ];
    let answer = host.http("OPTIONS", "/auth/login", &preflight, "").await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN));
    assert_eq!(answer.header("access-control-allow-methods"), Some("POST"));
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some("content-type, x-other")
    );

    for foreign in [
        "http://evil.example",
        "http://localhost:5174",
        "https://localhost:5173",
        "null",
    ] {
        for (method, path) in [("GET", "/misc/ping"), ("OPTIONS", "/auth/login")] {
            let headers = [
                ("origin", foreign),
                ("access-control-request-method", "POST"),
            ];
            let answer = host.http(method, path, &headers, "").await;
            let cors = answer
                .headers
                .keys()
                .find(|name| name.as_str().starts_with("access-control"));
            assert_eq!(cors, None, "{foreign} {method}");
            assert_eq!(answer.header("vary"), Some("Origin"));
        }
    }
}

#[tokio::test]
async fn a_page_of_another_site_cannot_act() {
    let host = Host::start().await;
    host.register("alice").await;
    let cookie = login(host.address, "alice").await;
    let own = format!("http://{}", host.address);
    let upgrade = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let body = json!({ "username": "alice", "password": PASSWORD }).to_string();
    for (origin, socket, login) in [
        ("http://evil.example", 403, 403),
        ("null", 403, 403),
        ("http://localhost:5174", 403, 403),
        (ORIGIN, 101, 202),
        (&own, 101, 202),
    ] {
        let mut headers = vec![("origin", origin), ("cookie", cookie.as_str())];
        let answer = host
            .http("POST", "/auth/login", &headers, body.clone())
            .await;
        assert_eq!(answer.status, login, "{origin}");
        headers.extend(upgrade);
        let answer = host.http("GET", "/ws", &headers, "").await;
        assert_eq!(answer.status, socket, "{origin}");
    }
}

#[tokio::test]
async fn handshakes_by_the_book() {
    let host = Host::start().await;
    let upgrade = ("connection", "upgrade");
    let websocket = ("upgrade", "websocket");
    let version = ("sec-websocket-version", "13");
    let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    for (headers, status) in [
        (vec![upgrade, websocket, version, key], 101),
        (vec![websocket, version, key], 426),
        (vec![upgrade, version, key], 426),
        (vec![upgrade, websocket, key], 400),
        (
            vec![upgrade, websocket, ("sec-websocket-version", "8"), key],
            400,
        ),
        (vec![upgrade, websocket, version], 400),
        (
            vec![upgrade, websocket, version, ("sec-websocket-key", "abc")],
            400,
        ),
    ] {
        let answer = host.http("GET", "/ws", &headers, "").await;
        assert_eq!(answer.status, status, "{headers:?}");
        match status {
            // The example of RFC 6455 section 1.3.
            101 => assert_eq!(
                answer.header("sec-websocket-accept"),
                Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
            ),
            400 => assert_eq!(answer.header("sec-websocket-version"), Some("13")),
            _ => assert_eq!(answer.header("upgrade"), Some("websocket")),
        }
    }
}

#[tokio::test]
async fn a_socket_needs_http_1_1() {
    let host = Host::start().await;
    let mut stream = TcpStream::connect(host.address)
        .await
        .expect("the host listens");
    let handshake = "GET /ws HTTP/1.0\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream
        .write_all(handshake.as_bytes())
        .await
        .expect("written");
    let mut answer = String::new();
    tests::soon("the end", stream.read_to_string(&mut answer))
        .await
        .expect("text");
    assert!(answer.starts_with("HTTP/1.0 426 "), "{answer}");
}

#[tokio::test]
async fn bodies_have_a_limit() {
    let host = Host::start().await;
    for (bytes, expected) in [
        (64 * 1024, (400, "not a valid json")),
        (64 * 1024 + 1, (413, "body should be at most 65536 bytes")),
    ] {
        let answer = host.http("POST", "/register", &[], "x".repeat(bytes)).await;
        assert_eq!(told(&answer), expected);
    }
}

#[tokio::test]
async fn requests_that_take_too_long_are_ended() {
    let host = Host::start_with(Form::File, |config| {
        config.head_timeout = Duration::from_millis(500);
        config.body_timeout = Duration::from_millis(500);
    })
    .await;
    let body =
        "POST /register HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\nconnection: close\r\n\r\n{";
    let kept_alive = "GET /misc/ping HTTP/1.1\r\nhost: x\r\n\r\n";
    for (sent, answered) in [
        ("GET /misc/ping HTTP/1.1\r\nhost:", ""),
        ("", ""),
        (body, "HTTP/1.1 408 Request Timeout"),
        (kept_alive, "HTTP/1.1 200 OK"),
    ] {
        let mut stream = TcpStream::connect(host.address)
            .await
            .expect("the host listens");
        stream.write_all(sent.as_bytes()).await.expect("written");
        let mut answer = String::new();
        tests::soon("the end", stream.read_to_string(&mut answer))
            .await
            .expect("text");
        assert!(answer.starts_with(answered), "{sent:?}: {answer}");
    }
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let host = Host::start().await;
    let mut stream = TcpStream::connect(host.address)
        .await
        .expect("the host listens");
    let ping = b"GET /misc/ping HTTP/1.1\r\nhost: x\r\n\r\n";
    let head = b"HEAD /misc/ping HTTP/1.1\r\nhost: x\r\n\r\n";
    let last = b"GET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let requests = [&ping[..], head, ping, last].concat();
    stream.write_all(&requests).await.expect("written");
    let mut answers = String::new();
    tests::soon("the end", stream.read_to_string(&mut answers))
        .await
        .expect("text");
    let statuses: Vec<_> = answers.matches("HTTP/1.1 ").collect();
    assert_eq!(statuses.len(), 4, "{answers}");
    assert_eq!(answers.matches("\r\n\r\npong").count(), 2, "{answers}");
    assert!(answers.ends_with("\r\n\r\nnot found"), "{answers}");
}

#[tokio::test]
async fn a_login_storm_is_refused_in_part_and_delays_nobody() {
    let host = Host::start().await;
    let mut alice = host.join("alice").await;
    let body = json!({ "username": "alice", "password": "wrong" }).to_string();
    let storm: Vec<_> = (0..200)
        .map(|_| {
            let (address, body) = (host.address, body.clone());
            tokio::spawn(async move {
                tests::host::request(address, "POST", "/auth/login", &[], body).await
            })
        })
        .collect();
    let mut refused = 0;
    for answer in storm {
        assert_eq!(alice.ok(json!({ "type": "ping" })).await, "pong");
        let answer = answer.await.expect("no panic");
        match told(&answer) {
            (401, "mismatch username and password") => {}
            (503, "the server is busy, try again later") => {
                refused += 1;
                assert_eq!(answer.header("retry-after"), Some("2"));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(refused > 0, "64 logins may wait, and 200 came at once");
}
