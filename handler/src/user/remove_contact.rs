//! `remove_contact`.

use serde::Serialize;

use crate::answer_budget::SMALL_ANSWER_BYTES_MAX;
use crate::declaration::Declared;
use crate::error::Error;
use crate::field::Field;
use crate::fields::Fields;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::reply::Reply;
use crate::sql::{Rows, Statement};
use crate::user::add_contact::CONTACT_USERNAME;
use crate::user::no_such_user;

/// `remove_contact {contact_username}` → [`RemovedContact`]. Neither of the two has the other as a contact
/// any more.
pub struct RemoveContact {
    username: String,
}

/// A user who is no contact any more.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RemovedContact<'a> {
    /// Who is no longer a contact.
    username: &'a str,
}

impl Declared for RemoveContact {
    const TYPE: &'static str = "remove_contact";
    const FIELDS: &'static [Field] = &[CONTACT_USERNAME];
    type Data = RemovedContact<'static>;

    fn read(fields: &Fields) -> Result<Self, Error> {
        Ok(RemoveContact {
            username: CONTACT_USERNAME.required_text(fields)?,
        })
    }
}

impl Operation for RemoveContact {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Write
    }

    fn answer_bytes_max(&self) -> usize {
        SMALL_ANSWER_BYTES_MAX
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let ids = || [ctx.user_id.into(), self.username.as_str().into()];
        let mut statements = vec![Statement::new(
            "select id from users where username = ?1",
            [self.username.as_str().into()],
        )];
        // On a repeat, somebody may have added the contact again.
        if !ctx.is_repeat {
            statements.extend([
                Statement::new(
                    "delete from contacts
                     where user_id = ?1 and contact_id = (select id from users where username = ?2)",
                    ids(),
                ),
                Statement::new(
                    "delete from contacts
                     where contact_id = ?1 and user_id = (select id from users where username = ?2)",
                    ids(),
                ),
            ]);
        }
        statements
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        let username = self.username.as_str();
        match rows[0].is_empty() {
            true => Err(no_such_user(username)),
            false => Ok(Reply::of(&RemovedContact { username })),
        }
    }
}
