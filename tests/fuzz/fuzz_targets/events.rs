//! Events: whatever the text, the reply is JSON with the right `type` and `ref`, the database stays
//! consistent, and there is never an internal error.
#![no_main]

use std::cell::LazyCell;

use arbitrary::Unstructured;
use fuzz::now;
use handler::account::register::Register;
use handler::{
    Access, Context, EVENTS, Error, Event, EventOperation, Field, Kind, Operation, Outbox, Output,
    REF_CHARS_MAX, Reply, handle, run, schema,
};
use libfuzzer_sys::fuzz_target;
use libsql::{Connection, Database};
use serde_json::{Value, json};

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
/// The most events of one input. The users send them in turn.
const EVENTS_MAX: usize = 16;

// An input that starts like an object is one event for each line. Any other input is a source of
// choices for events that are nearly right.
fuzz_target!(init: write_dictionary(), |input: &[u8]| {
    let texts = match std::str::from_utf8(input) {
        Ok(text) if text.starts_with('{') => text.lines().map(String::from).collect(),
        _ => made(&mut Unstructured::new(input)).unwrap_or_default(),
    };
    CHAT.with(|chat| {
        let before = chat.db.total_changes();
        for (index, text) in texts.iter().take(EVENTS_MAX).enumerate() {
            check(chat, index, text);
        }
        if chat.db.total_changes() != before {
            assert_eq!(chat.faults(), 0, "the database is not consistent");
            now(chat.db.execute_batch(RESTORE)).expect("restored");
        }
    });
});

