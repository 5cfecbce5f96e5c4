//! `self`: the caller's own profile.

use serde::Serialize;

use crate::declaration::Declared;
use crate::error::Error;
use crate::field::Field;
use crate::fields::Fields;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::reply::Reply;
use crate::sql::{Columns, Rows, Statement};
use crate::user::{Profile, profile_columns};

/// Who may put a user into contacts and conversations: the names on the wire, in the order of the
/// numbers in the database.
pub(crate) const REACHABLE_BY: &[&str] = &["everyone", "contacts"];

/// `self` → the caller's [`OwnProfile`].
pub struct GetSelf;

/// The caller's profile, with what only the caller may know.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OwnProfile {
    #[serde(flatten)]
    pub profile: Profile,
    /// `"everyone"` or `"contacts"`: who may put the caller into contacts and conversations.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = REACHABLE_BY)))]
    pub reachable_by: &'static str,
}

impl OwnProfile {
    /// The statement for [`OwnProfile::of`].
    pub(crate) fn statement(ctx: &Context) -> Statement {
        Statement::new(
            concat!(
                "select ",
                profile_columns!("?1"),
                ", u.reachable_by from users u where u.id = ?1"
            ),
            [ctx.user_id.into()],
        )
    }

    pub(crate) fn of(rows: &Rows) -> Result<Self, Error> {
        let row = rows.first();
        let row = row.ok_or_else(|| Error::NotFound("no such user".into()))?;
        Ok(OwnProfile::read(&mut row.columns()))
    }

    /// Reads the columns of a `Profile`, and `reachable_by`.
    pub(crate) fn read(columns: &mut Columns) -> Self {
        let profile = Profile::read(columns);
        let place = usize::try_from(columns.integer()).unwrap_or_default();
        let reachable_by = REACHABLE_BY.get(place).unwrap_or(&REACHABLE_BY[0]);
        OwnProfile {
            profile,
            reachable_by,
        }
    }
}

impl Declared for GetSelf {
    const TYPE: &'static str = "self";
    const FIELDS: &'static [Field] = &[];
    type Data = OwnProfile;

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
        vec![OwnProfile::statement(ctx)]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        Ok(Reply::of(&OwnProfile::of(&rows[0])?))
    }
}
