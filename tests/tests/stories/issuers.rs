//! Users of identity providers: a real one, and ones that lie, hang and talk nonsense.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tests::host::{Form, SECRET, request};
use tests::tokens::{foreign_token, unix_now};
use tests::{Client, Host, IdentityProvider, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::stories::in_every_form;

in_every_form! {
    users_of_an_identity_provider_come_by_themselves
}

const APPS: [&str; 3] = ["RS256", "ES256", "EdDSA"];

async fn start(form: Form, issuers: Vec<String>) -> Host {
    Host::start_with(form, |config| {
        config.auth = host::AuthConfig {
            issuers: issuers.clone(),
            audiences: APPS.map(str::to_owned).to_vec(),
            username_claim: "preferred_username".into(),
        };
    })
    .await
}

/// Who the user of a token is; `None` if it is refused. Asks each host in turn.
async fn who(host: &Host, token: &str) -> Option<String> {
    who_at(host.next_address(), token).await
}

async fn who_at(address: SocketAddr, token: &str) -> Option<String> {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let answer = request(address, "GET", "/auth/verify", &headers, "").await;
    match answer.status {
        200 => answer.body.strip_prefix("Hello, ").map(str::to_owned),
        _ => {
            assert_eq!((answer.status, &*answer.body), (401, "invalid login-token"));
            None
        }
    }
}

async fn connect(host: &Host, token: &str) -> Client {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    Client::connect_with(host.next_address(), &headers).await
}

async fn users_of_an_identity_provider_come_by_themselves(form: Form) {
    let mut provider = IdentityProvider::start().await;
    let host = start(form, vec![provider.url()]).await;
    let mut clients = Vec::new();
    for (username, app) in ["ann", "bob", "carol"].into_iter().zip(APPS) {
        let token = provider.id_token(username, app).await;
        let mut client = connect(&host, &token).await;
        let profile = client.ok(json!({ "type": "self" })).await;
        let expected = (&json!(username), &json!(format!("Name of {username}")));
        assert_eq!((&profile["username"], &profile["fullname"]), expected);
        // The same user again, on every host.
        for _ in 0..2 {
            assert_eq!(who(&host, &token).await.as_deref(), Some(username));
        }
        clients.push(client);
    }
    let [ann, bob, _] = &mut clients[..] else {
        panic!("three clients");
    };
    let conversation = ann.converse(&["bob"]).await;
    assert_eq!(bob.push().await["type"], "create_conversation");
    bob.send(conversation, "hello").await;
    assert_eq!(ann.push().await["data"]["content"], "hello");

    // It has new keys: they are asked for, though not at every token.
    let old = provider.id_token("dave", "RS256").await;
    provider.rotate().await;
    let new = provider.id_token("erin", "ES256").await;
    for address in &host.addresses {
        let knows = async || who_at(*address, &new).await.is_some();
        until("the new keys", knows).await;
    }
    // The old ones are gone from the host that has fetched the new ones.
    let token = provider.id_token("frank", "RS256").await;
    let ready = provider.id_token("grace", "RS256").await;
    for _ in &host.addresses {
        assert_eq!(who(&host, &token).await.as_deref(), Some("frank"));
        assert_eq!(who(&host, &old).await, None);
    }

    // While it is down, those get in whose keys are known, new users among them.
    provider.kill();
    for _ in &host.addresses {
        assert_eq!(who(&host, &token).await.as_deref(), Some("frank"));
        assert_eq!(who(&host, &ready).await.as_deref(), Some("grace"));
    }
    let mut grace = connect(&host, &ready).await;
    assert_eq!(grace.ok(json!({ "type": "ping" })).await, "pong");
    assert_eq!(who(&host, &old).await, None);
}

/// Moves the clock of the host, and of all else in this process, which then goes on.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn an_issuer_that_is_down_for_an_hour_keeps_out_only_unknown_keys() {
    let mut provider = IdentityProvider::start().await;
    let host = start(Form::File, vec![provider.url()]).await;
    let known = provider.id_token("ann", "RS256").await;
    let first_time = provider.id_token("bob", "ES256").await;
    assert_eq!(who(&host, &known).await.as_deref(), Some("ann"));
    provider.rotate().await;
    let unknown = provider.id_token("carol", "RS256").await;
    let expired = json!({
        "iss": provider.url(), "aud": "RS256", "sub": "s", "preferred_username": "dave",
        "exp": unix_now() - 100,
    });
    let expired = provider.sign(json!({}), expired, false).await;
    provider.kill();

    // In its place, somebody counts who connects, and answers nothing.
    let down = TcpListener::bind(provider.address).await.expect("bound");
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let down = tokio::spawn(async move {
        while down.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    for _ in 0..12 {
        pass(Duration::from_secs(600)).await;
        let (since, before) = (Instant::now(), tries.load(Ordering::Relaxed));
        // Nobody is asked for the key of a token that has expired.
        assert_eq!(who(&host, &expired).await, None);
        assert_eq!(tries.load(Ordering::Relaxed), before);
        for _ in 0..10 {
            assert_eq!(who(&host, &unknown).await, None);
            assert_eq!(who(&host, &known).await.as_deref(), Some("ann"));
        }
        let mut refused = connect(&host, &unknown).await;
        assert_eq!(refused.closed().await, (1000, "invalid login-token".into()));
        let mut ann = connect(&host, &known).await;
        assert_eq!(ann.ok(json!({ "type": "ping" })).await, "pong");
        // The issuer is asked once, and again after ten seconds: not for each token.
        let tries = tries.load(Ordering::Relaxed) - before;
        let tries_max = 1 + since.elapsed().as_secs() as usize / 10;
        assert!((1..=tries_max).contains(&tries), "{tries} of {tries_max}");
    }
    // The first token of another user comes after two hours.
    assert_eq!(who(&host, &first_time).await.as_deref(), Some("bob"));

    // It is back, with other keys.
    down.abort();
    assert!(down.await.is_err_and(|error| error.is_cancelled()));
    provider.restart().await;
    let new = provider.id_token("dave", "EdDSA").await;
    pass(Duration::from_secs(10)).await;
    assert_eq!(who(&host, &new).await.as_deref(), Some("dave"));
    assert_eq!(who(&host, &known).await, None);
}

#[tokio::test]
async fn tokens_of_attackers_are_refused() {
    let provider = IdentityProvider::start().await;
    let host = start(Form::File, vec![provider.url()]).await;
    host.register("alice").await;
    let claims = |more: Value| {
        let mut claims = json!({
            "iss": provider.url(), "aud": "RS256", "sub": "subject of mallory",
            "preferred_username": "mallory", "exp": unix_now() + 300, "iat": unix_now(),
        });
        for (name, value) in more.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        claims
    };
    let own = provider.sign(json!({}), claims(json!({})), false).await;
    assert_eq!(who(&host, &own).await.as_deref(), Some("mallory"));
    let other = |subject: &str, more: Value| {
        let mut claims = claims(more);
        claims["sub"] = json!(subject);
        claims
    };
    let hs256 = {
        let header = jsonwebtoken::Header::default();
        let key = jsonwebtoken::EncodingKey::from_secret(provider.url().as_bytes());
        jsonwebtoken::encode(&header, &claims(json!({})), &key).expect("a token")
    };
    let mut unsigned = own.clone();
    unsigned.truncate(own.rfind('.').expect("a signature") + 1);
    let mut tokens = vec![("signed with a secret", hs256), ("not signed", unsigned)];
    for (what, header, claims, is_forged) in [
        ("of another key", json!({}), claims(json!({})), true),
        (
            "with its own key",
            json!({ "jwk": { "kty": "oct", "k": "AAAA" } }),
            claims(json!({})),
            true,
        ),
        (
            "with keys elsewhere",
            json!({ "jku": "http://127.0.0.1:1/keys" }),
            claims(json!({})),
            true,
        ),
        (
            "with a kid that is a path",
            json!({ "kid": "../../../../dev/null" }),
            claims(json!({})),
            false,
        ),
        (
            "with a kid that is a URL",
            json!({ "kid": "http://127.0.0.1:1/keys" }),
            claims(json!({})),
            false,
        ),
        (
            "with an empty kid",
            json!({ "kid": "" }),
            claims(json!({})),
            false,
        ),
        (
            "of another algorithm",
            json!({ "alg": "RS512" }),
            claims(json!({})),
            false,
        ),
        (
            "of a weaker algorithm",
            json!({ "alg": "HS256" }),
            claims(json!({})),
            false,
        ),
        (
            "of no algorithm",
            json!({ "alg": "none" }),
            claims(json!({})),
            false,
        ),
        (
            "of the other kind of key",
            json!({ "alg": "ES256" }),
            claims(json!({})),
            false,
        ),
        (
            "with what nobody knows",
            json!({ "crit": ["x"], "x": 1 }),
            claims(json!({})),
            false,
        ),
        (
            "of the type of a logout",
            json!({ "typ": "logout+jwt" }),
            claims(json!({})),
            false,
        ),
        (
            "that tells of a logout",
            json!({}),
            claims(
                json!({ "events": { "http://schemas.openid.net/event/backchannel-logout": {} } }),
            ),
            false,
        ),
        (
            "of another issuer",
            json!({}),
            claims(json!({ "iss": "https://id.example" })),
            false,
        ),
        (
            "of an issuer with a slash",
            json!({}),
            claims(json!({ "iss": format!("{}/", provider.url()) })),
            false,
        ),
        (
            "of no issuer",
            json!({}),
            claims(json!({ "iss": null })),
            false,
        ),
        (
            "for another app",
            json!({}),
            claims(json!({ "aud": "another" })),
            false,
        ),
        (
            "for other apps",
            json!({}),
            claims(json!({ "aud": ["another", "rs256"] })),
            false,
        ),
        (
            "for no app",
            json!({}),
            claims(json!({ "aud": null })),
            false,
        ),
        (
            "expired",
            json!({}),
            claims(json!({ "exp": unix_now() - 100 })),
            false,
        ),
        (
            "that never expires",
            json!({}),
            claims(json!({ "exp": null })),
            false,
        ),
        (
            "that expires with a word",
            json!({}),
            claims(json!({ "exp": "never" })),
            false,
        ),
        (
            "not yet valid",
            json!({}),
            claims(json!({ "nbf": unix_now() + 200 })),
            false,
        ),
        (
            "of nobody",
            json!({}),
            claims(json!({ "sub": null })),
            false,
        ),
        (
            "of an empty subject",
            json!({}),
            other("", json!({})),
            false,
        ),
        (
            "of a long subject",
            json!({}),
            other(&"x".repeat(256), json!({})),
            false,
        ),
        (
            "that takes a name",
            json!({}),
            other("s1", json!({ "preferred_username": "alice" })),
            false,
        ),
        (
            "that takes a name of its own kind",
            json!({}),
            other("s1", json!({})),
            false,
        ),
        (
            "that looks like a name",
            json!({}),
            other("s1", json!({ "preferred_username": "al\u{200b}ice" })),
            false,
        ),
        (
            "that takes the name of the deleted",
            json!({}),
            other("s1", json!({ "preferred_username": "deleted" })),
            false,
        ),
        (
            "without a name",
            json!({}),
            other("s1", json!({ "preferred_username": null })),
            false,
        ),
        (
            "with a list of names",
            json!({}),
            other("s1", json!({ "preferred_username": ["eve"] })),
            false,
        ),
        (
            "with a long name",
            json!({}),
            other("s1", json!({ "preferred_username": "x".repeat(65) })),
            false,
        ),
        (
            "with a name that nobody sees",
            json!({}),
            other("s1", json!({ "preferred_username": " " })),
            false,
        ),
    ] {
        tokens.push((what, provider.sign(header, claims, is_forged).await));
    }
    for (what, token) in &tokens {
        assert_eq!(who(&host, token).await, None, "a token {what}");
        let (code, reason) = connect(&host, token).await.closed().await;
        assert_eq!(
            (code, reason.as_str()),
            (1000, "invalid login-token"),
            "a token {what}"
        );
    }
    // Whoever changes the name there stays who it was here.
    let renamed = claims(json!({ "preferred_username": "alice" }));
    let renamed = provider.sign(json!({}), renamed, false).await;
    assert_eq!(who(&host, &renamed).await.as_deref(), Some("mallory"));
    // A token of the app itself is still one.
    let signed = foreign_token(SECRET, "alice");
    assert_eq!(who(&host, &signed).await.as_deref(), Some("alice"));
    let db = tests::data::open(&host.database()).await;
    let mut rows = db
        .query("select count(*) from users", ())
        .await
        .expect("rows");
    let row = rows.next().await.expect("a row").expect("a row");
    assert_eq!(row.get::<i64>(0).expect("a count"), 2);
}

#[tokio::test]
async fn a_token_with_an_impossible_time_ends_with_the_others() {
    let provider = IdentityProvider::start().await;
    let host = start(Form::File, vec![provider.url()]).await;
    let now = unix_now();
    let times = [
        json!(now - 100),
        // In milliseconds, and by a clock that is wrong.
        json!(now * 1000),
        json!(now + 3600),
        json!(1e300),
        json!(-5),
        json!("now"),
    ];
    let mut tokens = Vec::new();
    for iat in &times {
        let claims = json!({
            "iss": provider.url(), "aud": "RS256", "sub": "subject of ann",
            "preferred_username": "ann", "exp": now + 300, "iat": iat,
        });
        tokens.push(provider.sign(json!({}), claims, false).await);
    }
    for (iat, token) in times.iter().zip(&tokens) {
        assert_eq!(who(&host, token).await.as_deref(), Some("ann"), "{iat}");
    }
    // As a new password by the operator does.
    let end = format!("pragma busy_timeout = 60000; update users set tokens_from = {now}");
    let db = tests::data::open(&host.database()).await;
    db.execute_batch(&end).await.expect("ended");
    for (iat, token) in times.iter().zip(&tokens) {
        let bearer = format!("Bearer {token}");
        let answer = host
            .http("GET", "/auth/verify", &[("authorization", &bearer)], "")
            .await;
        assert_eq!(answer.status, 401, "{iat}");
    }
}

/// Two issuers that are trusted, and name their keys alike.
#[tokio::test]
async fn an_issuer_cannot_speak_for_another() {
    let providers = [
        IdentityProvider::start().await,
        IdentityProvider::start().await,
    ];
    for provider in &providers {
        provider.rotate_to("key").await;
    }
    let [ours, theirs] = &providers;
    let host = start(
        Form::File,
        providers.iter().map(IdentityProvider::url).collect(),
    )
    .await;
    let claims = |issuer: &IdentityProvider, username: &str| {
        json!({
            "iss": issuer.url(), "aud": "RS256", "sub": "1", "preferred_username": username,
            "exp": unix_now() + 300,
        })
    };
    let sign = async |signer: &IdentityProvider, issuer: &IdentityProvider, username: &str| {
        signer
            .sign(json!({}), claims(issuer, username), false)
            .await
    };
    let [ann, bob] = [
        sign(ours, ours, "ann").await,
        sign(theirs, theirs, "bob").await,
    ];
    let forged = [
        sign(theirs, ours, "ann").await,
        sign(ours, theirs, "bob").await,
    ];
    // Before the keys are known, and after.
    for _ in 0..2 {
        for token in &forged {
            assert_eq!(who(&host, token).await, None);
        }
        // The same subject of two issuers is two users.
        assert_eq!(who(&host, &ann).await.as_deref(), Some("ann"));
        assert_eq!(who(&host, &bob).await.as_deref(), Some("bob"));
    }
    // Neither gets the name of the other's user by claiming it.
    let mut takes = claims(theirs, "ann");
    takes["sub"] = json!("2");
    let takes = theirs.sign(json!({}), takes, false).await;
    assert_eq!(who(&host, &takes).await, None);
}

/// An issuer that answers when the test lets it.
struct Slow {
    address: SocketAddr,
    /// How often its discovery document was asked for.
    asked: Arc<AtomicUsize>,
    answers: Arc<Semaphore>,
}

impl Slow {
    /// It publishes the keys of this provider.
    async fn start(provider: &IdentityProvider) -> Self {
        let path = "/.well-known/openid-configuration";
        let document = request(provider.address, "GET", path, &[], "").await.body;
        let document: Value = serde_json::from_str(&document).expect("JSON");
        let keys = document["jwks_uri"].as_str().expect("a URL");
        let path = keys.strip_prefix(&provider.url()).expect("its own URL");
        let keys = request(provider.address, "GET", path, &[], "").await.body;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let slow = Slow {
            address: listener.local_addr().expect("an address"),
            asked: Arc::default(),
            answers: Arc::new(Semaphore::new(0)),
        };
        let url = slow.url();
        let document = json!({ "issuer": url, "jwks_uri": format!("{url}/keys") }).to_string();
        let (asked, answers) = (slow.asked.clone(), slow.answers.clone());
        let answer = move |request: Request<Incoming>| {
            let (asked, answers) = (asked.clone(), answers.clone());
            let body = match request.uri().path() {
                "/keys" => keys.clone(),
                _ => document.clone(),
            };
            async move {
                if body.contains("jwks_uri") {
                    asked.fetch_add(1, Ordering::Relaxed);
                    answers.acquire().await.expect("open").forget();
                }
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body))))
            }
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer.clone()));
                tokio::spawn(connection);
            }
        });
        slow
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn who_leaves_does_not_stop_the_fetch_of_the_keys() {
    let provider = IdentityProvider::start().await;
    let slow = Slow::start(&provider).await;
    let host = start(Form::File, vec![slow.url()]).await;
    let claims = |username: &str| {
        json!({
            "iss": slow.url(), "aud": "RS256", "sub": username, "preferred_username": username,
            "exp": unix_now() + 300,
        })
    };
    let unknown = json!({ "kid": "nobody has it" });
    let unknown = provider.sign(unknown, claims("mallory"), false).await;
    let good = provider.sign(json!({}), claims("ann"), false).await;
    for _ in 0..3 {
        let mut leaving = TcpStream::connect(host.address).await.expect("it listens");
        let head = format!(
            "GET /auth/verify HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {unknown}\r\n\r\n"
        );
        leaving.write_all(head.as_bytes()).await.expect("written");
        until("the issuer is asked", async || slow.asked() > 0).await;
        leaving.shutdown().await.expect("shut down");
        let mut nothing = Vec::new();
        let left = tests::soon("the end", leaving.read_to_end(&mut nothing));
        left.await.expect("the end");
        assert_eq!(nothing, b"");
    }
    let entering = who(&host, &good);
    let letting = async {
        // Whoever asks for the keys now gets those of the first fetch.
        slow.answers.add_permits(1);
    };
    let (who, ()) = tokio::join!(entering, letting);
    assert_eq!(who.as_deref(), Some("ann"));
    assert_eq!(slow.asked(), 1);
}

