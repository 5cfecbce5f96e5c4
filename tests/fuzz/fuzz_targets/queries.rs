//! Searches: whatever the query and the messages, FTS5 understands what it is asked, and the index
//! finds what a scan of all messages finds.
#![no_main]

use fuzz::now;
use handler::account::register::Register;
use handler::search::WORDS_VERSION;
use handler::search::index::{Batch, FindUnindexed, IndexWork};
use handler::{Context, Event, Operation, Outbox, handle, schema};
use libfuzzer_sys::fuzz_target;
use libsql::{Connection, Database};
use serde_json::{Value, json};

const MESSAGES_MAX: usize = 8;

// The first line is the query, each other line a message.
fuzz_target!(|input: &str| {
    let (query, messages) = input.split_once('\n').unwrap_or((input, ""));
    CHAT.with(|chat| {
        now(chat.db.execute_batch(&restore())).expect("restored");
        for content in messages.split('\n').take(MESSAGES_MAX) {
            let send = json!({ "type": "send_message", "conversation_id": 1, "content": content });
            // An empty one is refused.
            let _ = chat.event(&send);
        }
        let search = json!({ "type": "search_messages", "query": query });
        let scanned = chat.event(&search);
        if let Err(code) = scanned {
            assert!(code == "invalid" || code == "too_large", "{code}");
            return;
        }
        while chat.index() {}
        assert_eq!(chat.event(&search), scanned);
    });
});

fn restore() -> String {
    format!(
        "delete from messages; insert into search (search) values ('delete-all');
         update search_state set low = 0, high = 0, words_version = {WORDS_VERSION}"
    )
}

struct Chat {
    db: Connection,
    ctx: Context,
    /// Keeps the in-memory database alive.
    _database: Database,
}

thread_local! {
    static CHAT: Chat = now(Chat::new());
}

impl Chat {
    async fn new() -> Self {
        let database = libsql::Builder::new_local(":memory:").build().await;
        let database = database.expect("a database");
        let db = database.connect().expect("a connection");
        schema::migrate(&db, 0).await.expect("a schema");
        let chat = Chat {
            db,
            ctx: Context::new(1, "alice".into(), 0),
            _database: database,
        };
        chat.run(&Register {
            username: "alice".into(),
            fullname: "alice".into(),
            password_hash: "none".into(),
        })
        .expect("registered");
        let create = json!({ "type": "create_conversation", "members": [] });
        chat.event(&create).expect("created");
        chat
    }

    fn run<O: Operation>(&self, operation: &O) -> Result<O::Output, handler::Error> {
        now(handle(&self.db, &self.ctx, operation, &mut Outbox::new()))
    }

    /// The data of the reply, or the code of the error.
    fn event(&self, event: &Value) -> Result<String, &'static str> {
        let operation = Event::parse(&event.to_string()).operation;
        let outcome = operation.and_then(|operation| self.run(&operation));
        outcome.map(|reply| reply.0).map_err(|error| error.code())
    }

    /// Does the next part of the index's work; returns whether there was any.
    fn index(&self) -> bool {
        let find = FindUnindexed {
            host_id: "local".into(),
            lease_seconds: 0,
            batch: Batch::ALONE,
        };
        let work = self.run(&find).expect("found");
        match work {
            IndexWork::Add(messages) => self.run(&messages).expect("added"),
            IndexWork::Change(changes) => self.run(&changes).expect("changed"),
            IndexWork::Clear => panic!("nobody has emptied it"),
            IndexWork::Nothing => return false,
        }
        true
    }
}
