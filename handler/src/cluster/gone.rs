//! Setting the users of a host offline when the host is gone.

use std::sync::Arc;

use crate::cluster::USERS_AT_ONCE;
use crate::cluster::lease::no_lease;
use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::presence::{contacts_by_user, contacts_of, tell_contacts};
use crate::reply::json;
use crate::sql::{Rows, Statement};

/// Finds users who are online through a host that is gone: at most as many as one [`HostGone`]
/// takes, and none if the host is alive.
pub struct FindHostUsers {
    pub host_id: Arc<str>,
    pub why: Gone,
}

impl Operation for FindHostUsers {
    type Output = Vec<i64>;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "select user_id from presence where host_id = ?1
                 and (?2 is null or exists (select 1 from hosts where id = ?1 and seen_at < unixepoch() - ?2))
             limit +?3",
            [
                (&*self.host_id).into(),
                self.why.lease_seconds().into(),
                (USERS_AT_ONCE as i64).into(),
            ],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Vec<i64>, Error> {
        Ok(rows[0].integers())
    }
}

/// A host no longer has sockets. Those of these users who were online only through it go offline,
/// and their contacts are told once, whichever host notices first. When no users are left, the host
/// is forgotten.
pub struct HostGone {
    pub host_id: Arc<str>,
    pub why: Gone,
    /// From [`FindHostUsers`].
    pub user_ids: Vec<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// The host is shutting down normally, now.
    Stopped,
    /// The host is believed dead. Nothing is done if it has given a sign of life within this many
    /// seconds. Its last sign of life becomes the users' `last_online`.
    Expired { lease_seconds: i64 },
    /// Like `Expired`, but regardless of the lease: the host is this one, starting again.
    Restarted,
}

impl Gone {
    /// The number of seconds, if the lease must have run out.
    fn lease_seconds(self) -> Option<i64> {
        match self {
            Gone::Expired { lease_seconds } => Some(lease_seconds),
            Gone::Stopped | Gone::Restarted => None,
        }
    }
}

impl Operation for HostGone {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let stopped_at = (self.why == Gone::Stopped).then_some(ctx.now);
        let lease_seconds = self.why.lease_seconds();
        let host_id = || (&*self.host_id).into();
        let users = json(&self.user_ids);
        /// The users who are still counted for the host `?1`, if that host is gone.
        macro_rules! users_of_host {
            () => {
                "(select p.user_id from json_each(?3) given join presence p on p.user_id = given.value and p.host_id = ?1
                  where ?2 is null or exists (select 1 from hosts where id = ?1 and seen_at < unixepoch() - ?2))"
            };
        }
        let mut statements = vec![
            // If a host that is believed dead is still alive, it commits nothing from now on until
            // it has taken a new lease.
            Statement::new(
                concat!(
                    "update hosts set batch = ",
                    no_lease!(),
                    " where id = ?1 and seen_at < unixepoch() - ?2"
                ),
                [host_id(), lease_seconds.into()],
            ),
            contacts_of(&users),
            Statement::new(
                concat!(
                    "update users set
                         is_online = 0,
                         last_online = max(coalesce(last_online, 0),
                             coalesce(?4, (select seen_at from hosts where id = ?1), 0))
                     where is_online = 1
                         and not exists (select 1 from presence
                             where user_id = users.id and host_id <> ?1 and sockets > 0)
                         and id in ",
                    users_of_host!(),
                    " returning id, cast(username as blob), last_online"
                ),
                [
                    host_id(),
                    lease_seconds.into(),
                    users.as_str().into(),
                    stopped_at.into(),
                ],
            ),
            Statement::new(
                concat!(
                    "delete from presence where host_id = ?1 and user_id in ",
                    users_of_host!()
                ),
                [host_id(), lease_seconds.into(), users.as_str().into()],
            ),
            Statement::new(
                "delete from hosts where id = ?1 and (?2 is null or seen_at < unixepoch() - ?2)
                     and not exists (select 1 from presence where host_id = ?1)",
                [host_id(), lease_seconds.into()],
            ),
        ];
        if ctx.is_repeat {
            statements.truncate(2);
            statements.push(Statement::new(
                "select id, cast(username as blob), last_online from users
                 where is_online = 0 and id in (select value from json_each(?1))",
                [users.into()],
            ));
        }
        statements
    }

    fn conclude(&self, _: &Context, rows: &[Rows], out: &mut Outbox) -> Result<(), Error> {
        let mut contacts = contacts_by_user(&rows[1]);
        for row in &rows[2].0 {
            let mut columns = row.columns();
            let contacts = contacts.remove(&columns.integer()).unwrap_or_default();
            let username = columns.text();
            tell_contacts(contacts, &username, false, columns.integer(), out);
        }
        Ok(())
    }
}
