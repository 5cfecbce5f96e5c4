//! Every event behaves as it declares, and every operation keeps the rules for all operations. The
//! tests walk the list of events.

use handler::account::api_key::{CreateKey, FindKey, ListKeys, RevokeKey, Scope, UseKey};
use handler::account::change_password::ChangePassword;
use handler::account::delete::DeleteAccount;
use handler::account::erase::{ErasePiece, FindConversationsToLeave, FindUnerased};
use handler::account::export::BeginExport;
use handler::account::identity::{CreateIdentified, FindIdentity};
use handler::account::login::{FindAccount, ReplacePasswordHash};
use handler::account::login_id::{LoginId, SessionId};
use handler::account::open_login::{
    CheckLogins, FindExpired, FindLogin, OpenLogin, SeeSessions, SweepSessions,
};
use handler::account::provision::{FindUser, ListUsers, SetPassword};
use handler::account::register::Register;
use handler::account::session::{EndSession, ListSessions, RefreshSession, StartSession};
use handler::account::skeleton::{FindUnseen, StoreSkeletons, Unseen};
use handler::account::token::Claim;
use handler::cluster::chat_id::FindChatId;
use handler::cluster::gone::{FindHostUsers, Gone, HostGone};
use handler::cluster::lease::{CountHosts, HostAlive, HostStarted, TryWrite};
use handler::cluster::memberships::FindMemberships;
use handler::cluster::returned::HostReturned;
use handler::cluster::sweep::{FindUncounted, SweepOffline};
use handler::conversation::deleted_member::NoteDeletedMember;
use handler::moderation::ban::{BanUser, UnbanUser};
use handler::moderation::erase::EraseMessage;
use handler::moderation::reports::{CloseReports, FindReport, ListReports};
use handler::presence::{Connected, Disconnected};
use handler::search::WORDS_VERSION;
use handler::search::clear::{ClearIndex, SwitchSearch};
use handler::search::index::{Batch, FindUnindexed, IndexChanges, IndexMessages, IndexWork};
use handler::user::words::{FindWordless, StoreWords, Wordless};
use handler::{Access, Error, Event, Kind, Operation, Outbox, Presence, Who};
use serde_json::Value;
use tests::example::{bounds, value, wrong_values};
use tests::{Example, Place, World, places};

#[tokio::test]
async fn every_choice_of_fields_is_taken() {
    for example in Example::all(value) {
        let event = example.event().to_string();
        let (reply, _) = World::new().await.event("alice", &event).await;
        assert_eq!(reply["success"], true, "{event}: {reply}");
        assert_eq!(reply["type"], example.declaration.kind, "{event}");
    }
}

