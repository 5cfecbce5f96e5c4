//! Several operations as one set end as if they had run one after the other.

use std::collections::HashSet;
use std::fmt::Debug;

use fastrand::Rng;
use handler::account::login_id::{LoginId, SessionId};
use handler::presence::{Arrival, Connected, Disconnected};
use handler::{
    Access, Context, Element, Error, Event, EventOperation, Operation, Outbox, Rows, Statement,
};
use serde_json::json;
use tests::world::{Place, World, places};

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

const CONTENTS: [&str; 10] = [
    "x",
    "it's; ?1 \"\\\u{1}é\n'",
    "--",
    "@",
    "nul \0",
    "@bob",
    "@dave, @carol! @bob\n",
    "@nobody @\"' @alice",
    "@all",
    // One more than a set takes.
    "@bob @bob @bob @bob @bob @bob @bob @bob @bob @bob @bob",
];

/// The answer of an operation, and its pushes.
type Outcome = (String, Outbox);

/// A request, which runs in both ways.
struct Request {
    user: &'static str,
    text: String,
}

fn event(random: &mut Rng) -> Request {
    let user = random.choice(USERS).expect("a user");
    let conversation = random.i64(1..=4);
    let content = random.choice(CONTENTS);
    let mut event = json!({
        "type": "send_message", "conversation_id": conversation, "content": content,
    });
    if random.u8(..3) == 0 {
        event["reply_id"] = random.choice([1, 2, 3, 1_000_000]).into();
    }
    if random.u8(..3) == 0 {
        event["client_id"] = random.choice(["a", "b'", "c\0"]).into();
    }
    let event = match random.u8(..14) {
        0 => json!({ "type": "leave_conversation", "conversation_id": conversation }),
        1 => json!({ "type": "add_members", "conversation_id": conversation, "members": USERS }),
        2 => json!({ "type": "delete_message", "message_id": random.i64(1..=8) }),
        3 => json!({ "type": "block_user", "username": random.choice(USERS) }),
        4..7 => json!({
            "type": "mark_read", "conversation_id": conversation, "message_id": random.i64(1..=8),
        }),
        _ => event,
    };
    Request {
        user,
        text: event.to_string(),
    }
}

/// The operation and its context on a shared database.
async fn prepared(world: &World, number: u64, request: &Request) -> (Context, EventOperation) {
    let mut ctx = world.context(request.user).await;
    ctx.request_id = Some(number.to_be_bytes());
    let operation = Event::parse(&request.text).operation;
    (ctx, operation.expect("a valid event"))
}

/// Runs statements in one transaction.
async fn transact(world: &World, statements: &[Statement]) -> Vec<Rows> {
    if world.gateway.is_some() {
        let rows = handler::run_batch(&world.db, statements).await;
        return rows.expect("rows");
    }
    world
        .db
        .execute_batch("begin immediate")
        .await
        .expect("begun");
    let mut all = Vec::new();
    for statement in statements {
        let mut prepared = world.db.prepare(statement.sql).await.expect(statement.sql);
        let parameters = statement.parameters.clone();
        all.push(handler::run(&mut prepared, parameters).await.expect("rows"));
    }
    world.db.execute_batch("commit").await.expect("committed");
    all
}

fn concluded<O>(ctx: &Context, operation: &O, rows: &[Rows]) -> Outcome
where
    O: Operation<Output: Debug>,
{
    let mut outbox = Outbox::new();
    let outcome = operation.conclude(ctx, rows, &mut outbox);
    if outcome.is_err() {
        outbox.clear();
    }
    (format!("{outcome:?}"), outbox)
}

