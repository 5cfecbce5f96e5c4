//! `update_profile`.

use crate::account::register::FULLNAME_CHARS_MAX;
use crate::answer_budget::SMALL_ANSWER_BYTES_MAX;
use crate::declaration::Declared;
use crate::error::Error;
use crate::field::{Field, Kind, Length};
use crate::fields::Fields;
use crate::operation::{Access, Context, Operation};
use crate::outbox::{Audience, Outbox, Output};
use crate::reply::{Reply, json, push};
use crate::sql::{Rows, Statement};
use crate::user::has_blocked;
use crate::user::profile::{OwnProfile, REACHABLE_BY};
use crate::user::words::words;

/// A new fullname counts for as many listed users, because the commit reads all contacts, also those
/// who are offline. So a user has 20 at once, and then one in 25 seconds.
const FULLNAME_USERS: usize = 500;

const FULLNAME: Field = Field::optional(
    "fullname",
    Kind::Text(Length::characters(1, FULLNAME_CHARS_MAX)),
)
.counts_for(FULLNAME_USERS);
const REACHABLE: Field = Field::optional("reachable_by", Kind::Choice(REACHABLE_BY));

/// `update_profile {fullname?, reachable_by?}` → the caller's [`OwnProfile`]. If the fullname has
/// changed, the caller's contacts get the push `profile_updated` with the [`Profile`] as they may
/// see it.
///
/// [`Profile`]: crate::user::Profile
pub struct UpdateProfile {
    fullname: Option<String>,
    /// The number in the database.
    reachable_by: Option<i64>,
}

impl UpdateProfile {
    /// Changes only the fullname.
    pub fn of_fullname(fullname: String) -> Self {
        UpdateProfile {
            fullname: Some(fullname),
            reachable_by: None,
        }
    }
}

impl Declared for UpdateProfile {
    const TYPE: &'static str = "update_profile";
    const FIELDS: &'static [Field] = &[FULLNAME, REACHABLE];
    type Data = OwnProfile;

    fn read(fields: &Fields) -> Result<Self, Error> {
        Ok(UpdateProfile {
            fullname: FULLNAME.text(fields)?,
            reachable_by: REACHABLE.choice(fields)?.map(|place| place as i64),
        })
    }
}

impl Operation for UpdateProfile {
    type Output = Reply;

    fn access(&self) -> Access {
        match (&self.fullname, self.reachable_by) {
            (None, None) => Access::Read,
            _ => Access::Write,
        }
    }

    fn answer_bytes_max(&self) -> usize {
        8 * SMALL_ANSWER_BYTES_MAX
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let user_id = || ctx.user_id.into();
        let mut statements = Vec::new();
        if let Some(fullname) = &self.fullname {
            let words = words(&ctx.username, fullname);
            /// The contacts, and whether the caller has blocked each of them.
            macro_rules! contacts {
                ($condition:literal) => {
                    concat!(
                        "select contact_id, ",
                        has_blocked!("?1", "contact_id"),
                        " from contacts where user_id = ?1",
                        $condition
                    )
                };
            }
            // On a repeat, the fullname may have changed again since.
            let changed = match ctx.is_repeat {
                true => vec![Statement::new(contacts!(""), [user_id()])],
                false => vec![
                    Statement::new(
                        "update users set fullname = ?2 where id = ?1 and fullname <> ?2",
                        [user_id(), fullname.as_str().into()],
                    ),
                    Statement::new(contacts!(" and changes() = 1"), [user_id()]),
                    Statement::new(
                        "delete from user_words
                         where user_id = ?1 and word not in (select value from json_each(?2))",
                        [user_id(), words.as_str().into()],
                    ),
                    Statement::new(
                        "insert or ignore into user_words (user_id, word)
                         select u.id, word.value from users u cross join json_each(?2) word
                         where u.id = ?1 and u.banned_at is null",
                        [user_id(), words.into()],
                    ),
                    Statement::new(
                        "update users set has_words = 1
                         where id = ?1 and has_words = 0 and banned_at is null",
                        [user_id()],
                    ),
                ],
            };
            statements.extend(changed);
        }
        if let Some(reachable_by) = self.reachable_by
            && !ctx.is_repeat
        {
            statements.push(Statement::new(
                "update users set reachable_by = ?2 where id = ?1 and reachable_by <> ?2",
                [user_id(), reachable_by.into()],
            ));
        }
        statements.push(OwnProfile::statement(ctx));
        statements
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<Reply, Error> {
        let own = rows.last().map(OwnProfile::of);
        let mut own = own.unwrap_or_else(|| Err(Error::Internal("no rows".into())))?;
        let reply = Reply::of(&own);
        let contacts = match (&self.fullname, ctx.is_repeat) {
            (None, _) => &[][..],
            (Some(_), true) => &rows[0].0,
            (Some(_), false) => &rows[1].0,
        };
        let mut tell = |is_blocked: bool, data: String| {
            let of = contacts.iter().map(|row| {
                let mut columns = row.columns();
                (columns.integer(), columns.flag())
            });
            let of = of.filter(|(_, blocked)| *blocked == is_blocked);
            let user_ids: Vec<i64> = of.map(|(user_id, _)| user_id).collect();
            if !user_ids.is_empty() {
                out.push(Output::Push {
                    to: Audience::Users(user_ids),
                    event: push("profile_updated", &data),
                    is_droppable: false,
                });
            }
        };
        tell(false, json(&own.profile));
        own.profile.hide_presence();
        tell(true, json(&own.profile));
        Ok(reply)
    }
}
