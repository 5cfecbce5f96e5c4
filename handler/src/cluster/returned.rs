//! A host that was believed dead but is alive.

use std::sync::Arc;

use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::presence::{contacts_by_user, contacts_of, tell_contacts};
use crate::reply::json;
use crate::sql::{Rows, Statement};

/// A host that was believed dead but is alive reports again who is online through it. It does
/// nothing if the host has already reported this part, or has lost this lease as well.
pub struct HostReturned {
    pub host_id: Arc<str>,
    /// The lease under which the host reports.
    pub lease: i64,
    /// The number of this report under the lease, from 1.
    pub part: i64,
    /// Users and the number of their open sockets; at most `USERS_AT_ONCE` users.
    pub users: Vec<(i64, u32)>,
}

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
            // Sockets may have opened and closed since then; what they have already counted is
            // kept.
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
            let mut columns = row.columns();
            let contacts = contacts.remove(&columns.integer()).unwrap_or_default();
            tell_contacts(contacts, &columns.text(), true, ctx.now, out);
        }
        Ok(())
    }
}
