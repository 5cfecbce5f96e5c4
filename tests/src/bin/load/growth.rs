//! What operations cost as the database grows.

use std::time::Instant;

use clap::Args;
use handler::{Event, handle};
use serde_json::json;

use crate::floor::Floor;
use crate::median;

#[derive(Args)]
pub struct Growth {
    /// Messages in the small database.
    #[arg(long, default_value_t = 10_000)]
    small: i64,
    /// Messages in the large one.
    #[arg(long, default_value_t = 5_000_000)]
    large: i64,
    /// Each operation is run so often.
    #[arg(long, default_value_t = 21)]
    rounds: usize,
}

/// Conversations of the user in `growth`.
const CONVERSATIONS: i64 = 5_000;

pub async fn growth(arguments: Growth) -> anyhow::Result<()> {
    let small = costs(arguments.small, arguments.rounds).await?;
    let large = costs(arguments.large, arguments.rounds).await?;
    let mut lines = Vec::new();
    for ((name, small), (_, large)) in small.iter().zip(&large) {
        println!(
            "{name:40} {small:9.3} ms {large:9.3} ms   × {:.2}",
            large / small
        );
        lines.push(json!({ "operation": name, "small_ms": small, "large_ms": large }));
    }
    let (small, large) = (arguments.small, arguments.large);
    println!(
        "{}",
        json!({ "small": small, "large": large, "operations": lines })
    );
    Ok(())
}

/// The median milliseconds of each operation, for a user in `CONVERSATIONS` conversations with these messages in all.
async fn costs(messages: i64, rounds: usize) -> anyhow::Result<Vec<(&'static str, f64)>> {
    let folder = tempfile::TempDir::new()?;
    let db = Floor::open(&folder).await?.db;
    let content = "a message of a usual length, of some sixty bytes in all.....";
    // One conversation has a full page of history, whatever the size; all is read.
    let populate = format!(
        "begin;
         with recursive n(i) as (select 2 union all select i + 1 from n where i <= {CONVERSATIONS})
             insert into conversations (id, name) select i, 'conversation ' || i from n;
         insert or ignore into members (conversation_id, user_id) select id, 1 from conversations;
         insert or ignore into members (conversation_id, user_id) select id, 2 from conversations;
         with recursive n(i) as (select 0 union all select i + 1 from n where i + 1 < {messages})
             insert into messages (sender_id, conversation_id, content, rev)
             select 2, 1 + i % {CONVERSATIONS}, '{content}', 2 + i / {CONVERSATIONS} from n;
         with recursive n(i) as (select 1 union all select i + 1 from n where i < 100)
             insert into messages (sender_id, conversation_id, content, rev)
             select 2, 17, '{content}', i + (select max(rev) from messages where conversation_id = 17) from n;
         update conversations set rev = latest.rev, activity = latest.id
             from (select conversation_id, max(rev) as rev, max(id) as id from messages group by conversation_id) as latest
             where latest.conversation_id = conversations.id;
         update members set read_id = (select activity from conversations where id = conversation_id);
         commit;"
    );
    db.execute_batch(&populate).await?;
    let mut revs = serde_json::Map::new();
    let mut rows = db
        .query("select id, rev from conversations where id <= 5000", ())
        .await?;
    while let Some(row) = rows.next().await? {
        let (id, rev): (i64, i64) = (row.get(0)?, row.get(1)?);
        // Three have changed since.
        let missed = i64::from([17, 1_700, 4_900].contains(&id));
        revs.insert(id.to_string(), json!(rev - missed));
    }
    drop(rows);
    let ctx = Floor::context();
    let mut costs = Vec::new();
    for (name, event) in [
        (
            "sync, 3 of 5,000 conversations changed",
            json!({ "type": "sync", "revs": revs }),
        ),
        ("sync, the first page of all", json!({ "type": "sync" })),
        (
            "get_conversations, all 5,000",
            json!({ "type": "get_conversations" }),
        ),
        (
            "get_conversations, 50",
            json!({ "type": "get_conversations", "limit": 50 }),
        ),
        (
            "get_messages",
            json!({ "type": "get_messages", "conversation_id": 17 }),
        ),
        (
            "send_message, its commit included",
            json!({ "type": "send_message", "conversation_id": 17, "content": "x" }),
        ),
    ] {
        let operation = Event::parse(&event.to_string()).operation?;
        let mut times = Vec::new();
        for _ in 0..rounds {
            let started = Instant::now();
            handle(&db, &ctx, &operation, &mut Vec::new()).await?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        costs.push((name, median(&mut times)));
    }
    Ok(costs)
}
