//! The hot paths, each with the code of the host and of the handler that it consists of, on input
//! as clients send it.

use std::hint::black_box;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use handler::account::login_id::LoginId;
use handler::account::register::Register;
use handler::presence::{Connected, Disconnected};
use handler::{
    Access, Context, Envelope, Event, EventOperation, Operation, Outbox, Output, Reply, Rows,
};
use host::LocalDatabase;
use host::frame::{Decoder, Message, text_frame};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// A hot path.
pub struct HotPath {
    pub name: &'static str,
    /// The number of repetitions. It is high enough that rare work, such as splitting a page, has
    /// its long-term share.
    pub repetitions: u32,
    /// Runs the path this many times. The folder is empty.
    pub run: fn(&Path, u32) -> Result<()>,
}

/// All hot paths.
pub const PATHS: [HotPath; 17] = [
    path("decode", 2000, decode),
    path("decode_32", 200, decode_32),
    path("plan", 1000, plan),
    path("plan_client_id", 1000, plan_client_id),
    path("conclude", 1000, conclude),
    path("conclude_client_id", 1000, conclude_client_id),
    path("encode", 4000, encode),
    path("commit_64", 32, commit_64),
    path("mention_64", 32, mention_64),
    path("set_64", 32, set_64),
    path("marks_64", 32, marks_64),
    path("connects_64", 32, connects_64),
    path("disconnects_64", 32, disconnects_64),
    path("edit_64", 32, edit_64),
    path("read_100", 16, read_100),
    path("page_100", 32, page_100),
    path("ping", 1000, ping),
];

const fn path(name: &'static str, repetitions: u32, run: fn(&Path, u32) -> Result<()>) -> HotPath {
    HotPath {
        name,
        repetitions,
        run,
    }
}

const SEND: &str = r#"{"type":"send_message","conversation_id":1,"content":"The train leaves at 18:05 from platform 7 – see you there. Shall I bring the two books along?","ref":1207}"#;
const SEND_CLIENT_ID: &str = r#"{"type":"send_message","conversation_id":1,"content":"The train leaves at 18:05 from platform 7 – see you there. Shall I bring the two books along?","client_id":"0b2f4c1e-58a7-4c0b-9d0e-6f1f3a7c9e21","ref":1207}"#;
const SEND_MENTION: &str = r#"{"type":"send_message","conversation_id":1,"content":"The train leaves at 18:05 from platform 7 – see you there, @konstantin. Shall I bring the two books along?","ref":1207}"#;
const GET: &str = r#"{"type":"get_messages","conversation_id":1,"limit":100,"ref":1208}"#;
const PING: &str = r#"{"type":"ping","ref":1209}"#;

/// The number of messages in a group of commits, and in a page.
const GROUP: usize = 64;
const PAGE: usize = 100;
/// The number of messages of one user that arrive with one read.
const BURST: usize = 32;

/// A read with one message.
fn decode(_: &Path, repetitions: u32) -> Result<()> {
    decode_frames(&frame(SEND), repetitions)
}

/// A read with many messages.
fn decode_32(_: &Path, repetitions: u32) -> Result<()> {
    decode_frames(&frame(SEND).repeat(BURST), repetitions)
}

fn decode_frames(frames: &[u8], repetitions: u32) -> Result<()> {
    let mut decoder = Decoder::default();
    let mut input = frames.to_vec();
    for _ in 0..repetitions {
        // The input was decoded in place.
        input.copy_from_slice(frames);
        let decoded = decoder.feed(black_box(&mut input), |message| {
            black_box(&message);
        });
        decoded.map_err(|violation| anyhow!(violation.reason))?;
    }
    Ok(())
}

fn plan(_: &Path, repetitions: u32) -> Result<()> {
    plan_event(SEND, repetitions)
}

fn plan_client_id(_: &Path, repetitions: u32) -> Result<()> {
    plan_event(SEND_CLIENT_ID, repetitions)
}

/// From the text of an event to its statements.
fn plan_event(text: &str, repetitions: u32) -> Result<()> {
    let ctx = caller();
    for _ in 0..repetitions {
        let event = Event::parse(black_box(text));
        black_box(&event.envelope);
        black_box(event.operation?.statements(&ctx));
    }
    Ok(())
}

fn conclude(folder: &Path, repetitions: u32) -> Result<()> {
    Concluded::of(folder, SEND)?.conclude(repetitions)
}

