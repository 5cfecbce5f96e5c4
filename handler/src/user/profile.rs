//! `self`: the caller's own profile.

use crate::declaration::Declared;
use crate::error::Error;
use crate::field::Field;
use crate::fields::Fields;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::reply::Reply;
use crate::sql::{Rows, Statement};
use crate::user::{Profile, profile_columns};

/// `self` → the caller's [`Profile`].
pub struct GetSelf;

impl Declared for GetSelf {
    const TYPE: &'static str = "self";
    const FIELDS: &'static [Field] = &[];
    type Data = Profile;

    fn read(_: &Fields) -> Result<Self, Error> {
        Ok(GetSelf)
    }
}

impl Operation for GetSelf {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        vec![Statement::new(
            concat!(
                "select ",
                profile_columns!(),
                " from users u where u.id = ?1"
            ),
            [ctx.user_id.into()],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        let row = rows[0]
            .first()
            .ok_or_else(|| Error::NotFound("no such user".into()))?;
        Ok(Reply::of(&Profile::read(&mut row.columns())))
    }
}
