//! `block_user`.

use serde::Serialize;

use crate::answer_budget::SMALL_ANSWER_BYTES_MAX;
use crate::declaration::Declared;
use crate::error::Error;
use crate::field::Field;
use crate::fields::Fields;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::presence::{UserStatus, tell_users};
use crate::reply::Reply;
use crate::sql::{Rows, Statement};
use crate::user::get::USERNAME;
use crate::user::no_such_user;

/// The most users whom a user may have blocked.
pub const BLOCKS_MAX: i64 = 1_000;

/// `block_user {username}` → [`BlockedUser`]. If the blocked one has the caller as a contact, it gets a
/// `user_status` that says offline.
pub struct BlockUser {
    username: String,
}

/// A user who was blocked, or who no longer is.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BlockedUser<'a> {
    /// Who is blocked, or no longer blocked.
    pub username: &'a str,
}

/// The direct conversation of `?1` and the user named `?2`.
macro_rules! direct_with {
    () => {
        "(select min(?1, id) || ':' || max(?1, id) from users where username = ?2)"
    };
}
pub(super) use direct_with;

impl Declared for BlockUser {
    const TYPE: &'static str = "block_user";
    const FIELDS: &'static [Field] = &[USERNAME];
    type Data = BlockedUser<'static>;

    fn read(fields: &Fields) -> Result<Self, Error> {
        Ok(BlockUser {
            username: USERNAME.required_text(fields)?,
        })
    }
}

impl Operation for BlockUser {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Write
    }

    fn answer_bytes_max(&self) -> usize {
        SMALL_ANSWER_BYTES_MAX
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let ids = || [ctx.user_id.into(), self.username.as_str().into()];
        let find = Statement::new(
            "select exists (select 1 from blocks where user_id = ?1 and blocked_id = u.id),
                 (select count(*) from blocks where user_id = ?1) < ?3
             from users u where u.username = ?2",
            [
                ctx.user_id.into(),
                self.username.as_str().into(),
                BLOCKS_MAX.into(),
            ],
        );
        /// The other user, if it has the caller as a contact.
        macro_rules! watching {
            ($condition:literal) => {
                concat!(
                    "select c.user_id from contacts c
                     where c.contact_id = ?1 and c.user_id = (select id from users where username = ?2)",
                    $condition
                )
            };
        }
        // On a repeat, the caller may have unblocked the user since.
        if ctx.is_repeat {
            return vec![find, Statement::new(watching!(""), ids())];
        }
        vec![
            find,
            Statement::new(
                "insert into blocks (user_id, blocked_id)
                 select ?1, u.id from users u
                 where u.username = ?2 and u.id <> ?1
                     and (select count(*) from blocks where user_id = ?1) < ?3
                 on conflict do nothing",
                [
                    ctx.user_id.into(),
                    self.username.as_str().into(),
                    BLOCKS_MAX.into(),
                ],
            ),
            // changes() is 1 if the previous statement has blocked the user.
            Statement::new(watching!(" and changes() = 1"), ids()),
            Statement::new(
                concat!(
                    "update conversations set is_silent = 1
                     where direct = ",
                    direct_with!(),
                    " and is_silent = 0 and changes() = 1"
                ),
                ids(),
            ),
        ]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<Reply, Error> {
        let username = self.username.as_str();
        if username == &*ctx.username {
            return Err(Error::Invalid("you cannot block yourself".into()));
        }
        let row = rows[0].first().ok_or_else(|| no_such_user(username))?;
        let mut columns = row.columns();
        let (is_blocked, has_room) = (columns.flag(), columns.flag());
        if !is_blocked && !has_room {
            return Err(Error::TooLarge(format!(
                "a user can block at most {BLOCKS_MAX} users"
            )));
        }
        let watching = match ctx.is_repeat {
            true => rows[1].integers(),
            false => rows[2].integers(),
        };
        tell_users(watching, UserStatus::hidden(&ctx.username), out);
        Ok(Reply::of(&BlockedUser { username }))
    }
}