/// Issuers that do not do what they should, each under a path of its own. `inside` counts who connects to
/// what is not to be reached through them.
struct Liars {
    address: SocketAddr,
    inside: SocketAddr,
    reached: Arc<AtomicUsize>,
}

impl Liars {
    async fn start() -> Self {
        let [listener, inside] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0"));
        let (listener, inside) = (listener.await.expect("bound"), inside.await.expect("bound"));
        let reached = Arc::new(AtomicUsize::new(0));
        let liars = Liars {
            address: listener.local_addr().expect("an address"),
            inside: inside.local_addr().expect("an address"),
            reached: reached.clone(),
        };
        tokio::spawn(async move {
            while inside.accept().await.is_ok() {
                reached.fetch_add(1, Ordering::Relaxed);
            }
        });
        let (address, inside) = (liars.address, liars.inside);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service_fn(move |request| lie(request, address, inside));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        liars
    }

    fn issuer(&self, kind: &str) -> String {
        format!("http://{}/{kind}", self.address)
    }
}

async fn lie(
    request: Request<Incoming>,
    address: SocketAddr,
    inside: SocketAddr,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let kind = path.split('/').nth(1).unwrap_or_default();
    let issuer = format!("http://{address}/{kind}");
    let mut response = Response::builder();
    let document = |keys: String| json!({ "issuer": issuer, "jwks_uri": keys }).to_string();
    let body = match (kind, path.ends_with("/keys")) {
        ("hangs", _) => std::future::pending().await,
        ("fails", _) => {
            response = response.status(500);
            "no".into()
        }
        ("talks", _) => "<html>hello</html>".into(),
        ("names-another", _) => {
            json!({ "issuer": "https://id.example", "jwks_uri": "https://id.example/keys" })
                .to_string()
        }
        ("sends-a-megabyte", false) => format!("\"{}\"", "x".repeat(1024 * 1024)),
        ("redirects", false) => {
            response = response
                .status(302)
                .header("location", format!("http://{inside}/"));
            document(format!("{issuer}/keys"))
        }
        ("points-inside", _) => document(format!("http://{inside}/keys")),
        ("points-inside-with-tls", _) => {
            document(format!("https://localhost:{}/keys", inside.port()))
        }
        ("points-to-a-file", _) => document("file:///etc/passwd".into()),
        ("has-secrets", true) => {
            json!({ "keys": [{ "kty": "oct", "k": "AAAA", "kid": "k", "alg": "HS256" }] })
                .to_string()
        }
        ("has-nonsense", true) => {
            json!({ "keys": [1, null, {}, { "kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "k" }] })
                .to_string()
        }
        _ => document(format!("{issuer}/keys")),
    };
    Ok(response.body(Full::new(body.into())).expect("a response"))
}

#[tokio::test]
async fn issuers_that_lie_or_hang_harm_nobody() {
    const KINDS: [&str; 11] = [
        "hangs",
        "fails",
        "talks",
        "names-another",
        "sends-a-megabyte",
        "redirects",
        "points-inside",
        "points-inside-with-tls",
        "points-to-a-file",
        "has-secrets",
        "has-nonsense",
    ];
    let liars = Liars::start().await;
    let provider = IdentityProvider::start().await;
    let issuers = KINDS.iter().map(|kind| liars.issuer(kind));
    let host = start(Form::File, issuers.chain([provider.url()]).collect()).await;
    host.register("alice").await;
    // With the id of a key that a good issuer has.
    let of_liars = KINDS.map(|kind| {
        let claims = json!({
            "iss": liars.issuer(kind), "aud": "RS256", "sub": "s", "preferred_username": "mallory",
            "exp": unix_now() + 300,
        });
        let provider = &provider;
        async move { (kind, provider.sign(json!({}), claims, false).await) }
    });
    let good = provider.id_token("ann", "RS256").await;
    assert_eq!(who(&host, &good).await.as_deref(), Some("ann"));
    let mut asking = Vec::new();
    for of_liar in of_liars {
        let (kind, token) = of_liar.await;
        let address = host.address;
        asking.push(tokio::spawn(async move {
            let bearer = format!("Bearer {token}");
            let headers = [("authorization", bearer.as_str())];
            let answer = request(address, "GET", "/auth/verify", &headers, "").await;
            assert_eq!(answer.status, 401, "{kind}");
        }));
    }
    // Meanwhile others are not held up.
    assert_eq!(who(&host, &good).await.as_deref(), Some("ann"));
    host.connect("alice").await;
    for asked in asking {
        asked.await.expect("refused");
    }
    assert_eq!(liars.reached.load(Ordering::Relaxed), 0);
}
