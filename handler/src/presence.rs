//! Who is online: a user with an open socket on a living host.
//!
//! The number of a user's sockets on a host is counted in the database, so that "the first opened" and "the last
//! closed" are decided in the order of commits, whatever sockets do at the same time.

use serde::Serialize;

use crate::error::Error;
use crate::event::{json, push};
use crate::operation::{Access, Context, Operation};
use crate::outbox::{Audience, Outbox, Output};
use crate::statement::{Rows, Statement};

/// A socket of this user has opened on this host.
pub struct Connected {
    pub username: String,
    pub host_id: &'static str,
}

/// Whose socket it is, and what it listens to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub user_id: i64,
    pub conversation_ids: Vec<i64>,
}

impl Operation for Connected {
    type Output = Session;

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let username = self.username.as_str();
        vec![
            Statement::new(
                "select id from users where username = ?1",
                [username.into()],
            ),
            Statement::new(
                "insert into presence (user_id, host_id, sockets)
                 select id, ?2, 1 from users where username = ?1
                 on conflict do update set sockets = sockets + 1",
                [username.into(), self.host_id.into()],
            ),
            Statement::new(
                "update users set is_online = 1, last_online = ?2
                 where username = ?1 and is_online = 0 returning id",
                [username.into(), ctx.now.into()],
            ),
            Statement::new(
                "select cast(contact_id as integer) from contacts
                 where user_id = (select id from users where username = ?1)",
                [username.into()],
            ),
            Statement::new(
                "select cast(conversation_id as integer) from members
                 where user_id = (select id from users where username = ?1)",
                [username.into()],
            ),
        ]
    }

    /// `NotFound`: there is no such user.
    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<Session, Error> {
        let Some(user) = rows[0].first() else {
            let name = &self.username;
            return Err(Error::NotFound(format!("'{name}' doesn't exists")));
        };
        if !rows[2].is_empty() {
            tell_contacts(&rows[3], &self.username, true, ctx.now, out);
        }
        Ok(Session {
            user_id: user.integer(0),
            conversation_ids: rows[4].integers(),
        })
    }
}

/// A socket of the calling user has closed on this host.
pub struct Disconnected {
    pub host_id: &'static str,
}

impl Operation for Disconnected {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        vec![
            Statement::new(
                "update presence set sockets = sockets - 1 where user_id = ?1 and host_id = ?2",
                [ctx.user_id.into(), self.host_id.into()],
            ),
            Statement::new(
                "delete from presence where user_id = ?1 and host_id = ?2 and sockets <= 0",
                [ctx.user_id.into(), self.host_id.into()],
            ),
            Statement::new(
                "update users set is_online = 0, last_online = ?2
                 where id = ?1 and is_online = 1
                     and not exists (select 1 from presence where user_id = ?1)
                 returning id",
                [ctx.user_id.into(), ctx.now.into()],
            ),
            Statement::new(
                "select cast(contact_id as integer) from contacts where user_id = ?1",
                [ctx.user_id.into()],
            ),
        ]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<(), Error> {
        if !rows[2].is_empty() {
            tell_contacts(&rows[3], &ctx.username, false, ctx.now, out);
        }
        Ok(())
    }
}

/// A host starts, or stops in good order: it has no sockets. Whoever was online through it alone no longer is;
/// `last_online` becomes the last moment at which the host is known to have lived.
pub struct HostCleared {
    pub host_id: &'static str,
    /// The host lives right now: it stops in good order.
    pub alive: bool,
}

impl Operation for HostCleared {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let seen_at = self.alive.then_some(ctx.now);
        vec![
            // A user that the first backend left online has no presence row and keeps the time the file has.
            Statement::new(
                "update users set
                     is_online = 0,
                     last_online = max(coalesce(last_online, 0), coalesce(
                         (select coalesce(?2, seen_at) from hosts where id = ?1 and exists
                             (select 1 from presence where user_id = users.id and host_id = ?1)), 0))
                 where is_online = 1
                     and not exists (select 1 from presence where user_id = users.id and host_id <> ?1)",
                [self.host_id.into(), seen_at.into()],
            ),
            Statement::new(
                "delete from presence where host_id = ?1",
                [self.host_id.into()],
            ),
            Statement::new(
                "insert into hosts (id, seen_at) values (?1, ?2)
                 on conflict do update set seen_at = excluded.seen_at",
                [self.host_id.into(), ctx.now.into()],
            ),
        ]
    }

    fn conclude(&self, _: &Context, _: &[Rows], _: &mut Outbox) -> Result<(), Error> {
        Ok(())
    }
}

/// A sign of life of a host; writes nothing while it has no sockets.
pub struct HostAlive {
    pub host_id: &'static str,
}

impl Operation for HostAlive {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "update hosts set seen_at = ?2
             where id = ?1 and exists (select 1 from presence where host_id = ?1)",
            [self.host_id.into(), ctx.now.into()],
        )]
    }

    fn conclude(&self, _: &Context, _: &[Rows], _: &mut Outbox) -> Result<(), Error> {
        Ok(())
    }
}

fn tell_contacts(
    contacts: &Rows,
    username: &str,
    is_online: bool,
    last_online: i64,
    out: &mut Outbox,
) {
    #[derive(Serialize)]
    struct Status<'a> {
        username: &'a str,
        is_online: bool,
        last_online: i64,
    }
    if contacts.is_empty() {
        return;
    }
    let status = Status {
        username,
        is_online,
        last_online,
    };
    out.push(Output::Push {
        to: Audience::Users(contacts.integers()),
        event: push("user_status", &json(&status)),
        is_droppable: false,
    });
}
