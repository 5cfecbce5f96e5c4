//! What is left of a deleted account, and what others see of it, in a file and on a libSQL server.

use handler::account::delete::{DeleteAccount, Farewell};
use handler::account::erase::{
    CONVERSATIONS_AT_ONCE, ErasePiece, FindConversationsToLeave, FindUnerased, REACTIONS_AT_ONCE,
    ROWS_AT_ONCE,
};
use handler::account::login::FindAccount;
use handler::account::login_id::LoginId;
use handler::account::register::Register;
use handler::conversation::deleted_member::NoteDeletedMember;
use handler::conversation::leave::LeaveConversation;
use handler::presence::Connected;
use handler::{Context, Error, Operation, Outbox, Output, Statement, run_batch, schema};
use serde_json::{Value, json};
use tests::world::NOW;
use tests::{Place, World, places};

fn delete() -> DeleteAccount {
    DeleteAccount {
        password_hash: "none".into(),
    }
}

/// The reply to an event that must succeed.
async fn ok(world: &World, user: &str, event: Value) -> Value {
    let (reply, _) = world.event(user, &event.to_string()).await;
    assert_eq!(reply["success"], true, "{event}: {reply}");
    reply["data"].clone()
}

/// Leaves the conversations and erases the pieces, as a host does; returns the pushes, each with the
/// audience that it has before anything else changes.
async fn erase(world: &World, ctx: &Context) -> Vec<Value> {
    let mut pushes = Vec::new();
    let erase = ErasePiece {
        user_id: ctx.user_id,
    };
    while world.run("", &erase).await.0.expect("erased") {
        let find = FindConversationsToLeave {
            user_id: ctx.user_id,
        };
        let found = world.run("", &find).await.0.expect("found");
        for (conversation_id, is_direct) in found {
            let outbox = match is_direct {
                true => {
                    let note = NoteDeletedMember { conversation_id };
                    let (outcome, outbox) = world.run_as(ctx, &note).await;
                    outcome.expect("noted");
                    outbox
                }
                false => {
                    let leave = LeaveConversation::of_deleted(conversation_id);
                    let (outcome, outbox) = world.run_as(ctx, &leave).await;
                    outcome.expect("left");
                    outbox
                }
            };
            pushes.extend(pushes_of(world, outbox).await);
        }
    }
    pushes
}

async fn pushes_of(world: &World, outbox: Outbox) -> Vec<Value> {
    let mut pushes = Vec::new();
    for output in outbox {
        match output {
            Output::Push { to, event, .. } => {
                let event: Value = serde_json::from_str(&event).expect("JSON");
                let to = world.usernames(&to).await;
                pushes.push(json!([to, event["type"], event["data"]]));
            }
            Output::EndLogins(ended) => pushes.push(json!(["end", ended.user_id])),
            Output::Join(_) | Output::Leave(_) => {}
        }
    }
    pushes
}

