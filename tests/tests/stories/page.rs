//! The page to chat in: how its files are served. Browsers try the page itself, in `tests/browser`.

use tests::host::Http;
use tests::{Form, Host};

const FILES: [(&str, &str); 11] = [
    ("/", "text/html; charset=utf-8"),
    ("/app.js", "text/javascript; charset=utf-8"),
    ("/chunk.js", "text/javascript; charset=utf-8"),
    ("/more.js", "text/javascript; charset=utf-8"),
    ("/app.css", "text/css; charset=utf-8"),
    ("/sw.js", "text/javascript; charset=utf-8"),
    ("/app.webmanifest", "application/manifest+json"),
    ("/licences.txt", "text/plain; charset=utf-8"),
    ("/icon.svg", "image/svg+xml"),
    ("/icon-192.png", "image/png"),
    ("/icon-512.png", "image/png"),
];

/// The headers without the body, which need not be text.
async fn head(host: &Host, path: &str, headers: &[(&str, &str)]) -> Http {
    host.http("HEAD", path, headers, "").await
}

#[tokio::test]
async fn every_file_has_its_type_and_strict_headers() {
    let host = Host::start().await;
    for (path, content_type) in FILES {
        let answer = head(&host, path, &[]).await;
        let policy = answer.header("content-security-policy").unwrap_or_default();
        let begin = "default-src 'none'; script-src 'self'; style-src 'self'; ";
        assert!(policy.starts_with(begin), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        for (name, expected) in [
            ("content-type", content_type),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-cache"),
        ] {
            assert_eq!(answer.header(name), Some(expected), "{path}: {name}");
        }
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{path}");
        assert_ne!(answer.header("content-length"), Some("0"), "{path}");
    }
}

#[tokio::test]
async fn an_address_with_the_hash_is_immutable() {
    let host = Host::start().await;
    let html = host.http("GET", "/", &[], "").await.body;
    for path in ["/app.js", "/app.css"] {
        let (_, rest) = html.split_once(&format!("{path}?v=")).expect(path);
        let hash = rest.split('"').next().expect("the end of an attribute");
        for (query, expected) in [
            (format!("?v={hash}"), "public, max-age=31536000, immutable"),
            // The page of another release.
            ("?v=0123456789abcdef".into(), "no-cache"),
            (format!("?v={hash}0"), "no-cache"),
            ("?v=".into(), "no-cache"),
            (String::new(), "no-cache"),
        ] {
            let answer = head(&host, &format!("{path}{query}"), &[]).await;
            assert_eq!(answer.header("cache-control"), Some(expected), "{query}");
        }
    }
}

#[tokio::test]
async fn what_a_browser_has_is_not_sent_again() {
    let host = Host::start().await;
    let tag = |answer: &Http| answer.header("etag").expect("a tag").to_owned();
    let zipped = [("accept-encoding", "gzip, deflate, br")];
    for (path, _) in FILES {
        let plain = tag(&head(&host, path, &[]).await);
        let other = tag(&head(&host, path, &zipped).await);
        assert_eq!(plain != other, !path.ends_with(".png"), "{path}");
        let weak = format!("W/{plain}");
        let among = format!("\"x\", {plain}");
        for (known, status) in [
            (plain.as_str(), 304),
            (&weak, 304),
            (&among, 304),
            ("*", 304),
            ("\"x\"", 200),
            ("", 200),
        ] {
            let answer = head(&host, path, &[("if-none-match", known)]).await;
            assert_eq!(answer.status, status, "{path} {known}");
            assert_eq!(tag(&answer), plain);
        }
        let answer = head(&host, path, &[zipped[0], ("if-none-match", &other)]).await;
        assert_eq!(answer.status, 304, "{path}");
    }
    let answer = host.http("GET", "/", &[("if-none-match", "*")], "").await;
    assert_eq!((answer.status, answer.body.as_str()), (304, ""));
}

#[tokio::test]
async fn text_is_compressed_for_those_who_take_it() {
    let host = Host::start().await;
    let length = |answer: &Http| -> usize {
        let length = answer.header("content-length").expect("a length");
        length.parse().expect("a number")
    };
    for (path, _) in FILES {
        let plain = head(&host, path, &[]).await;
        let gzip = head(&host, path, &[("accept-encoding", "gzip")]).await;
        assert_eq!(plain.header("content-encoding"), None);
        let is_picture = path.ends_with(".png");
        let encoding = (!is_picture).then_some("gzip");
        assert_eq!(gzip.header("content-encoding"), encoding, "{path}");
        assert_eq!(length(&gzip) < length(&plain), !is_picture, "{path}");
        // The file is the same for every Origin.
        for answer in [plain, gzip] {
            let varies: Vec<_> = answer.headers.get_all("vary").iter().collect();
            assert_eq!(varies, ["Accept-Encoding"], "{path}");
        }
    }
}

#[tokio::test]
async fn the_page_knows_whether_people_may_register() {
    let open = Host::start().await;
    let closed = Host::start_with(Form::File, |config| config.has_registration = false).await;
    let [open, closed] = [&open, &closed].map(|host| host.http("GET", "/", &[], ""));
    let (open, closed) = (open.await, closed.await);
    let marked = open
        .body
        .replace("<html ", "<html data-registration=\"closed\" ");
    assert_ne!(open.body, marked);
    assert_eq!(closed.body, marked);
    assert_ne!(open.header("etag"), closed.header("etag"));
}

#[tokio::test]
async fn only_the_page_itself_is_there() {
    let host = Host::start().await;
    for (method, path, status) in [
        ("GET", "/index.html", 404),
        ("GET", "/c/1", 404),
        ("GET", "/app.js/", 404),
        ("GET", "/../Cargo.toml", 404),
        ("GET", "/favicon.ico", 404),
        ("POST", "/", 405),
        ("POST", "/app.js", 405),
        ("OPTIONS", "/app.js", 204),
    ] {
        let answer = host.http(method, path, &[], "").await;
        assert_eq!(answer.status, status, "{method} {path}");
    }
}

#[tokio::test]
async fn without_the_page_the_root_says_what_this_is() {
    let host = Host::start_with(Form::File, |config| config.has_page = false).await;
    for (path, _) in &FILES[1..] {
        let answer = host.http("GET", path, &[], "").await;
        assert_eq!((answer.status, &*answer.body), (404, "not found"), "{path}");
    }
    let answer = host.http("GET", "/", &[], "").await;
    let type_ = answer.header("content-type");
    assert_eq!(
        (answer.status, type_),
        (200, Some("text/plain; charset=utf-8"))
    );
    let begin = format!("chatapp {}, a chat server", env!("CARGO_PKG_VERSION"));
    assert!(answer.body.starts_with(&begin), "{}", answer.body);
    for named in ["handler/PROTOCOL.md", "/misc/ping", "/readyz", "/ws"] {
        assert!(answer.body.contains(named), "{named}: {}", answer.body);
    }
}
