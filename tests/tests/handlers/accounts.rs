//! The operations that are not events: accounts, tokens, presence.

use handler::account::login::{Account, Credentials, FindAccount, ReplacePasswordHash};
use handler::account::login_id::{LoginId, SessionId};
use handler::account::register::{Register, Registration};
use handler::account::skeleton::{FindUnseen, StoreSkeletons};
use handler::account::token::{LIFETIME_SECONDS, TokenKey};
use handler::cluster::gone::{Gone, HostGone};
use handler::cluster::lease::{self, HostAlive, HostStarted, OtherHosts};
use handler::cluster::returned::HostReturned;
use handler::presence::{ARRIVAL_CONVERSATIONS_MAX, Arrival, Connected, Disconnected};
use handler::{Audience, Error, Output};
use jsonwebtoken::{Algorithm, EncodingKey, Header, crypto, encode};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tests::World;
use tests::world::NOW;

const LOCAL: &str = "local";

#[test]
fn bodies_of_registration() {
    for (body, error) in [
        ("", "not a valid json"),
        ("{", "not a valid json"),
        ("[]", "not a valid json"),
        ("\"username\"", "not a valid json"),
        ("{}", "username required"),
        (
            r#"{"username": null, "password": 1, "fullname": ""}"#,
            "username should be a string",
        ),
        (r#"{"username": null, "password": 1}"#, "fullname required"),
        (r#"{"username": 1}"#, "password required"),
        (r#"{"username": 1, "password": 1}"#, "fullname required"),
        (
            r#"{"username": 1, "password": 1, "fullname": ""}"#,
            "username should be a string",
        ),
        (
            r#"{"username": "", "password": [], "fullname": ""}"#,
            "password should be a string",
        ),
        (
            r#"{"username": "", "password": "", "fullname": {}}"#,
            "fullname should be a string",
        ),
        (
            r#"{"username": "", "password": "", "fullname": ""}"#,
            "username should not be empty",
        ),
        (
            r#"{"username": "a", "password": "", "fullname": ""}"#,
            "password should not be empty",
        ),
        (
            r#"{"username": "a", "password": "b", "fullname": ""}"#,
            "fullname should not be empty",
        ),
        (
            r#"{"username": "\ud800", "password": "b", "fullname": "c"}"#,
            "username should be a string",
        ),
        (
            r#"{"username": "a", "password": "\udc00", "fullname": "c"}"#,
            "password should be a string",
        ),
        (
            r#"{"username": " \u200b\u0000\u3000", "password": "b", "fullname": "c"}"#,
            "username should have a visible character",
        ),
        (
            r#"{"username": ".", "password": "b", "fullname": "c"}"#,
            "username should not be . or ..",
        ),
        (
            r#"{"username": "..", "password": "b", "fullname": "c"}"#,
            "username should not be . or ..",
        ),
    ] {
        let parsed = Registration::parse(body.as_bytes());
        assert_eq!(parsed, Err(Error::Invalid(error.into())), "{body}");
    }
    let invalid_utf8 = b"{\"username\": \"\xff\", \"password\": \"b\", \"fullname\": \"c\"}";
    assert_eq!(
        Registration::parse(invalid_utf8),
        Err(Error::Invalid("not a valid json".into()))
    );
    for (username, password, fullname, error) in [
        (64, 1024, 256, None),
        (65, 1, 1, Some("username should be at most 64 characters")),
        (1, 1025, 1, Some("password should be at most 1024 bytes")),
        (1, 1, 257, Some("fullname should be at most 256 characters")),
    ] {
        let body = json!({
            "username": "é".repeat(username), "password": "x".repeat(password), "fullname": "é".repeat(fullname),
        });
        let error = error.map(|text| Error::Invalid(text.into()));
        assert_eq!(
            Registration::parse(body.to_string().as_bytes()).err(),
            error
        );
    }
}

#[test]
fn bodies_of_login() {
    for (body, error) in [
        ("nonsense", "not a valid json"),
        (r#"{"password": 1}"#, "username required"),
        (r#"{"username": 1}"#, "password required"),
        (
            r#"{"username": null, "password": "b"}"#,
            "username should be a string",
        ),
        (
            r#"{"username": 1, "password": ""}"#,
            "username should be a string",
        ),
        (
            r#"{"username": "", "password": 1}"#,
            "password should be a string",
        ),
        (
            r#"{"username": "", "password": ""}"#,
            "username should not be empty",
        ),
        (
            r#"{"username": "a", "password": ""}"#,
            "password should not be empty",
        ),
    ] {
        let parsed = Credentials::parse(body.as_bytes());
        assert_eq!(parsed, Err(Error::Invalid(error.into())), "{body}");
    }
    let parsed = Credentials::parse(br#"{"username": "a", "password": "b", "more": [1e999]}"#);
    let expected = Credentials {
        username: "a".into(),
        password: "b".into(),
        remember: false,
    };
    assert_eq!(parsed, Ok(expected));
    for (remember, expected) in [
        ("true", Some(true)),
        ("false", Some(false)),
        ("null", Some(false)),
        ("1", None),
        ("\"true\"", None),
    ] {
        let body = format!(r#"{{"username": "a", "password": "b", "remember": {remember}}}"#);
        let parsed = Credentials::parse(body.as_bytes());
        let expected = expected.ok_or(Error::Invalid("remember should be true or false".into()));
        assert_eq!(parsed.map(|parsed| parsed.remember), expected, "{remember}");
    }
}

#[tokio::test]
async fn an_account_is_registered_found_and_rehashed() {
    let world = World::new().await;
    let register = |name: &str| Register {
        username: name.into(),
        fullname: "E".into(),
        password_hash: "phc".into(),
    };
    assert_eq!(world.run("", &register("e\0ve")).await.0, Ok(()));
    let taken = Error::Conflict("username already exists".into());
    assert_eq!(world.run("", &register("e\0ve")).await.0, Err(taken));

    let find = FindAccount {
        username: "e\0ve".into(),
    };
    let found = |hash: &str| {
        Some(Account {
            user_id: 5,
            password_hash: hash.into(),
            is_banned: false,
        })
    };
    assert_eq!(world.run("", &find).await.0, Ok(found("phc")));
    assert_eq!(
        world
            .run(
                "",
                &FindAccount {
                    username: "e".into()
                }
            )
            .await
            .0,
        Ok(None)
    );

    let replace = |old: &str, new: &str| ReplacePasswordHash {
        user_id: 5,
        old: old.into(),
        new: new.into(),
    };
    world
        .run("", &replace("stale", "lost"))
        .await
        .0
        .expect("nothing to do");
    assert_eq!(world.run("", &find).await.0, Ok(found("phc")));
    world
        .run("", &replace("phc", "new"))
        .await
        .0
        .expect("replaced");
    assert_eq!(world.run("", &find).await.0, Ok(found("new")));
}

#[tokio::test]
async fn accounts_of_other_programs_get_skeletons_and_twins_among_them_stay() {
    let world = World::new().await;
    let register = async |username: &str| {
        let register = Register {
            username: username.into(),
            fullname: "E".into(),
            password_hash: "phc".into(),
        };
        world.run("", &register).await.0
    };
    let others = "insert into users (username, fullname, password) values
        ('eve', 'E', 'x'), ('eve ', 'E', 'x'), ('\u{435}ve', 'E', 'x')";
    world.db.execute_batch(others).await.expect("stored");
    // Perhaps one of them looks the same.
    let later = Error::Unavailable {
        retry_after_seconds: 1,
    };
    assert_eq!(register("frank").await, Err(later));
    let unseen = world.run("", &FindUnseen).await.0.expect("a list");
    let names: Vec<_> = unseen.iter().map(|of| of.username.as_str()).collect();
    assert_eq!(names, ["eve", "eve ", "\u{435}ve"]);
    let store = StoreSkeletons { of: unseen };
    // Another host may do the same.
    for _ in 0..2 {
        assert_eq!(world.run("", &store).await.0, Ok(()));
    }
    assert_eq!(world.run("", &FindUnseen).await.0, Ok(vec![]));
    let twins = "select count(*) from users where skeleton = 'eve'";
    assert_eq!(world.integer(twins).await, 3);
    assert_eq!(register("frank").await, Ok(()));
    let taken = |text: &str| Err(Error::Conflict(text.into()));
    assert_eq!(register("eve").await, taken("username already exists"));
    let alike = taken("username looks like one that exists");
    assert_eq!(register("ev\u{435}").await, alike);
}

#[test]
fn tokens() {
    let key = TokenKey::new(b"secret");
    let expires_at = NOW + LIFETIME_SECONDS;
    let logins = [
        LoginId::of_session(SessionId::new([7; 8])),
        LoginId::of_token(Some(NOW)),
        LoginId::of_token(None),
    ];
    for login in logins {
        let token = key.sign("alice", login, expires_at);
        for now in [NOW, expires_at - 1] {
            let claim = key.verify(&token, now).expect("valid");
            assert_eq!((&*claim.username, claim.login), ("alice", login));
        }
        assert_eq!(key.verify(&token, expires_at), None);
    }
    let token = key.sign("alice", logins[0], expires_at);
    assert_eq!(TokenKey::new(b"other").verify(&token, NOW), None);

    // PyJWT 2.15.1: jwt.encode({"username": "hizz", "exp": 4102444800}, "secret", algorithm="HS256")
    let python = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6ImhpenoiLCJleHAiOjQxMDI0NDQ4MDB9.T4qjhZVwmEqyyutw3mhX7YJxS--qkNFl6kRZrBrckAo";
    let claim = key.verify(python, NOW).expect("valid");
    let login = LoginId::of_token(None);
    assert_eq!((&*claim.username, claim.login), ("hizz", login));
}

#[test]
fn a_token_without_a_session_says_when_it_was_made() {
    let key = TokenKey::new(b"secret");
    for (iat, made_at) in [
        ("999999", Some(999_999)),
        ("999999.9", Some(999_999)),
        // The clocks of two machines differ.
        ("1000060", Some(1_000_060)),
        // In milliseconds, or by a clock that is wrong.
        ("1000061", None),
        ("1000000000", None),
        ("1e300", None),
        ("-5", None),
        ("0", None),
        ("null", None),
        ("\"999999\"", None),
        ("[999999]", None),
    ] {
        let claims = format!(r#"{{"username":"a","exp":2000000,"iat":{iat}}}"#);
        let token = token(HEADER, &claims, "secret", Algorithm::HS256);
        let claim = key.verify(&token, NOW).expect("valid");
        assert_eq!(claim.login, LoginId::of_token(made_at), "{iat}");
    }
}

/// A token of these parts, each any JSON, signed with this secret and algorithm whatever the header
/// says.
fn token(header: &str, claims: &str, secret: &str, algorithm: Algorithm) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    let part = |text: &str| {
        let json: Box<RawValue> = serde_json::from_str(text).expect("JSON");
        let token = encode(&Header::default(), &json, &key).expect("a token");
        token.split('.').nth(1).expect("three parts").to_owned()
    };
    let message = format!("{}.{}", part(header), part(claims));
    let signature = crypto::sign(message.as_bytes(), &key, algorithm).expect("a signature");
    format!("{message}.{signature}")
}

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const CLAIMS: &str = r#"{"username":"a","exp":1000001}"#;

#[test]
fn claims_of_tokens() {
    let key = TokenKey::new(b"secret");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (claims, username) in [
        (CLAIMS, Some("a")),
        (r#"{"exp":9223372036854775807,"username":"a"}"#, Some("a")),
        (r#"{"username":"é\u0000 ","exp":1000001}"#, Some("é\0 ")),
        (r#"{"username":"","exp":1000001}"#, Some("")),
        (r#"{"exp":1000001}"#, None),
        (r#"{"username":null,"exp":1000001}"#, None),
        (r#"{"username":1,"exp":1000001}"#, None),
        (r#"{"username":["a"],"exp":1000001}"#, None),
        (r#"{"username":"\ud800","exp":1000001}"#, None),
        (r#"{"Username":"a","exp":1000001}"#, None),
        (r#"{"sub":"a","exp":1000001}"#, None),
        // The time is 1000000.
        (r#"{"username":"a","exp":1000000}"#, None),
        (r#"{"username":"a","exp":999999}"#, None),
        (r#"{"username":"a","exp":0}"#, None),
        (r#"{"username":"a","exp":-1}"#, None),
        (r#"{"username":"a","exp":-9223372036854775808}"#, None),
        (r#"{"username":"a"}"#, None),
        (r#"{"username":"a","exp":null}"#, None),
        (r#"{"username":"a","exp":true}"#, None),
        (r#"{"username":"a","exp":"1000001"}"#, None),
        (r#"{"username":"a","exp":[1000001]}"#, None),
        (r#"{"username":"a","exp":1000001.0}"#, None),
        (r#"{"username":"a","exp":1e9}"#, None),
        (r#"{"username":"a","exp":1e999}"#, None),
        (r#"{"username":"a","exp":9223372036854775808}"#, None),
        (r#"{"username":"a","exp":18446744073709551616}"#, None),
        // A claim that occurs twice makes the token invalid.
        (r#"{"username":"a","username":"a","exp":1000001}"#, None),
        (r#"{"username":"a","exp":1000001,"exp":1000001}"#, None),
        (r#"{"username":"a","exp":1,"exp":1000001}"#, None),
        (r#"{"username":"a","\u0065xp":1000001}"#, Some("a")),
        (
            r#"{"username":"a","exp":1000001,"sid":"0707070707070707"}"#,
            Some("a"),
        ),
        (r#"{"username":"a","exp":1000001,"sid":null}"#, Some("a")),
        (r#"{"username":"a","exp":1000001,"sid":""}"#, None),
        (r#"{"username":"a","exp":1000001,"sid":7}"#, None),
        (
            r#"{"username":"a","exp":1000001,"sid":"0000000000000000"}"#,
            None,
        ),
        (
            r#"{"username":"a","exp":1000001,"sid":"x","sid":"0707070707070707"}"#,
            None,
        ),
        // Claims that other programs may add: not before, issued at, audience.
        (r#"{"username":"a","exp":1000001,"nbf":1000000}"#, Some("a")),
        (r#"{"username":"a","exp":1000001,"nbf":null}"#, Some("a")),
        (r#"{"username":"a","exp":1000003,"nbf":1000001}"#, None),
        (r#"{"username":"a","exp":1000001,"nbf":"0"}"#, None),
        (r#"{"username":"a","exp":1000001,"iat":1000002}"#, Some("a")),
        (
            r#"{"username":"a","exp":1000001,"iat":999999.5}"#,
            Some("a"),
        ),
        (r#"{"username":"a","exp":1000001,"iat":"today"}"#, Some("a")),
        (r#"{"username":"a","exp":1000001,"aud":"x"}"#, None),
        (
            r#"{"username":"a","exp":1000001,"iss":1,"sub":"b","x":{}}"#,
            Some("a"),
        ),
        (r#"["a",1000001]"#, None),
        (r#""a""#, None),
        ("null", None),
        (&deep, None),
        (&format!(r#"{{"username":{deep},"exp":1000001}}"#), None),
        (
            &format!(r#"{{"username":"a","exp":1000001,"aud":{deep}}}"#),
            None,
        ),
        (
            &format!(r#"{{"username":"a","exp":1000001,"x":{deep}}}"#),
            Some("a"),
        ),
    ] {
        let token = token(HEADER, claims, "secret", Algorithm::HS256);
        let verified = key.verify(&token, NOW);
        let claims: String = claims.chars().take(100).collect();
        let verified = verified.map(|claim| claim.username);
        assert_eq!(verified.as_deref(), username, "{claims}");
    }
}

#[test]
fn headers_and_signatures_of_tokens() {
    use Algorithm::{HS256, HS384, HS512};
    let key = TokenKey::new(b"secret");
    let long = format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "x".repeat(8192));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = format!(r#"{{"alg":"HS256","x":{deep}}}"#);
    for (header, secret, algorithm, holds) in [
        (HEADER, "secret", HS256, true),
        (r#"{"alg":"HS256"}"#, "secret", HS256, true),
        (&long, "secret", HS256, true),
        (HEADER, "other", HS256, false),
        (HEADER, "", HS256, false),
        (&long, "other", HS256, false),
        (HEADER, "secret", HS384, false),
        (HEADER, "secret", HS512, false),
        (r#"{"alg":"HS384"}"#, "secret", HS384, false),
        (r#"{"alg":"HS512"}"#, "secret", HS512, false),
        (r#"{"alg":"HS384"}"#, "secret", HS256, false),
        (r#"{"alg":"none"}"#, "secret", HS256, false),
        (r#"{"alg":"RS256"}"#, "secret", HS256, false),
        (r#"{"alg":"ES256"}"#, "secret", HS256, false),
        (r#"{"alg":"EdDSA"}"#, "secret", HS256, false),
        (r#"{"alg":"hs256"}"#, "secret", HS256, false),
        (r#"{"alg":["HS256"]}"#, "secret", HS256, false),
        (r#"{"alg":null}"#, "secret", HS256, false),
        (r#"{"alg":"HS256","alg":"none"}"#, "secret", HS256, false),
        (r#"{"typ":"JWT"}"#, "secret", HS256, false),
        (r#"[]"#, "secret", HS256, false),
        // A key in the token itself. "b3RoZXI" is "other".
        (
            r#"{"alg":"HS256","jwk":{"kty":"oct","alg":"HS256","k":"b3RoZXI"}}"#,
            "other",
            HS256,
            false,
        ),
        // Critical extensions, which `verify` does not support.
        (
            r#"{"alg":"HS256","crit":["x"],"x":1}"#,
            "secret",
            HS256,
            false,
        ),
        (r#"{"alg":"HS256","crit":[]}"#, "secret", HS256, false),
        (&deep, "secret", HS256, false),
        (&deep, "other", HS256, false),
    ] {
        let token = token(header, CLAIMS, secret, algorithm);
        let header: String = header.chars().take(100).collect();
        let verified = key.verify(&token, NOW).is_some();
        assert_eq!(verified, holds, "{header} by {secret} with {algorithm:?}");
    }
}

#[test]
fn forms_of_tokens() {
    let key = TokenKey::new(b"secret");
    let good = token(HEADER, CLAIMS, "secret", Algorithm::HS256);
    assert!(key.verify(&good, NOW).is_some());
    let parts: Vec<_> = good.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        panic!("{good}");
    };
    // {"alg":"none","typ":"JWT"}
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let short = &signature[..signature.len() - 1];
    let mut forged = vec![
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        format!("{header}.{claims}."),
        format!("{header}.{claims}"),
        format!("{header}..{signature}"),
        format!(".{claims}.{signature}"),
        format!("{claims}.{header}.{signature}"),
        format!("{header}.{claims}.{short}"),
        format!("{header}.{claims}.{signature}AAAA"),
        format!("{header}.{claims}.{signature}="),
        format!("{header}=.{claims}.{signature}"),
        format!("{header}.{claims} .{signature}"),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.{signature}"),
        format!(" {good}"),
        format!("{good} "),
        format!("{good}\n"),
        format!("{good}\0"),
        format!("\"{good}\""),
        format!("Bearer {good}"),
        good.to_lowercase(),
        "..".into(),
        "x".into(),
        "".into(),
        "x".repeat(5_000_000),
        ".".repeat(5_000_000),
        format!("{header}.{}.{signature}", "A".repeat(5_000_000)),
        format!("{}.{claims}.{signature}", "A".repeat(5_000_000)),
    ];
    // The last character encodes four bits and two unused ones. So other last characters could
    // decode to the same signature.
    for last in ('A'..='Z')
        .chain('a'..='z')
        .chain('0'..='9')
        .chain(['-', '_', '+', '/'])
    {
        let other = format!("{header}.{claims}.{short}{last}");
        if other != good {
            forged.push(other);
        }
    }
    for token in forged {
        let start: String = token.chars().take(200).collect();
        assert_eq!(key.verify(&token, NOW), None, "{start:?}");
    }
}

fn connected(username: &str) -> Connected {
    Connected {
        username: username.into(),
        login: LoginId::of_token(None),
        host_id: LOCAL.into(),
    }
}

fn disconnected() -> Disconnected {
    Disconnected {
        host_id: LOCAL.into(),
    }
}

fn alive() -> HostAlive {
    HostAlive {
        host_id: LOCAL.into(),
        lease_seconds: 30,
    }
}

fn started(host_id: &str) -> HostStarted {
    HostStarted {
        host_id: host_id.into(),
    }
}

fn gone(host_id: &str, why: Gone) -> HostGone {
    HostGone {
        host_id: host_id.into(),
        why,
        user_ids: vec![1, 2, 3, 4],
    }
}

fn status(is_online: bool) -> Vec<Output> {
    let event = json!({
        "type": "user_status", "success": true,
        "data": { "username": "alice", "is_online": is_online, "last_online": NOW },
    });
    vec![Output::Push {
        to: Audience::Users(vec![2]),
        event: event.to_string(),
        is_droppable: false,
    }]
}

/// The outbox with its events as JSON, so that the order of fields does not matter.
fn parsed(outbox: &[Output]) -> Vec<(Audience, Value)> {
    let pushes = outbox.iter().map(|output| match output {
        Output::Push { to, event, .. } => (to.clone(), serde_json::from_str(event).expect("JSON")),
        other => panic!("{other:?}"),
    });
    pushes.collect()
}

/// What a connect costs does not grow with the conversations of its user.
#[tokio::test]
async fn a_socket_is_stored_with_few_of_its_conversations() {
    let world = World::new().await;
    for (conversations, is_complete) in [
        (ARRIVAL_CONVERSATIONS_MAX, true),
        (ARRIVAL_CONVERSATIONS_MAX + 1, false),
        (ARRIVAL_CONVERSATIONS_MAX + 2, false),
    ] {
        world
            .db
            .execute_batch(&format!(
                "delete from members where user_id = 1;
                 with recursive n(i) as (select 1 union all select i + 1 from n where i < {conversations})
                     insert into members (conversation_id, user_id) select 1000 + i, 1 from n"
            ))
            .await
            .expect("members");
        let (outcome, _) = world.run("", &connected("alice")).await;
        let arrival = outcome.expect("an arrival");
        assert_eq!(arrival.is_complete, is_complete, "{conversations}");
        let read = arrival.conversations.len();
        assert_eq!(read, conversations.min(ARRIVAL_CONVERSATIONS_MAX + 1));
    }
}

#[tokio::test]
async fn only_the_first_and_the_last_socket_change_presence() {
    let world = World::new().await;
    let online = "select is_online from users where id = 1";
    let session = Arrival {
        user_id: 1,
        conversations: vec![(1, 0)],
        is_complete: true,
    };
    for is_first in [true, false, false] {
        let (outcome, outbox) = world.run("", &connected("alice")).await;
        assert_eq!(outcome, Ok(session.clone()));
        let expected = if is_first { status(true) } else { vec![] };
        assert_eq!(parsed(&outbox), parsed(&expected));
        assert_eq!(world.integer(online).await, 1);
    }
    for is_last in [false, false, true] {
        let (outcome, outbox) = world.run("alice", &disconnected()).await;
        assert_eq!(outcome, Ok(()));
        let expected = if is_last { status(false) } else { vec![] };
        assert_eq!(parsed(&outbox), parsed(&expected));
        assert_eq!(world.integer(online).await, i64::from(!is_last));
    }
    assert_eq!(world.integer("select count(*) from presence").await, 0);
    let missing = Error::NotFound("'nobody' doesn't exists".into());
    assert_eq!(world.run("", &connected("nobody")).await.0, Err(missing));
}

#[tokio::test]
async fn a_dead_hosts_users_went_offline_when_it_was_last_seen() {
    let world = World::new().await;
    let seen_at = "update hosts set seen_at = ";
    let set = async |sql: &str| {
        world.db.execute(sql, ()).await.expect("updated");
    };
    // The first backend died while dave was online; the file says when that was.
    set("update users set is_online = 1, last_online = 77 where id = 4").await;
    world.run("", &started(LOCAL)).await.0.expect("started");
    set(&format!("{seen_at} 5")).await;
    world.run("", &alive()).await.0.expect("alive");
    let found = world.integer("select seen_at from hosts").await;
    assert_eq!(found, 5, "a host without sockets writes nothing");

    for user in ["alice", "bob"] {
        world.run("", &connected(user)).await.0.expect("connected");
    }
    world.run("", &alive()).await.0.expect("alive");
    let found = world
        .integer("select seen_at > 1700000000 from hosts")
        .await;
    assert_eq!(found, 1, "by the database's clock");
    // The host was killed just after bob connected, and started again much later.
    set(&format!("{seen_at} {}", NOW + 20)).await;
    set(&format!(
        "update users set last_online = {} where id = 2",
        NOW + 25
    ))
    .await;
    let (outcome, outbox) = world.run("", &gone(LOCAL, Gone::Restarted)).await;
    assert_eq!(outcome, Ok(()));
    assert_eq!(
        outbox.len(),
        2,
        "each gets one push about the other: {outbox:?}"
    );
    world.run("", &started(LOCAL)).await.0.expect("started");
    for (id, last_online) in [(1, NOW + 20), (2, NOW + 25), (3, NOW), (4, 77)] {
        let user = format!("select last_online from users where is_online = 0 and id = {id}");
        assert_eq!(world.integer(&user).await, last_online, "user {id}");
    }
    assert_eq!(world.integer("select count(*) from presence").await, 0);

    world
        .run("", &connected("alice"))
        .await
        .0
        .expect("connected");
    set("update users set last_online = 0 where id = 1").await;
    let (outcome, outbox) = world.run("", &gone(LOCAL, Gone::Stopped)).await;
    assert_eq!(outcome, Ok(()));
    assert_eq!(parsed(&outbox), parsed(&status(false)));
    assert_eq!(world.integer("select count(*) from hosts").await, 0);
}

#[tokio::test]
async fn a_lease_runs_out_though_the_clock_was_set_back() {
    let world = World::new().await;
    world.run("", &started(LOCAL)).await.0.expect("started");
    world
        .run("", &started("elsewhere"))
        .await
        .0
        .expect("started");
    let ahead = "update hosts set seen_at = unixepoch() + 1000000 where id = 'elsewhere'";
    world.db.execute(ahead, ()).await.expect("updated");
    world.run("", &alive()).await.0.expect("alive");
    let ahead = "select count(*) from hosts where seen_at > unixepoch()";
    assert_eq!(world.integer(ahead).await, 0);
}

#[tokio::test]
async fn a_user_online_through_another_host_stays_online() {
    let world = World::new().await;
    let online = "select is_online from users where id = 1";
    world.run("", &started(LOCAL)).await.0.expect("started");
    world
        .run("", &started("elsewhere"))
        .await
        .0
        .expect("started");
    let elsewhere = Connected {
        username: "alice".into(),
        login: LoginId::of_token(None),
        host_id: "elsewhere".into(),
    };
    world
        .run("", &connected("alice"))
        .await
        .0
        .expect("connected");
    world.run("", &elsewhere).await.0.expect("connected");
    let (outcome, outbox) = world.run("alice", &disconnected()).await;
    assert_eq!((outcome, outbox), (Ok(()), vec![]));
    for (host_id, is_online) in [(LOCAL, true), ("elsewhere", false)] {
        let (outcome, outbox) = world.run("", &gone(host_id, Gone::Stopped)).await;
        assert_eq!(outcome, Ok(()));
        let expected = if is_online { vec![] } else { status(false) };
        assert_eq!(parsed(&outbox), parsed(&expected));
        assert_eq!(world.integer(online).await, i64::from(is_online));
    }
}

#[tokio::test]
async fn a_host_is_dead_when_its_lease_has_run_out_and_not_before() {
    let world = World::new().await;
    let expired = Gone::Expired { lease_seconds: 30 };
    world.run("", &started(LOCAL)).await.0.expect("started");
    world
        .run("", &started("elsewhere"))
        .await
        .0
        .expect("started");
    let elsewhere = Connected {
        username: "alice".into(),
        login: LoginId::of_token(None),
        host_id: "elsewhere".into(),
    };
    world.run("", &elsewhere).await.0.expect("connected");
    let others = |alive: usize, expired: &[&str]| OtherHosts {
        alive,
        expired: expired.iter().map(|id| id.to_string()).collect(),
    };
    assert_eq!(world.run("", &alive()).await.0, Ok(others(1, &[])));
    let (_, outbox) = world.run("", &gone("elsewhere", expired)).await;
    assert_eq!(outbox, [], "the host is alive");

    let seen_at = "update hosts set seen_at = unixepoch() - 31 where id = 'elsewhere'";
    world.db.execute(seen_at, ()).await.expect("updated");
    assert_eq!(
        world.run("", &alive()).await.0,
        Ok(others(0, &["elsewhere"]))
    );
    let (_, outbox) = world.run("", &gone("elsewhere", expired)).await;
    assert_eq!(outbox.len(), 1, "one push: {outbox:?}");
    let (outcome, outbox) = world.run("", &gone("elsewhere", expired)).await;
    assert_eq!((outcome, outbox), (Ok(()), vec![]), "only the first time");
    assert_eq!(world.run("", &alive()).await.0, Ok(others(0, &[])));
}

#[tokio::test]
async fn a_host_that_was_believed_dead_makes_its_users_known_again() {
    let world = World::new().await;
    let online = "select is_online from users where id = 1";
    world.run("", &started(LOCAL)).await.0.expect("started");
    for _ in 0..3 {
        world
            .run("", &connected("alice"))
            .await
            .0
            .expect("connected");
    }
    world
        .run("", &gone(LOCAL, Gone::Restarted))
        .await
        .0
        .expect("gone");
    assert_eq!(world.integer(online).await, 0);
    // It is alive and has three sockets, two of which now close.
    let lease = lease::take_lease(LOCAL, 7, false);
    for statement in lease {
        let mut prepared = world.db.prepare(statement.sql).await.expect("SQL");
        handler::run(&mut prepared, statement.parameters)
            .await
            .expect("taken");
    }
    world
        .run("alice", &disconnected())
        .await
        .0
        .expect("disconnected");
    world
        .run("alice", &disconnected())
        .await
        .0
        .expect("disconnected");
    let returned = |lease: i64, part: i64| HostReturned {
        host_id: LOCAL.into(),
        lease,
        part,
        users: vec![(1, 3), (4, 1)],
    };
    let (_, outbox) = world.run("", &returned(6, 1)).await;
    assert_eq!(outbox, [], "a report under a lost lease");
    let (outcome, outbox) = world.run("", &returned(7, 1)).await;
    assert_eq!(outcome, Ok(()));
    let told = parsed(&outbox);
    assert_eq!(told.len(), 1, "dave has no contacts: {told:?}");
    assert_eq!(told[0].1["data"]["is_online"], true);
    assert_eq!(
        world
            .integer("select sockets from presence where user_id = 1")
            .await,
        1
    );
    let (_, outbox) = world.run("", &returned(7, 1)).await;
    assert_eq!(outbox, [], "the same report again");
    let (_, outbox) = world.run("alice", &disconnected()).await;
    assert_eq!(parsed(&outbox), parsed(&status(false)));
    assert_eq!(
        world.integer("select count(*) from presence").await,
        1,
        "dave"
    );
}
