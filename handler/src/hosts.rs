//! The hosts over a database: their leases, their groups of changes, and what becomes of their users.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::Error;
use crate::event::json;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::presence::tell_contacts;
use crate::statement::{Row, Rows, Statement};

/// The first statement of every group of changes that a host commits on a shared database. It takes the write lock, renews
/// the host's lease, and fails, the group with it, where this group or a later one of this host was committed already, or
/// the host has no lease: the error names `hosts.batch`.
pub fn fence(host_id: &str, batch: i64) -> Statement {
    Statement::new(
        "insert into hosts (id, seen_at, batch)
         values (?1, unixepoch(), (select ?2 from hosts where id = ?1 and batch < ?2))
         on conflict (id) do update set seen_at = excluded.seen_at, batch = excluded.batch",
        [host_id.into(), batch.into()],
    )
}

/// Finds the number of the last group that a host has committed. A host without a lease has no row, or a number that is
/// higher than any.
pub fn committed_batch(host_id: &str) -> Statement {
    Statement::new("select batch from hosts where id = ?1", [host_id.into()])
}

/// Gives a host a lease, and groups of changes from the one after `batch` on, where it has lost its lease, or in any case
/// (`is_forced`). What the host has counted before is forgotten. A request that arrives late, when the host has gone on,
/// does nothing.
pub fn take_lease(host_id: &str, batch: i64, is_forced: bool) -> Vec<Statement> {
    let parameters = || [host_id.into(), batch.into(), i64::from(is_forced).into()];
    vec![
        Statement::new(
            "delete from presence where host_id = ?1 and not exists
                 (select 1 from hosts where id = ?1 and batch < 9223372036854775807
                     and (?3 = 0 or batch > ?2 or lease = ?2))",
            parameters(),
        ),
        Statement::new(
            "insert into hosts (id, seen_at, batch, lease) values (?1, unixepoch(), ?2, ?2)
             on conflict (id) do update set seen_at = excluded.seen_at, batch = excluded.batch,
                 lease = excluded.lease, returned = 0
             where batch = 9223372036854775807 or (?3 = 1 and batch <= ?2 and lease <> ?2)",
            parameters(),
        ),
    ]
}

/// The number of hosts that serve the database, or did so a moment ago.
pub struct CountHosts;

impl Operation for CountHosts {
    type Output = i64;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "select count(*) from hosts where seen_at >= unixepoch() - 30",
            [],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<i64, Error> {
        Ok(rows[0].first().map_or(0, |row| row.integer(0)))
    }
}

/// Gives the database another name under which its hosts find each other, which is also its epoch (see `sync`).
pub const NEW_EPOCH: &str = "update community set id = lower(hex(randomblob(8)))";

/// The name under which the hosts over a database find each other.
pub struct FindCommunity;

impl Operation for FindCommunity {
    type Output = String;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new("select cast(id as blob) from community", [])]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<String, Error> {
        let row = rows[0].first();
        let missing = || Error::Internal("the table community is empty".into());
        row.map(|row| row.text(0)).ok_or_else(missing)
    }
}

/// A host begins, with no sockets. Users whom the first backend left online, and whom no host has, are offline: they keep
/// the time the file has.
pub struct HostStarted {
    pub host_id: Arc<str>,
}

impl Operation for HostStarted {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![
            Statement::new(
                "update users set is_online = 0
                 where is_online = 1 and not exists (select 1 from presence where user_id = users.id)",
                [],
            ),
            Statement::new(
                "insert into hosts (id, seen_at) values (?1, unixepoch())
                 on conflict do update set seen_at = excluded.seen_at",
                [(&*self.host_id).into()],
            ),
        ]
    }

    fn conclude(&self, _: &Context, _: &[Rows], _: &mut Outbox) -> Result<(), Error> {
        Ok(())
    }
}

/// A sign of life of a host, by the database's clock, which all hosts share. Writes nothing while the host has no sockets.
pub struct HostAlive {
    pub host_id: Arc<str>,
    /// After so long without a sign of life a host is believed dead.
    pub lease_seconds: i64,
}

