//! An app with users of its own: API keys, users that it creates, events that it sends for them, and
//! tokens that it signs.

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use handler::account::api_key::Scope;
use host::commands::key;
use host::{Config, listed_routes};
use serde_json::{Value, json};
use tests::host::{Begun, Form, Http, PASSWORD, SECRET, login, request};
use tests::tokens::{foreign_token, unix_now};
use tests::{Client, Host};

use crate::stories::in_every_form;

const ENDED: (u16, &str) = (1008, "session ended");

in_every_form! {
    an_app_brings_its_users
    a_route_for_programs_lets_in_only_keys_of_its_scope
}

/// The configuration of a command on the database of this host.
fn config(host: &Host) -> Config {
    let database = match host.form() {
        Form::File => host.database().into_os_string(),
        Form::Remote | Form::Cluster => host.gateway().url().into(),
    };
    let read = Config::read(|name| (name == "DBPATH").then(|| database.clone()));
    read.expect("a configuration").0
}

/// A program of the operator.
struct Program {
    bearer: String,
}

impl Program {
    async fn new(host: &Host, name: &str, scopes: &[Scope]) -> Self {
        let mut key = Vec::new();
        let config = config(host);
        let made = key::create(&config, name, scopes.to_vec(), &mut key).await;
        made.expect("a key");
        let key = String::from_utf8(key).expect("text");
        Program {
            bearer: format!("Bearer {}", key.trim_end()),
        }
    }

    /// Asks each host in turn.
    async fn ask(&self, host: &Host, method: &str, path: &str, body: Value) -> Http {
        let headers = [("authorization", self.bearer.as_str())];
        let body = body.to_string();
        request(host.next_address(), method, path, &headers, body).await
    }

