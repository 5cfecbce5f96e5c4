//! The cost of operations as the database grows.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use handler::account::login_id::{LoginId, SessionId};
use handler::account::session::{RefreshSession, StartSession};
use handler::presence::{Connected, Disconnected};
use handler::{Access, Context, Event, Field, Kind, handle};
use serde_json::{Value, json};
use tests::Example;

use crate::floor::Floor;
use crate::measurement::{Goal, Measurement};

#[derive(Args)]
pub struct Growth {
    /// Messages in the small database.
    #[arg(long, default_value_t = 10_000)]
    small: i64,
    /// Messages in the large database.
    #[arg(long, default_value_t = 10_000_000)]
    large: i64,
    /// Runs of each operation in each database, in turn.
    #[arg(long, default_value_t = 21)]
    rounds: usize,
}

/// The number of all conversations.
const CONVERSATIONS: i64 = 5_000;
/// The conversations of the user who is in few of them.
const FEW: std::ops::RangeInclusive<i64> = 15..=19;
/// The conversation that the measured operations use. Each conversation of `FEW` has a full page of
/// history, whatever the size of the database.
const LONG: i64 = 17;
/// The content of each message.
const CONTENT: &str = "a message of a usual length, of some sixty bytes in all.....";
/// The database grows in sessions too: a million in the large one.
const MESSAGES_PER_SESSION: i64 = 10;
/// And in users whom nobody knows: a million in the large one.
const MESSAGES_PER_PERSON: i64 = 10;
const FIRST_PERSON: i64 = 1_000_000;
/// The number of users who are nobody's contact yet.
const STRANGERS: usize = 1000;

/// One more conversation, with so many members in the small database and in the large one, and with
/// a tenth as many messages as all others together. Its members and messages have ids of their own.
const CROWDED: i64 = CONVERSATIONS + 1;
const CROWD: [i64; 2] = [10, 10_000];
const CROWD_USER: i64 = 20_000;
const CROWD_MESSAGE: i64 = 1_000_000_001;

/// A user, and the conversation that the user's events are about.
#[derive(Clone, Copy)]
pub struct Caller {
    pub id: i64,
    pub name: &'static str,
    pub conversations: i64,
    /// For the names of the measurements.
    place: &'static str,
    conversation: i64,
    first_message: i64,
    /// Another member.
    other: &'static str,
}

pub const CALLERS: [Caller; 2] = [
    Caller {
        id: 3,
        name: "few",
        conversations: 5,
        place: "5 conversations",
        conversation: LONG,
        first_message: LONG,
        other: "b",
    },
    Caller {
        id: 1,
        name: "a",
        conversations: CONVERSATIONS,
        place: "5000 conversations",
        conversation: LONG,
        first_message: LONG,
        other: "b",
    },
];

const IN_CROWD: Caller = Caller {
    id: CROWD_USER,
    name: "m0",
    conversations: 1,
    place: "10 and 10000 members",
    conversation: CROWDED,
    first_message: CROWD_MESSAGE,
    other: "m1",
};

/// Events whose answers have all the members of a conversation, or would make them more than there
/// may be.
const NOT_IN_CROWD: [&str; 3] = ["get_conversation_info", "sync", "add_members"];

impl Caller {
    /// The caller's session, as `populate` makes it.
    fn session(self) -> SessionId {
        SessionId::new(self.id.to_be_bytes())
    }

    fn context(self) -> Context {
        Context::new(self.id, self.name.into(), 0)
    }

    fn is_in_crowd(self) -> bool {
        self.conversation == CROWDED
    }

    fn value(self, field: &Field) -> Value {
        match field.kind {
            Kind::Conversation => json!(self.conversation),
            Kind::Message | Kind::Position => json!(self.first_message),
            Kind::User => json!(format!("s{ROUND}")),
            Kind::Member => json!(self.other),
            Kind::Users => json!([self.other, "s0"]),
            Kind::Revs => json!({}),
            Kind::ClientId(_) => json!(ROUND),
            Kind::Text(_) => json!(format!("x{ROUND}")),
            Kind::Integer { max, .. } => json!(max.min(50)),
            Kind::Flag => json!(true),
            Kind::Choice(choices) => json!(choices.last()),
        }
    }

