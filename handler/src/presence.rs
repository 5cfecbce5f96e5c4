//! Who is online: a user with an open socket on a living host.
//!
//! The database counts a user's sockets on each host. So the order of commits decides which socket
//! was the first to open or the last to close, whatever sockets do at the same time.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use crate::account::login_id::{LoginId, login_holds};
use crate::account::open_login::{no_login, see_session};
use crate::conversation::members_rev;
use crate::error::Error;
use crate::operation::{Access, Context, Operation};
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

/// A socket of this user has opened on this host.
pub struct Connected {
    pub username: String,
    pub login: LoginId,
    pub host_id: Arc<str>,
}

/// The socket's user, and the conversations that the socket listens to, each with its `members_rev`
/// (0 on a file: see [`Audience`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    pub user_id: i64,
    pub conversations: Vec<(i64, i64)>,
    /// Whether these are all. If not, [`FindMemberships`] finds them, after the commit.
    ///
    /// [`FindMemberships`]: crate::cluster::memberships::FindMemberships
    pub is_complete: bool,
}

/// The most conversations that are read in the transaction that stores the socket, so that everyone
/// else's writes do not wait for a user who is in many.
pub const ARRIVAL_CONVERSATIONS_MAX: usize = 200;

impl Operation for Connected {
    type Output = Arrival;

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let username = self.username.as_str();
        let login = self.login.number();
        let find = || {
            Statement::new(
                concat!(
                    "select id, ",
                    login_holds!("?2"),
                    " from users where username = ?1"
                ),
                [username.into(), login.into()],
            )
        };
        let mut statements = vec![
            find(),
            Statement::new(
                concat!(
                    "insert into presence (user_id, host_id, sockets)
                     select id, ?2, 1 from users where username = ?1 and ",
                    login_holds!("?3"),
                    " on conflict do update set sockets = sockets + 1"
                ),
                [username.into(), (&*self.host_id).into(), login.into()],
            ),
            Statement::new(
                concat!(
                    "update users set is_online = 1, last_online = ?2
                     where username = ?1 and is_online = 0 and ",
                    login_holds!("?3")
                ),
                [username.into(), ctx.now.into(), login.into()],
            ),
            Statement::new(
                // changes() is 1 if the previous statement has set the user online.
                concat!(
                    contacts_to_tell!("(select id from users where username = ?1)"),
                    " and changes() = 1"
                ),
                [username.into()],
            ),
            Statement::new(
                match ctx.is_shared() {
                    true => concat!(
                        "select conversation_id, ",
                        members_rev!("members.conversation_id"),
                        " from members where user_id = (select id from users where username = ?1) limit +?2"
                    ),
                    false => {
                        "select cast(conversation_id as integer), 0 from members
                         where user_id = (select id from users where username = ?1) limit +?2"
                    }
                },
                // One more than may be read shows whether there are more.
                [
                    username.into(),
                    (ARRIVAL_CONVERSATIONS_MAX as i64 + 1).into(),
                ],
            ),
        ];
        if let Some(session) = self.login.session() {
            statements.push(see_session(username, session, ctx.now));
        }
        if ctx.is_repeat {
            // The socket is already counted, and may have been the first.
            statements[1] = find();
            statements[2] = find();
            statements[3] = Statement::new(
                contacts_to_tell!("(select id from users where username = ?1)"),
                [username.into()],
            );
        }
        statements
    }

    /// Fails with `NotFound` if the user does not exist, and with `Unauthorized` if the login has
    /// ended or the user is banned.
    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<Arrival, Error> {
        let Some(user) = rows[0].first() else {
            let name = &self.username;
            return Err(Error::NotFound(format!("'{name}' doesn't exists")));
        };
        let mut user = user.columns();
        let (user_id, holds) = (user.integer(), user.flag());
        if !holds {
            return Err(no_login());
        }
        tell_contacts(rows[3].integers(), &self.username, true, ctx.now, out);
        let conversation = |row: &Row| {
            let mut columns = row.columns();
            (columns.integer(), columns.integer())
        };
        Ok(Arrival {
            user_id,
            conversations: rows[4].0.iter().map(conversation).collect(),
            is_complete: rows[4].0.len() <= ARRIVAL_CONVERSATIONS_MAX,
        })
    }
}

/// A socket of the calling user has closed on this host.
pub struct Disconnected {
    pub host_id: Arc<str>,
}

impl Operation for Disconnected {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let user_id = ctx.user_id;
        let mut statements = vec![
            // The count is below zero if the host had lost its users and this user has not been
            // counted again yet.
            Statement::new(
                "insert into presence (user_id, host_id, sockets) values (?1, ?2, -1)
                 on conflict do update set sockets = sockets - 1",
                [user_id.into(), (&*self.host_id).into()],
            ),
            Statement::new(
                "delete from presence where user_id = ?1 and host_id = ?2 and sockets = 0",
                [user_id.into(), (&*self.host_id).into()],
            ),
            Statement::new(
                "update users set is_online = 0, last_online = ?2
                 where id = ?1 and is_online = 1
                     and not exists (select 1 from presence where user_id = ?1 and sockets > 0)",
                [user_id.into(), ctx.now.into()],
            ),
            Statement::new(
                // changes() is 1 if the previous statement has set the user offline.
                concat!(contacts_to_tell!("?1"), " and changes() = 1"),
                [user_id.into()],
            ),
        ];
        if ctx.is_repeat {
            // The socket is already counted, and may have been the last.
            statements = vec![Statement::new(
                concat!(
                    contacts_to_tell!("?1"),
                    " and exists (select 1 from users where id = ?1 and is_online = 0)"
                ),
                [user_id.into()],
            )];
        }
        statements
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<(), Error> {
        // Only the last statement returns rows.
        let contacts = rows.last().map_or_else(Vec::new, Rows::integers);
        tell_contacts(contacts, &ctx.username, false, ctx.now, out);
        Ok(())
    }
}

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

/// Selects the contacts of these users (a JSON list of ids) whom they have not blocked, for
/// [`contacts_by_user`].
pub(crate) fn contacts_of(user_ids: &str) -> Statement {
    Statement::new(
        "select user_id, cast(json_group_array(contact_id) as blob) from contacts c
         where user_id in (select value from json_each(?1))
             and not exists (select 1 from blocks where user_id = c.user_id and blocked_id = c.contact_id)
         group by user_id",
        [user_ids.into()],
    )
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
