//! `chatapp key`: keys for programs of the operator. It works beside a running server.

use std::io::Write;

use handler::Context;
use handler::account::api_key::{CreateKey, ListKeys, RevokeKey, Scope};
use rustix::process::getuid;

use crate::api_keys::new_key;
use crate::clock;
use crate::config::Config;
use crate::store::single_connection::SingleConnection;

/// Makes a key and writes it: nobody can find it out later.
pub async fn create(
    config: &Config,
    name: &str,
    scopes: Vec<Scope>,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    CreateKey::check_name(name)?;
    let db = open(config).await?;
    let (key, hash) = new_key()?;
    let create = CreateKey {
        name: name.to_owned(),
        hash,
        scopes,
    };
    db.run(&now(), &create, &mut Vec::new()).await?;
    let scopes = create.scopes.iter().map(Scope::to_string);
    let scopes = scopes.collect::<Vec<_>>().join(",");
    tracing::info!(target: "security", uid = uid(), key = name, scopes, "creation of a key");
    writeln!(output, "{key}")?;
    Ok(())
}

/// Writes a line for each key.
pub async fn list(config: &Config, output: &mut impl Write) -> anyhow::Result<()> {
    let db = open(config).await?;
    let keys = db.run(&now(), &ListKeys, &mut Vec::new()).await?;
    for key in &keys {
        let used = match key.last_used.as_str() {
            "" => "never used".to_owned(),
            time => format!("last used {time}"),
        };
        let (name, scopes, created) = (&key.name, &key.scopes, &key.created_at);
        writeln!(output, "{name}  {scopes}  created {created}, {used}")?;
    }
    if keys.is_empty() {
        writeln!(output, "no keys")?;
    }
    Ok(())
}

/// Revokes a key; every host refuses it from now on.
pub async fn revoke(config: &Config, name: &str, output: &mut impl Write) -> anyhow::Result<()> {
    let db = open(config).await?;
    let revoke = RevokeKey {
        name: name.to_owned(),
    };
    db.run(&now(), &revoke, &mut Vec::new()).await?;
    tracing::info!(target: "security", uid = uid(), key = name, "revocation of a key");
    writeln!(output, "{name:?} is revoked")?;
    Ok(())
}

async fn open(config: &Config) -> anyhow::Result<SingleConnection> {
    SingleConnection::open_current(&config.database, clock::now()).await
}

/// The user of this machine who runs the command.
fn uid() -> u32 {
    getuid().as_raw()
}

fn now() -> Context {
    Context::anonymous(clock::now())
}