    /// The answer, which has this status.
    async fn done(&self, host: &Host, status: u16, ask: (&str, &str, Value)) -> Value {
        let (method, path, body) = ask;
        let answer = self.ask(host, method, path, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        serde_json::from_str(&answer.body).unwrap_or(Value::Null)
    }
}

/// Connects a user with a token that the app has signed.
async fn connect(host: &Host, username: &str) -> Client {
    let bearer = format!("Bearer {}", foreign_token(SECRET, username));
    let headers = [("authorization", bearer.as_str())];
    let mut client = Client::connect_with(host.next_address(), &headers).await;
    client.ok(json!({ "type": "ping" })).await;
    client
}

async fn an_app_brings_its_users(form: Form) {
    let host = Host::start_as(form).await;
    let app = Program::new(&host, "the app", &Scope::ALL).await;
    let ann = "/users/user-1";
    let made = app.done(&host, 201, ("PUT", ann, json!({}))).await;
    assert_eq!(
        (&made["username"], &made["fullname"], &made["has_password"]),
        (&json!("user-1"), &json!("user-1"), &json!(false))
    );
    let bob = json!({ "fullname": "Bob" });
    app.done(&host, 201, ("PUT", "/users/bob%20%C3%A9", bob))
        .await;
    let mut bob = connect(&host, "bob é").await;
    bob.add_contact("user-1").await;
    let mut ann_client = connect(&host, "user-1").await;
    assert_eq!(bob.push().await["type"], "user_status");

    // A change is told to contacts, and may be repeated.
    for _ in 0..2 {
        let change = json!({ "fullname": "Ann" });
        let changed = app.done(&host, 200, ("PUT", ann, change)).await;
        assert_eq!(changed["fullname"], "Ann");
    }
    let told = bob.push().await;
    assert_eq!(
        (&told["type"], &told["data"]["fullname"]),
        (&json!("profile_updated"), &json!("Ann"))
    );
    let listed = app
        .done(&host, 200, ("GET", "/users?after=bob%20%C3%A9", json!({})))
        .await;
    let names = listed["users"].as_array().expect("a list").iter();
    let names: Vec<_> = names.map(|user| &user["username"]).collect();
    assert_eq!(
        (&names[..], &listed["has_more"]),
        (&[&json!("user-1")][..], &json!(false))
    );

    // Both talk, and the app for one of them, once.
    let conversation = bob.converse(&["user-1"]).await;
    assert_eq!(ann_client.push().await["type"], "create_conversation");
    for is_again in [false, true] {
        let event = json!({
            "type": "send_message", "conversation_id": conversation, "content": "from the app",
            "client_id": "order 7", "as": "user-1", "ref": 7,
        });
        let reply = app.done(&host, 200, ("POST", "/events", event)).await;
        assert_eq!(reply["data"]["sender_username"], "user-1");
        assert_eq!(reply["ref"], 7);
        assert_eq!(reply["data"]["duplicate"] == true, is_again, "{reply}");
    }
    assert_eq!(bob.push().await["data"]["content"], "from the app");
    // Her own sockets hear of it too: they did not ask.
    assert_eq!(ann_client.push().await["data"]["content"], "from the app");

    // A password ends her logins, on every host.
    let verify = async |header: (&str, &str)| {
        let address = host.next_address();
        let answer = request(address, "GET", "/auth/verify", &[header], "").await;
        answer.status
    };
    let token = format!("Bearer {}", foreign_token(SECRET, "user-1"));
    assert_eq!(verify(("authorization", &token)).await, 200);
    let password = json!({ "password": PASSWORD });
    let changed = app.done(&host, 200, ("PUT", ann, password)).await;
    assert_eq!(changed["has_password"], true);
    assert_eq!(ann_client.closed().await, (ENDED.0, ENDED.1.into()));
    assert_eq!(verify(("authorization", &token)).await, 401);
    let cookie = login(host.address, "user-1").await;
    let mut ann_client = host.connect("user-1").await;

    // A ban closes her sockets and refuses her logins; what she said stays.
    let banned = json!({ "banned": true });
    let banned = app.done(&host, 200, ("PUT", ann, banned)).await;
    assert_eq!(banned["banned"], true);
    assert_eq!(ann_client.closed().await, (ENDED.0, ENDED.1.into()));
    assert_eq!(verify(("cookie", &cookie)).await, 401);
    let event = json!({ "type": "self", "as": "user-1" });
    app.done(&host, 403, ("POST", "/events", event)).await;
    let history = bob.history(conversation).await;
    assert_eq!(history[0]["sender_username"], "user-1");
    app.done(&host, 200, ("PUT", ann, json!({ "banned": false })))
        .await;
    assert_eq!(verify(("cookie", &cookie)).await, 200);
    let search = json!({ "type": "search_users", "query": "ann" });
    assert_eq!(bob.ok(search).await["users"][0]["username"], "user-1");

    host.pushes_so_far(&mut bob).await;
    app.done(&host, 204, ("DELETE", ann, json!({}))).await;
    loop {
        // She was online once more, and is gone.
        if bob.push().await["type"] == "account_deleted" {
            break;
        }
    }
    app.done(&host, 404, ("GET", ann, json!({}))).await;
    app.done(&host, 404, ("DELETE", ann, json!({}))).await;
    app.done(&host, 409, ("PUT", ann, json!({}))).await;
}

/// Every route that lets keys in, asked by everybody who has none that fits.
async fn a_route_for_programs_lets_in_only_keys_of_its_scope(form: Form) {
    let host = Host::start_as(form).await;
    host.register("alice").await;
    host.register("banned").await;
    let app = Program::new(&host, "the app", &Scope::ALL).await;
    let revoked = Program::new(&host, "revoked", &Scope::ALL).await;
    let revoke = key::revoke(&config(&host), "revoked", &mut Vec::new()).await;
    revoke.expect("revoked");
    let ban = json!({ "banned": true });
    app.done(&host, 200, ("PUT", "/users/banned", ban)).await;
    let right = app.bearer.trim_start_matches("Bearer ").to_owned();
    let mut wrong = right.clone();
    wrong.replace_range(
        wrong.len() - 1..,
        if wrong.ends_with('0') { "1" } else { "0" },
    );
    let token = |username| format!("Bearer {}", foreign_token(SECRET, username));
    let bearer = |key: &str| format!("Bearer {key}");
    let nothing = json!({});
    let mut count = 0;
    for route in listed_routes() {
        let Some(scope) = route.scope else { continue };
        count += 1;
        let other = Scope::ALL.into_iter().find(|other| other.name() != scope);
        let name = format!("{} {}", route.method, route.path);
        let other = Program::new(&host, &name, &[other.expect("another scope")]).await;
        let path = route.path.replace("{username}", "alice");
        // A program acts for alice; nobody else does.
        let body = match route.path {
            "/events" => json!({ "type": "self", "as": "alice" }),
            _ => nothing.clone(),
        };
        let of_user = match route.is_for_logged_in {
            true => 403,
            false => 401,
        };
        for (who, header, status) in [
            ("nobody", String::new(), 401),
            ("a wrong key", bearer(&wrong), 401),
            ("a short key", bearer(&right[..right.len() - 1]), 401),
            ("a long key", bearer(&format!("{right}0")), 401),
            ("a key in upper case", bearer(&right.to_uppercase()), 401),
            ("the beginning of a key", bearer("chatapp_"), 401),
            ("a revoked key", revoked.bearer.clone(), 401),
            ("a key of another scope", other.bearer.clone(), 403),
            ("a user", token("alice"), of_user),
            ("another user", token("banned"), 401),
            ("a key as a cookie", format!("cookie {right}"), 401),
        ] {
            let cookie = header.strip_prefix("cookie ");
            let cookie = cookie.map(|key| format!("login-token={key}"));
            let headers: &[_] = match (&cookie, header.as_str()) {
                (Some(cookie), _) => &[("cookie", cookie.as_str())],
                (None, "") => &[],
                (None, header) => &[("authorization", header)],
            };
            let address = host.next_address();
            let answer = request(address, &route.method, &path, headers, body.to_string());
            let answer = answer.await;
            assert_eq!(answer.status, status, "{name} by {who}: {answer:?}");
        }
    }
    assert!(count >= 5, "{count}");
    // Nothing has happened to her, and no key is a login.
    let alice = app
        .done(&host, 200, ("GET", "/users/alice", nothing.clone()))
        .await;
    assert_eq!(alice["banned"], false);
    let answer = app.ask(&host, "GET", "/auth/verify", nothing).await;
    assert_eq!((answer.status, &*answer.body), (401, "invalid login-token"));
    let headers = [("authorization", app.bearer.as_str())];
    let mut client = Client::connect_with(host.next_address(), &headers).await;
    assert_eq!(client.closed().await, (1000, "invalid login-token".into()));
}

#[tokio::test]
async fn a_body_that_comes_after_a_revocation_or_a_ban_does_nothing() {
    let host = Host::start().await;
    host.register("alice").await;
    let app = Program::new(&host, "the app", &Scope::ALL).await;
    let revoked = Program::new(&host, "revoked", &Scope::ALL).await;
    let user = format!("Bearer {}", foreign_token(SECRET, "alice"));
    let mut begun = Vec::new();
    for route in listed_routes() {
        let path = route.path.replace("{username}", "alice");
        let send = async |bearer: &str, body: Value| {
            let body = body.to_string();
            Begun::send(host.address, &route.method, &path, bearer, body).await
        };
        if route.scope.is_some() {
            let body = json!({ "type": "self", "as": "alice" });
            begun.push((send(&revoked.bearer, body).await, "invalid API key"));
        }
        if route.path == "/events" {
            let body = json!({ "type": "self" });
            begun.push((send(&user, body).await, "invalid login-token"));
        }
    }
    assert!(begun.len() >= 6, "{}", begun.len());
    let revoke = key::revoke(&config(&host), "revoked", &mut Vec::new()).await;
    revoke.expect("revoked");
    let ban = json!({ "banned": true });
    app.done(&host, 200, ("PUT", "/users/alice", ban)).await;
    for (begun, error) in begun {
        let (status, answer) = begun.end().await;
        assert_eq!(status, 401, "{answer}");
        assert!(answer.contains(error), "{answer}");
    }
}

#[tokio::test]
async fn what_programs_ask_wrongly_is_refused() {
    let host = Host::start().await;
    let app = Program::new(&host, "the app", &Scope::ALL).await;
    host.register("alice").await;
    let long = format!("/users/{}", "x".repeat(65));
    for (method, path, body, status, error) in [
        ("PUT", "/users/zoe", json!([]), 400, "not a valid json"),
        (
            "PUT",
            "/users/zoe",
            json!({ "banned": "no" }),
            400,
            "banned should be true or false",
        ),
        (
            "PUT",
            "/users/%20",
            json!({}),
            400,
            "username should have a visible character",
        ),
        (
            "PUT",
            "/users/..",
            json!({}),
            400,
            "username should not be . or ..",
        ),
        (
            "PUT",
            &*long,
            json!({}),
            400,
            "username should be at most 64 characters",
        ),
        (
            "PUT",
            "/users/%ff",
            json!({}),
            400,
            "username should be UTF-8, percent-encoded",
        ),
        (
            "PUT",
            "/users/alice%20",
            json!({}),
            409,
            "username looks like one that exists",
        ),
        (
            "PUT",
            "/users/deleted",
            json!({}),
            409,
            "username already exists",
        ),
        (
            "GET",
            "/users/zoe",
            json!({}),
            404,
            "no such user 'zoe' exists",
        ),
        (
            "DELETE",
            "/users/zoe",
            json!({}),
            404,
            "no such user 'zoe' exists",
        ),
        (
            "GET",
            "/users?limit=0",
            json!({}),
            400,
            "limit should be a number from 1 to 100",
        ),
        (
            "GET",
            "/users?limit=101",
            json!({}),
            400,
            "limit should be a number from 1 to 100",
        ),
        (
            "GET",
            "/users?after=%ff",
            json!({}),
            400,
            "after should be UTF-8, percent-encoded",
        ),
        (
            "POST",
            "/events",
            json!({ "type": "self" }),
            400,
            "as required",
        ),
        (
            "POST",
            "/events",
            json!({ "type": "self", "as": null }),
            400,
            "as required",
        ),
        (
            "POST",
            "/events",
            json!({ "type": "self", "as": 7 }),
            400,
            "as should be a string",
        ),
        (
            "POST",
            "/events",
            json!({ "type": "self", "as": "zoe" }),
            404,
            "no such user 'zoe' exists",
        ),
        (
            "POST",
            "/events",
            json!({ "type": "x", "as": "alice" }),
            400,
            "no type field found in the event",
        ),
    ] {
        let answer = app.ask(&host, method, path, body).await;
        let said: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(
            (answer.status, &said["error"]),
            (status, &json!(error)),
            "{method} {path}"
        );
    }
    // Everything that has one was refused before it changed anything.
    let users = app
        .done(&host, 200, ("GET", "/users?limit=1", json!({})))
        .await;
    assert_eq!(
        (&users["users"][0]["username"], &users["has_more"]),
        (&json!("alice"), &json!(false))
    );
    let bearer = format!("Bearer {}", foreign_token(SECRET, "alice"));
    let headers = [("authorization", bearer.as_str())];
    for (of, status) in [(json!("alice"), 403), (Value::Null, 200)] {
        let event = json!({ "type": "self", "as": of }).to_string();
        let answer = host.http("POST", "/events", &headers, event).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

#[tokio::test]
async fn registration_can_be_closed() {
    let host = Host::start_with(Form::File, |config| config.has_registration = false).await;
    let body = json!({ "username": "alice", "password": PASSWORD, "fullname": "Alice" });
    let answer = host.http("POST", "/register", &[], body.to_string()).await;
    assert_eq!(
        (answer.status, &*answer.body),
        (403, "registration is closed")
    );
    let app = Program::new(&host, "the app", &[Scope::Users]).await;
    let password = json!({ "password": PASSWORD });
    app.done(&host, 201, ("PUT", "/users/alice", password))
        .await;
    host.connect("alice").await;
}

/// A token of the app, with these claims more.
fn token(username: &str, more: Value) -> String {
    let mut claims = json!({ "username": username, "exp": unix_now() + 100 });
    let more = more.as_object().expect("an object").clone();
    claims.as_object_mut().expect("an object").extend(more);
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token")
}

/// What becomes of a socket with this token: the close, or the profile of its user.
async fn opened(host: &Host, token: &str) -> Result<Value, (u16, String)> {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let verify = request(host.address, "GET", "/auth/verify", &headers, "").await;
    let mut client = Client::connect_with(host.next_address(), &headers).await;
    match verify.status {
        200 => Ok(client.ok(json!({ "type": "self" })).await),
        _ => Err(client.closed().await),
    }
}

#[tokio::test]
async fn a_valid_token_creates_its_user_if_the_operator_wants_that() {
    let no_user = |name: &str| Err((1000, format!("'{name}' doesn't exists")));
    let refusing = Host::start().await;
    assert_eq!(
        opened(&refusing, &token("user-42", json!({}))).await,
        no_user("user-42")
    );
    for form in [Form::File, Form::Remote, Form::Cluster] {
        let host = Host::start_with(form, |config| config.creates_unknown_users = true).await;
        let app = Program::new(&host, "the app", &Scope::ALL).await;
        host.register("alice").await;
        for (claims, fullname) in [
            (json!({ "name": "Ann" }), "Ann"),
            // The app has changed the name since; a token does not.
            (json!({ "name": "Another" }), "Ann"),
        ] {
            let profile = opened(&host, &token("user-42", claims))
                .await
                .expect("open");
            assert_eq!(profile["fullname"], fullname);
        }
        let long = "é".repeat(300);
        for (name, claims, fullname) in [
            ("u1", json!({}), "u1"),
            ("u2", json!({ "name": "" }), "u2"),
            ("u3", json!({ "name": { "first": "Ann" } }), "u3"),
            ("u4", json!({ "name": long }), &long[..512]),
        ] {
            let profile = opened(&host, &token(name, claims)).await.expect("open");
            assert_eq!(profile["fullname"], fullname);
        }
        // These create nobody.
        let ended = || Err((1000, "invalid login-token".to_owned()));
        let sid = json!({ "sid": "0123456789abcdef" });
        assert_eq!(opened(&host, &token("u5", sid)).await, no_user("u5"));
        let expired = token("u5", json!({ "exp": unix_now() - 1 }));
        assert_eq!(opened(&host, &expired).await, ended());
        let foreign = foreign_token("another secret of some length", "u5");
        assert_eq!(opened(&host, &foreign).await, ended());
        for name in ["alice ", " ", "", "deleted", &*"x".repeat(65)] {
            assert_eq!(
                opened(&host, &token(name, json!({}))).await,
                no_user(name),
                "{name:?}"
            );
        }
        app.done(&host, 404, ("GET", "/users/u5", json!({}))).await;
        // Nor do these bring somebody back.
        app.done(&host, 200, ("PUT", "/users/u1", json!({ "banned": true })))
            .await;
        assert_eq!(opened(&host, &token("u1", json!({}))).await, ended());
        app.done(&host, 204, ("DELETE", "/users/u2", json!({})))
            .await;
        assert_eq!(opened(&host, &token("u2", json!({}))).await, no_user("u2"));
    }
}

#[tokio::test]
async fn all_first_requests_of_a_user_are_let_in() {
    const AT_ONCE: usize = 10;
    for form in [Form::File, Form::Remote, Form::Cluster] {
        let host = Host::start_with(form, |config| config.creates_unknown_users = true).await;
        let bearer = format!("Bearer {}", foreign_token(SECRET, "user-42"));
        let headers = [("authorization", bearer.as_str())];
        let asked =
            (0..AT_ONCE).map(|_| request(host.next_address(), "GET", "/auth/verify", &headers, ""));
        let answers = join_all(asked).await;
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [200; AT_ONCE], "{form:?}");
    }
}

/// Many first connects at once: each creates its user, and two of one user create one.
#[tokio::test]
async fn a_thousand_users_come_at_once() {
    const USERS: usize = 1_000;
    const AT_ONCE: usize = 64;
    let host = Host::start_with(Form::File, |config| config.creates_unknown_users = true).await;
    let connects = (0..USERS + 100).map(|number| {
        let username = format!("user-{}", number % USERS);
        let address = host.address;
        async move {
            let bearer = format!("Bearer {}", foreign_token(SECRET, &username));
            let headers = [("authorization", bearer.as_str())];
            let mut client = Client::connect_with(address, &headers).await;
            let profile = client.ok(json!({ "type": "self" })).await;
            assert_eq!(profile["username"], username);
            client.close().await;
        }
    });
    stream::iter(connects)
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
    let db = tests::data::open(&host.database()).await;
    let mut rows = db
        .query("select count(*), count(distinct id) from users", ())
        .await
        .expect("rows");
    let row = rows.next().await.expect("a row").expect("a row");
    let counts = [0, 1].map(|column| row.get::<i64>(column).expect("a count"));
    assert_eq!(counts, [USERS as i64; 2]);
}
