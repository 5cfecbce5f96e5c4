//! Several operations as one set end as if they had run one after the other.

use std::collections::HashSet;

use fastrand::Rng;
use handler::{Context, Element, Event, EventOperation, Operation, Outbox, Rows, Statement};
use serde_json::json;
use tests::world::{Place, World, places};

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

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
    let content = random.choice(["x", "it's; ?1 \"\\\u{1}é\n'", "--", "@", "nul \0", "@bob"]);
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

fn concluded(ctx: &Context, operation: &EventOperation, rows: &[Rows]) -> Outcome {
    let mut outbox = Outbox::new();
    let outcome = operation.conclude(ctx, rows, &mut outbox);
    let text = match outcome {
        Ok(reply) => reply.0,
        Err(error) => {
            outbox.clear();
            format!("{error:?}")
        }
    };
    (text, outbox)
}

/// Runs these requests, those that follow each other and may be a set as one; checks that the set is
/// found again.
async fn run_in_sets(world: &World, requests: &[(Context, EventOperation)]) -> Vec<Outcome> {
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
        let mut expected = Vec::new();
        for (ctx, operation) in &prepared_requests {
            let rows = transact(&single, &operation.statements(ctx)).await;
            expected.push(concluded(ctx, operation, &rows));
        }
        let found = run_in_sets(&sets, &prepared_requests).await;
        for ((request, expected), found) in requests.iter().zip(expected).zip(found) {
            let Request { user, text } = request;
            assert_eq!(found, expected, "seed {seed}, {user}: {text}");
        }
    }
    // In a set, a message needs no request id.
    let same = [
        "update messages set client_id = null where typeof(client_id) = 'blob'",
        "update community set id = 'same'",
    ];
    for world in [&single, &sets] {
        transact(world, &same.map(|sql| Statement::new(sql, []))).await;
    }
    assert_eq!(sets.dump().await, single.dump().await, "seed {seed}");
}

#[tokio::test]
async fn a_set_ends_as_if_its_operations_had_run_one_after_the_other() {
    for place in places() {
        for seed in 0..10 {
            compare(*place, seed, 10, 12).await;
        }
    }
}
