//! Logins that are in use: whether they still hold, and when they were seen last.

use std::collections::HashMap;
use std::sync::Arc;

use crate::account::login_id::{LoginId, SessionId, login_holds};
use crate::account::token::Claim;
use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::reply::json;
use crate::sql::{Row, Rows, Statement};

/// A session's `last_seen` is stored at most once in this time.
pub const SEEN_SECONDS: i64 = 3600;
/// The row of a session stays for this time after the session was seen last, also if its token has
/// expired: it may have an open socket. Hosts see those once in `SEEN_SECONDS` and a minute; the rest
/// is for a host that is late.
pub(crate) const KEPT_SECONDS: i64 = 3 * 3600;
/// The most logins, or sessions, that one operation handles, so that it does not hold up others.
pub const LOGINS_AT_ONCE: usize = 100;

/// SQL: the time `$now` (a parameter) of the host, or that of the database if it is earlier. With it, a
/// host whose clock is ahead does not end what users of other hosts have.
macro_rules! earlier_now {
    ($now:literal) => {
        concat!("min(", $now, ", unixepoch())")
    };
}
pub(crate) use earlier_now;

/// Finds the user of a token.
pub struct FindLogin {
    pub claim: Claim,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLogin {
    pub user_id: i64,
    /// It is time for [`SeeSessions`].
    pub is_seen_late: bool,
}

impl Operation for FindLogin {
    type Output = FoundLogin;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        let sql = match self.claim.login.session() {
            Some(_) => {
                "select users.id, sessions.last_seen
                 from users join sessions on sessions.id = ?2 and sessions.user_id = users.id
                 where users.username = ?1 and users.banned_at is null"
            }
            None => {
                "select id from users
                 where username = ?1 and coalesce(tokens_from < -?2, 1) and banned_at is null"
            }
        };
        vec![Statement::new(
            sql,
            [
                self.claim.username.as_str().into(),
                self.claim.login.number().into(),
            ],
        )]
    }

    /// Fails with `Unauthorized` if the login has ended, or the user does not exist or is banned.
    fn conclude(&self, ctx: &Context, rows: &[Rows], _: &mut Outbox) -> Result<FoundLogin, Error> {
        let row = rows[0].first().ok_or_else(no_login)?;
        let mut columns = row.columns();
        Ok(FoundLogin {
            user_id: columns.integer(),
            is_seen_late: columns
                .optional_integer()
                .is_some_and(|last_seen| last_seen <= ctx.now - SEEN_SECONDS),
        })
    }
}

pub(crate) fn no_login() -> Error {
    Error::Unauthorized("invalid login-token".into())
}

/// Notes that these sessions are in use, if that was not noted lately.
pub struct SeeSessions {
    pub ids: Vec<SessionId>,
}

impl Operation for SeeSessions {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let ids: Vec<_> = self.ids.iter().map(|id| id.number()).collect();
        vec![Statement::new(
            "update sessions set last_seen = ?2, ends_at = max(ends_at, ?2 + ?4)
             where id in (select value from json_each(?1)) and last_seen <= ?2 - ?3",
            [
                json(&ids).into(),
                ctx.now.into(),
                SEEN_SECONDS.into(),
                KEPT_SECONDS.into(),
            ],
        )]
    }

    fn conclude(&self, _: &Context, _: &[Rows], _: &mut Outbox) -> Result<(), Error> {
        Ok(())
    }
}

/// The same for the session of one user's new socket, as a part of the operation that stores the
/// socket.
pub(crate) fn see_session(username: &str, id: SessionId, now: i64) -> Statement {
    Statement::new(
        "update sessions set last_seen = ?3, ends_at = max(ends_at, ?3 + ?5)
         where id = ?2 and last_seen <= ?3 - ?4
             and user_id = (select id from users where username = ?1)",
        [
            username.into(),
            id.number().into(),
            now.into(),
            SEEN_SECONDS.into(),
            KEPT_SECONDS.into(),
        ],
    )
}

/// A login with an open socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OpenLogin {
    pub user_id: i64,
    pub username: Arc<str>,
    pub login: LoginId,
}

/// Finds those of these logins that have ended, or whose account no longer exists or is banned.
pub struct CheckLogins {
    pub logins: Vec<OpenLogin>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckedLogins {
    pub ended: Vec<OpenLogin>,
    /// Sessions for [`SeeSessions`].
    pub seen_late: Vec<SessionId>,
}

impl Operation for CheckLogins {
    type Output = CheckedLogins;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        let logins = self.logins.iter();
        let logins: Vec<_> = logins.map(|of| (of.user_id, of.login.number())).collect();
        // The number of the login in the list, if it holds.
        vec![Statement::new(
            concat!(
                "select l.place, cast(users.username as blob),
                     (select last_seen from sessions where sessions.id = l.login)
                 from (select key as place, value ->> 0 as user_id, value ->> 1 as login from json_each(?1)) l
                     join users on users.id = l.user_id
                 where ",
                login_holds!("l.login")
            ),
            [json(&logins).into()],
        )]
    }

    fn conclude(
        &self,
        ctx: &Context,
        rows: &[Rows],
        _: &mut Outbox,
    ) -> Result<CheckedLogins, Error> {
        let held = |row: &Row| {
            let mut columns = row.columns();
            let place = columns.integer();
            (place as usize, (columns.text(), columns.optional_integer()))
        };
        let held: HashMap<usize, _> = rows[0].0.iter().map(held).collect();
        let mut checked = CheckedLogins::default();
        for (place, of) in self.logins.iter().enumerate() {
            match held.get(&place) {
                // The id may have been given to another user since.
                Some((username, last_seen)) if **username == *of.username => {
                    if last_seen.is_some_and(|seen| seen <= ctx.now - SEEN_SECONDS) {
                        checked.seen_late.extend(of.login.session());
                    }
                }
                _ => checked.ended.push(of.clone()),
            }
        }
        Ok(checked)
    }
}

/// Finds sessions whose rows may be deleted: at most `LOGINS_AT_ONCE`.
pub struct FindExpired;

impl Operation for FindExpired {
    type Output = Vec<i64>;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        vec![Statement::new(
            concat!(
                "select number from sessions where ends_at <= ",
                earlier_now!("?1"),
                " order by ends_at limit +?2"
            ),
            [ctx.now.into(), (LOGINS_AT_ONCE as i64).into()],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Vec<i64>, Error> {
        Ok(rows[0].integers())
    }
}

/// Deletes the rows of sessions that have no valid token and no open socket.
pub struct SweepSessions {
    /// From [`FindExpired`].
    pub numbers: Vec<i64>,
}

impl Operation for SweepSessions {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        vec![Statement::new(
            concat!(
                "delete from sessions where number in (select value from json_each(?1)) and ends_at <= ",
                earlier_now!("?2")
            ),
            [json(&self.numbers).into(), ctx.now.into()],
        )]
    }

    fn conclude(&self, _: &Context, _: &[Rows], _: &mut Outbox) -> Result<(), Error> {
        Ok(())
    }
}