fn conclude_client_id(folder: &Path, repetitions: u32) -> Result<()> {
    Concluded::of(folder, SEND_CLIENT_ID)?.conclude(repetitions)
}

/// A page of the history, from its rows to the text.
fn page_100(folder: &Path, repetitions: u32) -> Result<()> {
    Concluded::of(folder, GET)?.conclude(repetitions)
}

/// The reply and the push, from their data to their frames.
fn encode(folder: &Path, repetitions: u32) -> Result<()> {
    let event = Concluded::of(folder, SEND)?;
    let (reply, outbox) = event.outcome()?;
    let [Output::Push { event: push, .. }] = &outbox[..] else {
        anyhow::bail!("expected a push: {outbox:?}");
    };
    let outcome = Ok(reply);
    for _ in 0..repetitions {
        let reply = event.envelope.reply(black_box(&outcome));
        black_box(text_frame(&reply));
        black_box(text_frame(black_box(push)));
    }
    Ok(())
}

/// A group of messages, from their statements to the commit on disk.
fn commit_64(folder: &Path, repetitions: u32) -> Result<()> {
    commit(folder, repetitions, &operation(SEND)?)
}

/// The same, of messages that mention somebody.
fn mention_64(folder: &Path, repetitions: u32) -> Result<()> {
    commit(folder, repetitions, &operation(SEND_MENTION)?)
}

fn commit(folder: &Path, repetitions: u32, operation: &EventOperation) -> Result<()> {
    let (mut database, ctx) = (database(folder)?, caller());
    for _ in 0..repetitions {
        let group = (0..GROUP).map(|_| operation.statements(&ctx)).collect();
        black_box(database.transact(Access::Write, group)?);
    }
    Ok(())
}

/// The same messages as one set, as they go to a server, from their elements to the rows of each.
fn set_64(folder: &Path, repetitions: u32) -> Result<()> {
    let (mut database, ctx) = (database(folder)?, caller());
    let send = operation(SEND)?;
    (0..repetitions).try_for_each(|_| commit_set(&mut database, &ctx, |_| &send))
}

/// A set of marks of reading, each of a later message than the one before.
fn marks_64(folder: &Path, repetitions: u32) -> Result<()> {
    let (mut database, ctx) = (database(folder)?, caller());
    let marks = (1..=GROUP).map(|id| {
        operation(&format!(
            r#"{{"type":"mark_read","conversation_id":1,"message_id":{id}}}"#
        ))
    });
    let marks = marks.collect::<Result<Vec<_>>>()?;
    (0..repetitions).try_for_each(|_| commit_set(&mut database, &ctx, |number| &marks[number]))
}

/// A set of sockets that open, all of one user.
fn connects_64(folder: &Path, repetitions: u32) -> Result<()> {
    let (mut database, ctx) = (database(folder)?, caller());
    let connected = Connected {
        username: ctx.username.to_string(),
        login: LoginId::of_token(None),
        host_id: "local".into(),
    };
    (0..repetitions).try_for_each(|_| commit_set(&mut database, &ctx, |_| &connected))
}

/// A set of sockets that close, all of one user.
fn disconnects_64(folder: &Path, repetitions: u32) -> Result<()> {
    let (mut database, ctx) = (database(folder)?, caller());
    let disconnected = Disconnected {
        host_id: "local".into(),
    };
    (0..repetitions).try_for_each(|_| commit_set(&mut database, &ctx, |_| &disconnected))
}

/// Runs a set of `GROUP` operations, each with its number, from their elements to the rows of each.
fn commit_set<'a, O: Operation + 'a>(
    database: &mut LocalDatabase,
    ctx: &Context,
    operation: impl Fn(usize) -> &'a O,
) -> Result<()> {
    let elements = (0..GROUP).map(|number| operation(number).element(ctx));
    let elements: Option<Vec<_>> = elements.collect();
    let elements = elements.context("not a part of a set")?;
    let elements: Vec<_> = elements.iter().collect();
    let statements = (elements[0].set.statements)(&elements);
    let rows = database.transact(Access::Write, vec![statements])?;
    black_box((elements[0].set.rows)(&elements, &rows[0]));
    Ok(())
}

