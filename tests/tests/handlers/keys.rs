//! API keys, and what is stored of users who have no password.

use handler::account::api_key::{
    CreateKey, FindKey, FoundKey, KEYS_MAX, ListKeys, RevokeKey, Scope, UseKey,
};
use handler::account::delete::DeleteAccount;
use handler::account::export::BeginExport;
use handler::account::identity::{CreateIdentified, FindIdentity};
use handler::account::password::NO_PASSWORD;
use handler::account::provision::{FindUser, ListUsers, SetPassword, UserChange};
use handler::account::register::Register;
use handler::{Error, Output};
use tests::world::NOW;
use tests::{World, places};

fn create(name: &str, number: u8, scopes: &[Scope]) -> CreateKey {
    CreateKey {
        name: name.into(),
        hash: [number; 32],
        scopes: scopes.into(),
    }
}

#[tokio::test]
async fn a_key_is_made_found_used_and_revoked() {
    for &place in places() {
        let world = World::empty_at(place).await;
        let app = create("the app", 1, &[Scope::Events]);
        world.run("", &app).await.0.expect("made");
        let bot = create("bot", 2, &[Scope::Events, Scope::Users]);
        world.run("", &bot).await.0.expect("made");
        let taken = world.run("", &create("bot", 3, &[])).await.0;
        let text = "there is a key \"bot\" already".to_owned();
        assert_eq!(taken, Err(Error::Conflict(text)));

        let find = |number: u8| FindKey { hash: [number; 32] };
        let found = |is_used_late| FoundKey {
            name: "the app".into(),
            scopes: vec![Scope::Events],
            is_used_late,
        };
        assert_eq!(world.run("", &find(1)).await.0, Ok(found(true)));
        let used = UseKey { hash: [1; 32] };
        world.run("", &used).await.0.expect("used");
        assert_eq!(world.run("", &find(1)).await.0, Ok(found(false)));
        let listed = world.run("", &ListKeys).await.0.expect("a list");
        let listed: Vec<_> = listed
            .iter()
            .map(|key| (&*key.name, &*key.scopes, &*key.last_used))
            .collect();
        let expected = [
            ("bot", "users,events", ""),
            ("the app", "events", "1970-01-12 13:46:40"),
        ];
        assert_eq!(listed, expected);

        let revoke = RevokeKey {
            name: "the app".into(),
        };
        world.run("", &revoke).await.0.expect("revoked");
        let unknown = Err(Error::Unauthorized("invalid API key".into()));
        assert_eq!(world.run("", &find(1)).await.0, unknown);
        let missing = world.run("", &revoke).await.0;
        let text = "there is no key \"the app\"".to_owned();
        assert_eq!(missing, Err(Error::NotFound(text)));
        // The name is free again.
        let again = create("the app", 4, &[]);
        world.run("", &again).await.0.expect("made");
    }
}

#[tokio::test]
async fn keys_have_a_number_and_names_a_length() {
    let world = World::empty().await;
    let many = format!(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < {KEYS_MAX})
         insert into api_keys (name, hash, scopes, created_at) select 'k' || i, 'h' || i, '', 0 from n"
    );
    world.db.execute_batch(&many).await.expect("made");
    let refused = world.run("", &create("one more", 1, &[])).await.0;
    assert!(matches!(refused, Err(Error::TooLarge(_))), "{refused:?}");
    for (name, is_fine) in [
        ("a", true),
        ("my app", true),
        (&*"é".repeat(64), true),
        (&*"é".repeat(65), false),
        ("", false),
        ("a\nb", false),
    ] {
        assert_eq!(CreateKey::check_name(name).is_ok(), is_fine, "{name:?}");
    }
}

