//! Several sockets that have closed at once, for a database on a server.
//!
//! The elements are the user's id, the time, and the host.

use std::collections::HashMap;

use libsql::Value;

use crate::presence::status::{contacts_by_user, contacts_of_selected};
use crate::set::{Element, Set, list};
use crate::sql::{Row, Rows, Statement};

pub(super) static DISCONNECTS: Set = Set {
    statements,
    // Each finds for itself whether its user is offline.
    repeated: None,
    rows,
};

/// The place of the host, which is the same for all.
const HOST: usize = 2;

/// Whether a user counts as online and has no open socket any more.
macro_rules! is_gone {
    () => {
        "users.is_online = 1 and not exists (select 1 from presence where user_id = users.id and sockets > 0)"
    };
}

fn statements(elements: &[&Element]) -> Vec<Statement> {
    let closed = list(elements, HOST);
    let host_id = elements.first().and_then(|element| element.str(HOST));
    let of_host = || [closed.clone(), host_id.into()];
    vec![
        Statement::new(
            "insert into presence (user_id, host_id, sockets)
             select e.value ->> 0, ?2, -count(*) from json_each(?1) e where true group by 1
             on conflict do update set sockets = sockets + excluded.sockets",
            of_host(),
        ),
        Statement::new(
            "delete from presence where user_id in (select value ->> 0 from json_each(?1))
                 and host_id = ?2 and sockets = 0",
            of_host(),
        ),
        // Of those who go offline, before they do.
        Statement::new(
            contacts_of_selected!(concat!(
                "select users.id from json_each(?1) e cross join users on users.id = e.value ->> 0 where ",
                is_gone!()
            )),
            [closed.clone()],
        ),
        Statement::new(
            concat!(
                "update users set is_online = 0, last_online = closed.now
                 from (select value ->> 0 as id, max(value ->> 1) as now from json_each(?1) group by 1) as closed
                 where users.id = closed.id and ",
                is_gone!()
            ),
            [closed.clone()],
        ),
    ]
}

fn rows(elements: &[&Element], rows: &[Rows]) -> Vec<Vec<Rows>> {
    let mut contacts = contacts_by_user(&rows[2]);
    // The last of a user's sockets is told to the contacts.
    let users = elements.iter().map(|element| element.integer(0));
    let last: HashMap<_, _> = users.enumerate().map(|(key, user)| (user, key)).collect();
    let row = |id: i64| Row(vec![Value::from(id)]);
    let of_element = |(key, element): (usize, &&Element)| {
        let user = element.integer(0);
        let told = match last[&user] == key {
            true => user.and_then(|id| contacts.remove(&id)),
            false => None,
        };
        let told = told.unwrap_or_default();
        vec![Rows(told.into_iter().map(row).collect())]
    };
    elements.iter().enumerate().map(of_element).collect()
}
