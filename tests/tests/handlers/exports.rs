//! The export of an account, in a file and on a libSQL server.

use handler::account::delete::DeleteAccount;
use handler::account::export::{
    BeginExport, ExportPage, LOOKED_AT_MAX, PAGE_BYTES_MAX, PAGE_ROWS_MAX,
};
use serde_json::{Value, json};
use tests::world::NOW;
use tests::{World, places};

use crate::declarations::check_statements;

async fn begin(world: &World, username: &str) -> (String, ExportPage) {
    let begin = BeginExport {
        username: username.into(),
    };
    let begun = world.run("", &begin).await.0.expect("begun");
    (begun.text, begun.next.expect("a page"))
}

/// The document, and the number of its pages. Fails if a page is too large.
async fn export(world: &World, username: &str) -> (Value, usize) {
    let (mut document, page) = begin(world, username).await;
    let (mut next, mut pages) = (Some(page), 1);
    while let Some(page) = next {
        let exported = world.run("", &page).await.0.expect("a page");
        // Another message may be as long, and escapes take six bytes.
        let longest = (PAGE_BYTES_MAX as usize + 64 * 1024) * 6;
        assert!(exported.text.len() < longest, "{}", exported.text.len());
        document += &exported.text;
        next = exported.next;
        pages += 1;
    }
    let parsed = serde_json::from_str(&document);
    let document = parsed.unwrap_or_else(|error| panic!("{error}: {document}"));
    (document, pages)
}

async fn fill(world: &World, sql: &str) {
    match world.gateway {
        None => drop(world.db.execute_batch(sql).await.expect("filled")),
        Some(_) => {
            let filled = world.db.execute_transactional_batch(sql).await;
            drop(filled.expect("filled"));
        }
    }
}

#[tokio::test]
async fn all_that_is_stored_about_the_caller_is_exported() {
    for &place in places() {
        let world = World::new_at(place).await;
        for (user, event) in [
            (
                "bob",
                json!({"type": "send_message", "conversation_id": 1, "content": "@alice"}),
            ),
            (
                "alice",
                json!({"type": "react", "message_id": 2, "emoji": "👍\u{0}", "on": true}),
            ),
            (
                "bob",
                json!({"type": "react", "message_id": 2, "emoji": "👎", "on": true}),
            ),
            (
                "alice",
                json!({"type": "create_conversation", "members": ["bob"], "direct": true}),
            ),
            (
                "alice",
                json!({"type": "create_conversation", "members": [], "name": "left"}),
            ),
            (
                "alice",
                json!({"type": "send_message", "conversation_id": 4, "content": "a\u{0}\"b", "client_id": "c"}),
            ),
            (
                "alice",
                json!({"type": "leave_conversation", "conversation_id": 4}),
            ),
            ("alice", json!({"type": "block_user", "username": "dave"})),
            (
                "alice",
                json!({"type": "report_message", "message_id": 2, "reason": "rude"}),
            ),
            (
                "alice",
                json!({"type": "mark_read", "conversation_id": 1, "message_id": 2}),
            ),
        ] {
            let (reply, _) = world.event(user, &event.to_string()).await;
            assert_eq!(reply["success"], true, "{event}: {reply}");
        }
        fill(
            &world,
            "insert into sessions (id, user_id, lifetime, created_at, last_seen, ends_at, user_agent)
             values (7, 1, 3600, 5, 6, 7, 'a device')",
        )
        .await;
        let (document, _) = export(&world, "alice").await;
        let expected = json!({
            "exported_at": NOW,
            "profile": {"username": "alice", "fullname": "alice example", "is_online": false, "last_online": NOW, "created_at": NOW, "reachable_by": "everyone"},
            "sessions": [{"id": "0000000000000007", "created_at": 5, "last_seen": 6, "user_agent": "a device"}],
            "contacts": [{"username": "bob"}],
            "conversations": [
                {"id": 1, "name": "pair", "direct": false, "created_at": NOW, "member_count": 2, "role": "owner", "read_id": 2},
                {"id": 3, "name": "alice, bob", "direct": true, "created_at": NOW, "member_count": 2, "role": "member", "read_id": 0},
            ],
            "messages": [
                {"id": 1, "conversation_id": 1, "rev": 2, "reply_id": null, "sent_at": NOW, "sender_username": "alice", "content": "one"},
                {"id": 5, "conversation_id": 4, "rev": 2, "reply_id": null, "sent_at": NOW, "sender_username": "alice", "content": "a\u{0}\"b", "client_id": "c"},
            ],
            "reactions": [{"message_id": 2, "conversation_id": 1, "emoji": "👍\u{0}"}],
            "mentions": [{"message_id": 4, "conversation_id": 1}],
            "blocked": [{"username": "dave"}],
            "reports": [{"message_id": 2, "reason": "rude", "reported_at": NOW}],
        });
        assert_eq!(document, expected, "{place:?}");
        let (document, _) = export(&world, "dave").await;
        for section in [
            "sessions",
            "contacts",
            "conversations",
            "messages",
            "reactions",
            "mentions",
        ] {
            assert_eq!(document[section], json!([]), "{place:?}: {section}");
        }
    }
}