#[test]
fn bodies_of_a_deletion() {
    for (body, error) in [
        ("nonsense", "not a valid json"),
        ("{}", "password required"),
        (r#"{"password": null}"#, "password should be a string"),
        (r#"{"password": ""}"#, "password should not be empty"),
    ] {
        let parsed = Farewell::parse(body.as_bytes());
        assert_eq!(parsed, Err(Error::Invalid(error.into())), "{body}");
    }
    let parsed = Farewell::parse(br#"{"password": "x"}"#);
    let password = "x".to_owned();
    assert_eq!(parsed, Ok(Farewell { password }));
}

/// alice is owner of conversation 1, has a direct conversation with bob (3), and has said, reacted to
/// and been mentioned in things.
async fn before(place: Place) -> World {
    let world = World::new_at(place).await;
    for (user, event) in [
        (
            "bob",
            json!({"type": "send_message", "conversation_id": 1, "content": "@alice!"}),
        ),
        (
            "alice",
            json!({"type": "send_message", "conversation_id": 1, "content": "@alice @bob"}),
        ),
        (
            "alice",
            json!({"type": "react", "message_id": 2, "emoji": "👍", "on": true}),
        ),
        (
            "bob",
            json!({"type": "react", "message_id": 2, "emoji": "👎", "on": true}),
        ),
        (
            "alice",
            json!({"type": "react", "message_id": 2, "emoji": "👎", "on": true}),
        ),
        (
            "alice",
            json!({"type": "create_conversation", "members": ["bob"], "direct": true}),
        ),
        (
            "alice",
            json!({"type": "send_message", "conversation_id": 3, "content": "psst"}),
        ),
        (
            "bob",
            json!({"type": "mark_read", "conversation_id": 3, "message_id": 6}),
        ),
        ("alice", json!({"type": "block_user", "username": "dave"})),
    ] {
        ok(&world, user, event).await;
    }
    let session =
        "insert into sessions (id, user_id, lifetime, created_at, last_seen, ends_at, user_agent)
        values (7, 1, 3600, 5, 6, 7, 'a device')";
    match place {
        Place::File => drop(world.db.execute_batch(session).await.expect("a session")),
        Place::Remote => {
            let stored = world.db.execute_transactional_batch(session).await;
            drop(stored.expect("a session"));
        }
    }
    world
}

#[tokio::test]
async fn who_was_blocked_does_not_hear_of_it() {
    let world = World::new().await;
    ok(
        &world,
        "alice",
        json!({"type": "add_contact", "contact_username": "carol"}),
    )
    .await;
    ok(
        &world,
        "alice",
        json!({"type": "block_user", "username": "bob"}),
    )
    .await;
    let connected = Connected {
        username: "alice".into(),
        login: LoginId::of_token(None),
        host_id: "local".into(),
    };
    world.run("", &connected).await.0.expect("connected");
    let (outcome, outbox) = world.run("alice", &delete()).await;
    assert_eq!(outcome, Ok(()));
    let told = json!([
        [["carol"], "user_status", {"username": "alice", "is_online": false, "last_online": NOW}],
        [["carol"], "account_deleted", {"username": "alice"}],
        ["end", 1],
    ]);
    assert_eq!(json!(pushes_of(&world, outbox).await), told);
}

#[tokio::test]
async fn nobody_is_left_of_a_deleted_account() {
    for &place in places() {
        let world = before(place).await;
        let connected = Connected {
            username: "alice".into(),
            login: LoginId::of_token(None),
            host_id: "local".into(),
        };
        world.run("", &connected).await.0.expect("connected");
        let ctx = world.context("alice").await;
        let (outcome, outbox) = world.run_as(&ctx, &delete()).await;
        assert_eq!(outcome, Ok(()));
        let told = json!([
            [["bob"], "user_status", {"username": "alice", "is_online": false, "last_online": NOW}],
            [["bob"], "account_deleted", {"username": "alice"}],
            ["end", 1],
        ]);
        assert_eq!(json!(pushes_of(&world, outbox).await), told, "{place:?}");

        // At once, before anything is erased.
        let rows = world.dump().await;
        assert!(!rows.iter().any(|row| row.contains("alice example")));
        let find = FindAccount {
            username: "alice".into(),
        };
        assert_eq!(world.run("", &find).await.0, Ok(None));
        let connecting = world.run("", &connected).await.0;
        let text = "'alice' doesn't exists".to_owned();
        assert_eq!(connecting.err(), Some(Error::NotFound(text)));
        sees_nobody(&world, place).await;
        let contacts = ok(&world, "bob", json!({"type": "get_contacts"})).await;
        assert_eq!(contacts["contacts"], json!([]));

        let pushes = erase(&world, &ctx).await;
        let expected = json!([
            [[], "leave_conversation", {"conversation_id": 1, "username": "alice", "rev": 9, "roles": {"bob": "owner"}, "deleted": true}],
            [["bob"], "leave_conversation", {"conversation_id": 1, "username": "alice", "rev": 9, "roles": {"bob": "owner"}, "deleted": true}],
            [["bob"], "account_deleted", {"conversation_id": 3, "username": "alice", "rev": 3}],
        ]);
        assert_eq!(json!(pushes), expected, "{place:?}");
        sees_nobody(&world, place).await;
        for (table, rows) in [
            ("contacts", 0),
            ("sessions", 0),
            ("blocks", 0),
            ("user_words where user_id = 1", 0),
            ("mentions where user_id = 1", 0),
            ("reactions where user_id = 1", 0),
            ("reactions", 1),
            // That of the direct conversation.
            ("members where user_id = 1", 1),
            ("deleted_accounts where due_at is not null", 0),
        ] {
            let count = world
                .integer(&format!("select count(*) from {table}"))
                .await;
            assert_eq!(count, rows, "{place:?}: {table}");
        }
        let reactions = "select reactions from changed_messages where message_id = 2";
        assert_eq!(world.integer(reactions).await, 1);
        let synced = ok(
            &world,
            "bob",
            json!({"type": "sync", "revs": {"1": 8, "3": 2}}),
        )
        .await;
        let conversations = &synced["conversations"];
        assert_eq!(conversations[0]["members"], json!(["bob"]));
        assert_eq!(conversations[0]["roles"], json!({"bob": "owner"}));
        assert_eq!(conversations[2]["members"], json!(["deleted", "bob"]));
        assert_eq!(conversations[2]["name"], "deleted, bob");
        assert_eq!(conversations[2]["rev"], 3);
    }
}

/// What bob sees, whatever is erased already.
async fn sees_nobody(world: &World, place: Place) {
    let history = ok(
        world,
        "bob",
        json!({"type": "get_messages", "conversation_id": 1}),
    )
    .await;
    let messages = history["messages"].as_array().expect("messages");
    let shown = |message: &Value| {
        json!([
            message["sender_username"],
            message["content"],
            message["mentions"],
            message["reactions"]
        ])
    };
    let shown: Vec<_> = messages.iter().map(shown).collect();
    let expected = json!([
        ["deleted", "@alice @bob", ["bob"], null],
        ["bob", "@alice!", null, null],
        ["bob", "two", null, {"👎": ["bob"]}],
        ["deleted", "one", null, null],
    ]);
    assert_eq!(json!(shown), expected, "{place:?}");
    let mentions = ok(world, "bob", json!({"type": "get_mentions"})).await;
    assert_eq!(mentions["messages"][0]["sender_username"], "deleted");
    let direct = json!({"username": "deleted", "fullname": "", "is_online": false, "last_online": null, "created_at": 0});
    let list = ok(world, "bob", json!({"type": "get_conversations"})).await;
    assert_eq!(list[0]["members"], json!(["deleted", "bob"]), "{place:?}");
    assert_eq!(list[0]["profile"], direct);
    assert_eq!(list[0]["last_message"]["sender_username"], "deleted");
    assert_eq!(list[1]["members"], json!(["bob"]));
    let info = ok(
        world,
        "bob",
        json!({"type": "get_conversation_info", "id": 3}),
    )
    .await;
    assert_eq!(info["members"], json!(["deleted", "bob"]));
    assert_eq!(info["profiles"][0], direct);
    assert_eq!(info["read"], json!({"deleted": 0, "bob": 6}));
    let info = ok(
        world,
        "bob",
        json!({"type": "get_conversation_info", "id": 1}),
    )
    .await;
    assert_eq!(info["members"], json!(["bob"]));
    let synced = ok(world, "bob", json!({"type": "sync"})).await;
    assert_eq!(synced["conversations"][0]["members"], json!(["bob"]));
    assert_eq!(
        synced["conversations"][2]["members"],
        json!(["deleted", "bob"])
    );
    // In what is created and changed, too.
    let direct = json!({"type": "create_conversation", "members": ["alice"], "direct": true});
    let (reply, _) = world.event("bob", &direct.to_string()).await;
    assert_eq!(reply["error"], "'alice' is not a valid username");
}

#[tokio::test]
async fn a_deletion_needs_the_present_password_and_happens_once() {
    let world = before(Place::File).await;
    let ctx = world.context("alice").await;
    let wrong = DeleteAccount {
        password_hash: "another".into(),
    };
    let outcome = world.run_as(&ctx, &wrong).await.0;
    assert_eq!(outcome.map_err(|error| error.code()), Err("unavailable"));
    assert_eq!(world.run_as(&ctx, &delete()).await.0, Ok(()));
    let again = world.run_as(&ctx, &delete()).await.0;
    let text = "invalid login-token".to_owned();
    assert_eq!(again, Err(Error::Unauthorized(text)));
}

#[tokio::test]
async fn the_name_and_the_id_of_a_deleted_account_stay_taken() {
    for &place in places() {
        let world = World::new_at(place).await;
        let register = |name: &str| Register {
            username: name.into(),
            fullname: "E".into(),
            password_hash: format!("of {name}"),
        };
        // dave has the largest id.
        let dave = world.context("dave").await;
        world.run_as(&dave, &delete()).await.0.expect("deleted");
        erase(&world, &dave).await;
        let taken = Error::Conflict("username already exists".into());
        let alike = Error::Conflict("username looks like one that exists".into());
        for (name, error) in [
            ("dave", &taken),
            ("dave\u{200b}", &alike),
            ("deleted", &taken),
            ("de1eted", &alike),
            ("deleted ", &alike),
        ] {
            let outcome = world.run("", &register(name)).await.0;
            assert_eq!(outcome.as_ref(), Err(error), "{place:?}: {name}");
        }
        world.run("", &register("eve")).await.0.expect("registered");
        assert_eq!(world.context("eve").await.user_id, dave.user_id + 1);
        // Nor does another program get them.
        let eve = world.context("eve").await;
        let delete = DeleteAccount {
            password_hash: "of eve".into(),
        };
        world.run_as(&eve, &delete).await.0.expect("deleted");
        for sql in [
            "insert into users (username, fullname, password) values ('frank', '', '')",
            "insert into users (id, username, fullname, password) values (99, 'eve', '', '')",
        ] {
            let refused = match place {
                Place::File => world.db.execute_batch(sql).await,
                Place::Remote => world.db.execute_transactional_batch(sql).await,
            };
            let error = refused.map(drop).expect_err("refused").to_string();
            assert!(error.contains("belongs to a deleted account"), "{error}");
        }
    }
}

/// A large account: more than one piece of everything.
#[tokio::test]
async fn much_is_erased_in_pieces() {
    for &place in places() {
        let world = World::new_at(place).await;
        let many = ROWS_AT_ONCE + 1;
        let conversations = CONVERSATIONS_AT_ONCE + 1;
        let reactions = 2 * REACTIONS_AT_ONCE + 1;
        let sql = format!(
            "with recursive n(i) as (select 1000 union all select i + 1 from n where i < 1000 + {reactions} - 1)
             insert into reactions (message_id, emoji, user_id) select i, '+', 2 - i % 2 from n;
             insert into changed_messages (message_id, conversation_id, rev, changed_rev, reactions)
             select message_id, 9, message_id, message_id, 1 from reactions;
             insert into contacts (user_id, contact_id) select 1, message_id from reactions limit {many};
             insert into contacts (user_id, contact_id) select message_id, 1 from reactions limit {many};
             insert into mentions (user_id, message_id, conversation_id, rev) select 1, message_id, 9, 0 from reactions limit {many};
             insert into conversations (id, name, member_count) select message_id, '', 2 from reactions limit {conversations};
             insert into members (conversation_id, user_id, role) select id, 1, 2 from conversations where id >= 1000;
             insert into members (conversation_id, user_id) select id, 3 from conversations where id >= 1000"
        );
        match place {
            Place::File => drop(world.db.execute_batch(&sql).await.expect("filled")),
            Place::Remote => {
                let filled = world.db.execute_transactional_batch(&sql).await;
                drop(filled.expect("filled"));
            }
        }
        let ctx = world.context("alice").await;
        world.run_as(&ctx, &delete()).await.0.expect("deleted");
        let found = world.run("", &FindUnerased).await.0.expect("found");
        assert_eq!(found.map(|found| found.user_id), Some(1), "{place:?}");
        let pushes = erase(&world, &ctx).await;
        assert_eq!(pushes.len() as i64, 2 * (conversations + 1), "{place:?}");
        for (table, rows) in [
            ("contacts where user_id = 1 or contact_id = 1", 0),
            ("mentions where user_id = 1", 0),
            ("members where user_id = 1", 0),
            ("members where user_id = 3 and role = 2", conversations),
            (
                "conversations where id >= 1000 and member_count = 1",
                conversations,
            ),
            ("reactions where user_id = 1", 0),
            ("reactions where user_id = 2", REACTIONS_AT_ONCE + 1),
            (
                "changed_messages where reactions = 1",
                REACTIONS_AT_ONCE + 1,
            ),
            ("changed_messages where reactions = 0", REACTIONS_AT_ONCE),
            ("deleted_accounts where due_at is not null", 0),
        ] {
            let count = world
                .integer(&format!("select count(*) from {table}"))
                .await;
            assert_eq!(count, rows, "{place:?}: {table}");
        }
        let found = world.run("", &FindUnerased).await.0;
        assert_eq!(found, Ok(None), "{place:?}");
    }
}

/// An account that is not deleted loses nothing, whatever is asked.
#[tokio::test]
async fn only_deleted_accounts_are_erased() {
    let world = before(Place::File).await;
    let rows = world.dump().await;
    let ctx = world.context("alice").await;
    let erased = world.run("", &ErasePiece { user_id: 1 }).await.0;
    assert_eq!(erased, Ok(false));
    let note = NoteDeletedMember { conversation_id: 3 };
    world.run_as(&ctx, &note).await.0.expect("nothing");
    assert_eq!(world.dump().await, rows);
}

/// The answer to a step may get lost, and the step is sent again.
#[tokio::test]
async fn a_step_that_is_repeated_does_nothing_more() {
    for &place in places() {
        let world = before(place).await;
        let mut ctx = world.context("alice").await;
        ctx.request_id = Some([7; 8]);
        let mut repeat = ctx.clone();
        repeat.is_repeat = true;
        let first = world.run_as(&ctx, &delete()).await;
        assert_eq!(world.run_as(&repeat, &delete()).await, first);
        let note = NoteDeletedMember { conversation_id: 3 };
        let first = world.run_as(&ctx, &note).await;
        assert_eq!(world.run_as(&repeat, &note).await, first);
        let rev = "select rev from conversations where id = 3";
        assert_eq!(world.integer(rev).await, 3);
        // Also if another host has found the same conversation.
        assert_eq!(world.run_as(&ctx, &note).await, (Ok(()), vec![]));
        assert_eq!(world.integer(rev).await, 3);
        let piece = ErasePiece { user_id: 1 };
        let first = world.run_as(&ctx, &piece).await;
        let rows = world.dump().await;
        assert_eq!(world.run_as(&repeat, &piece).await, first);
        assert_eq!(world.dump().await, rows);
    }
}

/// Whatever was changed in the same commit before it.
#[tokio::test]
async fn a_refused_deletion_that_is_repeated_is_refused_again() {
    for &place in places() {
        let world = before(place).await;
        let mut ctx = world.context("alice").await;
        ctx.request_id = Some([7; 8]);
        ctx.is_repeat = true;
        let refused = DeleteAccount {
            password_hash: "another".into(),
        };
        let change = Statement::new("update users set fullname = 'B' where username = 'bob'", []);
        let statements: Vec<_> = [change]
            .into_iter()
            .chain(refused.statements(&ctx))
            .collect();
        run_batch(&world.db, &statements).await.expect("run");
        let there = "select count(*) from users where username = 'alice'";
        assert_eq!(world.integer(there).await, 1, "{place:?}");
    }
}

#[tokio::test]
async fn a_deleted_account_stays_deleted_over_a_downgrade_and_an_upgrade() {
    let world = before(Place::File).await;
    let alice = world.context("alice").await;
    world.run_as(&alice, &delete()).await.0.expect("deleted");
    erase(&world, &alice).await;
    let left =
        "select user_id * 1000 + length(skeleton) from deleted_accounts where username = 'alice'";
    assert_eq!(world.integer(left).await, 1005);
    let version = schema::downgrade(&world.db).await.expect("a downgrade");
    assert_eq!(version, 5);
    // The earlier release knows somebody who cannot log in, and can give neither the id nor the name
    // to anybody else.
    let there =
        "select count(*) from users where id = 1 and username = 'alice' and password = 'deleted'";
    assert_eq!(world.integer(there).await, 1);
    schema::migrate(&world.db, NOW).await.expect("an upgrade");
    assert_eq!(world.integer(left).await, 1005);
    assert_eq!(world.integer("select count(*) from users").await, 3);
    erase(&world, &alice).await;
    sees_nobody(&world, Place::File).await;
}

/// What README.md says of a restore.
#[tokio::test]
async fn an_account_that_a_restore_has_brought_back_is_deleted_again() {
    let world = before(Place::File).await;
    let old = "attach ':memory:' as old;
        create table old.deleted_accounts as select * from main.deleted_accounts;
        insert into old.deleted_accounts values (1, 'alice', 'alice', 5, null, 9, 9), (2, 'another', 'another', 5, null, 9, 9)";
    world.db.execute_batch(old).await.expect("the old data");
    let script = include_str!("../../../deploy/delete-again.sql");
    world.db.execute_batch(script).await.expect("deleted again");
    world
        .db
        .execute_batch("detach old")
        .await
        .expect("detached");
    let found = world.run("", &FindUnerased).await.0.expect("found");
    assert_eq!(found.map(|found| found.user_id), Some(1));
    let ctx = Context::new(1, "alice".into(), NOW);
    assert_eq!(erase(&world, &ctx).await.len(), 3);
    sees_nobody(&world, Place::File).await;
}
