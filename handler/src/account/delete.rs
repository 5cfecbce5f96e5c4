//! Deleting an account.

use serde::Serialize;

use crate::account::body::required_texts;
use crate::account::open_login::no_login;
use crate::account::session::{session_ids, tell_ended};
use crate::account::skeleton::skeleton;
use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::{Audience, Outbox, Output};
use crate::presence::{contacts_to_tell, tell_contacts};
use crate::reply::{json, push};
use crate::sql::{Rows, Statement};

/// The body of `DELETE /account`: the password of the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Farewell {
    pub password: String,
}

impl Farewell {
    /// Parses the JSON of a request's body.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let [password] = required_texts(body, ["password"])?;
        Ok(Farewell { password })
    }
}

/// Deletes the caller's account, unless its password hash has changed since it was read. From then
/// on nobody can log in to it, and its profile is gone. What it has in other tables is erased
/// piece by piece afterwards: see `account::erase`.
///
/// Everything that is shown of a user comes from the row in `users`. Without that row, nothing is
/// shown, and the sender of a message is shown as `deleted`.
pub struct DeleteAccount {
    pub password_hash: String,
}

/// An account was deleted. The contacts of its user are told, but not those whom the user had
/// blocked, and the other members of its direct conversations.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AccountDeleted<'a> {
    /// The direct conversation whose other member it was. Left out for a contact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<i64>,
    /// The username that the account had.
    pub username: &'a str,
    /// The rev of that conversation after the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rev: Option<i64>,
}

impl AccountDeleted<'_> {
    pub const TYPE: &'static str = "account_deleted";
}

impl Operation for DeleteAccount {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let user_id = || ctx.user_id.into();
        let deleted = match ctx.is_repeat {
            false => Statement::new(
                "insert into deleted_accounts (user_id, username, skeleton, deleted_at, due_at)
                 select id, username, coalesce(skeleton, ?3), ?4, unixepoch() from users
                 where id = ?1 and password = ?2 returning 1",
                [
                    user_id(),
                    self.password_hash.as_str().into(),
                    skeleton(&ctx.username).into(),
                    ctx.now.into(),
                ],
            ),
            true => Statement::new(
                "select 1 from deleted_accounts where user_id = ?1",
                [user_id()],
            ),
        };
        vec![
            deleted,
            Statement::new(
                "delete from users where id = ?1
                     and exists (select 1 from deleted_accounts where user_id = ?1)",
                [user_id()],
            ),
            // Those of the fullname among them.
            Statement::new(
                "delete from user_words where user_id = ?1
                     and exists (select 1 from deleted_accounts where user_id = ?1)",
                [user_id()],
            ),
            Statement::new("select 1 from users where id = ?1", [user_id()]),
            Statement::new(contacts_to_tell!("?1"), [user_id()]),
            Statement::new(
                "select 1 from presence where user_id = ?1 and sockets > 0",
                [user_id()],
            ),
            // Without the row in users they are worth nothing. They are erased with the rest.
            Statement::new("select id from sessions where user_id = ?1", [user_id()]),
            Statement::new(
                "delete from identities where user_id = ?1
                     and exists (select 1 from deleted_accounts where user_id = ?1)",
                [user_id()],
            ),
        ]
    }

    /// Fails with `Unauthorized` if there is no such account, and with `Unavailable` if its
    /// password was changed meanwhile.
    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<(), Error> {
        let [deleted, _, _, there, contacts, presence, sessions, _] = rows else {
            return Err(Error::Internal("eight statements, eight results".into()));
        };
        if deleted.is_empty() {
            return Err(match there.is_empty() {
                true => no_login(),
                false => Error::Unavailable {
                    retry_after_seconds: 1,
                },
            });
        }
        let contacts = contacts.integers();
        if !presence.is_empty() {
            tell_contacts(contacts.clone(), &ctx.username, false, ctx.now, out);
        }
        if !contacts.is_empty() {
            let data = json(&AccountDeleted {
                conversation_id: None,
                username: &ctx.username,
                rev: None,
            });
            out.push(Output::Push {
                to: Audience::Users(contacts),
                event: push(AccountDeleted::TYPE, &data),
                is_droppable: false,
            });
        }
        tell_ended(ctx.user_id, session_ids(sessions), Some(i64::MAX), out);
        Ok(())
    }
}
