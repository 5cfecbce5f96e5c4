//! `chatapp event`: one event on the database alone, without a server.

use std::io::Write;

use anyhow::{bail, ensure};
use handler::account::login::FindAccount;
use handler::{Access, Audience, Context, Event, MembersChange, Output};
use serde_json::{Value, json};

use crate::clock;
use crate::config::Config;
use crate::store::single_connection::SingleConnection;

/// Runs `event` (its JSON) as the user of that name, and writes the reply and each output as a line
/// of JSON:
///
/// Nothing is delivered to the sockets of a server on the same database, so beside a server only
/// events that read are run.
pub async fn run(
    config: &Config,
    username: &str,
    event: &str,
    output: &mut impl Write,
) -> anyhow::Result<bool> {
    let Event {
        envelope,
        operation,
        ..
    } = Event::parse(event);
    let is_write = operation
        .as_ref()
        .is_ok_and(|o| o.access() == Access::Write);
    let now = clock::now();
    let database = &config.database;
    let db = SingleConnection::open_current(database, now).await?;
    ensure!(
        !is_write || !db.is_served,
        "DBPATH: a server is running on {database}, and its clients would not hear of this event: send it through the server"
    );
    let find = FindAccount {
        username: username.to_owned(),
    };
    let anonymous = Context::anonymous(now);
    let account = db.run(&anonymous, &find, &mut Vec::new()).await?;
    let Some(account) = account else {
        bail!("no such user {username:?} in {database}");
    };
    let ctx = Context::new(account.user_id, username.into(), now);
    let mut outbox = Vec::new();
    let outcome = match operation {
        Ok(operation) => db.run(&ctx, &operation, &mut outbox).await,
        Err(error) => Err(error),
    };
    let reply: Value = serde_json::from_str(&envelope.reply(&outcome))?;
    writeln!(output, "{}", json!({ "reply": reply }))?;
    for line in &outbox {
        writeln!(output, "{}", describe(line)?)?;
    }
    Ok(outcome.is_ok())
}

fn describe(output: &Output) -> anyhow::Result<Value> {
    Ok(match output {
        Output::Push { to, event, .. } => {
            let push: Value = serde_json::from_str(event)?;
            let to = match to {
                Audience::Users(ids) => json!({ "users": ids }),
                Audience::Conversation { id, .. } => json!({ "conversation": id }),
                Audience::MembersExcept { id, except, .. } => {
                    json!({ "conversation": id, "except": except })
                }
            };
            json!({ "push": push, "to": to })
        }
        Output::Join(change) => json!({ "join": members(change) }),
        Output::Leave(change) => json!({ "leave": members(change) }),
        Output::EndLogins(ended) => json!({ "end_logins": { "user": ended.user_id } }),
    })
}

fn members(change: &MembersChange) -> Value {
    json!({ "conversation": change.conversation_id, "users": change.user_ids })
}