/// The other hosts over the same database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherHosts {
    pub alive: usize,
    /// The ids of those whose lease has run out, for [`HostGone`].
    pub expired: Vec<String>,
}

impl Operation for HostAlive {
    type Output = OtherHosts;

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![
            Statement::new(
                "update hosts set seen_at = unixepoch()
                 where id = ?1 and exists (select 1 from presence where host_id = ?1)",
                [(&*self.host_id).into()],
            ),
            Statement::new(
                "select cast(id as blob), seen_at < unixepoch() - ?2 from hosts where id <> ?1",
                [(&*self.host_id).into(), self.lease_seconds.into()],
            ),
        ]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<OtherHosts, Error> {
        let (expired, alive): (Vec<_>, Vec<_>) = rows[1].0.iter().partition(|row| row.flag(1));
        Ok(OtherHosts {
            alive: alive.len(),
            expired: expired.into_iter().map(|row| row.text(0)).collect(),
        })
    }
}

/// A sign of life for its own sake: whether the database can be written.
pub struct TryWrite {
    pub host_id: Arc<str>,
}

impl Operation for TryWrite {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            // SQLite does not write what is there already.
            "update hosts set seen_at = unixepoch() where id = ?1",
            [(&*self.host_id).into()],
        )]
    }

    fn conclude(&self, _: &Context, _: &[Rows], _: &mut Outbox) -> Result<(), Error> {
        Ok(())
    }
}

/// Users who are online through a host that is gone: as many as one [`HostGone`] takes, and none where it lives.
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
             limit 100",
            [(&*self.host_id).into(), self.why.lease_seconds().into()],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Vec<i64>, Error> {
        Ok(rows[0].integers())
    }
}

/// A host has no sockets any more. Those of these users who were online through it alone go offline, and contacts are told,
/// once, whichever host finds out first. Without users left, the host is forgotten.
pub struct HostGone {
    pub host_id: Arc<str>,
    pub why: Gone,
    /// From [`FindHostUsers`].
    pub user_ids: Vec<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// It stops in good order, now.
    Stopped,
    /// It is found to have died: nothing is done where it has given a sign of life within these seconds. The users'
    /// `last_online` is its last one.
    Expired { lease_seconds: i64 },
    /// As `Expired`, whatever its lease is: it is this host, which starts again.
    Restarted,
}

impl Gone {
    /// Where the lease has to have run out.
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
        /// The users who are still counted for the host `?1`, where that is gone.
        macro_rules! users_of_host {
            () => {
                "(select p.user_id from json_each(?3) given join presence p on p.user_id = given.value and p.host_id = ?1
                  where ?2 is null or exists (select 1 from hosts where id = ?1 and seen_at < unixepoch() - ?2))"
            };
        }
        let mut statements = vec![
            // One believed dead commits nothing from here on, should it still live, until it has taken a new lease.
            Statement::new(
                "update hosts set batch = 9223372036854775807 where id = ?1 and seen_at < unixepoch() - ?2",
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
            let contacts = contacts.remove(&row.integer(0)).unwrap_or_default();
            tell_contacts(contacts, &row.text(1), false, row.integer(2), out);
        }
        Ok(())
    }
}

/// A host that was believed dead, and was not, says again who is online through it. Does nothing where it has said so, or
/// has lost this lease as well.
pub struct HostReturned {
    pub host_id: Arc<str>,
    /// Under which this is said.
    pub lease: i64,
    /// Counts what is said under one lease, from 1.
    pub part: i64,
    /// Users and their open sockets; at most `USERS_RETURNED_MAX`.
    pub users: Vec<(i64, u32)>,
}

/// Users in one [`HostReturned`].
pub const USERS_RETURNED_MAX: usize = 100;

