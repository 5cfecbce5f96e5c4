//! `chatapp demo`: a new data file with three people and conversations worth looking at.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail, ensure};
use handler::account::login::FindAccount;
use handler::account::password;
use handler::account::register::Register;
use handler::{Context, Event, Outbox, handle};
use libsql::{Builder, Connection};

use crate::clock;
use crate::config::Config;
use crate::store::local;
use crate::store::location::Database;

/// Everybody's password.
pub const PASSWORD: &str = "demo";
/// Usernames and full names.
const PEOPLE: [(&str, &str); 3] = [
    ("alice", "Alice Martin"),
    ("bob", "Bob Okafor"),
    ("carol", "Carol Nakamura"),
];
/// They registered before anything else.
const REGISTERED_MINUTES: i64 = 14 * 24 * 60;
const SCRIPT: &str = include_str!("demo.txt");

/// Makes the data file, which must not exist yet. Returns what to say about it.
pub async fn demo(config: &Config) -> anyhow::Result<String> {
    let Database::File(path) = &config.database else {
        bail!(
            "DBPATH: {} is on a server: a demo is a new file",
            config.database
        );
    };
    ensure!(
        !path.exists(),
        "DBPATH: {} exists already: name a file that does not, such as DBPATH=.data/demo.db",
        path.display()
    );
    local::create_folder_of(path)?;
    if let Err(error) = fill(path).await {
        // Half a demo is of no use, and would be in the way of the next try.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    let names: Vec<&str> = PEOPLE.iter().map(|(username, _)| *username).collect();
    Ok(format!(
        "{}: log in as {}, each with the password {PASSWORD:?}. Nobody else should be able to reach this server",
        path.display(),
        names.join(", ")
    ))
}

async fn fill(path: &Path) -> anyhow::Result<()> {
    let _lock = local::try_lock(path)?.context("another program is making this file")?;
    let db = Builder::new_local(path).build().await?.connect()?;
    let now = clock::now();
    local::make_ready(&db, now).await?;
    let mut salt = [0; 16];
    for (username, fullname) in PEOPLE {
        getrandom::fill(&mut salt).map_err(|error| anyhow!("no random bytes: {error}"))?;
        let register = Register {
            username: username.into(),
            fullname: fullname.into(),
            password_hash: password::hash(PASSWORD, salt),
        };
        let ctx = Context::anonymous(now - REGISTERED_MINUTES * 60);
        handle(&db, &ctx, &register, &mut Outbox::new()).await?;
    }
    for line in SCRIPT.lines().filter(|line| !line.starts_with('#')) {
        run(&db, now, line)
            .await
            .with_context(|| format!("demo: {line}"))?;
    }
    Ok(())
}

/// Runs a line: minutes ago, username, event.
async fn run(db: &Connection, now: i64, line: &str) -> anyhow::Result<()> {
    let mut parts = line.splitn(3, ' ');
    let mut part = || parts.next().context("a line has three parts");
    let (minutes, username, event) = (part()?, part()?, part()?);
    let now = now - minutes.parse::<i64>()? * 60;
    let find = FindAccount {
        username: username.to_owned(),
    };
    let anonymous = Context::anonymous(now);
    let account = handle(db, &anonymous, &find, &mut Outbox::new()).await?;
    let account = account.context("no such user")?;
    let ctx = Context::new(account.user_id, username.into(), now);
    let operation = Event::parse(event).operation?;
    handle(db, &ctx, &operation, &mut Outbox::new()).await?;
    Ok(())
}
