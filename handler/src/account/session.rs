//! Sessions: a row for each login that has not ended.

use serde::Serialize;

use crate::account::login_id::{EndedLogins, LoginId, SessionId};
use crate::account::open_login::{earlier_now, no_login};
use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::{Outbox, Output};
use crate::sql::{Row, Rows, Statement};

/// The most sessions of a user. If there are more, those end first whose tokens have expired, then
/// those that were used longest ago.
pub const SESSIONS_MAX: i64 = 100;
/// The most bytes that are kept of what a client says of itself.
pub const USER_AGENT_BYTES_MAX: usize = 256;

/// A user has logged in: starts a session. Fails with `Unauthorized` if the password has been
/// changed since it was checked.
pub struct StartSession {
    /// Of random bytes.
    pub id: SessionId,
    pub user_id: i64,
    /// The one that the password was checked with.
    pub password_hash: String,
    /// How long each token of the session is valid.
    pub lifetime_seconds: i64,
    /// At most `USER_AGENT_BYTES_MAX` bytes of it are kept.
    pub user_agent: String,
}

impl Operation for StartSession {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let end = self.user_agent.floor_char_boundary(USER_AGENT_BYTES_MAX);
        let user_agent = &self.user_agent[..end];
        let (id, user_id) = (self.id.number(), self.user_id);
        vec![
            Statement::new(
                "insert into sessions (id, user_id, lifetime, created_at, last_seen, ends_at, user_agent)
                 select ?1, id, ?4, ?5, ?5, ?5 + ?4, ?6 from users where id = ?2 and password = ?3
                 on conflict do nothing",
                [
                    id.into(),
                    user_id.into(),
                    self.password_hash.as_str().into(),
                    self.lifetime_seconds.into(),
                    ctx.now.into(),
                    user_agent.into(),
                ],
            ),
            // If the answer is lost, the sockets of these are closed within a minute instead of now.
            Statement::new(
                concat!(
                    "delete from sessions
                     where number in (select number from sessions where user_id = ?2 and id <> ?1
                             order by ends_at > ", earlier_now!("?3"), " desc, last_seen desc, number desc limit -1 offset +?4)
                         and exists (select 1 from sessions where id = ?1 and user_id = ?2)
                     returning id"
                ),
                [
                    id.into(),
                    user_id.into(),
                    ctx.now.into(),
                    (SESSIONS_MAX - 1).into(),
                ],
            ),
            Statement::new(
                "select 1 from sessions where id = ?1 and user_id = ?2",
                [id.into(), user_id.into()],
            ),
        ]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], out: &mut Outbox) -> Result<(), Error> {
        if rows[2].is_empty() {
            let text = "mismatch username and password";
            return Err(Error::Unauthorized(text.into()));
        }
        tell_ended(self.user_id, session_ids(&rows[1]), None, out);
        Ok(())
    }
}

/// Gives a session a new token. Returns how many seconds it lasts: as many as the one before.
/// Fails with `Unauthorized` if the session has ended.
pub struct RefreshSession {
    pub id: SessionId,
}

impl Operation for RefreshSession {
    type Output = i64;

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "update sessions set last_seen = ?3, ends_at = max(ends_at, ?3 + lifetime)
             where id = ?1 and user_id = ?2 returning lifetime",
            [self.id.number().into(), ctx.user_id.into(), ctx.now.into()],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<i64, Error> {
        let row = rows[0].first().ok_or_else(no_login)?;
        Ok(row.columns().integer())
    }
}

/// Ends one of the caller's sessions. Fails with `NotFound` if there is none with this id.
pub struct EndSession {
    pub id: SessionId,
}

impl Operation for EndSession {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "delete from sessions where id = ?1 and user_id = ?2 returning number",
            [self.id.number().into(), ctx.user_id.into()],
        )]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<(), Error> {
        // A repeat finds nothing any more.
        if rows[0].is_empty() && !ctx.is_repeat {
            return Err(Error::NotFound("no such session".into()));
        }
        tell_ended(ctx.user_id, vec![self.id], None, out);
        Ok(())
    }
}

/// One of the caller's sessions, as the caller sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Session {
    pub id: String,
    /// Unix seconds.
    pub created_at: i64,
    /// When it was last used, in Unix seconds, exact to the hour.
    pub last_seen: i64,
    /// What the client said of itself when it logged in.
    pub user_agent: String,
    /// Whether the request came from it.
    pub current: bool,
}

/// Lists the caller's sessions, the one that was used last first.
pub struct ListSessions {
    /// The login that asks.
    pub current: LoginId,
}

impl Operation for ListSessions {
    type Output = Vec<Session>;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        vec![Statement::new(
            concat!(
                "select id, created_at, last_seen, cast(user_agent as blob) from sessions
                 where user_id = ?1 and ends_at > ",
                earlier_now!("?2"),
                " order by last_seen desc, number desc"
            ),
            [ctx.user_id.into(), ctx.now.into()],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Vec<Session>, Error> {
        let session = |row: &Row| {
            let mut columns = row.columns();
            let id = SessionId::from_number(columns.integer())?;
            Some(Session {
                id: id.to_string(),
                created_at: columns.integer(),
                last_seen: columns.integer(),
                user_agent: columns.text(),
                current: self.current == LoginId::of_session(id),
            })
        };
        Ok(rows[0].0.iter().filter_map(session).collect())
    }
}

/// The ids in the first column of these rows.
pub(crate) fn session_ids(rows: &Rows) -> Vec<SessionId> {
    let ids = rows.integers().into_iter();
    ids.filter_map(SessionId::from_number).collect()
}

/// Has the sockets of these logins closed, if there are any.
pub(crate) fn tell_ended(
    user_id: i64,
    sessions: Vec<SessionId>,
    tokens_until: Option<i64>,
    out: &mut Outbox,
) {
    if !sessions.is_empty() || tokens_until.is_some() {
        out.push(Output::EndLogins(EndedLogins {
            user_id,
            sessions,
            tokens_until,
        }));
    }
}
