//! A socket has opened.

use std::sync::Arc;

use crate::account::login_id::{LoginId, login_holds};
use crate::account::open_login::{no_login, see_session};
use crate::conversation::members_rev;
use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::presence::connects::{ARRIVAL_CONVERSATIONS_MAX, CONNECTS};
use crate::presence::status::{contacts_to_tell, tell_contacts};
use crate::set::Element;
use crate::sql::{Row, Rows, Statement};

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

    fn element(&self, ctx: &Context) -> Option<Element> {
        if ctx.is_repeat {
            return None;
        }
        let session = self.login.session().map(|session| session.number());
        let values = vec![
            self.username.as_str().into(),
            self.login.number().into(),
            ctx.now.into(),
            session.into(),
            (&*self.host_id).into(),
        ];
        Element::new(&CONNECTS, None::<()>, values)
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

    /// The login has ended since, or had ended before the socket could be counted.
    fn is_count_unknown(&self, ctx: &Context, rows: &[Rows]) -> bool {
        let holds = |user: &Row| {
            let mut columns = user.columns();
            let _user_id = columns.integer();
            columns.flag()
        };
        let user = rows.first().and_then(Rows::first);
        ctx.is_repeat && !user.is_some_and(holds)
    }
}
