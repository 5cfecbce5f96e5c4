//! Several sockets that have opened at once, for a database on a server.
//!
//! The elements are the username, the number of the login, the time, the session of the login if it
//! has one, and the host.

use libsql::Value;

use crate::account::login_id::login_holds;
use crate::account::open_login::{KEPT_SECONDS, SEEN_SECONDS};
use crate::conversation::members_rev;
use crate::presence::status::{contacts_by_user, contacts_of_selected};
use crate::set::{Element, Set, list, rows_by_key};
use crate::sql::{Row, Rows, Statement};

pub(super) static CONNECTS: Set = Set {
    statements,
    // Each finds for itself whether it was counted.
    repeated: None,
    rows,
};

/// The most conversations that are read in the transaction that stores the socket, so that everyone
/// else's writes do not wait for a user who is in many.
pub const ARRIVAL_CONVERSATIONS_MAX: usize = 200;

/// The place of the host, which is the same for all.
const HOST: usize = 4;

/// Each element with its user.
macro_rules! users {
    () => {
        "json_each(?1) e cross join users on users.username = e.value ->> 0"
    };
}

macro_rules! holds {
    () => {
        login_holds!("(e.value ->> 1)")
    };
}

fn statements(elements: &[&Element]) -> Vec<Statement> {
    let logins = list(elements, HOST);
    let host_id = elements.first().and_then(|element| element.str(HOST));
    vec![
        Statement::new(
            concat!(
                "select e.key, users.id, ", holds!(), ",
                     (select cast(json_group_array(json_array(conversation_id, members_rev)) as blob) from (
                         select conversation_id, ", members_rev!("members.conversation_id"), " as members_rev
                         from members where user_id = users.id limit +?2))
                 from ", users!()
            ),
            // One more than may be read shows whether there are more.
            [logins.clone(), (ARRIVAL_CONVERSATIONS_MAX as i64 + 1).into()],
        ),
        // Of those who come online, before they do.
        Statement::new(
            contacts_of_selected!(concat!(
                "select users.id from ", users!(), " where users.is_online = 0 and ", holds!()
            )),
            [logins.clone()],
        ),
        Statement::new(
            concat!(
                "insert into presence (user_id, host_id, sockets)
                 select users.id, ?2, count(*) from ", users!(), " where ", holds!(), " group by users.id
                 on conflict do update set sockets = sockets + excluded.sockets"
            ),
            [logins.clone(), host_id.into()],
        ),
        Statement::new(
            concat!(
                "update users set is_online = 1, last_online = arriving.now
                 from (select users.id, min(e.value ->> 2) as now
                     from ", users!(), " where users.is_online = 0 and ", holds!(), " group by users.id) as arriving
                 where users.id = arriving.id"
            ),
            [logins.clone()],
        ),
        Statement::new(
            concat!(
                "update sessions set last_seen = seen.now, ends_at = max(ends_at, seen.now + ?3)
                 from (select s.id, min(e.value ->> 2) as now
                     from ", users!(), " cross join sessions s on s.id = e.value ->> 3
                     where s.user_id = users.id and s.last_seen <= (e.value ->> 2) - ?2 group by s.id) as seen
                 where sessions.id = seen.id"
            ),
            [logins, SEEN_SECONDS.into(), KEPT_SECONDS.into()],
        ),
    ]
}

fn rows(elements: &[&Element], rows: &[Rows]) -> Vec<Vec<Rows>> {
    let mut users = rows_by_key(&rows[0]);
    let mut contacts = contacts_by_user(&rows[1]);
    let row = |values: Vec<i64>| Row(values.into_iter().map(Value::from).collect());
    let of_element = |key: usize| {
        let Some(user) = users.remove(&(key as i64)) else {
            return vec![Rows::default(); 5];
        };
        let mut columns = user.columns();
        let (user_id, holds) = (columns.integer(), columns.flag());
        let conversations: Vec<Vec<i64>> = serde_json::from_str(&columns.str()).unwrap_or_default();
        // The first of a user's sockets is told to the contacts.
        let contacts = match holds {
            true => contacts.remove(&user_id).unwrap_or_default(),
            false => Vec::new(),
        };
        vec![
            Rows(vec![row(vec![user_id, holds.into()])]),
            Rows::default(),
            Rows::default(),
            Rows(contacts.into_iter().map(|id| row(vec![id])).collect()),
            Rows(conversations.into_iter().map(row).collect()),
        ]
    };
    (0..elements.len()).map(of_element).collect()
}
