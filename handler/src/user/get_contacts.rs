//! `get_contacts`: the caller's contacts, in the order in which they were added.

use serde::Serialize;

use crate::answer_budget::ANSWER_BYTES_MAX;
use crate::declaration::Declared;
use crate::error::Error;
use crate::field::Field;
use crate::fields::Fields;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::reply::Reply;
use crate::sql::{Row, Rows, Statement};
use crate::user::{Profile, profile_columns};

/// `get_contacts` → [`Contacts`].
pub struct GetContacts;

/// The caller's contacts.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Contacts<'a> {
    /// A text for people.
    message: &'static str,
    /// Their usernames, the oldest contact first.
    contacts: Vec<&'a str>,
    /// Their profiles, in the same order.
    profiles: &'a [Profile],
}

impl Declared for GetContacts {
    const TYPE: &'static str = "get_contacts";
    const FIELDS: &'static [Field] = &[];
    type Data = Contacts<'static>;

    fn read(_: &Fields) -> Result<Self, Error> {
        Ok(GetContacts)
    }
}

impl Operation for GetContacts {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Read
    }

    fn answer_bytes_max(&self) -> usize {
        // Those of most users. 10,000 contacts have some 4 MiB, which are counted when they are known.
        ANSWER_BYTES_MAX
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        vec![Statement::new(
            concat!(
                "select ",
                profile_columns!("?1"),
                " from contacts c join users u on u.id = c.contact_id
                 where c.user_id = ?1 order by c.rowid"
            ),
            [ctx.user_id.into()],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        let profile = |row: &Row| Profile::read(&mut row.columns());
        let profiles: Vec<Profile> = rows[0].0.iter().map(profile).collect();
        Ok(Reply::of(&Contacts {
            message: "got all the contacts",
            contacts: profiles.iter().map(|p| p.username.as_str()).collect(),
            profiles: &profiles,
        }))
    }
}