/// Runs these requests, those that follow each other and may be a set as one; checks that the set is
/// found again.
async fn run_in_sets<O>(world: &World, requests: &[(Context, O)]) -> Vec<Outcome>
where
    O: Operation<Output: Debug>,
{
    let mut outcomes = Vec::new();
    let mut rest = requests;
    while let Some((ctx, operation)) = rest.first() {
        let Some(first) = operation.element(ctx) else {
            let rows = transact(world, &operation.statements(ctx)).await;
            outcomes.push(concluded(ctx, operation, &rows));
            rest = &rest[1..];
            continue;
        };
        let set = first.set;
        let mut keys = HashSet::new();
        let elements = rest.iter().map_while(|(ctx, operation)| {
            let element = operation.element(ctx)?;
            let is_same = std::ptr::eq(element.set, set);
            let is_new = element.key.is_none_or(|key| keys.insert(key));
            (is_same && is_new).then_some(element)
        });
        let elements: Vec<Element> = elements.collect();
        let elements: Vec<&Element> = elements.iter().collect();
        let (those, others) = rest.split_at(elements.len());
        let latest = "select coalesce(max(id), 0) from messages";
        let before = world.integer(latest).await;
        let rows = transact(world, &(set.statements)(&elements)).await;
        let after = world.integer(latest).await;
        let rows = (set.rows)(&elements, &rows);
        if let Some(repeated) = set.repeated {
            let found = transact(world, &repeated(&elements, before, after)).await;
            assert_eq!((set.rows)(&elements, &found), rows, "found again");
        }
        let those = those.iter().zip(&rows);
        outcomes.extend(those.map(|((ctx, operation), rows)| concluded(ctx, operation, rows)));
        rest = others;
    }
    outcomes
}

/// Runs these requests in both ways; returns the outcomes, of one way and of the other.
async fn run_both<O>(single: &World, sets: &World, requests: &[(Context, O)]) -> [Vec<Outcome>; 2]
where
    O: Operation<Output: Debug>,
{
    let mut outcomes = Vec::new();
    for (ctx, operation) in requests {
        let rows = transact(single, &operation.statements(ctx)).await;
        outcomes.push(concluded(ctx, operation, &rows));
    }
    [outcomes, run_in_sets(sets, requests).await]
}

/// Runs random groups of requests in both ways, in a world each.
async fn compare(place: Place, seed: u64, groups: usize, largest: usize) {
    let mut random = Rng::with_seed(seed);
    let (single, sets) = (World::new_at(place).await, World::new_at(place).await);
    let create = json!({ "type": "create_conversation", "members": ["alice"], "direct": true });
    for world in [&single, &sets] {
        let (reply, _) = world.event("carol", &create.to_string()).await;
        assert_eq!(reply["success"], true, "{reply}");
    }
    for group in 0..groups {
        let count = random.usize(1..=largest);
        let requests: Vec<_> = (0..count).map(|_| event(&mut random)).collect();
        let mut prepared_requests = Vec::new();
        for (number, request) in requests.iter().enumerate() {
            let number = (group * largest + number) as u64;
            prepared_requests.push(prepared(&single, number, request).await);
        }
        let [expected, found] = run_both(&single, &sets, &prepared_requests).await;
        for ((request, expected), found) in requests.iter().zip(expected).zip(found) {
            let Request { user, text } = request;
            assert_eq!(found, expected, "seed {seed}, {user}: {text}");
        }
    }
    assert_same(&single, &sets, seed).await;
}

/// Fails if the two databases differ.
async fn assert_same(single: &World, sets: &World, seed: u64) {
    // In a set, a message needs no request id.
    let same = [
        "update messages set client_id = null where typeof(client_id) = 'blob'",
        "update community set id = 'same'",
    ];
    for world in [single, sets] {
        transact(world, &same.map(|sql| Statement::new(sql, []))).await;
    }
    let (found, expected) = (sets.dump().await, single.dump().await);
    let difference: Vec<_> = found.symmetric_difference(&expected).collect();
    assert!(difference.is_empty(), "seed {seed}: {difference:?}");
}

#[tokio::test]
async fn a_set_ends_as_if_its_operations_had_run_one_after_the_other() {
    for place in places() {
        for seed in 0..10 {
            compare(*place, seed, 10, 12).await;
        }
    }
}

/// A socket that opens or closes.
enum Change {
    Opens(Connected),
    Closes(Disconnected),
}

