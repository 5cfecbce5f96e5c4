//! `chatapp ban` and `chatapp unban`. They work beside a running server.

use anyhow::ensure;
use handler::Context;
use handler::moderation::ban::{BanUser, UnbanUser};
use handler::user::words::{FindWordless, StoreWords};

use crate::clock;
use crate::config::Config;
use crate::store::single_connection::SingleConnection;

/// Bans a user, who may be banned already. Returns a line that says so.
pub async fn ban(config: &Config, username: &str) -> anyhow::Result<String> {
    let database = &config.database;
    let db = SingleConnection::open_current(database, clock::now()).await?;
    let ban = BanUser {
        username: username.to_owned(),
    };
    let ctx = Context::anonymous(clock::now());
    let is_there = db.run(&ctx, &ban, &mut Vec::new()).await?;
    ensure!(is_there, "no such user {username:?} in {database}");
    Ok(format!("{username:?} is banned"))
}

/// Lifts a ban, if there is one. Returns a line that says so.
pub async fn unban(config: &Config, username: &str) -> anyhow::Result<String> {
    let database = &config.database;
    let db = SingleConnection::open_current(database, clock::now()).await?;
    let unban = UnbanUser {
        username: username.to_owned(),
    };
    let ctx = Context::anonymous(clock::now());
    let is_there = db.run(&ctx, &unban, &mut Vec::new()).await?;
    ensure!(is_there, "no such user {username:?} in {database}");
    // So that others find the user again. A server may be adding words too, which does no harm.
    let of = db.run(&ctx, &FindWordless, &mut Vec::new()).await?;
    db.run(&ctx, &StoreWords { of }, &mut Vec::new()).await?;
    Ok(format!("{username:?} is not banned"))
}
