//! What is left in the data file of what clients delete or edit away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use fastrand::Rng;
use handler::account::register::Register;
use handler::search::clear::ClearIndex;
use handler::search::index::{Batch, FindUnindexed, IndexWork};
use handler::{Access, Context, Event, Operation, Outbox};
use host::LocalDatabase;
use serde_json::{Value, json};
use tests::Data;

const STEPS: usize = 3_000;
/// From a few bytes to several pages.
const LENGTHS: [usize; 4] = [20, 200, 2_000, 20_000];
const SEED: u64 = 15;

struct Chat {
    database: LocalDatabase,
    ctx: Context,
}

impl Chat {
    /// A chat of alice alone.
    fn new(data: &Data) -> Self {
        let mut chat = Chat {
            database: LocalDatabase::open_writer(&data.file(), 0).expect("a database"),
            ctx: Context::new(1, "alice".into(), 0),
        };
        chat.run(&Register {
            username: "alice".into(),
            fullname: "alice".into(),
            password_hash: "".into(),
        });
        chat.event(json!({ "type": "create_conversation", "members": [] }));
        chat
    }

    fn run<O: Operation>(&mut self, operation: &O) -> O::Output {
        let statements = vec![operation.statements(&self.ctx)];
        let rows = self.database.transact(Access::Write, statements);
        let rows = rows.expect("committed");
        let outcome = operation.conclude(&self.ctx, &rows[0], &mut Outbox::new());
        outcome.expect("done")
    }

    fn event(&mut self, event: Value) -> Value {
        let operation = Event::parse(&event.to_string()).operation;
        let reply = self.run(&operation.expect("an operation"));
        serde_json::from_str(&reply.0).expect("JSON")
    }
}

/// A text that is found by its number, wherever a part of it is left.
fn text(number: usize, random: &mut Rng) -> String {
    let length = random.choice(LENGTHS).expect("a length");
    format!("<{number:06}>").repeat(1 + random.usize(..length) / 8)
}

/// The numbers of all texts of which a part of eight bytes or more is in there.
fn numbers(bytes: &[u8]) -> BTreeSet<usize> {
    let parts = bytes.windows(8);
    let parts = parts.filter(|part| part[0] == b'<' && part[7] == b'>');
    let parts = parts.filter_map(|part| std::str::from_utf8(&part[1..7]).ok()?.parse().ok());
    parts.collect()
}

/// With `secure_delete`, SQLite clears what it deletes. But when a page becomes too full or too
/// empty, SQLite moves messages between pages, and does not clear where they were. If such a message
/// is erased before that place is used again, its old copy is left.
#[test]
fn hardly_any_erased_text_is_left_in_the_file() {
    let (data, mut random) = (Data::create(), Rng::with_seed(SEED));
    let mut chat = Chat::new(&data);
    // The number of each message's text, by its id.
    let (mut stored, mut erased) = (BTreeMap::new(), 0);
    for number in 0..STEPS {
        let content = text(number, &mut random);
        let old = random.choice(stored.keys().copied());
        match (random.u8(..4), old) {
            (0, Some(id)) => {
                chat.event(json!({ "type": "delete_message", "message_id": id }));
                stored.remove(&id);
                erased += 1;
            }
            (1, Some(id)) => {
                let edit = json!({ "type": "edit_message", "message_id": id, "content": content });
                chat.event(edit);
                stored.insert(id, number);
                erased += 1;
            }
            _ => {
                let send =
                    json!({ "type": "send_message", "conversation_id": 1, "content": content });
                let sent = chat.event(send);
                stored.insert(sent["id"].as_i64().expect("an id"), number);
            }
        }
    }
    chat.database.checkpoint();
    let log = fs::read(data.wal()).unwrap_or_default();
    assert_eq!(log.len(), 0, "the write-ahead log");
    let left = numbers(&fs::read(data.file()).expect("a file"));
    let expected: BTreeSet<_> = stored.into_values().collect();
    assert!(expected.is_subset(&left), "what is stored is found");
    let backup = data.beside("backup.db");
    let vacuum = format!("vacuum into '{}'", backup.display());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let vacuumed = data.open().await.execute_batch(&vacuum).await;
        vacuumed.expect("a backup");
    });
    let in_backup = numbers(&fs::read(backup).expect("a backup"));
    assert_eq!(in_backup, expected, "in a backup");
    let left = left.difference(&expected).count();
    println!("{left} of {erased} erased texts are left, at least in part");
    assert!(500 * left < erased, "{left} of {erased}");
}