/// A group of edits, from their statements to the commit on disk.
fn edit_64(folder: &Path, repetitions: u32) -> Result<()> {
    let (mut database, ctx) = (database(folder)?, caller());
    for repetition in 0..repetitions {
        let edits = (1..=GROUP).map(|id| {
            let content =
                format!("The train leaves at 18:05 from platform {id}, or at {repetition}.");
            let event =
                format!(r#"{{"type":"edit_message","message_id":{id},"content":"{content}"}}"#);
            Ok(operation(&event)?.statements(&ctx))
        });
        let edits = edits.collect::<Result<_>>()?;
        black_box(database.transact(Access::Write, edits)?);
    }
    Ok(())
}

/// A page of the history, from its statements to its rows.
fn read_100(folder: &Path, repetitions: u32) -> Result<()> {
    let _writer = database(folder)?;
    let (mut database, ctx) = (LocalDatabase::open_reader(&file(folder))?, caller());
    let get = operation(GET)?;
    for _ in 0..repetitions {
        black_box(database.transact(Access::Read, vec![get.statements(&ctx)])?);
    }
    Ok(())
}

/// The shortest way through the host, from the received frame to the sent frame.
fn ping(_: &Path, repetitions: u32) -> Result<()> {
    let ctx = caller();
    let frame = frame(PING);
    let mut decoder = Decoder::default();
    let mut input = frame.clone();
    for _ in 0..repetitions {
        input.copy_from_slice(&frame);
        let decoded = decoder.feed(black_box(&mut input), |message| {
            if let Message::Text(text) = message {
                let event = Event::parse(text);
                let operation = event.operation;
                let outcome = operation.and_then(|o| o.conclude(&ctx, &[], &mut Outbox::new()));
                black_box(text_frame(&event.envelope.reply(&outcome)));
            }
        });
        decoded.map_err(|violation| anyhow!(violation.reason))?;
    }
    Ok(())
}

/// An event, and the rows with which the database has answered it.
struct Concluded {
    envelope: Envelope,
    operation: EventOperation,
    rows: Vec<Rows>,
    ctx: Context,
    /// Kept, so that it is closed only when the process ends.
    _database: LocalDatabase,
}

impl Concluded {
    fn of(folder: &Path, text: &str) -> Result<Self> {
        let (mut database, ctx) = (database(folder)?, caller());
        let Event {
            envelope,
            operation,
            ..
        } = Event::parse(text);
        let operation = operation?;
        let mut rows = database.transact(operation.access(), vec![operation.statements(&ctx)])?;
        Ok(Concluded {
            envelope,
            operation,
            rows: rows.pop().context("no rows")?,
            ctx,
            _database: database,
        })
    }

    fn outcome(&self) -> Result<(Reply, Outbox)> {
        let mut outbox = Outbox::new();
        let rows = black_box(&self.rows);
        let reply = self.operation.conclude(&self.ctx, rows, &mut outbox)?;
        Ok((reply, outbox))
    }

    fn conclude(&self, repetitions: u32) -> Result<()> {
        for _ in 0..repetitions {
            black_box(self.outcome()?);
        }
        Ok(())
    }
}

fn operation(text: &str) -> Result<EventOperation> {
    Ok(Event::parse(text).operation?)
}

/// The first user of `database`, at a fixed time.
fn caller() -> Context {
    Context::new(1, "alexandra".into(), 1_750_000_000)
}

fn file(folder: &Path) -> std::path::PathBuf {
    folder.join("chat.db")
}

/// A database with two users in a conversation that has one message more than a page.
fn database(folder: &Path) -> Result<LocalDatabase> {
    let ctx = caller();
    let mut database = LocalDatabase::open_writer(&file(folder), ctx.now)?;
    for username in ["alexandra", "konstantin"] {
        let register = Register {
            username: username.into(),
            fullname: username.into(),
            password_hash: String::new(),
        };
        database.transact(Access::Write, vec![register.statements(&ctx)])?;
    }
    let create = operation(r#"{"type":"create_conversation","members":["konstantin"]}"#)?;
    database.transact(Access::Write, vec![create.statements(&ctx)])?;
    let send = operation(SEND)?;
    let messages = (0..=PAGE).map(|_| send.statements(&ctx)).collect();
    database.transact(Access::Write, messages)?;
    Ok(database)
}

/// A text frame as clients send it.
fn frame(text: &str) -> Vec<u8> {
    let mut frame = Frame::message(text.to_owned(), OpCode::Data(Data::Text), true);
    frame.header_mut().mask = Some([0x37, 0xfa, 0x21, 0x3d]);
    let mut bytes = Vec::new();
    // Writing to memory cannot fail.
    let _ = frame.format(&mut bytes);
    bytes
}
