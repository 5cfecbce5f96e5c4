//! `chatapp user`: what the operator does with users. It asks a server, in the ways of `reach`.

use std::io::{self, BufRead, IsTerminal, Write, stderr};

use anyhow::{Context, bail, ensure};
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::{Value, json};

use crate::commands::reach::{Place, Reach};
use crate::commands::shown::shown;
use crate::config::Config;

/// Creates a user. Fails if there is one of this name. Returns a line that says so.
pub async fn add(
    config: &Config,
    place: &Place,
    username: &str,
    fullname: Option<String>,
    password: Option<String>,
) -> anyhow::Result<String> {
    let mut reach = Reach::open(config, place).await?;
    let added = async {
        let found = reach.ask(Method::GET, &path(username), None).await?;
        ensure!(found.is_none(), "there is a user {username:?} already");
        let user = json!({ "fullname": fullname, "password": password });
        reach.ask(Method::PUT, &path(username), Some(user)).await
    };
    let added = added.await;
    reach.close().await;
    added?;
    Ok(format!("{username:?} is added"))
}

/// Writes a line for each user, in the order of their names.
pub async fn list(config: &Config, place: &Place, output: &mut impl Write) -> anyhow::Result<()> {
    let mut reach = Reach::open(config, place).await?;
    let listed = async {
        let mut after = String::new();
        loop {
            let page = format!("/users?after={}", encoded(&after));
            let page = reach.ask(Method::GET, &page, None).await?;
            let page = page.context("the server has no list of users")?;
            let users = page["users"].as_array().cloned().unwrap_or_default();
            for user in &users {
                writeln!(output, "{}", line(user))?;
            }
            match users.last() {
                Some(last) if page["has_more"] == true => {
                    after = text(last, "username").to_owned();
                }
                _ => return anyhow::Ok(()),
            }
        }
    };
    let listed = listed.await;
    reach.close().await;
    listed
}

/// Gives a user a new password, which ends all logins. Returns a line that says so.
pub async fn set_password(
    config: &Config,
    place: &Place,
    username: &str,
    password: String,
) -> anyhow::Result<String> {
    let set = change(config, place, username, json!({ "password": password }));
    ensure!(set.await?, no_such(username));
    Ok(format!(
        "{username:?} has a new password; all logins have ended"
    ))
}

/// Bans a user, who may be banned already. Returns a line that says so.
pub async fn ban(config: &Config, place: &Place, username: &str) -> anyhow::Result<String> {
    let is_there = ban_if_there(config, place, username).await?;
    ensure!(is_there, no_such(username));
    Ok(format!("{username:?} is banned"))
}

/// Bans a user. Returns whether there is one of this name.
pub async fn ban_if_there(config: &Config, place: &Place, username: &str) -> anyhow::Result<bool> {
    change(config, place, username, json!({ "banned": true })).await
}

/// Lifts a ban, if there is one. Returns a line that says so.
pub async fn unban(config: &Config, place: &Place, username: &str) -> anyhow::Result<String> {
    let is_there = change(config, place, username, json!({ "banned": false })).await?;
    ensure!(is_there, no_such(username));
    Ok(format!("{username:?} is not banned"))
}

/// Deletes a user. Returns a line that says so.
pub async fn delete(config: &Config, place: &Place, username: &str) -> anyhow::Result<String> {
    let mut reach = Reach::open(config, place).await?;
    let deleted = reach.ask(Method::DELETE, &path(username), None).await;
    reach.close().await;
    deleted?.with_context(|| no_such(username))?;
    Ok(format!(
        "{username:?} is deleted; what the account has written stays, under the name \"deleted\""
    ))
}

/// Changes a user. Returns whether there is one of this name: otherwise a mistyped name would make one.
async fn change(
    config: &Config,
    place: &Place,
    username: &str,
    change: Value,
) -> anyhow::Result<bool> {
    let mut reach = Reach::open(config, place).await?;
    let changed = async {
        let found = reach.ask(Method::GET, &path(username), None).await?;
        if found.is_none() {
            return Ok(false);
        }
        let put = reach.ask(Method::PUT, &path(username), Some(change)).await;
        put.map(|_| true)
    };
    let changed = changed.await;
    reach.close().await;
    changed
}

fn no_such(username: &str) -> String {
    format!("no such user {username:?}")
}

fn path(username: &str) -> String {
    format!("/users/{}", encoded(username))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn text<'a>(user: &'a Value, name: &str) -> &'a str {
    user[name].as_str().unwrap_or_default()
}

fn line(user: &Value) -> String {
    let mut line = format!(
        "{}  {}",
        shown(text(user, "username")),
        shown(text(user, "fullname"))
    );
    for (name, is_so, word) in [
        ("banned", true, "banned"),
        ("has_password", false, "no password"),
        ("is_online", true, "online"),
    ] {
        if user[name] == is_so {
            line += &format!("  [{word}]");
        }
    }
    line
}

/// Reads a password from standard input. A terminal does not show it, and is asked twice.
pub fn read_password() -> anyhow::Result<String> {
    let input = io::stdin();
    if !input.is_terminal() {
        return read_line();
    }
    let modes = tcgetattr(&input)?;
    let mut silent = modes.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&input, OptionalActions::Flush, &silent)?;
    let asked = ["Password: ", "Again: "].map(|question| {
        write!(stderr(), "{question}")?;
        let answer = read_line();
        writeln!(stderr())?;
        answer
    });
    tcsetattr(&input, OptionalActions::Flush, &modes)?;
    let [password, again] = asked;
    let password = password?;
    if again? != password {
        bail!("the passwords are not the same");
    }
    Ok(password)
}

fn read_line() -> anyhow::Result<String> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    ensure!(!line.is_empty(), "no password on standard input");
    Ok(line.to_owned())
}
