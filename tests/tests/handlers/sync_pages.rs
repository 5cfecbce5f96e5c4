//! `sync` with more data than fits a script: its limits and pages. Also, a new epoch differs from
//! the old one.

use handler::sync::SYNC_REVS_MAX;
use serde_json::{Map, Value, json};
use tests::{World, places};

#[tokio::test]
async fn revs_have_a_bound() {
    for &place in places() {
        let world = World::new_at(place).await;
        // Only one of these conversations is alice's, and nothing in it is new.
        let known = async |count: usize| {
            let revs: Map<_, _> = (1..=count).map(|id| (id.to_string(), json!(3))).collect();
            let event = json!({ "type": "sync", "revs": revs });
            world.event("alice", &event.to_string()).await.0
        };
        let refused = known(SYNC_REVS_MAX + 1).await;
        let error = "revs should have at most 20000 conversations";
        assert_eq!(refused["error"], error);
        assert_eq!(refused["code"], "too_large");
        let left: Vec<_> = (2..=SYNC_REVS_MAX).collect();
        let nothing = json!({ "conversations": [], "left": left, "more": false });
        assert_eq!(known(SYNC_REVS_MAX).await["data"], nothing);
    }
}

/// Names count as they are in JSON, also those of owners and admins and of conversations, and also if
/// there is no message.
#[tokio::test]
async fn names_count_in_the_size_of_a_page() {
    let world = World::new().await;
    let sql = "with recursive n(i) as (select 100 union all select i + 1 from n where i < 199)
        insert into users (id, username, fullname, password)
        select i, replace(printf('%060d', i), '0', char(1)), '', '' from n;
        with recursive n(i) as (select 100 union all select i + 1 from n where i < 159)
        insert into conversations (id, name, rev, activity, member_count)
        select i, replace(printf('%0256d', 0), '0', char(1)), 2, 0, 101 from n;
        insert into members (conversation_id, user_id) select id, 1 from conversations where id >= 100;
        insert into members (conversation_id, user_id, role)
        select c.id, u.id, 1 from conversations c, users u where c.id >= 100 and u.id >= 100;";
    world.db.execute_batch(sql).await.expect("named");
    let mut revs: Map<_, _> = (100..160).map(|id| (id.to_string(), json!(1))).collect();
    revs.insert("1".into(), json!(3));
    let (mut count, mut pages) = (0, 0);
    loop {
        let event = json!({ "type": "sync", "revs": revs, "limit": 1000 });
        let (reply, _) = world.answer("alice", &event.to_string()).await;
        assert!(reply.len() < 1_200_000, "{} bytes", reply.len());
        let reply: Value = serde_json::from_str(&reply).expect("JSON");
        let page = reply["data"]["conversations"].as_array().expect("a list");
        for conversation in page {
            revs.insert(conversation["id"].to_string(), conversation["rev"].clone());
        }
        (count, pages) = (count + page.len(), pages + 1);
        if reply["data"]["more"] == false {
            break;
        }
    }
    assert_eq!(count, 60);
    assert!((3..10).contains(&pages), "{pages} pages");
}

#[tokio::test]
async fn a_new_epoch_is_another() {
    let world = World::new().await;
    let epoch = async || {
        let (reply, _) = world.event("bob", r#"{"type": "sync", "epoch": ""}"#).await;
        let epoch = reply["data"]["epoch"].as_str();
        epoch.expect("an epoch").to_owned()
    };
    let old = epoch().await;
    let renew = handler::cluster::chat_id::NEW_CHAT_ID;
    world.db.execute(renew, ()).await.expect("renewed");
    assert_ne!(epoch().await, old);
}

#[tokio::test]
async fn sync_gives_an_unknown_conversation_its_latest_hundred_and_pages_the_rest() {
    let world = World::new().await;
    let sql = "with recursive n(i) as (select 4 union all select i + 1 from n where i < 303)
        insert into messages (id, sender_id, conversation_id, content, rev) select i, 1, 1, 'x', i from n;
        update conversations set rev = 303, activity = 303 where id = 1;";
    world.db.execute_batch(sql).await.expect("inserted");
    for (length, limit, pages) in [(1, 40, 3), (1, 1000, 1), (60_000, 1000, 6)] {
        let sql = "update messages set content = ?1 where id > 3";
        let updated = world.db.execute(sql, ["x".repeat(length)]).await;
        assert_eq!(updated.expect("updated"), 300);
        for (since, first) in [(0, 204), (3, 4)] {
            let (mut rev, mut ids, mut count) = (since, Vec::new(), 0);
            loop {
                let event = json!({ "type": "sync", "revs": { "1": rev }, "limit": limit });
                let (reply, _) = world.event("alice", &event.to_string()).await;
                let conversation = &reply["data"]["conversations"][0];
                let page = tests::host::ids(&conversation["messages"]);
                assert!(!page.is_empty(), "every page brings news");
                assert!(page.len() <= limit);
                ids.extend(page);
                rev = conversation["rev"].as_i64().expect("a rev");
                count += 1;
                if reply["data"]["more"] == false {
                    break;
                }
                // A conversation that is cut short has the rev of its last message, which in this
                // test equals its id.
                assert_eq!(ids.last(), Some(&rev));
            }
            assert_eq!(rev, 303);
            assert_eq!(ids, (first..=303).collect::<Vec<_>>());
            if since == 0 {
                assert_eq!(count, pages);
            }
        }
    }
}

#[tokio::test]
async fn large_conversations_come_in_pages_too() {
    let world = World::new().await;
    let sql = "with recursive n(i) as (select 5 union all select i + 1 from n where i < 9000)
        insert into users (id, username, fullname, password) select i, printf('%060d', i), '', '' from n;
        with recursive n(i) as (select 3 union all select i + 1 from n where i < 7)
        insert into conversations (id, name) select i, 'large' from n;
        insert into members (conversation_id, user_id) select c.id, u.id from conversations c, users u where c.id > 2 and u.id <> 4;
        update conversations set member_count = (select count(*) from members where conversation_id = id) where id > 2;";
    world.db.execute_batch(sql).await.expect("inserted");
    let (mut revs, mut pages) = (Map::new(), 0);
    loop {
        let event = json!({ "type": "sync", "revs": revs, "limit": 1000 });
        let (reply, _) = world.event("alice", &event.to_string()).await;
        let bytes = reply.to_string().len();
        assert!(bytes < 2 * 1024 * 1024, "an answer of {bytes} bytes");
        let conversations = reply["data"]["conversations"].as_array();
        for conversation in conversations.expect("conversations") {
            revs.insert(conversation["id"].to_string(), conversation["rev"].clone());
        }
        pages += 1;
        assert!(pages < 20, "the pages end");
        if reply["data"]["more"] == false {
            break;
        }
    }
    let known: Vec<_> = revs.keys().map(String::as_str).collect();
    assert_eq!(known, ["1", "3", "4", "5", "6", "7"]);
    assert!(pages > 1);
}
