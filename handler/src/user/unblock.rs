//! `unblock_user`.

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
use crate::user::block::{BlockedUser, direct_with};
use crate::user::get::USERNAME;
use crate::user::{has_blocked, no_such_user};

/// `unblock_user {username}` → [`BlockedUser`]. If the user has the caller as a contact, it gets a
/// `user_status` with the caller's present one.
pub struct UnblockUser {
    username: String,
}

impl Declared for UnblockUser {
    const TYPE: &'static str = "unblock_user";
    const FIELDS: &'static [Field] = &[USERNAME];
    type Data = BlockedUser<'static>;

    fn read(fields: &Fields) -> Result<Self, Error> {
        Ok(UnblockUser {
            username: USERNAME.required_text(fields)?,
        })
    }
}

impl Operation for UnblockUser {
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
            "select id from users where username = ?1",
            [self.username.as_str().into()],
        );
        /// The other user, if it has the caller as a contact, and the caller's status.
        macro_rules! watching {
            ($condition:literal) => {
                concat!(
                    "select c.user_id, cast(own.is_online as integer), cast(own.last_online as integer)
                     from contacts c cross join users own on own.id = ?1
                     where c.contact_id = ?1 and c.user_id = (select id from users where username = ?2)",
                    $condition
                )
            };
        }
        // On a repeat, the caller may have blocked the user again.
        if ctx.is_repeat {
            return vec![
                find,
                Statement::new(
                    concat!(watching!(""), " and not ", has_blocked!("?1", "c.user_id")),
                    ids(),
                ),
            ];
        }
        vec![
            find,
            Statement::new(
                "delete from blocks
                 where user_id = ?1 and blocked_id = (select id from users where username = ?2)",
                ids(),
            ),
            // changes() is 1 if the previous statement has unblocked the user.
            Statement::new(watching!(" and changes() = 1"), ids()),
            // The other one may have blocked the caller.
            Statement::new(
                concat!(
                    "update conversations set is_silent = 0
                     where direct = ",
                    direct_with!(),
                    " and is_silent = 1 and changes() = 1
                         and not exists (select 1 from blocks where blocked_id = ?1
                             and user_id = (select id from users where username = ?2))"
                ),
                ids(),
            ),
        ]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<Reply, Error> {
        let username = self.username.as_str();
        if rows[0].is_empty() {
            return Err(no_such_user(username));
        }
        let watching = match ctx.is_repeat {
            true => rows[1].first(),
            false => rows[2].first(),
        };
        if let Some(row) = watching {
            let mut columns = row.columns();
            let user_id = columns.integer();
            let (is_online, last_online) = (columns.flag(), columns.integer());
            let status = UserStatus::shown(&ctx.username, is_online, last_online);
            tell_users(vec![user_id], status, out);
        }
        Ok(Reply::of(&BlockedUser { username }))
    }
}