impl Operation for Change {
    type Output = Option<Arrival>;

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        match self {
            Change::Opens(connected) => connected.statements(ctx),
            Change::Closes(disconnected) => disconnected.statements(ctx),
        }
    }

    fn element(&self, ctx: &Context) -> Option<Element> {
        match self {
            Change::Opens(connected) => connected.element(ctx),
            Change::Closes(disconnected) => disconnected.element(ctx),
        }
    }

    fn conclude(
        &self,
        ctx: &Context,
        rows: &[Rows],
        out: &mut Outbox,
    ) -> Result<Option<Arrival>, Error> {
        match self {
            Change::Opens(connected) => connected.conclude(ctx, rows, out).map(Some),
            Change::Closes(disconnected) => {
                disconnected.conclude(ctx, rows, out)?;
                Ok(None)
            }
        }
    }
}

/// Users with contacts and sessions; one is in more conversations than are read, one has blocked
/// another, and one is banned.
const PEOPLE: [&str; 6] = [
    "insert into conversations (id, name, rev, activity, member_count)
         with recursive n(i) as (select 101 union all select i + 1 from n where i < 305)
         select i, 'c', 1, i, 1 from n",
    "insert into members (conversation_id, user_id)
         select c.id, u.id from conversations c join users u on u.username = 'alice' where c.id > 100",
    "insert into contacts (user_id, contact_id)
         select a.id, b.id from users a join users b where a.id <> b.id order by a.id, b.id
         on conflict do nothing",
    "insert into blocks (user_id, blocked_id)
         select a.id, b.id from users a join users b on a.username = 'alice' and b.username = 'carol'",
    "insert into sessions (id, user_id, lifetime, created_at, last_seen, ends_at, user_agent)
         select 1000 + id, id, 60, 0, 0, 60, '' from users",
    "update users set banned_at = 1 where username = 'dave'",
];

/// A socket of this user opens or, if one is open, may close.
fn change(random: &mut Rng, user: &str, user_id: i64, host_id: &str, open: &mut u32) -> Change {
    let host_id = host_id.into();
    if *open > 0 && random.bool() {
        *open -= 1;
        return Change::Closes(Disconnected { host_id });
    }
    let exists = random.u8(..10) > 0;
    let holds = random.u8(..4) > 0;
    let session = SessionId::new((1000 + user_id + i64::from(!holds)).to_be_bytes());
    *open += u32::from(exists && holds && user != "dave");
    Change::Opens(Connected {
        username: if exists { user } else { "nobody" }.into(),
        login: LoginId::of_session(session),
        host_id,
    })
}

#[tokio::test]
async fn sockets_that_come_and_go_in_sets_are_counted_as_one_by_one() {
    for place in places() {
        for seed in 0..5 {
            let mut random = Rng::with_seed(seed);
            let (single, sets) = (World::new_at(*place).await, World::new_at(*place).await);
            for world in [&single, &sets] {
                transact(world, &PEOPLE.map(|sql| Statement::new(sql, []))).await;
            }
            let mut open = [[0; USERS.len()]; 2];
            let mut now = 10_000;
            for _ in 0..10 {
                now += random.choice([0, 4_000]).unwrap_or_default();
                // A set is of one host.
                let host = random.usize(..2);
                let mut requests = Vec::new();
                for _ in 0..random.usize(1..=12) {
                    let user = random.usize(..USERS.len());
                    now += random.i64(0..2);
                    let mut ctx = single.context(USERS[user]).await;
                    ctx.now = now;
                    ctx.request_id = Some([0; 8]);
                    let (name, id) = (USERS[user], ctx.user_id);
                    let host_id = ["one", "two"][host];
                    let change = change(&mut random, name, id, host_id, &mut open[host][user]);
                    requests.push((ctx, change));
                }
                let [expected, found] = run_both(&single, &sets, &requests).await;
                assert_eq!(found, expected, "seed {seed}");
            }
            assert_same(&single, &sets, seed).await;
        }
    }
}