/// Writes the words of the protocol to a dictionary for tests/fuzz/run.
fn write_dictionary() {
    let types = EVENTS
        .iter()
        .map(|event| format!(r#""type":"{}""#, event.kind));
    let names = fields().map(|field| format!(r#","{}":"#, field.name));
    let values = [
        ",\"type\":",
        ",\"ref\":",
        "null",
        "true",
        "\\ud83d\\ude00",
        "\\ud800",
        "9223372036854775807",
        "-9223372036854775808",
        "{\"1\":",
        "[\"bob\"]",
        "}\n{",
    ];
    let users = USERS.map(|user| format!("{user:?}"));
    let words = types
        .chain(names)
        .chain(users)
        .chain(values.map(String::from));
    let escaped = words.map(|word| {
        let word = word
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\x0A");
        format!("\"{word}\"\n")
    });
    let written = std::fs::write("artifacts/events.dict", escaped.collect::<String>());
    written.expect("the folder that tests/fuzz/run makes");
}

/// The fields of all events.
fn fields() -> impl Iterator<Item = &'static Field> {
    EVENTS.iter().flat_map(|event| event.fields)
}

thread_local! {
    static CHAT: LazyCell<Chat> = LazyCell::new(|| now(Chat::new()));
}

struct Chat {
    db: Connection,
    /// Keeps the in-memory database alive.
    _database: Database,
}

impl Chat {
    /// A chat with conversation 1 of alice and bob, who are contacts, with messages 1 and 2, and
    /// conversation 2 of bob and carol, with message 3. dave is in no conversation.
    async fn new() -> Self {
        let database = libsql::Builder::new_local(":memory:").build().await;
        let database = database.expect("a database");
        let db = database.connect().expect("a connection");
        schema::migrate(&db, 0).await.expect("a schema");
        for username in USERS {
            let register = Register {
                username: username.into(),
                fullname: username.into(),
                password_hash: "none".into(),
            };
            let ctx = Context::anonymous(0);
            let registered = handle(&db, &ctx, &register, &mut Outbox::new()).await;
            registered.expect("registered");
        }
        for (index, event) in [
            (0, r#"{"type": "add_contact", "contact_username": "bob"}"#),
            (0, r#"{"type": "create_conversation", "members": ["bob"]}"#),
            (
                0,
                r#"{"type": "send_message", "conversation_id": 1, "content": "one"}"#,
            ),
            (
                1,
                r#"{"type": "send_message", "conversation_id": 1, "content": "two"}"#,
            ),
            (
                1,
                r#"{"type": "create_conversation", "members": ["carol"]}"#,
            ),
            (
                1,
                r#"{"type": "send_message", "conversation_id": 2, "content": "three"}"#,
            ),
        ] {
            let operation = Event::parse(event).operation.expect("an operation");
            let done = handle(&db, &context(index), &operation, &mut Outbox::new()).await;
            done.expect("done");
        }
        db.execute_batch(KEEP).await.expect("kept");
        Chat {
            db,
            _database: database,
        }
    }

    fn faults(&self) -> i64 {
        let rows = now(async { run(&mut self.db.prepare(FAULTS).await?, Vec::new()).await });
        rows.expect("a row").integers()[0]
    }
}

/// The context of the user whose turn it is.
fn context(index: usize) -> Context {
    let user = index % USERS.len();
    Context::new(user as i64 + 1, USERS[user].into(), 0)
}

// Every input starts with the same chat. Restoring it is faster than creating it.
const KEEP: &str = "attach ':memory:' as kept;
    create table kept.contacts as select * from contacts;
    create table kept.conversations as select * from conversations;
    create table kept.members as select * from members;
    create table kept.messages as select * from messages;
    create table kept.users as select * from users;
    create table kept.user_words as select * from user_words;";
// Triggers restore conversation_counts with members.
const RESTORE: &str = "begin;
    delete from contacts; insert into contacts select * from kept.contacts;
    delete from conversations; insert into conversations select * from kept.conversations;
    delete from members_changes; delete from changed_messages; delete from mentions; delete from reactions;
    delete from blocks; delete from reports; delete from search_stale;
    delete from users; insert into users select * from kept.users;
    delete from user_words; insert into user_words select * from kept.user_words;
    delete from members; insert into members select * from kept.members;
    delete from messages; insert into messages select * from kept.messages;
    commit";

/// Counts contradictions between tables.
const FAULTS: &str = "select
    (select count(*) from conversations c
        where rev < 1 + (select count(*) from messages where conversation_id = c.id)
            or rev < (select max(rev) from messages where conversation_id = c.id)
            or member_count <> (select count(*) from members where conversation_id = c.id)
            or direct is not null and member_count <> 2
            or activity < (select max(id) from messages where conversation_id = c.id))
    + (select count(*) from members mb where read_id <> 0
        and not exists (select 1 from messages where id = mb.read_id and conversation_id = mb.conversation_id))
    + (select count(*) from members mb where not exists (select 1 from conversations where id = mb.conversation_id)
        or not exists (select 1 from users where id = mb.user_id))
    + (select count(*) from messages m
        where reply_id is not null
                and not exists (select 1 from messages where id = m.reply_id and conversation_id = m.conversation_id))
    + (select count(*) from changed_messages ch
        where not exists (select 1 from messages where id = ch.message_id and changed_rev = ch.changed_rev and rev = ch.rev)
            or reactions <> (select count(*) from reactions where message_id = ch.message_id)
            or is_deleted = 1 and exists (select 1 from messages
                where id = ch.message_id and (content <> '' or mentions is not null)))
    + (select count(*) from messages where changed_rev is not null
        and not exists (select 1 from changed_messages where message_id = messages.id))
    + (select count(*) from mentions mn where not exists (
        select 1 from messages m join json_each(m.mentions) j on j.value = mn.user_id where m.id = mn.message_id))
    + (select count(*) from contacts c where user_id = contact_id
        or not exists (select 1 from contacts where user_id = c.contact_id and contact_id = c.user_id))";

fn check(chat: &Chat, index: usize, text: &str) {
    let Event {
        envelope,
        operation,
        ..
    } = Event::parse(text);
    let refusal = operation.as_ref().err().map(Error::to_string);
    let expected = expected(text);
    if let Some(expected) = &expected {
        assert_eq!(envelope.kind, expected.kind);
        assert!(expected.refusal.is_none() || refusal == expected.refusal);
    }
    let reference = expected.map(|expected| expected.reference);
    let made_up = Ok(Reply("[1]".into()));
    let reply = read(&envelope.reply(&made_up), envelope.kind, reference.as_ref());
    assert_eq!(
        (&reply["success"], &reply["data"]),
        (&json!(true), &json!([1]))
    );

    let outcome = operation.and_then(|operation| handled(chat, index, &operation));
    let reply = read(&envelope.reply(&outcome), envelope.kind, reference.as_ref());
    assert_eq!(reply["success"], outcome.is_ok());
    match outcome {
        Ok(_) => assert!(!reply["data"].is_null()),
        Err(error) => {
            let codes = ["invalid", "forbidden", "not_found", "conflict", "too_large"];
            assert!(codes.contains(&error.code()), "{error:?}");
            assert_eq!(reply["code"], error.code());
            assert_eq!(reply["error"], error.to_string());
        }
    }
}

/// What `serde_json::Value` reads in an event.
struct Expected {
    kind: String,
    reference: Value,
    /// The error, if the envelope is wrong.
    refusal: Option<String>,
}

/// `None` if the text exceeds a limit that serde_json has and our reader does not.
fn expected(text: &str) -> Option<Expected> {
    let fields = match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => fields,
        Err(error) if fuzz::is_value_limit(&error) => return None,
        _ => {
            return Some(Expected {
                kind: "root".into(),
                reference: Value::Null,
                refusal: Some("invalid json event".into()),
            });
        }
    };
    let kind = fields.get("type").and_then(Value::as_str);
    let kind = kind
        .filter(|kind| EVENTS.iter().any(|event| event.kind == *kind))
        .unwrap_or("root");
    let reference = fields.get("ref").unwrap_or(&Value::Null);
    let is_reference = match reference {
        Value::Null => true,
        // Our reader accepts -0 as an integer, but not -0.0. For serde_json both are the same.
        Value::Number(number) if number.is_f64() && number.as_f64() == Some(0.0) => return None,
        Value::Number(number) => number.is_i64(),
        Value::String(text) => text.chars().count() <= REF_CHARS_MAX,
        _ => false,
    };
    let refusal = match (is_reference, kind) {
        (false, _) => Some("ref should be an integer or a string of at most 64 characters"),
        (true, "root") if reference.is_null() => Some("no type field found in the event"),
        // With a `ref`, the text depends on the type.
        (true, _) => None,
    };
    Some(Expected {
        kind: kind.into(),
        reference: if is_reference {
            reference.clone()
        } else {
            Value::Null
        },
        refusal: refusal.map(String::from),
    })
}

/// Reads what was sent as JSON, and checks its type and its `ref`.
fn read(sent: &str, kind: &str, reference: Option<&Value>) -> Value {
    let sent: Value = serde_json::from_str(sent).expect("JSON");
    assert_eq!(sent["type"], kind);
    if let Some(reference) = reference {
        assert_eq!(sent["ref"], *reference);
    }
    sent
}

/// Runs an operation. If it changed something, runs it again, as after a lost answer.
fn handled(chat: &Chat, index: usize, operation: &EventOperation) -> Result<Reply, Error> {
    let mut ctx = context(index);
    ctx.request_id = Some(index.to_be_bytes());
    let handle = |ctx: &Context| {
        let mut outbox = Outbox::new();
        let before = chat.db.total_changes();
        let outcome = now(handle(&chat.db, ctx, operation, &mut outbox));
        (outcome, outbox, chat.db.total_changes() - before)
    };
    let (outcome, outbox, changes) = handle(&ctx);
    let may_change = outcome.is_ok() && operation.access() == Access::Write;
    assert!(
        may_change || changes == 0,
        "{outcome:?} has changed the database"
    );
    assert!(
        outcome.is_ok() || outbox.is_empty(),
        "{outcome:?} has told others"
    );
    for output in &outbox {
        if let Output::Push { event, .. } = output {
            let push: Value = serde_json::from_str(event).expect("JSON");
            assert!(push["success"] == true && push["data"].is_object() && push["ref"].is_null());
        }
    }
    if changes > 0 {
        ctx.is_repeat = true;
        let (repeated, told, changes) = handle(&ctx);
        assert_eq!((&repeated, changes), (&outcome, 0), "repeated");
        // A repeated `update_profile` does not know whether the full name is new, and tells it again.
        assert!(
            told == outbox || outbox.is_empty(),
            "{told:?}, not {outbox:?}"
        );
    }
    outcome
}

/// Generates events, mostly with their own fields, and with values that are more or less right.
fn made(u: &mut Unstructured) -> arbitrary::Result<Vec<String>> {
    let all: Vec<&Field> = fields().collect();
    let mut events = Vec::new();
    while !u.is_empty() && events.len() < EVENTS_MAX {
        let event = u.choose(EVENTS)?;
        let mut fields = vec![format!(r#""type":"{}""#, event.kind)];
        for field in event.fields {
            if u.ratio(7, 8)? {
                fields.push(format!(r#""{}":{}"#, field.name, value_of(field, u)?));
            }
        }
        for _ in 0..u.int_in_range(0..=1)? {
            let name = u.choose(&all)?.name;
            fields.push(format!(r#""{name}":{}"#, value(u)?));
        }
        if u.arbitrary()? {
            fields.push(format!(r#""ref":{}"#, value(u)?));
        }
        events.push(format!("{{{}}}", fields.join(",")));
    }
    Ok(events)
}

/// A value that the field usually accepts.
fn value_of(field: &Field, u: &mut Unstructured) -> arbitrary::Result<String> {
    if u.ratio(1, 8)? {
        return value(u);
    }
    Ok(match field.kind {
        Kind::Conversation | Kind::Message | Kind::Position => u.int_in_range(0..=5)?.to_string(),
        Kind::User | Kind::Member => json!(u.choose(&USERS)?).to_string(),
        Kind::Users => format!(
            "[{}]",
            values(u, |u| Ok(json!(u.choose(&USERS)?).to_string()))?
        ),
        Kind::Revs => format!("{{{}}}", values(u, rev)?),
        Kind::ClientId(length) | Kind::Text(length) => match u.ratio(1, 16)? {
            true => json!("x".repeat(u.int_in_range(length.max..=length.max + 1)?)).to_string(),
            false => json!(u.arbitrary::<&str>()?).to_string(),
        },
        Kind::Integer { min, max } => u
            .int_in_range(min.saturating_sub(1)..=max.saturating_add(1))?
            .to_string(),
        Kind::Flag => u.arbitrary::<bool>()?.to_string(),
        Kind::Choice(choices) => json!(u.choose(choices)?).to_string(),
    })
}

/// A rev of a conversation, as a member of `revs`.
fn rev(u: &mut Unstructured) -> arbitrary::Result<String> {
    Ok(format!(
        r#""{}":{}"#,
        u.int_in_range(0..=5)?,
        u.int_in_range(0..=5)?
    ))
}

/// Any value.
fn value(u: &mut Unstructured) -> arbitrary::Result<String> {
    Ok(match u.int_in_range(0..=10)? {
        0 => "null".into(),
        1 => u.arbitrary::<bool>()?.to_string(),
        2 | 3 => u.int_in_range(0..=5)?.to_string(),
        4 => u.arbitrary::<i64>()?.to_string(),
        5 => u.arbitrary::<f64>()?.to_string(),
        6 => json!(u.choose(&USERS)?).to_string(),
        7 => json!(u.arbitrary::<&str>()?).to_string(),
        8 => format!("[{}]", values(u, value)?),
        9 => {
            let member =
                |u: &mut Unstructured| Ok(format!(r#""{}":{}"#, u.int_in_range(0..=5)?, value(u)?));
            format!("{{{}}}", values(u, member)?)
        }
        _ => u.arbitrary::<&str>()?.into(),
    })
}

fn values(
    u: &mut Unstructured,
    value: impl Fn(&mut Unstructured) -> arbitrary::Result<String>,
) -> arbitrary::Result<String> {
    let count = u.int_in_range(0..=4)?;
    let values: arbitrary::Result<Vec<String>> = (0..count).map(|_| value(u)).collect();
    Ok(values?.join(","))
}
