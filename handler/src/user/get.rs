//! `get_user`: anybody's profile.

use crate::answer_budget::SMALL_ANSWER_BYTES_MAX;
use crate::declaration::Declared;
use crate::error::Error;
use crate::field::{Field, Kind};
use crate::fields::Fields;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::reply::Reply;
use crate::sql::{Rows, Statement};
use crate::user::{Profile, no_such_user, profile_columns};

pub(crate) const USERNAME: Field = Field::required("username", Kind::User);

/// `get_user {username}` → the [`Profile`].
pub struct GetUser {
    username: String,
}

impl Declared for GetUser {
    const TYPE: &'static str = "get_user";
    const FIELDS: &'static [Field] = &[USERNAME];
    type Data = Profile;

    fn read(fields: &Fields) -> Result<Self, Error> {
        Ok(GetUser {
            username: USERNAME.required_text(fields)?,
        })
    }
}

impl Operation for GetUser {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Read
    }

    fn answer_bytes_max(&self) -> usize {
        // A name of 256 characters may have 1 KiB, and more with escapes.
        8 * SMALL_ANSWER_BYTES_MAX
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        vec![Statement::new(
            concat!(
                "select ",
                profile_columns!("?1"),
                " from users u where u.username = ?2"
            ),
            [ctx.user_id.into(), self.username.as_str().into()],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        let row = rows[0].first();
        let row = row.ok_or_else(|| no_such_user(&self.username))?;
        Ok(Reply::of(&Profile::read(&mut row.columns())))
    }
}
