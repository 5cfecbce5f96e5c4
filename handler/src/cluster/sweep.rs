//! Users whose row says online, but whom no host counts.

use crate::cluster::USERS_AT_ONCE;
use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::presence::{contacts_by_user, contacts_of, tell_contacts};
use crate::reply::json;
use crate::sql::{Rows, Statement};

/// Finds users whose row says online, but whom no host counts: at most as many as one
/// [`SweepOffline`] takes.
pub struct FindUncounted;

impl Operation for FindUncounted {
    type Output = Vec<i64>;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "select id from users where is_online = 1
                 and not exists (select 1 from presence where user_id = users.id and sockets > 0) limit +?1",
            [(USERS_AT_ONCE as i64).into()],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Vec<i64>, Error> {
        Ok(rows[0].integers())
    }
}

/// Sets those of these users offline whom no host counts, because a host's counts were lost.
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
            let mut columns = row.columns();
            let contacts = contacts.remove(&columns.integer()).unwrap_or_default();
            tell_contacts(contacts, &columns.text(), false, ctx.now, out);
        }
        Ok(())
    }
}