    /// Makes everything unread, the first message the caller's and as it was sent, and the members
    /// the same as at first, without roles.
    fn prepare(self) -> String {
        let Caller {
            id,
            conversation,
            first_message,
            ..
        } = self;
        let members = match self.is_in_crowd() {
            true => format!(
                "delete from members where conversation_id = {conversation} and user_id < {CROWD_USER};
                 insert into members (conversation_id, user_id) values ({conversation}, {CROWD_USER}), ({conversation}, {CROWD_USER} + 1)
                     on conflict do nothing;
                 update members set role = 0 where conversation_id = {conversation} and role > 0;
                 update conversations set member_count = (select count(*) from members where conversation_id = {conversation})
                     where id = {conversation};"
            ),
            false => format!(
                "delete from members where conversation_id = {conversation} and user_id > 3;
                 insert into members (conversation_id, user_id) values ({conversation}, 1), ({conversation}, 2), ({conversation}, 3)
                     on conflict do nothing;
                 update members set role = 0 where conversation_id = {conversation};
                 update conversations set member_count = 3 where id = {conversation};"
            ),
        };
        format!(
            "{members}
             update members set read_id = 0 where conversation_id = {conversation} and user_id = {id};
             update messages set sender_id = {id}, content = '{CONTENT}', changed_rev = null where id = {first_message};
             delete from changed_messages where message_id = {first_message};
             delete from reports;
             delete from reactions where message_id = {first_message};"
        )
    }
}

pub async fn growth(arguments: Growth) -> Result<Vec<Measurement>> {
    let Growth {
        small,
        large,
        rounds,
    } = arguments;
    ensure!(
        (1..=STRANGERS).contains(&rounds),
        "--rounds must be from 1 to {STRANGERS}"
    );
    let folder = tempfile::TempDir::new()?;
    let mut databases = Vec::new();
    for (messages, members) in [small, large].into_iter().zip(CROWD) {
        eprintln!("making a database of {messages} messages");
        let file = folder.path().join(format!("{}.db", databases.len()));
        populate(&file, messages).await?;
        let db = Floor::open_file(&file).await?;
        db.execute_batch(&crowd(members, messages / 10)).await?;
        db.execute_batch(&people(messages / MESSAGES_PER_PERSON))
            .await?;
        // The time of a disk sync does not depend on the size of the database, and would hide what
        // does.
        db.execute_batch("pragma synchronous = off").await?;
        databases.push(db);
    }
    let mut measurements = Vec::new();
    for caller in CALLERS.into_iter().chain([IN_CROWD]) {
        let steps = Step::all(&databases, caller).await?;
        for (name, step) in &steps {
            let mut times = [vec![], vec![]];
            for round in 0..rounds {
                for (index, db) in databases.iter().enumerate() {
                    times[index].push(1e3 * step.run(db, caller, round, index).await?);
                }
            }
            let [floor, figure] = times;
            let name = format!("growth, {name}, {}", caller.place);
            let measurement = Measurement::new(name, "ms", figure)
                .against("in the small database", &floor)
                .aims(Goal::RatioAtMost(1.5))
                .with("small", small)
                .with("large", large);
            measurements.push(measurement);
        }
    }
    Ok(measurements)
}

/// An operation that is repeated.
enum Step {
    Event(Example),
    /// A repetition of the step before it.
    Again(Example),
    /// `add_members` of all strangers.
    AddMany,
    /// `search_users` for many people: their usernames or words of their fullnames begin so.
    Search(&'static str),
    /// `sync` with the revs that the user has, for each of the databases.
    Sync([Value; 2]),
    Connect,
    Disconnect,
    Login,
    Refresh,
}

impl Step {
    /// Every event with its required fields, some events with more fields, and the operations that
    /// are not events.
    async fn all(databases: &[libsql::Connection], caller: Caller) -> Result<Vec<(String, Step)>> {
        let mut steps = Vec::new();
        let examples = handler::EVENTS
            .iter()
            .filter(|event| !(caller.is_in_crowd() && NOT_IN_CROWD.contains(&event.kind)))
            .map(|event| Example::of(event, |field| caller.value(field)))
            .filter(|examples| examples.iter().all(is_asked_of_database));
        for examples in examples {
            let kind = examples[0].declaration.kind;
            for example in examples {
                let optional = example.optional_names();
                let name = match &optional[..] {
                    [] => kind.to_owned(),
                    [one] if MORE.contains(&(kind, one)) => format!("{kind}, with {one}"),
                    _ => continue,
                };
                steps.push((name, Step::Event(example.clone())));
                if optional == ["client_id"] {
                    steps.push((format!("{kind}, again"), Step::Again(example)));
                }
            }
        }
        if !caller.is_in_crowd() {
            let missed = [
                revs_of(&databases[0], caller).await?,
                revs_of(&databases[1], caller).await?,
            ];
            // First, because other steps change what is missed.
            let missed = Step::Sync(missed);
            steps.insert(0, ("sync, what is missed of some".into(), missed));
            steps.push(("add_members, 1000 at once".into(), Step::AddMany));
            // So that the search meets as many words as it reads at most, in the small one too.
            for (what, query) in [("a username", "person"), ("a fullname's word", "family")] {
                let name = format!("search_users, the beginning of {what}");
                steps.push((name, Step::Search(query)));
            }
        }
        steps.push(("connect".into(), Step::Connect));
        steps.push(("disconnect".into(), Step::Disconnect));
        steps.push(("login, without the password's hash".into(), Step::Login));
        steps.push(("refresh of a login".into(), Step::Refresh));
        Ok(steps)
    }