/// More of everything than fits a page; messages of others between, and long ones.
#[tokio::test]
async fn much_is_exported_in_pages() {
    for &place in places() {
        let world = World::new_at(place).await;
        let many = PAGE_ROWS_MAX + 1;
        let messages = 2 * LOOKED_AT_MAX + 3;
        let sql = format!(
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < {messages})
             insert into messages (id, sender_id, conversation_id, content, rev)
             select 100 + i, iif(i % 10 = 0, 1, 2), 5 + i % 3, iif(i % 1000 = 0, printf('%.50000c', 'x'), 'x'), i from n;
             insert into reactions (message_id, emoji, user_id)
             select id, '+', iif(id % 4 = 0, 1, 2) from messages where id > 100;
             insert into mentions (user_id, message_id, conversation_id, rev) select 1, id, 9, 0 from messages where id > 100 limit {many};
             insert into contacts (user_id, contact_id) select 1, id from messages where id > 100 limit {many};
             insert into conversations (id, name) select id, 'n' from messages where id > 100 limit {many};
             insert into members (conversation_id, user_id) select id, 1 from conversations where id > 100"
        );
        fill(&world, &sql).await;
        let (document, pages) = export(&world, "alice").await;
        let ids = |section: &str, id: &str| -> Vec<i64> {
            let items = document[section].as_array().expect("a list").iter();
            items
                .map(|item| item[id].as_i64().expect("an id"))
                .collect()
        };
        let mut expected: Vec<_> = (1..=messages)
            .filter(|i| i % 10 == 0)
            .map(|i| 100 + i)
            .collect();
        expected.insert(0, 1);
        let mut found = ids("messages", "id");
        found.sort_unstable();
        assert_eq!(found, expected, "{place:?}");
        let long = document["messages"].as_array().expect("a list").iter();
        let long = long.filter(|message| {
            message["content"]
                .as_str()
                .is_some_and(|text| text.len() == 50_000)
        });
        assert_eq!(long.count() as i64, messages / 1000);
        let reacted: Vec<_> = (101..=100 + messages).filter(|id| id % 4 == 0).collect();
        assert_eq!(ids("reactions", "message_id"), reacted, "{place:?}");
        for (section, id) in [("mentions", "message_id"), ("conversations", "id")] {
            let found = ids(section, id);
            let found = found.iter().filter(|id| **id > 100).count();
            assert_eq!(found as i64, many, "{place:?}: {section}");
        }
        let contacts = document["contacts"].as_array().expect("a list").len();
        assert_eq!(contacts as i64, many + 1, "{place:?}");
        assert!((15..100).contains(&pages), "{pages}");
    }
}

#[tokio::test]
async fn what_comes_later_is_left_out_and_a_deletion_ends_it() {
    let world = World::new().await;
    let (_, page) = begin(&world, "alice").await;
    let sent = json!({"type": "send_message", "conversation_id": 1, "content": "later"});
    world.event("alice", &sent.to_string()).await;
    let mut next = Some(page.clone());
    let mut text = String::new();
    while let Some(page) = next {
        let exported = world.run("", &page).await.0.expect("a page");
        text += &exported.text;
        next = exported.next;
    }
    assert!(
        text.contains("\"one\"") && !text.contains("later"),
        "{text}"
    );
    let ctx = world.context("alice").await;
    let delete = DeleteAccount {
        password_hash: "none".into(),
    };
    world.run_as(&ctx, &delete).await.0.expect("deleted");
    let ended = world.run("", &page).await.0;
    assert_eq!(
        ended.map_err(|error| error.code()).err(),
        Some("unauthorized")
    );
}

#[tokio::test]
async fn no_page_of_an_export_scans_a_table() {
    let world = World::new().await;
    let mut next = Some(begin(&world, "alice").await.1);
    while let Some(page) = next {
        check_statements(&world, &page).await;
        next = world.run("", &page).await.0.expect("a page").next;
    }
}
