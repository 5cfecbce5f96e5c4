//! The lease of a host. The host renews it with signs of life, and commits only while it holds it.

use std::sync::Arc;

use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::sql::{Rows, Statement};

/// The `batch` of a host without a lease. No number is higher, so the host commits nothing until it
/// has taken a lease.
macro_rules! no_lease {
    () => {
        "9223372036854775807"
    };
}
pub(crate) use no_lease;

/// The first statement of every group of changes that a host commits on a shared database. It takes
/// the write lock and renews the host's lease. It fails, and the group with it, if this host has
/// already committed this group or a later one, or has no lease. The error then names
/// `hosts.batch`.
pub fn fence(host_id: &str, batch: i64) -> Statement {
    Statement::new(
        "insert into hosts (id, seen_at, batch)
         values (?1, unixepoch(), (select ?2 from hosts where id = ?1 and batch < ?2))
         on conflict (id) do update set seen_at = excluded.seen_at, batch = excluded.batch, sets = null
         returning cast(julianday('now') * 86400000 as integer)",
        [host_id.into(), batch.into()],
    )
}

/// The server's time in milliseconds, as the fence returns it. After the last statement of a group: how long
/// the server worked on it, without the way there and back.
pub fn server_time() -> Statement {
    Statement::new("select cast(julianday('now') * 86400000 as integer)", [])
}

/// Notes the id of the latest message, before and after a set that stores messages.
pub fn note_latest(host_id: &str) -> Statement {
    Statement::new(
        "update hosts set sets = json_insert(coalesce(sets, '[]'), '$[#]', coalesce((select max(id) from messages), 0))
         where id = ?1",
        [host_id.into()],
    )
}

/// Finds the ids that were noted in the last group that a host has committed.
pub fn noted_ids(host_id: &str) -> Statement {
    Statement::new(
        "select noted.value from hosts h cross join json_each(h.sets) noted where h.id = ?1 order by noted.key",
        [host_id.into()],
    )
}

/// Finds the number of the last group that a host has committed. A host without a lease has no row,
/// or a number that is higher than any group's.
pub fn committed_batch(host_id: &str) -> Statement {
    Statement::new("select batch from hosts where id = ?1", [host_id.into()])
}

/// Gives a host a lease, under which its groups of changes are numbered from the one after `batch`.
/// It does so if the host has lost its lease, or always if `is_forced`. The host's previous socket
/// counts are deleted. A request that arrives late, after the host has gone on, does nothing.
pub fn take_lease(host_id: &str, batch: i64, is_forced: bool) -> Vec<Statement> {
    let parameters = || [host_id.into(), batch.into(), i64::from(is_forced).into()];
    vec![
        Statement::new(
            concat!(
                "delete from presence where host_id = ?1 and not exists
                     (select 1 from hosts where id = ?1 and batch < ",
                no_lease!(),
                " and (?3 = 0 or batch > ?2 or lease = ?2))"
            ),
            parameters(),
        ),
        Statement::new(
            concat!(
                "insert into hosts (id, seen_at, batch, lease) values (?1, unixepoch(), ?2, ?2)
                 on conflict (id) do update set seen_at = excluded.seen_at, batch = excluded.batch,
                     lease = excluded.lease, returned = 0
                 where batch = ",
                no_lease!(),
                " or (?3 = 1 and batch <= ?2 and lease <> ?2)"
            ),
            parameters(),
        ),
    ]
}

/// Counts the hosts that serve the database or did so within the last 30 seconds.
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
        Ok(rows[0].first().map_or(0, |row| row.columns().integer()))
    }
}

/// A host starts, without sockets. Users whom the first backend left online and whom no host counts
/// go offline; they keep the `last_online` of the file.
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

/// A host's sign of life, by the database's clock, which all hosts share. It writes nothing while
/// the host has no sockets. If that clock was set back, the signs of life of before count as of now, so
/// that a lease does not last until the clock is there again.
pub struct HostAlive {
    pub host_id: Arc<str>,
    /// A host that gives no sign of life for this many seconds is believed dead.
    pub lease_seconds: i64,
}

/// The other hosts over the same database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OtherHosts {
    pub alive: usize,
    /// The ids of the hosts whose lease has run out, for
    /// [`HostGone`](crate::cluster::gone::HostGone).
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
                 where id = ?1 and exists (select 1 from presence where host_id = ?1) or seen_at > unixepoch()",
                [(&*self.host_id).into()],
            ),
            Statement::new(
                "select seen_at < unixepoch() - ?2, cast(id as blob) from hosts where id <> ?1",
                [(&*self.host_id).into(), self.lease_seconds.into()],
            ),
        ]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<OtherHosts, Error> {
        let mut others = OtherHosts::default();
        for row in &rows[1].0 {
            let mut columns = row.columns();
            match columns.flag() {
                true => others.expired.push(columns.text()),
                false => others.alive += 1,
            }
        }
        Ok(others)
    }
}

/// Tests whether the database can be written, with a sign of life.
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
            // SQLite does not write a value that is unchanged.
            "update hosts set seen_at = unixepoch() where id = ?1",
            [(&*self.host_id).into()],
        )]
    }

    fn conclude(&self, _: &Context, _: &[Rows], _: &mut Outbox) -> Result<(), Error> {
        Ok(())
    }
}
