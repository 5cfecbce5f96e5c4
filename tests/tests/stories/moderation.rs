//! The operator settles reports and bans users beside a running server.

use std::ffi::OsString;
use std::time::Duration;

use host::Config;
use host::commands::reach::Place;
use host::commands::report;
use host::commands::user;
use serde_json::json;
use tests::host::{Form, PASSWORD};
use tests::{Client, Host};

/// The configuration of a command on the database of this host.
fn config(host: &Host) -> Config {
    let database = host.database().into_os_string();
    let variable =
        |name: &str| -> Option<OsString> { (name == "DBPATH").then(|| database.clone()) };
    Config::read(variable).expect("a configuration").0
}

#[tokio::test]
async fn a_report_is_settled_beside_a_running_server() {
    let host = Host::start_with(Form::File, |config| {
        config.account_interval = Duration::from_millis(50);
    })
    .await;
    let (mut alice, mut mallory) = (host.join("alice").await, host.join("mallory").await);
    let conversation = alice.converse(&["mallory"]).await;
    mallory.push().await;
    let id = mallory.send(conversation, "\u{1b}[2Jbuy").await;
    let heard = alice.push().await;
    assert_eq!(heard["data"]["id"], id);
    let reason = json!({ "type": "report_message", "message_id": id, "reason": "spam\nand lies" });
    assert_eq!(alice.ok(reason).await, json!({ "message_id": id }));
    let edit = json!({ "type": "edit_message", "message_id": id, "content": "hello" });
    mallory.ok(edit).await;
    let rev = alice.push().await["data"]["rev"].as_i64().expect("a rev");

    let config = config(&host);
    let mut output = Vec::new();
    report::list(&config, None, false, &mut output)
        .await
        .expect("listed");
    report::show(&config, 1, &mut output).await.expect("shown");
    let output = String::from_utf8(output).expect("UTF-8");
    for text in [
        "alice reports mallory: spam\\nand lies\n",
        "report 1: open\n",
        "    spam\n    and lies\n",
        "    \\u{1b}[2Jbuy\n",
        "the message now:\n    hello\n",
    ] {
        assert!(output.contains(text), "{text}: {output}");
    }
    let missing = report::show(&config, 2, &mut Vec::new()).await;
    assert_eq!(missing.expect_err("none").to_string(), "no report 2");

    let measures = report::Measures {
        deletes_message: true,
        bans_sender: true,
    };
    // If it was interrupted, the same command goes on.
    for _ in 0..2 {
        let closed = report::close(&config, 1, measures, &mut Vec::new()).await;
        closed.expect("closed");
    }
    assert_eq!(mallory.closed().await, (1008, "session ended".into()));
    let body = json!({ "username": "mallory", "password": PASSWORD }).to_string();
    let login = async || {
        host.http("POST", "/auth/login", &[], body.clone())
            .await
            .status
    };
    assert_eq!(login().await, 403);
    // No push has told alice, but a sync does, and so does the next change.
    let sync = json!({ "type": "sync", "revs": { conversation.to_string(): rev } });
    let synced = alice.ok(sync).await;
    let deleted = &synced["conversations"][0]["messages"][0];
    assert_eq!(
        (&deleted["id"], &deleted["deleted"]),
        (&json!(id), &json!(true))
    );
    let mut output = Vec::new();
    report::list(&config, None, false, &mut output)
        .await
        .expect("listed");
    assert_eq!(output, b"no reports\n");
    report::list(&config, None, true, &mut output)
        .await
        .expect("listed");
    let output = String::from_utf8(output).expect("UTF-8");
    assert!(output.ends_with(" [deleted,banned]\n"), "{output}");

    user::unban(&config, &Place::default(), "mallory")
        .await
        .expect("done");
    assert_eq!(login().await, 202);
    let mut mallory: Client = host.connect("mallory").await;
    let found = alice
        .ok(json!({ "type": "search_users", "query": "mall" }))
        .await;
    assert_eq!(found["users"][0]["username"], "mallory");
    mallory.send(conversation, "sorry").await;
    user::ban(&config, &Place::default(), "mallory")
        .await
        .expect("done");
    assert_eq!(mallory.closed().await, (1008, "session ended".into()));
    assert!(
        user::ban(&config, &Place::default(), "nobody")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_report_of_a_deleted_account_is_settled() {
    let host = Host::start().await;
    let (mut alice, mut mallory) = (host.join("alice").await, host.join("mallory").await);
    let conversation = alice.converse(&["mallory"]).await;
    mallory.push().await;
    let id = mallory.send(conversation, "buy").await;
    let reason = json!({ "type": "report_message", "message_id": id, "reason": "spam" });
    alice.push().await;
    alice.ok(reason).await;
    let cookie = tests::host::login(host.address, "mallory").await;
    let body = json!({ "password": PASSWORD }).to_string();
    let headers = [("cookie", cookie.as_str())];
    let deleted = host.http("DELETE", "/account", &headers, body).await;
    assert_eq!(deleted.status, 204, "{deleted:?}");
    let config = config(&host);
    let measures = report::Measures {
        deletes_message: true,
        bans_sender: true,
    };
    let mut output = Vec::new();
    let closed = report::close(&config, 1, measures, &mut output).await;
    closed.expect("closed");
    report::list(&config, None, true, &mut output)
        .await
        .expect("listed");
    let output = String::from_utf8(output).expect("UTF-8");
    assert!(output.contains("nobody is banned"), "{output}");
    assert!(output.ends_with(" [deleted]\n"), "{output}");
}
