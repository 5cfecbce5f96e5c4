//! Words by which people are found.

use handler::account::register::Register;
use handler::user::words::{FindWordless, StoreWords, WORDLESS_AT_ONCE, Wordless};
use serde_json::{Value, json};
use tests::{World, places};

async fn found(world: &World, query: &str) -> Vec<String> {
    let search = json!({ "type": "search_users", "query": query }).to_string();
    let (reply, _) = world.event("alice", &search).await;
    let users = reply["data"]["users"].as_array().cloned().expect("users");
    let name = |user: &Value| user["username"].as_str().unwrap_or_default().to_owned();
    users.iter().map(name).collect()
}

#[tokio::test]
async fn accounts_of_other_programs_and_earlier_releases_are_found() {
    for &place in places() {
        let world = World::new_at(place).await;
        let others = "insert into users (username, fullname, password) values
            ('Zoë', 'Van Zandt', 'x'), ('' || char(1114111), '', 'x')";
        world.db.execute_batch(others).await.expect("stored");
        assert_eq!(found(&world, "zoe").await, [] as [&str; 0]);
        let of = world.run("", &FindWordless).await.0.expect("accounts");
        assert_eq!(of.len(), 2);
        // The fullname changes after it was read.
        let changed = "update users set fullname = 'Van Dijk' where id = 5";
        let words = "insert into user_words values (5, 'zoe'), (5, 'van dijk'), (5, 'dijk');
            update users set has_words = 1 where id = 5;";
        world
            .db
            .execute_batch(&format!("{changed}; {words}"))
            .await
            .expect("stored");
        let store = StoreWords { of };
        // Another host may do the same.
        for _ in 0..2 {
            assert_eq!(world.run("", &store).await.0, Ok(()));
        }
        assert_eq!(world.run("", &FindWordless).await.0, Ok(vec![]));
        for (query, names) in [
            ("ZOE", &["Zoë"][..]),
            ("dij", &["Zoë"]),
            ("zandt", &[]),
            ("\u{10ffff}", &["\u{10ffff}"]),
        ] {
            assert_eq!(found(&world, query).await, names, "{query}");
        }
    }
}

#[tokio::test]
async fn no_more_accounts_than_take_a_moment_get_words_at_once() {
    let world = World::new().await;
    let more = WORDLESS_AT_ONCE + 1;
    let others = format!(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < {more})
         insert into users (username, fullname, password) select 'user' || i, 'x', '' from n"
    );
    world.db.execute_batch(&others).await.expect("stored");
    let mut counts = Vec::new();
    loop {
        let of = world.run("", &FindWordless).await.0.expect("accounts");
        counts.push(of.len() as i64);
        if of.is_empty() {
            break;
        }
        world.run("", &StoreWords { of }).await.0.expect("stored");
    }
    assert_eq!(counts, [WORDLESS_AT_ONCE, 1, 0]);
    assert_eq!(found(&world, "user").await.len(), 50);
}

/// Names may hold any characters; so may the words in the lists that statements take.
#[tokio::test]
async fn names_of_any_characters_are_found() {
    for &place in places() {
        let world = World::new_at(place).await;
        for name in ["b\0b", "\"\\", "' --", "%_", "\u{1}x", "\u{10ffff}"] {
            let register = Register {
                username: name.into(),
                fullname: format!("of {name}"),
                password_hash: name.into(),
            };
            assert_eq!(world.run("", &register).await.0, Ok(()), "{name:?}");
            assert_eq!(found(&world, name).await, [name], "{name:?}");
            let all = found(&world, &format!("OF {name}")).await;
            assert_eq!(all, [name], "{name:?}");
        }
        let deleted = StoreWords {
            of: vec![Wordless {
                user_id: 99,
                username: "gone".into(),
                fullname: "gone".into(),
            }],
        };
        world.run("", &deleted).await.0.expect("stored");
        assert_eq!(found(&world, "gone").await, [] as [&str; 0]);
    }
}
