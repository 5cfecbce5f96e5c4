//! Reports and bans.

use handler::account::login::FindAccount;
use handler::account::login_id::{EndedLogins, LoginId};
use handler::account::open_login::{CheckLogins, OpenLogin};
use handler::moderation::ban::{BanUser, UnbanUser};
use handler::moderation::erase::EraseMessage;
use handler::moderation::reports::{CloseReports, FindReport, ListReports, Report};
use handler::presence::Connected;
use handler::user::words::{FindWordless, StoreWords};
use handler::{Error, Output};
use serde_json::{Value, json};
use tests::{World, places};

async fn ask(world: &World, user: &str, event: Value) -> Value {
    let (mut reply, _) = world.event(user, &event.to_string()).await;
    assert_eq!(reply["success"], true, "{reply}");
    reply["data"].take()
}

async fn report(world: &World, id: i64) -> Report {
    let found = world.run("", &FindReport { id }).await.0;
    found.expect("done").expect("a report")
}

async fn list(world: &World, is_of_all: bool) -> Vec<i64> {
    let list = ListReports {
        before: i64::MAX,
        is_of_all,
    };
    let reports = world.run("", &list).await.0.expect("reports");
    reports.iter().map(|report| report.id).collect()
}

/// An edit after the report does not hide what was said; closing it erases what it has kept.
#[tokio::test]
async fn a_report_keeps_the_message_until_it_is_closed() {
    for &place in places() {
        let world = World::new_at(place).await;
        for (user, id) in [("bob", 1), ("alice", 1), ("alice", 2)] {
            let event = json!({ "type": "report_message", "message_id": id, "reason": "r\0ude" });
            ask(&world, user, event).await;
        }
        let edit = json!({ "type": "edit_message", "message_id": 1, "content": "nice" });
        ask(&world, "alice", edit).await;
        let expected = Report {
            id: 1,
            reported_at: "1970-01-12 13:46:40".into(),
            reporter: "bob".into(),
            reason: "r\0ude".into(),
            content: "one".into(),
            message_id: 1,
            present_content: "nice".into(),
            is_deleted: false,
            sent_at: "1970-01-12 13:46:40".into(),
            sender: "alice".into(),
            is_sender_banned: false,
            conversation_id: 1,
            conversation: "pair".into(),
            closed_at: None,
            outcome: String::new(),
        };
        assert_eq!(report(&world, 1).await, expected);
        assert_eq!(list(&world, false).await, [3, 2, 1]);
        let missing = world.run("", &FindReport { id: 9 }).await.0;
        assert_eq!(missing, Ok(None));
        // All reports of the message are closed together.
        let close = CloseReports {
            message_id: 1,
            outcome: "closed",
        };
        world.run("", &close).await.0.expect("closed");
        let closed = Report {
            content: String::new(),
            closed_at: Some(expected.reported_at.clone()),
            outcome: "closed".into(),
            ..expected
        };
        assert_eq!(report(&world, 1).await, closed);
        assert_eq!(list(&world, false).await, [3]);
        assert_eq!(list(&world, true).await, [3, 2, 1]);
        let kept = "select count(*) from reports where content <> ''";
        assert_eq!(world.integer(kept).await, 1);
    }
}

/// A deletion by the operator is a deletion like any other: clients that sync find it.
#[tokio::test]
async fn a_message_that_the_operator_deletes_is_found_by_sync() {
    for &place in places() {
        let world = World::new_at(place).await;
        let send = json!({ "type": "send_message", "conversation_id": 1, "content": "@bob" });
        assert_eq!(ask(&world, "alice", send).await["id"], 4);
        let react = json!({ "type": "react", "message_id": 4, "emoji": "x", "on": true });
        ask(&world, "bob", react).await;
        for _ in 0..2 {
            let erase = EraseMessage { message_id: 4 };
            assert_eq!(world.run("", &erase).await, (Ok(true), vec![]));
        }
        let sync = json!({ "type": "sync", "revs": { "1": 5, "2": 2 } });
        let found = ask(&world, "bob", sync).await;
        let changed = json!([{
            "id": 4, "conversation_id": 1, "rev": 6, "sender_username": "alice", "content": "",
            "reply_id": null, "sent_at": 1000000, "deleted": true,
        }]);
        assert_eq!(found["conversations"][0]["messages"], changed);
        assert_eq!(found["conversations"][0]["rev"], 6);
        let rows = "select (select count(*) from mentions) + (select count(*) from reactions)";
        assert_eq!(world.integer(rows).await, 0);
        let missing = EraseMessage { message_id: 99 };
        assert_eq!(world.run("", &missing).await, (Ok(false), vec![]));
    }
}

#[tokio::test]
async fn a_banned_user_cannot_log_in_and_is_found_again_when_the_ban_is_lifted() {
    for &place in places() {
        let world = World::new_at(place).await;
        let username = || "alice".to_owned();
        let find = FindAccount {
            username: username(),
        };
        let connect = Connected {
            username: username(),
            login: LoginId::of_token(None),
            host_id: "local".into(),
        };
        let check = CheckLogins {
            logins: vec![OpenLogin {
                user_id: 1,
                username: "alice".into(),
                login: LoginId::of_token(None),
            }],
        };
        let is_banned = async || {
            let account = world.run("", &find).await.0.expect("done");
            account.expect("an account").is_banned
        };
        let ended = async || {
            let checked = world.run("", &check).await.0.expect("checked");
            checked.ended.len()
        };
        let search = json!({ "type": "search_users", "query": "alice" });
        let found = async || {
            let found = ask(&world, "bob", search.clone()).await;
            found["users"].as_array().map_or(0, Vec::len)
        };
        assert_eq!(
            (is_banned().await, ended().await, found().await),
            (false, 0, 1)
        );
        for _ in 0..2 {
            let ban = BanUser {
                username: username(),
            };
            // All sockets are to close, also those of tokens without a session.
            let ended = EndedLogins {
                user_id: 1,
                sessions: vec![],
                tokens_until: Some(i64::MAX),
            };
            let told = vec![Output::EndLogins(ended)];
            assert_eq!(world.run("", &ban).await, (Ok(true), told));
        }
        assert_eq!(
            (is_banned().await, ended().await, found().await),
            (true, 1, 0)
        );
        let refused = Error::Unauthorized("invalid login-token".into());
        assert_eq!(world.run("", &connect).await.0, Err(refused));
        // Nothing adds words that a search would find.
        let wordless = world.run("", &FindWordless).await.0;
        assert_eq!(wordless, Ok(vec![]));
        // What was written stays.
        let get = json!({ "type": "get_messages", "conversation_id": 1 });
        let messages = ask(&world, "bob", get).await;
        assert_eq!(messages["messages"][1]["content"], "one");
        assert_eq!(messages["messages"][1]["sender_username"], "alice");

        let unban = UnbanUser {
            username: username(),
        };
        assert_eq!(world.run("", &unban).await, (Ok(true), vec![]));
        let of = world.run("", &FindWordless).await.0.expect("alice");
        assert_eq!(of.len(), 1);
        world.run("", &StoreWords { of }).await.0.expect("stored");
        assert_eq!(
            (is_banned().await, ended().await, found().await),
            (false, 0, 1)
        );
        world.run("", &connect).await.0.expect("connected");
        let nobody = BanUser {
            username: "nobody".into(),
        };
        assert_eq!(world.run("", &nobody).await.0, Ok(false));
    }
}