impl Chat {
    /// Does the next part of the index's work; returns whether there was any.
    fn index(&mut self) -> bool {
        let find = FindUnindexed {
            host_id: "local".into(),
            lease_seconds: 30,
            batch: Batch::BESIDE_OTHERS,
        };
        match self.run(&find) {
            IndexWork::Change(changes) => self.run(&changes),
            IndexWork::Add(messages) => self.run(&messages),
            IndexWork::Clear => drop(self.run(&ClearIndex)),
            IndexWork::Nothing => return false,
        }
        true
    }
}

/// A word that is found wherever its end is left: FTS5 leaves out a beginning that two words share.
fn word(random: &mut Rng) -> String {
    let letters = (0..20).map(|_| random.lowercase());
    letters.collect()
}

#[test]
fn words_of_erased_texts_leave_the_index() {
    let (data, mut random) = (Data::create(), Rng::with_seed(SEED));
    let mut chat = Chat::new(&data);
    // The words of each message, by its id; and those of texts that were erased.
    let (mut stored, mut erased) = (BTreeMap::new(), BTreeSet::new());
    for _ in 0..STEPS {
        let words: Vec<_> = (0..random.usize(1..20))
            .map(|_| word(&mut random))
            .collect();
        let content = words.join(" ");
        let old = random.choice(stored.keys().copied());
        match (random.u8(..4), old) {
            (0, Some(id)) => {
                chat.event(json!({ "type": "delete_message", "message_id": id }));
                erased.extend(stored.remove(&id).unwrap_or_default());
            }
            (1, Some(id)) => {
                let edit = json!({ "type": "edit_message", "message_id": id, "content": content });
                chat.event(edit);
                erased.extend(stored.insert(id, words).unwrap_or_default());
            }
            _ => {
                let send =
                    json!({ "type": "send_message", "conversation_id": 1, "content": content });
                let sent = chat.event(send);
                stored.insert(sent["id"].as_i64().expect("an id"), words);
            }
        }
        if random.u8(..5) == 0 {
            chat.index();
        }
    }
    while chat.index() {}
    chat.database.checkpoint();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let indexed: BTreeSet<String> = runtime.block_on(async {
        let db = data.open().await;
        let script = "insert into search (search) values ('integrity-check');
            create virtual table temp.terms using fts5vocab('main', 'search', 'row')";
        db.execute_batch(script).await.expect("a whole index");
        let mut rows = db.query("select term from terms", ()).await.expect("terms");
        let mut terms = BTreeSet::new();
        while let Some(row) = rows.next().await.expect("a row") {
            terms.insert(row.get(0).expect("a text"));
        }
        terms
    });
    let words: BTreeSet<String> = stored.into_values().flatten().collect();
    assert!(words.is_subset(&indexed), "what is stored is found");
    assert!(indexed.is_disjoint(&erased), "erased words are not");
    let bytes = fs::read(data.file()).expect("a file");
    let ends: BTreeSet<&[u8]> = bytes.windows(12).collect();
    let left = erased
        .iter()
        .filter(|word| ends.contains(&word.as_bytes()[8..]));
    let (left, erased) = (left.count(), erased.len());
    println!("{left} of {erased} erased words are left, at least in part");
    assert!(500 * left < erased, "{left} of {erased}");
}