impl Operation for HostReturned {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let users = json(&self.users);
        let ids = json(&self.users.iter().map(|(id, _)| id).collect::<Vec<_>>());
        let host_id = || (&*self.host_id).into();
        let mut statements = vec![
            contacts_of(&ids),
            // Sockets may have opened and closed since: what they have counted already stands.
            Statement::new(
                "insert into presence (user_id, host_id, sockets)
                 select value ->> 0, ?2, value ->> 1 from json_each(?1)
                 where exists (select 1 from hosts where id = ?2 and lease = ?3 and returned < ?4)
                 on conflict do update set sockets = sockets + excluded.sockets",
                [users.into(), host_id(), self.lease.into(), self.part.into()],
            ),
            Statement::new(
                "update hosts set returned = ?3 where id = ?1 and lease = ?2 and returned < ?3",
                [host_id(), self.lease.into(), self.part.into()],
            ),
            Statement::new(
                "delete from presence where host_id = ?1 and sockets = 0",
                [host_id()],
            ),
            Statement::new(
                "update users set is_online = 1, last_online = ?2
                 where is_online = 0 and id in (select value from json_each(?1))
                     and exists (select 1 from presence where user_id = users.id and sockets > 0)
                 returning id, cast(username as blob)",
                [ids.as_str().into(), ctx.now.into()],
            ),
        ];
        if ctx.is_repeat {
            statements.truncate(1);
            statements.push(Statement::new(
                "select id, cast(username as blob) from users
                 where is_online = 1 and id in (select value from json_each(?1))",
                [ids.into()],
            ));
        }
        statements
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<(), Error> {
        let mut contacts = contacts_by_user(&rows[0]);
        for row in rows.last().map_or(&[][..], |online| &online.0) {
            let contacts = contacts.remove(&row.integer(0)).unwrap_or_default();
            tell_contacts(contacts, &row.text(1), true, ctx.now, out);
        }
        Ok(())
    }
}

/// Users who are said to be online, and whom no host has: as many as one [`SweepOffline`] takes.
pub struct FindUncounted;

impl Operation for FindUncounted {
    type Output = Vec<i64>;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "select id from users where is_online = 1
                 and not exists (select 1 from presence where user_id = users.id and sockets > 0) limit 100",
            [],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Vec<i64>, Error> {
        Ok(rows[0].integers())
    }
}

/// Those of these users whom no host has, because what a host had counted was lost, go offline.
pub struct SweepOffline {
    /// From [`FindUncounted`].
    pub user_ids: Vec<i64>,
}

impl Operation for SweepOffline {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let users = json(&self.user_ids);
        let sweep = match ctx.is_repeat {
            false => Statement::new(
                "update users set is_online = 0, last_online = ?2
                 where is_online = 1 and id in (select value from json_each(?1))
                     and not exists (select 1 from presence where user_id = users.id and sockets > 0)
                 returning id, cast(username as blob)",
                [users.as_str().into(), ctx.now.into()],
            ),
            true => Statement::new(
                "select id, cast(username as blob) from users
                 where is_online = 0 and id in (select value from json_each(?1))",
                [users.as_str().into()],
            ),
        };
        vec![contacts_of(&users), sweep]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<(), Error> {
        let mut contacts = contacts_by_user(&rows[0]);
        for row in &rows[1].0 {
            let contacts = contacts.remove(&row.integer(0)).unwrap_or_default();
            tell_contacts(contacts, &row.text(1), false, ctx.now, out);
        }
        Ok(())
    }
}

/// The contacts of these users (their ids as JSON), for [`contacts_by_user`].
fn contacts_of(user_ids: &str) -> Statement {
    Statement::new(
        "select user_id, cast(json_group_array(contact_id) as blob) from contacts
         where user_id in (select value from json_each(?1)) group by user_id",
        [user_ids.into()],
    )
}

/// From rows of a user and the list of contacts as JSON.
fn contacts_by_user(rows: &Rows) -> HashMap<i64, Vec<i64>> {
    let rows = rows.0.iter();
    let contacts = |row: &Row| serde_json::from_str(&row.text(1)).unwrap_or_default();
    rows.map(|row| (row.integer(0), contacts(row))).collect()
}
