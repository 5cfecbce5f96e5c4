//! Pages of a conversation's history.

use serde_json::json;
use tests::World;

#[tokio::test]
async fn a_page_of_long_messages_is_shorter() {
    let world = World::new().await;
    let sql = "with recursive n(i) as (select 4 union all select i + 1 from n where i < 103)
        insert into messages (id, sender_id, conversation_id, content, rev) select i, 1, 1, '', i from n";
    world.db.execute(sql, ()).await.expect("inserted");
    for (content, count) in [("x".repeat(64 * 1024), 15), ("\u{1}".repeat(64 * 1024), 2)] {
        let sql = "update messages set content = ?1 where id > 3";
        let updated = world.db.execute(sql, [content.as_str()]).await;
        assert_eq!(updated.expect("updated"), 100);
        let event = r#"{"type": "get_messages", "conversation_id": 1}"#;
        let (reply, _) = world.event("bob", event).await;
        let messages = &reply["data"]["messages"];
        assert_eq!(
            tests::host::ids(messages),
            ((104 - count)..=103).rev().collect::<Vec<_>>()
        );
        assert_eq!(messages[0]["content"], json!(content));
    }
}

#[tokio::test]
async fn history_is_paged_by_a_hundred() {
    let world = World::new().await;
    let sql = "with recursive n(i) as (select 4 union all select i + 1 from n where i < 253)
        insert into messages (id, sender_id, conversation_id, content, rev) select i, 1, 1, '', i from n";
    world.db.execute(sql, ()).await.expect("inserted");
    let mut before = json!(null);
    for (newest, oldest) in [(253, 154), (153, 54), (53, 1)] {
        let event = json!({ "type": "get_messages", "conversation_id": 1, "before": before });
        let (reply, _) = world.event("bob", &event.to_string()).await;
        let ids = tests::host::ids(&reply["data"]["messages"]);
        assert!(ids.is_sorted_by(|a, b| a > b), "newest first: {ids:?}");
        assert_eq!((ids[0], ids[ids.len() - 1]), (newest, oldest));
        assert!(ids.len() <= 100);
        before = json!(oldest);
    }
}

/// `before` and `after` need not be messages of the conversation.
#[tokio::test]
async fn any_integer_bounds_a_page() {
    let world = World::new().await;
    // Messages in two conversations, with gaps between their ids and their revs.
    let sql = "with recursive n(i) as (select 4 union all select i + 1 from n where i < 60)
        insert into messages (id, sender_id, conversation_id, content, rev)
        select 3 * i, 1, 1 + i % 2, '', 2 * i from n where i % 7 > 1;
        update conversations set rev = 200";
    world.db.execute_batch(sql).await.expect("inserted");
    let inserted = (4..=60).filter(|i| i % 7 > 1 && i % 2 == 0).map(|i| 3 * i);
    let all: Vec<i64> = [1, 2].into_iter().chain(inserted).collect();
    for bound in (-1..200).chain([i64::MIN, i64::MAX]) {
        let before = all.iter().rev().filter(|id| **id < bound);
        let after = all.iter().filter(|id| **id > bound);
        let mut after: Vec<i64> = after.take(5).copied().collect();
        after.reverse();
        for (name, expected) in [
            ("before", before.take(5).copied().collect()),
            ("after", after),
        ] {
            let event =
                json!({ "type": "get_messages", "conversation_id": 1, name: bound, "limit": 5 });
            let (reply, _) = world.event("bob", &event.to_string()).await;
            let ids = tests::host::ids(&reply["data"]["messages"]);
            assert_eq!(ids, expected, "{name} {bound}");
        }
    }
}
