//! Stories over a running host, as its users see it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::SinkExt;
use serde_json::{Value, json};
use tests::host::{ids, login};
use tests::{Client, Form, Host};
use tokio_tungstenite::tungstenite::Message;

fn contents(messages: &Value) -> Vec<&str> {
    let messages = messages.as_array().expect("a list of messages");
    messages
        .iter()
        .map(|m| m["content"].as_str().expect("content"))
        .collect()
}

/// Runs the same stories on a file, on a remote database, and on two hosts.
macro_rules! in_every_form {
    ($($story:ident)*) => {
        in_every_form! { @ file File $($story)* }
        in_every_form! { @ remote Remote $($story)* }
        in_every_form! { @ cluster Cluster $($story)* }
    };
    (@ $module:ident $form:ident $($story:ident)*) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $story() {
                    super::$story(tests::Form::$form).await;
                }
            )*
        }
    };
}
pub(crate) use in_every_form;

in_every_form! {
    two_people_talk_and_find_their_history_after_a_restart
    two_devices_of_one_user_see_the_same
    contacts_hear_of_the_first_socket_and_of_the_last
    presence_is_right_after_many_devices_come_and_go_at_once
    everyone_sees_a_conversation_in_the_order_of_its_ids_without_gaps
    replies_come_in_the_order_of_requests
    bad_input_is_answered_and_the_socket_stays_open
    frames_that_break_the_protocol_close_with_their_code
    a_login_that_does_not_hold_is_told_after_the_upgrade
    a_member_who_does_not_read_harms_nobody_and_is_closed
    a_client_that_reads_slowly_gets_every_reply
    a_message_sent_from_two_devices_at_once_is_stored_once
    typing_is_heard_in_its_order
    a_client_that_has_finished_sending_still_gets_its_replies
    a_silent_client_is_closed_and_an_idle_one_that_answers_is_not
    who_is_removed_hears_nothing_more_until_added_again
    a_pair_that_creates_at_once_has_one_direct_conversation
    a_client_of_the_first_backend_sees_nothing_break
    a_message_is_found_as_it_is_now
}

async fn two_people_talk_and_find_their_history_after_a_restart(form: Form) {
    let host = Host::start_as(form).await;
    let (mut alice, mut bob) = (host.join("alice").await, host.join("bob").await);
    alice.add_contact("bob").await;
    let contacts = bob.ok(json!({ "type": "get_contacts" })).await;
    assert_eq!(contacts["contacts"], json!(["alice"]));
    assert_eq!(contacts["profiles"][0]["is_online"], true);
    let added = bob.push().await;
    assert_eq!(added["type"], "contact_added");
    assert_eq!(added["data"], contacts["profiles"][0]);

    let conversation = alice.converse(&["bob"]).await;
    let heard = bob.push().await;
    assert_eq!(heard["type"], "create_conversation");
    let data = &heard["data"];
    assert_eq!(
        (&data["name"], &data["rev"], &data["members"]),
        (&json!("alice, bob"), &json!(1), &json!(["alice", "bob"]))
    );
    assert_eq!(data["id"], conversation);

    let first = alice.send(conversation, "hello bob").await;
    let heard = bob.push().await;
    assert_eq!(
        (&heard["type"], &heard["data"]["id"]),
        (&json!("send_message"), &json!(first))
    );
    assert_eq!(
        heard.as_object().expect("an object").len(),
        3,
        "a push has type, success and data: {heard}"
    );
    let answer = json!({
        "type": "send_message", "conversation_id": conversation, "content": "hello alice", "reply_id": first,
    });
    let second = bob.ok(answer).await;
    assert_eq!(
        alice.push().await["data"],
        second,
        "everyone sees the same message"
    );

    let site = host.stop().await;
    assert_eq!(
        alice.closed().await,
        (1001, "server is shutting down".into())
    );
    let host = Host::start_at(form, site, |_| {}).await;
    let mut bob = host.connect("bob").await;
    let history = bob.history(conversation).await;
    assert_eq!(contents(&history), ["hello alice", "hello bob"]);
    assert_eq!(history[0], second, "history and push show the same message");
    let contacts = bob.ok(json!({ "type": "get_contacts" })).await;
    assert_eq!(
        contacts["profiles"][0]["is_online"], false,
        "alice has not come back"
    );
}

