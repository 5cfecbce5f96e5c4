//! A socket has closed.

use std::sync::Arc;

use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::presence::disconnects::DISCONNECTS;
use crate::presence::status::{contacts_to_tell, tell_contacts};
use crate::set::Element;
use crate::sql::{Rows, Statement};

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

    fn element(&self, ctx: &Context) -> Option<Element> {
        if ctx.is_repeat {
            return None;
        }
        let values = vec![ctx.user_id.into(), ctx.now.into(), (&*self.host_id).into()];
        Element::new(&DISCONNECTS, None::<()>, values)
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<(), Error> {
        // Only the last statement returns rows.
        let contacts = rows.last().map_or_else(Vec::new, Rows::integers);
        tell_contacts(contacts, &ctx.username, false, ctx.now, out);
        Ok(())
    }
}
