//! The `user_status` that contacts get when a user comes or goes.

use std::collections::HashMap;

use serde::Serialize;

use crate::outbox::{Audience, Outbox, Output};
use crate::reply::{json, push};
use crate::sql::{Row, Rows, Statement};

/// The contacts who may know when the user with the id `$user` comes and goes: not those whom the user
/// has blocked. The list of these is read once, however many contacts there are.
macro_rules! contacts_to_tell {
    ($user:literal) => {
        concat!(
            "select cast(contact_id as integer) from contacts where user_id = ",
            $user,
            " and contact_id not in (select blocked_id from blocks where user_id = ",
            $user,
            ")"
        )
    };
}
pub(crate) use contacts_to_tell;

/// A contact has opened a first socket, or closed the last one.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UserStatus<'a> {
    username: &'a str,
    is_online: bool,
    /// When the user last came or went, in Unix seconds; `null` for who is blocked.
    last_online: Option<i64>,
}

impl<'a> UserStatus<'a> {
    pub(crate) fn shown(username: &'a str, is_online: bool, last_online: i64) -> Self {
        UserStatus {
            username,
            is_online,
            last_online: Some(last_online),
        }
    }

    /// The status as those see it whom the user has blocked.
    pub(crate) fn hidden(username: &'a str) -> Self {
        UserStatus {
            username,
            is_online: false,
            last_online: None,
        }
    }
}

pub(crate) fn tell_contacts(
    contacts: Vec<i64>,
    username: &str,
    is_online: bool,
    last_online: i64,
    out: &mut Outbox,
) {
    let status = UserStatus::shown(username, is_online, last_online);
    tell_users(contacts, status, out);
}

pub(crate) fn tell_users(user_ids: Vec<i64>, status: UserStatus, out: &mut Outbox) {
    if user_ids.is_empty() {
        return;
    }
    out.push(Output::Push {
        to: Audience::Users(user_ids),
        event: push("user_status", &json(&status)),
        is_droppable: false,
    });
}

/// Selects the contacts of the users whose ids `$users` selects, without those whom they have
/// blocked, for [`contacts_by_user`].
macro_rules! contacts_of_selected {
    ($users:expr) => {
        concat!(
            "select user_id, cast(json_group_array(contact_id) as blob) from contacts c
             where user_id in (",
            $users,
            ") and not exists (select 1 from blocks where user_id = c.user_id and blocked_id = c.contact_id)
             group by user_id"
        )
    };
}
pub(crate) use contacts_of_selected;

/// The same for these users (a JSON list of ids).
pub(crate) fn contacts_of(user_ids: &str) -> Statement {
    let contacts = contacts_of_selected!("select value from json_each(?1)");
    Statement::new(contacts, [user_ids.into()])
}

/// Reads rows of a user id and a JSON list of contact ids.
pub(crate) fn contacts_by_user(rows: &Rows) -> HashMap<i64, Vec<i64>> {
    let contacts = |row: &Row| {
        let mut columns = row.columns();
        let user_id = columns.integer();
        (
            user_id,
            serde_json::from_str(&columns.str()).unwrap_or_default(),
        )
    };
    rows.0.iter().map(contacts).collect()
}