/// A world checks each answer against the room that the host finds for it. Here everything that an
/// answer may hold is as long as it may be, and six times as long in JSON.
#[tokio::test]
async fn every_answer_has_room() {
    let world = World::new().await;
    let sql = "update users set fullname = replace(printf('%0256d', 0), '0', char(1));
        update users set username = replace(printf('%063d', 0), '0', char(1)) || username where id in (1, 3);
        update conversations set name = replace(printf('%0256d', 0), '0', char(1));
        update messages set content = replace(printf('%065536d', 0), '0', char(1)), client_id = 'xxx';
        insert into conversations (id, name, direct) select 3, name, 1 from conversations where id = 1;
        insert into members (conversation_id, user_id) values (3, 1), (3, 4);";
    world.db.execute_batch(sql).await.expect("long");
    let (saved, alice) = (world.save(), format!("{}alice", "\u{1}".repeat(63)));
    for example in Example::all(value) {
        let event = example.event().to_string();
        let world = World::of(&saved).await;
        let (reply, _) = world.answer(&alice, &event).await;
        assert!(reply.contains(r#""success":true"#), "{event}: {reply}");
    }
}

#[tokio::test]
async fn every_field_is_as_it_is_declared() {
    let world = World::new().await;
    for example in Example::fullest(Example::all(value)) {
        for (place, (field, _)) in example.fields.iter().enumerate() {
            let outcome = async |value: Value| {
                let event = example.with(place, value).event().to_string();
                let code = world.event("alice", &event).await.0["code"].clone();
                (event, code)
            };
            let (event, code) = outcome(Value::Null).await;
            let is_missed = code == "invalid";
            assert_eq!(is_missed, field.presence == Presence::Required, "{event}");
            for wrong in wrong_values(field) {
                let (event, code) = outcome(wrong).await;
                assert!(code == "invalid" || code == "too_large", "{event}: {code}");
            }
            if let Kind::Text(length) | Kind::ClientId(length) = field.kind {
                for text in bounds(length) {
                    let (event, code) = outcome(text).await;
                    assert!(code != "invalid" && code != "too_large", "{event}: {code}");
                }
            }
        }
    }
}

#[test]
fn an_event_for_members_names_their_conversation_or_message_first() {
    for event in handler::EVENTS {
        let first = event.fields.first();
        let first = first.filter(|field| field.presence == Presence::Required);
        let named = first.map(|field| field.kind);
        let named = named.filter(|kind| matches!(kind, Kind::Conversation | Kind::Message));
        let expected = match event.who {
            Who::Member(_) => Some(Kind::Conversation),
            Who::MemberOfMessage => Some(Kind::Message),
            Who::User => None,
        };
        assert_eq!(named, expected, "{}", event.kind);
    }
}

#[test]
fn an_event_counts_for_users() {
    let many = serde_json::to_string(&["bob"; 30]).expect("JSON");
    for (users, kind, fields) in [
        (0, "ping", ""),
        (0, "create_conversation", ""),
        (0, "create_conversation", r#", "members": "bob""#),
        (0, "create_conversation", r#", "members": []"#),
        (20, "create_conversation", r#", "members": ["bob"]"#),
        (
            30,
            "create_conversation",
            &format!(r#", "members": {many}"#),
        ),
        // No more are looked at than a conversation may have, and one.
        (
            10_001,
            "add_members",
            &format!(r#", "members": [1{}]"#, ", 1".repeat(20_000)),
        ),
        (20, "add_members", r#", "members": [1, 2]"#),
        (30, "add_members", &format!(r#", "members": {many}"#)),
        (0, "send_message", r#", "members": ["bob"]"#),
        (0, "update_profile", r#", "fullname": null"#),
        (0, "update_profile", r#", "reachable_by": "contacts""#),
        (500, "update_profile", r#", "fullname": "Bob""#),
    ] {
        let event = format!(r#"{{"type": "{kind}"{fields}}}"#);
        assert_eq!(Event::parse(&event).users, users, "{event}");
    }
}

#[test]
fn a_message_is_paid_for_by_its_mentions() {
    for (mentions, content) in [
        (0, "hello"),
        (0, "bob@example.org"),
        (1, "@bob"),
        (2, "@bob, @carol"),
        (99, "@all"),
        (99, "@all @all"),
        (100, "@all and @bob"),
        (148, &format!("@all {}", "@bob ".repeat(60))),
    ] {
        for (kind, id) in [
            ("send_message", "conversation_id"),
            ("edit_message", "message_id"),
        ] {
            let event = format!(r#"{{"type": "{kind}", "{id}": 1, "content": "{content}"}}"#);
            let operation = Event::parse(&event).operation.expect("an operation");
            assert_eq!(operation.mentions_max(), mentions, "{event}");
        }
    }
    let delete = r#"{"type": "delete_message", "message_id": 1}"#;
    let operation = Event::parse(delete).operation.expect("an operation");
    assert_eq!(operation.mentions_max(), 0);
}

#[tokio::test]
async fn no_event_scans_a_table() {
    for example in Example::all(value) {
        let event = example.event().to_string();
        let operation = Event::parse(&event).operation.expect("an operation");
        check_statements(&World::new().await, &operation).await;
    }
}

#[tokio::test]
async fn an_event_whose_answer_was_lost_is_found_again() {
    for &place in places() {
        for example in Example::all(value) {
            let event = example.event().to_string();
            let operation = Event::parse(&event).operation.expect("an operation");
            if operation.access() == Access::Write {
                check_repeat(place, "alice", &operation, &event).await;
            }
        }
    }
}

const HOST: &str = "local";

/// Alice's session.
fn session_id() -> SessionId {
    SessionId::new([7; 8])
}

/// Does the same with every operation that is not an event.
macro_rules! for_each_operation {
    (|$operation:ident| $work:block) => {{
        macro_rules! each {
            ($made:expr) => {{
                let $operation = $made;
                $work
            }};
        }
        each!(FindAccount {
            username: "bob".into()
        });
        each!(Register {
            username: "eve".into(),
            fullname: "".into(),
            password_hash: "of eve".into(),
        });
        each!(create_key("bot", 6));
        each!(ListKeys);
        each!(FindKey { hash: [7; 32] });
        each!(UseKey { hash: [7; 32] });
        each!(RevokeKey { name: "app".into() });
        each!(FindIdentity {
            issuer: "https://id.example".into(),
            subject: "7".into(),
        });
        each!(CreateIdentified {
            issuer: "https://id.example".into(),
            subject: "7".into(),
            register: Register {
                username: "zoe".into(),
                fullname: "".into(),
                password_hash: CreateIdentified::no_password([7; 16]),
            },
        });
        each!(FindUser {
            username: "bob".into()
        });
        each!(ListUsers {
            after: "alice".into(),
            limit: 2
        });
        each!(SetPassword {
            username: "bob".into(),
            password_hash: "new".into(),
        });
        each!(FindUnseen);
        each!(StoreSkeletons {
            of: vec![Unseen {
                user_id: 2,
                username: "bob".into(),
            }]
        });
        each!(EraseMessage { message_id: 1 });
        each!(BanUser {
            username: "dave".into()
        });
        each!(UnbanUser {
            username: "dave".into()
        });
        each!(ListReports {
            before: 9,
            is_of_all: false
        });
        each!(ListReports {
            before: 9,
            is_of_all: true
        });
        each!(FindReport { id: 1 });
        each!(CloseReports {
            message_id: 1,
            outcome: "closed"
        });
        each!(FindWordless);
        each!(StoreWords {
            of: vec![Wordless {
                user_id: 2,
                username: "bob".into(),
                fullname: "Bob".into(),
            }]
        });
        each!(ReplacePasswordHash {
            user_id: 1,
            old: "none".into(),
            new: "new".into(),
        });
        let session = session_id();
        for login in [
            LoginId::of_session(session),
            LoginId::of_token(None),
            LoginId::of_token(Some(5)),
        ] {
            each!(FindLogin {
                claim: Claim {
                    username: "alice".into(),
                    login,
                    fullname: None,
                }
            });
            each!(CheckLogins {
                logins: [(1, "alice"), (9, "eve")]
                    .map(|(user_id, username)| OpenLogin {
                        user_id,
                        username: username.into(),
                        login,
                    })
                    .into()
            });
            each!(Connected {
                username: "bob".into(),
                login,
                host_id: HOST.into()
            });
        }
        each!(StartSession {
            id: SessionId::new([8; 8]),
            user_id: 1,
            password_hash: "none".into(),
            lifetime_seconds: 60,
            user_agent: "a test".into(),
        });
        each!(DeleteAccount {
            password_hash: "none".into()
        });
        each!(BeginExport {
            username: "alice".into()
        });
        each!(FindUnerased);
        each!(FindConversationsToLeave { user_id: 1 });
        each!(ErasePiece { user_id: 1 });
        each!(NoteDeletedMember { conversation_id: 1 });
        each!(RefreshSession { id: session });
        each!(ListSessions {
            current: LoginId::of_session(session)
        });
        each!(SeeSessions { ids: vec![session] });
        each!(FindExpired);
        each!(SweepSessions { numbers: vec![1] });
        each!(EndSession { id: session });
        each!(ChangePassword {
            old_hash: "none".into(),
            new_hash: "new".into(),
            kept: Some(session),
        });
        each!(Disconnected {
            host_id: HOST.into()
        });
        each!(HostStarted {
            host_id: HOST.into()
        });
        each!(HostAlive {
            host_id: HOST.into(),
            lease_seconds: 30
        });
        each!(TryWrite {
            host_id: HOST.into()
        });
        each!(CountHosts);
        each!(FindChatId);
        for why in [
            Gone::Restarted,
            Gone::Stopped,
            Gone::Expired { lease_seconds: 30 },
        ] {
            each!(FindHostUsers {
                host_id: HOST.into(),
                why
            });
            each!(HostGone {
                host_id: HOST.into(),
                why,
                user_ids: vec![1]
            });
        }
        each!(HostReturned {
            host_id: HOST.into(),
            lease: 0,
            part: 1,
            users: vec![(2, 1)],
        });
        each!(FindUncounted);
        each!(SweepOffline { user_ids: vec![1] });
        each!(FindMemberships { user_ids: vec![1] });
        each!(ClearIndex);
        each!(SwitchSearch { is_on: false });
        each!(find_unindexed());
        each!(indexed_messages().await);
        each!(indexed_changes().await);
    }};
}

fn create_key(name: &str, number: u8) -> CreateKey {
    CreateKey {
        name: name.into(),
        hash: [number; 32],
        scopes: Scope::ALL.into(),
    }
}

fn find_unindexed() -> FindUnindexed {
    FindUnindexed {
        host_id: HOST.into(),
        lease_seconds: 30,
        batch: Batch::ALONE,
    }
}

/// What the index of a new world needs after this change.
async fn index_work(change: &str) -> IndexWork {
    let world = World::new().await;
    let is_filled = format!("update search_state set words_version = {WORDS_VERSION}");
    world.db.execute_batch(&is_filled).await.expect("filled");
    world.db.execute_batch(change).await.expect("changed");
    world.run("", &find_unindexed()).await.0.expect("found")
}

async fn indexed_messages() -> IndexMessages {
    match index_work("").await {
        IndexWork::Add(messages) => messages,
        work => panic!("{work:?}"),
    }
}

async fn indexed_changes() -> IndexChanges {
    match index_work("insert into search_stale values (1, 'was')").await {
        IndexWork::Change(changes) => changes,
        work => panic!("{work:?}"),
    }
}

#[tokio::test]
async fn no_other_operation_scans_a_table() {
    for_each_operation!(|operation| {
        check_statements(&World::new().await, &operation).await;
    });
}

#[tokio::test]
async fn another_operation_whose_answer_was_lost_is_found_again() {
    for &place in places() {
        for_each_operation!(|operation| {
            if operation.access() == Access::Write {
                let name = std::any::type_name_of_val(&operation);
                check_repeat(place, "alice", &operation, name).await;
            }
        });
    }
}

/// Runs an operation of an online user twice. The second run is a repeat, as if the first had been
/// committed but its answer lost. It must change nothing more and have the same outcome.
async fn check_repeat<O>(place: Place, username: &str, operation: &O, what: &str)
where
    O: Operation<Output: PartialEq + std::fmt::Debug>,
{
    let world = World::new_at(place).await;
    let started = HostStarted {
        host_id: HOST.into(),
    };
    world.run("", &started).await.0.expect("started");
    let session = StartSession {
        id: session_id(),
        user_id: 1,
        password_hash: "none".into(),
        lifetime_seconds: 60,
        user_agent: "".into(),
    };
    world.run("", &session).await.0.expect("a session");
    let key = create_key("app", 7);
    world.run("", &key).await.0.expect("a key");
    let connected = Connected {
        username: username.into(),
        login: LoginId::of_token(None),
        host_id: HOST.into(),
    };
    world.run("", &connected).await.0.expect("connected");
    let mut ctx = world.context(username).await;
    ctx.request_id = Some([7; 8]);
    let first: (Result<_, Error>, Outbox) = world.run_as(&ctx, operation).await;
    let rows = world.dump().await;
    ctx.is_repeat = true;
    let again = world.run_as(&ctx, operation).await;
    assert_eq!(again, first, "{place:?}: {what}, repeated");
    let changes = &world.dump().await ^ &rows;
    assert!(
        changes.is_empty(),
        "{place:?}: {what}, repeated, has changed {changes:?}"
    );
}

/// Fails if a statement scans a table instead of using an index, if SQLite would plan it anew for
/// each run, or if it returns text in a form that libsql cuts at the first NUL.
pub async fn check_statements<O: Operation>(world: &World, operation: &O) {
    let mut ctx = world.context("alice").await;
    for request_id in [None, Some([7; 8])] {
        ctx.request_id = request_id;
        let element = operation.element(&ctx);
        let of_set = element.map(|element| (element.set.statements)(&[&element, &element]));
        let statements = operation.statements(&ctx).into_iter();
        for statement in statements.chain(of_set.into_iter().flatten()) {
            assert!(
                !has_bare_limit(statement.sql),
                "SQLite would plan this anew for each run: {}",
                statement.sql
            );
            let plan = format!("explain query plan {}", statement.sql);
            let parameters = statement.parameters.clone();
            let mut rows = world.db.query(&plan, parameters).await.expect("a plan");
            while let Some(row) = rows.next().await.expect("a row") {
                let step: String = row.get(3).expect("text");
                assert!(!is_scan(&step), "{step}\n{}", statement.sql);
            }
        }
    }
    let (_, _) = world.run("alice", operation).await;
    for statement in operation.statements(&ctx) {
        let mut prepared = world.db.prepare(statement.sql).await.expect("prepared");
        let rows = handler::run(&mut prepared, statement.parameters).await;
        let values = rows.expect("rows").0.into_iter().flat_map(|row| row.0);
        let is_text = |value: libsql::Value| matches!(value, libsql::Value::Text(_));
        let mut texts = values.map(is_text);
        assert!(
            !texts.any(|is_text| is_text),
            "a text column without `cast(… as blob)`: {}",
            statement.sql
        );
    }
}

/// Whether a limit is a parameter and nothing else.
fn has_bare_limit(sql: &str) -> bool {
    let limits = sql.split("limit ?").skip(1);
    let mut rests = limits.map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    rests.any(|rest| !rest.trim_start().starts_with('+'))
}

/// Common table expressions, lists and constants may be scanned. Tables may not, except small ones:
/// `hosts` has a row for each host, `community` one row.
fn is_scan(step: &str) -> bool {
    const TABLES: [&str; 17] = [
        "users",
        "contacts",
        "conversations",
        "members",
        "messages",
        "presence",
        "changed_messages",
        "members_changes",
        "mentions",
        "reactions",
        "deleted_accounts",
        "sessions",
        "user_words",
        "blocks",
        "reports",
        "identities",
        "conversation_counts",
    ];
    const ALIASES: [&str; 11] = ["u", "c", "mb", "m", "mn", "r", "ch", "b", "rp", "d", "o"];
    let scanned = step.strip_prefix("SCAN ");
    let scanned = scanned.and_then(|rest| rest.split(' ').next());
    scanned.is_some_and(|name| TABLES.contains(&name) || ALIASES.contains(&name))
        && !step.contains("INDEX users_online")
        && !step.contains("INDEX users_without_words")
}