#[test]
fn changes_of_users_are_read_strictly() {
    let invalid = |text: &str| Err(Error::Invalid(text.into()));
    let long = format!(r#"{{"fullname": "{}"}}"#, "é".repeat(257));
    let longer = format!(r#"{{"password": "{}"}}"#, "x".repeat(1025));
    for (body, expected) in [
        ("", Ok(UserChange::default())),
        ("{}", Ok(UserChange::default())),
        (
            r#"{"fullname": null, "password": null, "banned": null, "more": 1}"#,
            Ok(UserChange::default()),
        ),
        (
            r#"{"fullname": "Ann", "banned": false}"#,
            Ok(UserChange {
                fullname: Some("Ann".into()),
                password: None,
                banned: Some(false),
            }),
        ),
        ("[]", invalid("not a valid json")),
        ("\u{0}", invalid("not a valid json")),
        (r#"{"fullname": 1}"#, invalid("fullname should be a string")),
        (
            r#"{"fullname": ""}"#,
            invalid("fullname should not be empty"),
        ),
        (&long, invalid("fullname should be at most 256 characters")),
        (
            r#"{"password": ""}"#,
            invalid("password should not be empty"),
        ),
        (&longer, invalid("password should be at most 1024 bytes")),
        (
            r#"{"banned": 1}"#,
            invalid("banned should be true or false"),
        ),
    ] {
        assert_eq!(UserChange::parse(body.as_bytes()), expected, "{body}");
    }
}

/// Whoever comes second, with another identity or another name, gets nothing of it.
#[tokio::test]
async fn an_identity_has_one_user_and_takes_nobody_elses() {
    for &place in places() {
        let world = World::new_at(place).await;
        let create = |subject: &str, username: &str, random: u8| CreateIdentified {
            issuer: "https://id.example".into(),
            subject: subject.into(),
            register: Register {
                username: username.into(),
                fullname: "Zoe".into(),
                password_hash: CreateIdentified::no_password([random; 16]),
            },
        };
        let find = async |issuer: &str, subject: &str| {
            let (issuer, subject) = (issuer.into(), subject.into());
            let find = FindIdentity { issuer, subject };
            world.run("", &find).await.0.expect("looked for")
        };
        world.run("", &create("7", "zoe", 1)).await.0.expect("made");
        for (subject, username) in [
            ("8", "zoe"),
            ("8", "alice"),
            ("8", "deleted"),
            ("8", "zoe "),
        ] {
            let refused = world.run("", &create(subject, username, 2)).await.0;
            assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
        }
        let zoe = Some("zoe".to_owned());
        assert_eq!(find("https://id.example", "7").await, zoe);
        assert_eq!(find("https://id.example", "8").await, None);
        assert_eq!(find("https://id.example/", "7").await, None);
        assert_eq!(world.integer("select count(*) from identities").await, 1);
        let user = FindUser {
            username: "zoe".into(),
        };
        let user = world.run("", &user).await.0.expect("found");
        assert!(!user.has_password);

        // It is a part of the export, and goes with the account.
        let export = BeginExport {
            username: "zoe".into(),
        };
        let export = world.run("", &export).await.0.expect("begun").text;
        let identity = r#""identity":{"issuer":"https://id.example","subject":"7"},"#;
        assert!(export.contains(identity), "{export}");
        let delete = DeleteAccount {
            password_hash: CreateIdentified::no_password([1; 16]),
        };
        world.run("zoe", &delete).await.0.expect("deleted");
        assert_eq!(find("https://id.example", "7").await, None);
        assert_eq!(world.integer("select count(*) from identities").await, 0);
        let again = world.run("", &create("7", "zoe", 3)).await.0;
        assert!(matches!(again, Err(Error::Conflict(_))), "{again:?}");
    }
}

#[tokio::test]
async fn a_user_without_a_password_gets_one() {
    for &place in places() {
        let world = World::new_at(place).await;
        let register = Register {
            username: "zoe".into(),
            fullname: "Zoe".into(),
            password_hash: NO_PASSWORD.into(),
        };
        world.run("", &register).await.0.expect("registered");
        let find = FindUser {
            username: "zoe".into(),
        };
        let found = world.run("", &find).await.0.expect("found");
        assert_eq!((found.has_password, found.created_at), (false, NOW));
        let set = SetPassword {
            username: "zoe".into(),
            password_hash: "$of zoe".into(),
        };
        let (set, told) = world.run("", &set).await;
        set.expect("set");
        assert!(matches!(&told[..], [Output::EndLogins(ended)] if ended.tokens_until == Some(NOW)));
        assert!(world.run("", &find).await.0.expect("found").has_password);
        let of_nobody = SetPassword {
            username: "nobody".into(),
            password_hash: "x".into(),
        };
        let missing = world.run("", &of_nobody).await.0;
        assert!(matches!(missing, Err(Error::NotFound(_))), "{missing:?}");

        // In pages.
        let mut names = Vec::new();
        loop {
            let list = ListUsers {
                after: names.last().cloned().unwrap_or_default(),
                limit: 2,
            };
            let page = world.run("", &list).await.0.expect("a page");
            names.extend(page.users.into_iter().map(|user| user.username));
            if !page.has_more {
                break;
            }
        }
        assert_eq!(names, ["alice", "bob", "carol", "dave", "zoe"]);
    }
}