    /// Returns the seconds that the operation took, without its preparation.
    async fn run(
        &self,
        db: &libsql::Connection,
        caller: Caller,
        round: usize,
        database: usize,
    ) -> Result<f64> {
        let ctx = caller.context();
        let out = &mut Vec::new();
        let event = match self {
            Step::Event(example) | Step::Again(example) => example.event(),
            Step::Sync(revs) => json!({ "type": "sync", "revs": revs[database] }),
            Step::AddMany => {
                let strangers: Vec<_> = (0..STRANGERS).map(|number| format!("s{number}")).collect();
                json!({ "type": "add_members", "conversation_id": caller.conversation, "members": strangers })
            }
            Step::Search(query) => json!({ "type": "search_users", "query": query }),
            Step::Login => {
                let start = StartSession {
                    id: SessionId::new((1_000 * caller.id + 1 + round as i64).to_be_bytes()),
                    user_id: caller.id,
                    password_hash: String::new(),
                    lifetime_seconds: 3600,
                    user_agent: "load".into(),
                };
                let started = Instant::now();
                handle(db, &ctx, &start, out).await?;
                return Ok(started.elapsed().as_secs_f64());
            }
            Step::Refresh => {
                let refresh = RefreshSession {
                    id: caller.session(),
                };
                let started = Instant::now();
                handle(db, &ctx, &refresh, out).await?;
                return Ok(started.elapsed().as_secs_f64());
            }
            Step::Connect | Step::Disconnect => {
                let connected = Connected {
                    username: caller.name.into(),
                    login: LoginId::of_session(caller.session()),
                    host_id: "load".into(),
                };
                let disconnected = Disconnected {
                    host_id: "load".into(),
                };
                let started = Instant::now();
                handle(db, &ctx, &connected, out).await?;
                let between = Instant::now();
                handle(db, &ctx, &disconnected, out).await?;
                return Ok(match self {
                    Step::Connect => between - started,
                    _ => between.elapsed(),
                }
                .as_secs_f64());
            }
        };
        db.execute_batch(&caller.prepare()).await?;
        // Each round uses values of its own.
        let event = event.to_string().replace(ROUND, &round.to_string());
        let operation = Event::parse(&event).operation?;
        let started = Instant::now();
        handle(db, &ctx, &operation, out).await?;
        Ok(started.elapsed().as_secs_f64())
    }
}

/// Events that are also measured with one of their optional fields.
const MORE: [(&str, &str); 4] = [
    ("get_conversations", "limit"),
    ("get_messages", "before"),
    ("get_messages", "after"),
    ("send_message", "client_id"),
];

/// A placeholder for the number of the round.
const ROUND: &str = "{round}";

fn is_asked_of_database(example: &Example) -> bool {
    let operation = Event::parse(&example.event().to_string()).operation;
    operation.is_ok_and(|operation| operation.access() != Access::None)
}

/// The user's rev of each conversation. For three conversations, of which a user may be in only
/// one, it lacks the latest change.
async fn revs_of(db: &libsql::Connection, caller: Caller) -> Result<Value> {
    let mut revs = serde_json::Map::new();
    let of_user = "select c.id, c.rev from members m join conversations c on c.id = m.conversation_id where m.user_id = ?1";
    let mut rows = db.query(of_user, [caller.id]).await?;
    while let Some(row) = rows.next().await? {
        let (id, rev): (i64, i64) = (row.get(0)?, row.get(1)?);
        let missed = i64::from([LONG, 1_700, 4_900].contains(&id));
        revs.insert(id.to_string(), json!(rev - missed));
    }
    Ok(revs.into())
}

/// Makes conversation `CROWDED`.
fn crowd(members: i64, messages: i64) -> String {
    let last_message = CROWD_MESSAGE + messages;
    format!(
        "begin;
         insert into conversations (id, name, rev, activity, member_count)
             values ({CROWDED}, 'crowd', {messages} + 2, {last_message}, {members});
         with recursive n(i) as (select 0 union all select i + 1 from n where i + 1 < {members})
             insert into users (id, username, fullname, password, has_words) select {CROWD_USER} + i, 'm' || i, 'm', '', 1 from n;
         insert into sessions (id, user_id, lifetime, created_at, last_seen, ends_at, user_agent)
             values ({CROWD_USER}, {CROWD_USER}, 3600, 0, 0, 3600, 'load');
         insert into members (conversation_id, user_id, read_id)
             select {CROWDED}, id, {last_message} from users where id >= {CROWD_USER} order by id;
         with recursive n(i) as (select 0 union all select i + 1 from n where i < {messages})
             insert into messages (id, sender_id, conversation_id, content, rev)
             select {CROWD_MESSAGE} + i, {CROWD_USER}, {CROWDED}, '{CONTENT}', 2 + i from n;
         commit;"
    )
}

/// Makes people with the words by which they are found.
fn people(count: i64) -> String {
    format!(
        "begin;
         with recursive n(i) as (select 1 union all select i + 1 from n where i < {count})
             insert into users (id, username, fullname, password, skeleton, has_words)
             select {FIRST_PERSON} + i, 'person' || i, 'Given' || i || ' Family' || i, '', 'person' || i, 1 from n;
         insert into user_words (user_id, word)
             select id, username from users where id > {FIRST_PERSON}
             union all select id, lower(fullname) from users where id > {FIRST_PERSON}
             union all select id, 'family' || (id - {FIRST_PERSON}) from users where id > {FIRST_PERSON};
         commit;"
    )
}

/// Makes a file with this many messages, spread over all conversations.
pub async fn populate(file: &Path, messages: i64) -> Result<()> {
    let db = Floor::open_file(file).await?;
    for register in Floor::users() {
        handle(&db, &Context::anonymous(0), &register, &mut Vec::new()).await?;
    }
    // Indexes are built once, at the end. An unfinished file is not used.
    let mut indexes = Vec::new();
    let on_messages = "select name, sql from sqlite_master where type = 'index' and tbl_name = 'messages' and sql is not null";
    let mut rows = db.query(on_messages, ()).await?;
    while let Some(row) = rows.next().await? {
        indexes.push((row.get::<String>(0)?, row.get::<String>(1)?));
    }
    drop(rows);
    let drops: String = indexes
        .iter()
        .map(|(name, _)| format!("drop index {name};"))
        .collect();
    let creates: String = indexes.iter().map(|(_, sql)| format!("{sql};")).collect();
    let sessions = messages / MESSAGES_PER_SESSION;
    let (few_first, few_last) = (FEW.start(), FEW.end());
    db.execute_batch(
        "pragma journal_mode = off; pragma synchronous = off; pragma cache_size = -262144;",
    )
    .await?;
    let populate = format!(
        "begin;
         {drops}
         insert into users (id, username, fullname, password) values (3, 'few', 'few', '');
         with recursive n(i) as (select 0 union all select i + 1 from n where i + 1 < {STRANGERS})
             insert into users (username, fullname, password, has_words) select 's' || i, 's', '', 1 from n;
         insert into user_words (user_id, word) select id, 'x' || id from users;
         with recursive n(i) as (select 1 union all select i + 1 from n where i < {CONVERSATIONS})
             insert into conversations (id, name) select i, 'conversation ' || i from n;
         with recursive n(i) as (select 1 union all select i + 1 from n where i < {sessions})
             insert into sessions (id, user_id, lifetime, created_at, last_seen, ends_at, user_agent)
             select abs(random() % 9007199254740992) + 1000000, 10000 + i / 10, 3600, 0, 0, 3600, 'load' from n;
         insert into sessions (id, user_id, lifetime, created_at, last_seen, ends_at, user_agent)
             select id, id, 3600, 0, 0, 3600, 'load' from users where id <= 3;
         update users set password = '' where id <= 3;
         insert into members (conversation_id, user_id) select id, 1 from conversations;
         insert into members (conversation_id, user_id) select id, 2 from conversations;
         insert into members (conversation_id, user_id)
             select id, 3 from conversations where id between {few_first} and {few_last};
         with recursive n(i) as (select 0 union all select i + 1 from n where i + 1 < {messages})
             insert into messages (sender_id, conversation_id, content, rev)
             select 2, 1 + i % {CONVERSATIONS}, '{CONTENT}', 2 + i / {CONVERSATIONS} from n;
         {creates}
         with recursive latest(id, rev) as materialized (
                 select conversation_id, max(rev) from messages
                 where conversation_id between {few_first} and {few_last} group by conversation_id),
             n(i) as (select 1 union all select i + 1 from n where i < 100)
             insert into messages (sender_id, conversation_id, content, rev)
             select 2, latest.id, '{CONTENT}', n.i + latest.rev from n, latest order by n.i;
         update conversations set rev = latest.rev, activity = latest.id
             from (select conversation_id, max(rev) as rev, max(id) as id from messages group by conversation_id) as latest
             where latest.conversation_id = conversations.id;
         update members set read_id = (select activity from conversations where id = conversation_id);
         update conversations set member_count = (select count(*) from members where conversation_id = conversations.id);
         commit;
         pragma journal_mode = wal;"
    );
    db.execute_batch(&populate).await?;
    Ok(())
}
