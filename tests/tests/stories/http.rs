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
    // The second one outlives its token, and is the same otherwise.
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    let second = format!("__Host-{cookie}").replace("=3600", "=2592000");
    assert_eq!(cookies, [cookie, &second]);
    let bearer = token.replace("login-token=", "Bearer ");
    let among = format!("a=b; {token}; c=\"d\"");
    let foreign = format!("theme=日; {token}");
    let quoted = token.replace('=', "=\"") + "\"";
    let several = format!("login-token=; login-token=x.y.z; login-token=x; {token}");
    let too_many = format!("login-token=y; {several}");
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
        (vec![("cookie", &too_many)], (401, "invalid login-token")),
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
async fn the_cookie_of_a_sibling_subdomain_does_not_count() {
    let host = Host::start().await;
    for name in ["alice", "mallory"] {
        host.register(name).await;
    }
    let alice = login(host.address, "alice").await;
    let own = format!("__Host-{alice}");
    // As evil.chat.example would set it, for all hosts of chat.example.
    let injected = login(host.address, "mallory").await;
    let first = format!("{injected}; {alice}; {own}");
    let last = format!("{own}; {alice}; {injected}");
    let expired = format!("__Host-login-token=a.b.c; {injected}");
    for (cookie, expected) in [
        (&first, (200, "Hello, alice")),
        (&last, (200, "Hello, alice")),
        (&own, (200, "Hello, alice")),
        (&expired, (401, "invalid login-token")),
        // A client that knows only the seed's name.
        (&alice, (200, "Hello, alice")),
    ] {
        let headers = [("cookie", cookie.as_str())];
        let answer = host.http("GET", "/auth/verify", &headers, "").await;
        assert_eq!(told(&answer), expected, "{cookie}");
    }
    // Browsers let any host set these names: to them, the signs are part of the name.
    for sign in ["\u{2003}", "\u{a0}", "\u{85}", "\u{2028}", "\u{3000}"] {
        for name in [
            format!("{sign}__Host-login-token"),
            format!("__Host-login-token{sign}"),
        ] {
            let (_, token) = injected.split_once('=').expect("a cookie");
            let cookie = format!("{name}={token}; {alice}; {own}");
            let headers = [("cookie", cookie.as_str())];
            let answer = host.http("GET", "/auth/verify", &headers, "").await;
            assert_eq!(told(&answer), (200, "Hello, alice"), "{cookie:?}");
        }
    }
}

/// The answer to a request that is sent as it is.
async fn ask(host: &Host, request: &str) -> String {
    let stream = TcpStream::connect(host.address).await;
    let mut stream = stream.expect("the host listens");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tests::soon("the end", read).await.expect("text");
    answer
}

#[tokio::test]
async fn a_request_names_one_host() {
    let host = Host::start().await;
    for (version, hosts, status) in [
        ("1.1", "host: x\r\n", 200),
        ("1.1", "", 400),
        ("1.1", "host: x\r\nhost: x\r\n", 400),
        ("1.1", "host: x\r\nhost: y\r\n", 400),
        ("1.0", "", 200),
        ("1.0", "host: x\r\nhost: y\r\n", 400),
    ] {
        let request = format!("GET /misc/ping HTTP/{version}\r\n{hosts}connection: close\r\n\r\n");
        let answer = ask(&host, &request).await;
        let expected = format!("HTTP/{version} {status} ");
        assert!(answer.starts_with(&expected), "{request:?}: {answer}");
    }
}

#[tokio::test]
async fn the_id_of_a_request_tells_nobody_how_many_there_are() {
    let host = Host::start().await;
    let mut ids = Vec::new();
    for _ in 0..100 {
        let answer = host.http("GET", "/misc/ping", &[], "").await;
        let id = answer.header("x-request-id").expect("an id");
        ids.push(u64::from_str_radix(id, 16).expect("a number"));
    }
    let near = |pair: &&[u64]| pair[0].abs_diff(pair[1]) < 1 << 32;
    assert_eq!(ids.windows(2).filter(near).count(), 0, "{ids:x?}");
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 100, "all differ");
}

#[tokio::test]
async fn a_twin_of_a_username_cannot_be_registered() {
    let host = Host::start().await;
    host.register("alice").await;
    let twin = (409, "username looks like one that exists");
    for (username, expected) in [
        ("alice", (409, "username already exists")),
        ("alice ", twin),
        ("al\u{200b}ice", twin),
        ("\u{202e}alice", twin),
        ("\u{430}lic\u{435}", twin),
        ("Alice", (201, "registered")),
        ("\u{410}\u{43b}\u{438}\u{441}\u{430}", (201, "registered")),
    ] {
        let body = json!({ "username": username, "password": PASSWORD, "fullname": "x" });
        let answer = host.http("POST", "/register", &[], body.to_string()).await;
        assert_eq!(told(&answer), expected, "{username:?}");
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
        (&own.replace("http", "https"), 101, 202),
        (&own.replace("http", "ftp"), 403, 403),
        (&own.replace("http", "evil"), 403, 403),
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
async fn behind_a_proxy_only_https_is_the_servers_own_origin() {
    let direct = Host::start_with(Form::File, |config| config.trusted_proxies.clear()).await;
    // By default this machine is a trusted proxy.
    let proxied = Host::start().await;
    let chat = "chat.example";
    let forwarded = vec![("x-forwarded-for", "192.0.2.1")];
    for (host, name, origin, headers, is_own) in [
        (&direct, chat, "http://chat.example", vec![], true),
        (&direct, chat, "https://chat.example", vec![], true),
        (&direct, chat, "ftp://chat.example", vec![], false),
        (&direct, chat, "https://other.example", vec![], false),
        (
            &direct,
            chat,
            "http://chat.example",
            forwarded.clone(),
            false,
        ),
        (
            &direct,
            chat,
            "http://chat.example",
            vec![("via", "x")],
            false,
        ),
        (&direct, chat, "https://chat.example", forwarded, true),
        (&proxied, chat, "http://chat.example", vec![], false),
        (&proxied, chat, "https://chat.example", vec![], true),
        // The browser and the server are on one machine.
        (
            &proxied,
            "localhost:80",
            "http://localhost:80",
            vec![],
            true,
        ),
        (&proxied, "[::1]:80", "http://[::1]:80", vec![], true),
    ] {
        let headers = [vec![("host", name), ("origin", origin)], headers].concat();
        let answer = host.http("POST", "/auth/login", &headers, "").await;
        let expected = if is_own { 400 } else { 403 };
        assert_eq!(answer.status, expected, "{headers:?}: {}", answer.body);
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