async fn two_devices_of_one_user_see_the_same(form: Form) {
    let host = Host::start_as(form).await;
    let (mut phone, mut laptop) = (host.join("alice").await, host.connect("alice").await);
    let mut bob = host.join("bob").await;
    let conversation = phone.converse(&["bob"]).await;
    assert_eq!(laptop.push().await["data"]["id"], conversation);
    phone.send(conversation, "from the phone").await;
    assert_eq!(laptop.push().await["data"]["content"], "from the phone");
    laptop.send(conversation, "from the laptop").await;
    assert_eq!(phone.push().await["data"]["content"], "from the laptop");
    assert_eq!(
        host.pushes_so_far(&mut phone).await,
        [] as [Value; 0],
        "its only copy is the reply"
    );
    let heard: Vec<_> = host
        .pushes_so_far(&mut bob)
        .await
        .iter()
        .map(|p| p["type"].clone())
        .collect();
    assert_eq!(
        heard,
        ["create_conversation", "send_message", "send_message"]
    );
    // Devices that connect later hear of the conversations that the user is already in.
    let mut tablet = host.connect("alice").await;
    bob.send(conversation, "to all three").await;
    for device in [&mut phone, &mut laptop, &mut tablet] {
        assert_eq!(device.push().await["data"]["content"], "to all three");
    }
}

async fn contacts_hear_of_the_first_socket_and_of_the_last(form: Form) {
    let host = Host::start_as(form).await;
    let mut alice = host.join("alice").await;
    let mut stranger = host.join("stranger").await;
    host.join("bob").await.close().await;
    alice.add_contact("bob").await;

    let mut bob_first = host.connect("bob").await;
    let online = alice.push().await;
    assert_eq!(
        (&online["type"], &online["success"]),
        (&json!("user_status"), &json!(true))
    );
    assert_eq!(
        (&online["data"]["username"], &online["data"]["is_online"]),
        (&json!("bob"), &json!(true))
    );
    let bob_second = host.connect("bob").await;
    bob_second.close().await;
    assert_eq!(
        host.pushes_so_far(&mut alice).await,
        [] as [Value; 0],
        "contacts do not hear of a second socket or its end"
    );
    assert_eq!(
        host.pushes_so_far(&mut bob_first).await,
        [] as [Value; 0],
        "no pushes at connect"
    );
    // A connection that breaks counts as closed.
    drop(bob_first);
    let offline = alice.push().await;
    assert_eq!(
        (&offline["data"]["username"], &offline["data"]["is_online"]),
        (&json!("bob"), &json!(false))
    );
    let profile = &alice.ok(json!({ "type": "get_contacts" })).await["profiles"][0];
    assert_eq!(profile["is_online"], false);
    assert_eq!(profile["last_online"], offline["data"]["last_online"]);
    assert!(profile["last_online"].as_i64() >= profile["created_at"].as_i64());
    assert_eq!(host.pushes_so_far(&mut stranger).await, [] as [Value; 0]);
}

async fn presence_is_right_after_many_devices_come_and_go_at_once(form: Form) {
    let host = Host::start_as(form).await;
    let mut alice = host.join("alice").await;
    host.join("bob").await.close().await;
    alice.add_contact("bob").await;
    let cookie = login(host.address, "bob").await;
    let devices = (0..40).map(|index| {
        let (address, cookie) = (host.next_address(), cookie.clone());
        tokio::spawn(async move {
            let mut device = Client::connect(address, &cookie).await;
            // Now the server, too, considers the socket open.
            device.ok(json!({ "type": "self" })).await;
            if index % 2 == 0 {
                device.close().await;
            }
        })
    });
    for device in devices.collect::<Vec<_>>() {
        device.await.expect("no panic");
    }
    // From now on, devices only disconnect. The last push must be right, and the database must
    // agree.
    let mut told = Value::Null;
    loop {
        let contacts = alice.ok(json!({ "type": "get_contacts" })).await;
        if contacts["profiles"][0]["is_online"] == false {
            break;
        }
        told = alice.push().await;
    }
    while told["data"]["is_online"] != false {
        told = alice.push().await;
    }
    let mut bob = host.connect("bob").await;
    assert_eq!(bob.ok(json!({ "type": "self" })).await["is_online"], true);
}

async fn everyone_sees_a_conversation_in_the_order_of_its_ids_without_gaps(form: Form) {
    const SENDERS: usize = 8;
    const EACH: usize = 60;
    let host = Host::start_as(form).await;
    let mut members = Vec::new();
    for index in 0..SENDERS {
        members.push(host.join(&format!("user{index}")).await);
    }
    let names: Vec<_> = (1..SENDERS).map(|index| format!("user{index}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let conversation = members[0].converse(&names).await;
    for member in &mut members[1..] {
        assert_eq!(member.push().await["type"], "create_conversation");
    }
    let tasks = members.into_iter().enumerate().map(|(index, mut member)| {
        tokio::spawn(async move {
            for count in 0..EACH {
                let event = json!({
                    "type": "send_message", "conversation_id": conversation, "content": format!("{index} {count}"),
                });
                member.text(&event.to_string()).await;
            }
            let mut seen = Vec::new();
            for _ in 0..SENDERS * EACH {
                let event = member.receive().await;
                assert_eq!(event["success"], true, "{event}");
                seen.push(event["data"].clone());
            }
            if form == Form::Cluster {
                // Commits of two hosts at the same time may arrive in either order; a client goes
                // by the revs.
                seen.sort_by_key(|message| message["rev"].as_i64());
            }
            (seen, member)
        })
    });
    let mut views = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        views.push(task.await.expect("no panic"));
    }
    let expected: Vec<i64> = (1..=(SENDERS * EACH) as i64).collect();
    for (seen, _) in &views {
        assert_eq!(ids(&json!(seen)), expected);
        assert_eq!(seen, &views[0].0);
    }
    // Each sender's own messages kept their order.
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for message in &views[0].0 {
        let content = message["content"].as_str().expect("content");
        let (sender, count) = content.split_once(' ').expect("two parts");
        let next = counts.entry(sender).or_default();
        assert_eq!(count, next.to_string());
        *next += 1;
    }
    let mut reader = views.pop().expect("a view").1;
    let history = reader.history(conversation).await;
    let newest: Vec<_> = views[0].0.iter().rev().take(100).cloned().collect();
    assert_eq!(history, json!(newest));
}

async fn replies_come_in_the_order_of_requests(form: Form) {
    let host = Host::start_as(form).await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    let mut requests = Vec::new();
    for round in 0..100 {
        requests.push(json!({ "type": "send_message", "conversation_id": conversation, "content": format!("{round}") }));
        requests.push(json!({ "type": "get_messages", "conversation_id": conversation }));
        requests.push(json!({ "type": "ping" }));
        requests.push(
            json!({ "type": "send_message", "conversation_id": conversation, "content": "" }),
        );
        requests.push(json!({ "type": "nonsense" }));
        requests.push(json!({ "type": "create_conversation", "members": [] }));
    }
    for (reference, request) in requests.iter_mut().enumerate() {
        request["ref"] = json!(reference);
        alice
            .socket
            .feed(Message::text(request.to_string()))
            .await
            .expect("open");
    }
    alice.socket.flush().await.expect("open");
    for (reference, request) in requests.iter().enumerate() {
        let reply = alice.receive().await;
        assert_eq!(reply["ref"], reference, "{request} → {reply}");
        if request["type"] == "get_messages" {
            let newest = &reply["data"]["messages"][0]["content"];
            assert_eq!(
                newest,
                &json!((reference / 6).to_string()),
                "a read sees the writes before it"
            );
        }
    }
}

async fn bad_input_is_answered_and_the_socket_stays_open(form: Form) {
    let host = Host::start_as(form).await;
    let mut alice = host.join("alice").await;
    let mut bob = host.join("bob").await;
    let conversation = alice.converse(&["bob"]).await;
    bob.push().await;
    let deep = "[".repeat(100_000);
    let send = |content: &str| {
        format!(
            r#"{{"type": "send_message", "conversation_id": {conversation}, "content": {content}}}"#
        )
    };
    for (event, error) in [
        (send("\"\\ud800\""), "expected content as string"),
        (send("NaN"), "invalid json event"),
        (send(&"9".repeat(5000)), "expected content as string"),
        (
            send(&format!("{deep}{}", "]".repeat(100_000))),
            "expected content as string",
        ),
        (send("null"), "expected content as string"),
        (deep.clone(), "invalid json event"),
        (format!("[{}1]", "1,".repeat(400_000)), "invalid json event"),
        (
            r#"{"type": "get_messages", "conversation_id": 99999999999999999999}"#.into(),
            "expected conversation_id as integer",
        ),
        (String::new(), "invalid json event"),
        ("\0".into(), "invalid json event"),
    ] {
        alice.text(&event).await;
        let reply = alice.receive().await;
        assert_eq!(
            (&reply["success"], &reply["error"]),
            (&json!(false), &json!(error)),
            "{reply}"
        );
    }
    assert_eq!(
        host.pushes_so_far(&mut bob).await,
        [] as [Value; 0],
        "nobody was told"
    );
    assert_eq!(
        bob.history(conversation).await,
        json!([]),
        "nothing was stored"
    );
    alice.text(&send("\"last\", \"content\": \"wins\"")).await;
    assert_eq!(alice.receive().await["data"]["content"], "wins");
    let nul = alice
        .ok(json!({ "type": "send_message", "conversation_id": conversation, "content": "a\0b" }))
        .await;
    assert_eq!(
        bob.history(conversation).await[0],
        nul,
        "NUL is text like any other"
    );
}

async fn frames_that_break_the_protocol_close_with_their_code(form: Form) {
    let host = Host::start_as(form).await;
    let mut bob = host.join("bob").await;
    host.register("alice").await;
    let too_large = "x".repeat(1024 * 1024 + 1);
    for (frame, code) in [
        (Message::binary(vec![1, 2, 3]), 1003),
        (Message::text(too_large), 1009),
    ] {
        let mut alice = host.connect("alice").await;
        // The server may close while the frame is still being written.
        let _ = alice.socket.send(frame).await;
        assert_eq!(alice.closed().await.0, code);
    }
    let mut alice = host.connect("alice").await;
    alice
        .socket
        .send(Message::Ping("are you there".into()))
        .await
        .expect("open");
    let pong = futures_util::StreamExt::next(&mut alice.socket)
        .await
        .expect("a frame")
        .expect("a frame");
    assert_eq!(pong, Message::Pong("are you there".into()));
    alice.close().await;
    assert_eq!(bob.ok(json!({ "type": "ping" })).await, "pong");
}

async fn a_login_that_does_not_hold_is_told_after_the_upgrade(form: Form) {
    let host = Host::start_as(form).await;
    host.register("alice").await;
    let ghost = handler::account::token::TokenKey::new(tests::host::SECRET.as_bytes());
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    let now = now.as_secs() as i64;
    let token = |name: &str, at: i64| {
        let login = handler::account::login_id::LoginId::of_token(None);
        format!("login-token={}", ghost.sign(name, login, at + 3600))
    };
    for (cookie, reason) in [
        (String::new(), "login-token required".to_owned()),
        ("other=1".into(), "login-token required".into()),
        ("login-token=".into(), "invalid login-token".into()),
        ("login-token=x.y.z".into(), "invalid login-token".into()),
        (token("alice", now - 4000), "invalid login-token".into()),
        (token("ghost", now), "'ghost' doesn't exists".into()),
        (token(&"é".repeat(100), now), format!("'{}", "é".repeat(61))),
    ] {
        let mut client = Client::connect(host.next_address(), &cookie).await;
        assert_eq!(client.closed().await, (1000, reason), "{cookie}");
    }
    let mut alice = Client::connect(host.next_address(), &token("alice", now)).await;
    assert_eq!(
        alice.ok(json!({ "type": "self" })).await["username"],
        "alice"
    );
}

async fn a_member_who_does_not_read_harms_nobody_and_is_closed(form: Form) {
    let host = Host::start_as(form).await;
    let (mut alice, mut bob) = (host.join("alice").await, host.join("bob").await);
    let mut sloth = host.join("sloth").await;
    let conversation = alice.converse(&["bob", "sloth"]).await;
    bob.push().await;
    alice.add_contact("sloth").await;
    // 4 MiB may wait in the queue, and the system's own buffers hold some more.
    let content = "x".repeat(60_000);
    let mut last = 0;
    let mut told = Vec::new();
    while told.is_empty() {
        assert!(last < 1000, "the socket is never closed");
        last = alice.send(conversation, &content).await;
        assert_eq!(bob.push().await["data"]["id"], last);
        told = alice.pushes_so_far().await;
    }
    assert_eq!(told[0]["data"]["is_online"], false, "{told:?}");
    assert_eq!(sloth.closed().await, (1013, "too slow".into()));
    let mut sloth = host.connect("sloth").await;
    let history = sloth.history(conversation).await;
    assert_eq!(history[0]["id"], last, "it has lost nothing");
}

async fn a_client_that_reads_slowly_gets_every_reply(form: Form) {
    let host = Host::start_as(form).await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    let content = "x".repeat(60_000);
    for _ in 0..100 {
        alice.send(conversation, &content).await;
    }
    // 40 pages of 1 MB are far more than may wait for a socket.
    let get = json!({ "type": "get_messages", "conversation_id": conversation }).to_string();
    for _ in 0..40 {
        alice.text(&get).await;
    }
    for _ in 0..40 {
        let page = alice.receive().await;
        assert_eq!(page["data"]["messages"][0]["id"], 100);
    }
    assert_eq!(alice.ok(json!({ "type": "ping" })).await, "pong");
}

async fn a_message_sent_from_two_devices_at_once_is_stored_once(form: Form) {
    let host = Host::start_as(form).await;
    let (mut phone, mut laptop) = (host.join("alice").await, host.connect("alice").await);
    let mut bob = host.join("bob").await;
    let conversation = phone.converse(&["bob"]).await;
    bob.push().await;
    for round in 0..50 {
        let event = json!({
            "type": "send_message", "conversation_id": conversation, "content": "once", "client_id": round.to_string(),
        });
        let (first, second) = tokio::join!(phone.ok(event.clone()), laptop.ok(event));
        assert_eq!(first["id"], second["id"]);
        let duplicates = [&first, &second]
            .iter()
            .filter(|data| data["duplicate"] == true)
            .count();
        assert_eq!(duplicates, 1, "{first} {second}");
        assert_eq!(bob.push().await["data"]["id"], first["id"]);
    }
    assert_eq!(host.pushes_so_far(&mut bob).await, [] as [Value; 0]);
}

async fn typing_is_heard_in_its_order(form: Form) {
    let host = Host::start_as(form).await;
    let (mut alice, mut bob) = (host.join("alice").await, host.join("bob").await);
    let conversation = alice.converse(&["bob"]).await;
    bob.push().await;
    let typing = |count: i32| json!({ "type": "typing", "conversation_id": conversation, "on": count % 2 == 0 });
    for count in 0..400 {
        alice
            .socket
            .feed(Message::text(typing(count).to_string()))
            .await
            .expect("open");
    }
    alice.socket.flush().await.expect("open");
    for count in 0..400 {
        assert_eq!(
            bob.push().await["data"]["on"],
            count % 2 == 0,
            "push {count}"
        );
    }
}

async fn a_client_that_has_finished_sending_still_gets_its_replies(form: Form) {
    let host = Host::start_as(form).await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    let event = json!({ "type": "send_message", "conversation_id": conversation, "content": "x" });
    for id in 1..=20 {
        let mut device = host.connect("alice").await;
        device.text(&event.to_string()).await;
        let stream = device.socket.get_mut();
        tokio::io::AsyncWriteExt::shutdown(stream)
            .await
            .expect("half closed");
        assert_eq!(device.receive().await["data"]["id"], id);
    }
}

async fn a_silent_client_is_closed_and_an_idle_one_that_answers_is_not(form: Form) {
    let host = Host::start_with(form, |config| config.ping_interval = Duration::from_secs(1)).await;
    host.register("silent").await;
    let mut idle = host.join("idle").await;
    idle.add_contact("silent").await;
    // tungstenite answers pings while it is polled. From now on `idle` is polled, and `silent` is
    // not.
    let idle = tokio::spawn(async move {
        let statuses = [idle.push().await, idle.push().await];
        (idle, statuses)
    });
    let mut silent = host.connect("silent").await;
    let (mut idle, statuses) = idle.await.expect("no panic");
    for (status, is_online) in statuses.iter().zip([true, false]) {
        assert_eq!(status["type"], "user_status");
        assert_eq!(status["data"]["is_online"], is_online);
    }
    assert_eq!(silent.closed().await, (4000, "no answer to ping".into()));
    assert_eq!(idle.ok(json!({ "type": "ping" })).await, "pong");
}

async fn who_is_removed_hears_nothing_more_until_added_again(form: Form) {
    let host = Host::start_as(form).await;
    let mut alice = host.join("alice").await;
    // In a cluster, the devices are on different hosts.
    let mut bob = [host.join("bob").await, host.connect("bob").await];
    let mut carol = host.join("carol").await;
    let conversation = alice.converse(&["bob", "carol"]).await;
    let event = |kind: &str, more: Value| {
        let mut event = json!({ "type": kind, "conversation_id": conversation });
        let fields = event.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        event
    };
    let removal = alice.ok(event("remove_member", json!({ "username": "bob" })));
    assert_eq!(removal.await["rev"], 2);
    alice.send(conversation, "meanwhile").await;
    for (client, last) in bob
        .iter_mut()
        .map(|bob| (bob, "remove_member"))
        .chain([(&mut carol, "send_message")])
    {
        assert_eq!(client.push().await["type"], "create_conversation");
        let removal = client.push().await;
        assert_eq!(
            (&removal["type"], &removal["data"]["rev"]),
            (&json!("remove_member"), &json!(2))
        );
        if last == "send_message" {
            assert_eq!(client.push().await["data"]["content"], "meanwhile");
        }
    }
    carol.send(conversation, "by carol").await;
    assert_eq!(alice.push().await["data"]["content"], "by carol");
    for client in &mut bob {
        assert_eq!(host.pushes_so_far(client).await, [] as [Value; 0]);
        for refused in [
            event("send_message", json!({ "content": "x" })),
            event("get_messages", json!({})),
        ] {
            assert_eq!(client.request(refused).await["code"], "not_found");
        }
        let sync = json!({ "type": "sync", "revs": { conversation.to_string(): 1 } });
        let missed = client.ok(sync).await;
        assert_eq!(
            (&missed["left"], &missed["conversations"]),
            (&json!([conversation]), &json!([]))
        );
    }
    let added = alice
        .ok(event("add_members", json!({ "members": ["bob"] })))
        .await;
    assert_eq!(added["added"], json!(["bob"]));
    for client in &mut bob {
        assert_eq!(client.push().await["data"], added);
    }
    alice.send(conversation, "together").await;
    for client in &mut bob {
        assert_eq!(client.push().await["data"]["content"], "together");
        // One device was away all the time, the other one has forgotten the conversation.
        for revs in [json!({ conversation.to_string(): 1 }), json!({})] {
            let missed = client.ok(json!({ "type": "sync", "revs": revs })).await;
            let missed = &missed["conversations"][0];
            assert_eq!(
                contents(&missed["messages"]),
                ["meanwhile", "by carol", "together"]
            );
            assert_eq!(missed["members"], json!(["alice", "carol", "bob"]));
        }
    }
}

async fn a_pair_that_creates_at_once_has_one_direct_conversation(form: Form) {
    let host = Host::start_as(form).await;
    let mut devices = Vec::new();
    for (name, other) in [("alice", "bob"), ("bob", "alice")] {
        host.register(name).await;
        for _ in 0..4 {
            devices.push((host.connect(name).await, other));
        }
    }
    let created = devices.iter_mut().map(|(device, other)| {
        device.ok(json!({ "type": "create_conversation", "members": [other], "direct": true }))
    });
    let created = futures_util::future::join_all(created).await;
    assert!(
        created
            .iter()
            .all(|conversation| conversation["id"] == created[0]["id"])
    );
    // Everyone hears of it once, as an answer or as a push.
    for (device, _) in &mut devices {
        assert!(host.pushes_so_far(device).await.len() <= 1);
        let listed = device.ok(json!({ "type": "get_conversations" })).await;
        assert_eq!(ids(&listed), [created[0]["id"].as_i64().expect("an id")]);
    }
}

/// It knows the events of the seed only, sends no `ref`, and takes the next event of a type for the
/// reply. Others edit, delete, react, rename, come and leave meanwhile.
async fn a_client_of_the_first_backend_sees_nothing_break(form: Form) {
    async fn old(client: &mut Client, event: Value) -> Value {
        client.text(&event.to_string()).await;
        loop {
            let received = client.receive().await;
            assert_eq!(received["success"], true, "{received}");
            if received["type"] == event["type"] {
                return received["data"].clone();
            }
        }
    }
    let host = Host::start_as(form).await;
    let (mut alice, mut bob) = (host.join("alice").await, host.join("bob").await);
    host.join("carol").await.close().await;
    let create = json!({ "type": "create_conversation", "members": ["alice", "carol"] });
    let made = old(&mut bob, create).await;
    assert_eq!(made["members"], json!(["bob", "alice", "carol"]));
    let id = made["id"].as_i64().expect("an id");
    let (first, second) = (alice.send(id, "@bob").await, alice.send(id, "two").await);
    for change in [
        json!({ "type": "edit_message", "message_id": first, "content": "@all edited" }),
        json!({ "type": "react", "message_id": first, "emoji": "👍", "on": true }),
        json!({ "type": "delete_message", "message_id": second }),
    ] {
        alice.ok(change).await;
    }
    let promote = json!({
        "type": "set_role", "conversation_id": id, "username": "alice", "role": "owner",
    });
    bob.ok(promote).await;
    for change in [
        json!({ "type": "rename_conversation", "conversation_id": id, "name": "new" }),
        json!({ "type": "remove_member", "conversation_id": id, "username": "carol" }),
        json!({ "type": "leave_conversation", "conversation_id": id }),
    ] {
        alice.ok(change).await;
    }
    let send = json!({ "type": "send_message", "conversation_id": id, "content": "three", "reply_id": second });
    bob.pushes_so_far().await;
    let sent = old(&mut bob, send).await;
    assert_eq!(
        (&sent["content"], &sent["reply_id"]),
        (&json!("three"), &json!(second))
    );
    let history = json!({ "type": "get_messages", "conversation_id": id });
    let history = old(&mut bob, history).await;
    let messages = history["messages"].as_array().expect("messages");
    let seen: Vec<_> = messages
        .iter()
        .map(|m| (&m["id"], &m["content"], &m["sender_username"]))
        .collect();
    let (three, alice, bob_name) = (&sent["id"], json!("alice"), json!("bob"));
    assert_eq!(
        seen,
        [
            (three, &json!("three"), &bob_name),
            (&json!(second), &json!(""), &alice),
            (&json!(first), &json!("@all edited"), &alice),
        ]
    );
    assert!(messages.iter().all(|m| m["sent_at"].is_i64()));
    let info = old(
        &mut bob,
        json!({ "type": "get_conversation_info", "id": id }),
    )
    .await;
    assert_eq!(
        (&info["id"], &info["name"], &info["members"]),
        (&json!(id), &json!("new"), &json!(["bob"]))
    );
    let list = old(&mut bob, json!({ "type": "get_conversations" })).await;
    assert_eq!(
        (&list[0]["id"], &list[0]["name"]),
        (&json!(id), &json!("new"))
    );
    let contacts = old(&mut bob, json!({ "type": "get_contacts" })).await;
    assert_eq!(contacts["contacts"], json!([]));
}

/// Whether the index holds it already or not.
async fn a_message_is_found_as_it_is_now(form: Form) {
    let host = Host::start_as(form).await;
    let (mut alice, mut bob) = (host.join("alice").await, host.join("bob").await);
    let conversation = alice.converse(&["bob"]).await;
    for round in 0..20 {
        let id = alice.send(conversation, &format!("Apples {round}")).await;
        assert_eq!(bob.search("apple").await, [id]);
        let edit = json!({ "type": "edit_message", "message_id": id, "content": "pears" });
        alice.ok(edit).await;
        assert_eq!(bob.search("apple").await, [0; 0]);
        assert_eq!(bob.search("pear").await, [id]);
        alice
            .ok(json!({ "type": "delete_message", "message_id": id }))
            .await;
        assert_eq!(bob.search("pear").await, [0; 0]);
    }
    let id = alice.send(conversation, "cherries").await;
    let remove =
        json!({ "type": "remove_member", "conversation_id": conversation, "username": "bob" });
    alice.ok(remove).await;
    assert_eq!(bob.search("cherries").await, [0; 0]);
    assert_eq!(alice.search("cherries").await, [id]);
}
