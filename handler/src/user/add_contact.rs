//! `add_contact`: contacts are mutual, so that each pair is two rows.

use serde::Serialize;

use crate::answer_budget::SMALL_ANSWER_BYTES_MAX;
use crate::declaration::Declared;
use crate::error::Error;
use crate::field::{Field, Kind};
use crate::fields::Fields;
use crate::operation::{Access, Context, Operation};
use crate::outbox::{Audience, Outbox, Output};
use crate::reply::{Reply, json, push};
use crate::sql::{Rows, Statement};
use crate::user::{Profile, Refusal, no_such_user, profile_columns, refusal};

/// The most contacts that a user may have.
pub const CONTACTS_MAX: i64 = 10_000;

pub(crate) const CONTACT_USERNAME: Field = Field::required("contact_username", Kind::User)
    .wrong("invalid contact_username, expected a string");

/// Whether the caller (`?1`) and the user `u` can each have one more contact; `?3` is
/// `CONTACTS_MAX`. If `u` already has the caller as a contact, `u` gets no more.
macro_rules! has_room {
    () => {
        "(select count(*) from contacts where user_id = ?1) < ?3
             and (select count(*) from contacts where user_id = u.id and contact_id <> ?1) < ?3"
    };
}

/// `add_contact {contact_username}` → [`AddedContact`]. The other one gets the push `contact_added`
/// with the caller's [`Profile`].
pub struct AddContact {
    username: String,
}

/// The new contact.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AddedContact {
    /// A text for people.
    message: String,
    /// Who is a contact now.
    contact: Profile,
}

impl Declared for AddContact {
    const TYPE: &'static str = "add_contact";
    const FIELDS: &'static [Field] = &[CONTACT_USERNAME];
    type Data = AddedContact;

    fn read(fields: &Fields) -> Result<Self, Error> {
        Ok(AddContact {
            username: CONTACT_USERNAME.required_text(fields)?,
        })
    }
}

impl Operation for AddContact {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Write
    }

    fn answer_bytes_max(&self) -> usize {
        8 * SMALL_ANSWER_BYTES_MAX
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let parameters = || {
            [
                ctx.user_id.into(),
                self.username.as_str().into(),
                CONTACTS_MAX.into(),
            ]
        };
        vec![
            Statement::new(
                concat!(
                    "select ",
                    profile_columns!("?1"),
                    ", exists (select 1 from contacts where user_id = ?1 and contact_id = u.id)",
                    ", ",
                    has_room!(),
                    ", ",
                    refusal!("?1"),
                    ", u.id",
                    " from users u where u.username = ?2"
                ),
                parameters(),
            ),
            Statement::new(
                concat!(
                    "insert into contacts (user_id, contact_id)
                     select ?1, u.id from users u where u.username = ?2 and u.id <> ?1 and ",
                    has_room!(),
                    " and ",
                    refusal!("?1"),
                    " = 0 on conflict do nothing returning 1"
                ),
                parameters(),
            ),
            // The other direction, which may already exist. changes() is 1 if the previous
            // statement has added the contact.
            Statement::new(
                "insert into contacts (user_id, contact_id)
                 select id, ?1 from users where username = ?2 and changes() = 1
                 on conflict do nothing",
                [ctx.user_id.into(), self.username.as_str().into()],
            ),
            // The caller, as the other one sees it: neither has blocked the other.
            Statement::new(
                concat!(
                    "select ",
                    profile_columns!("?1"),
                    " from users u where u.id = ?1"
                ),
                [ctx.user_id.into()],
            ),
        ]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<Reply, Error> {
        let name = &self.username;
        if **name == *ctx.username {
            return Err(Error::Invalid("cannot add itself as a contact".into()));
        }
        let Some(row) = rows[0].first() else {
            return Err(no_such_user(name));
        };
        let mut columns = row.columns();
        let contact = Profile::read(&mut columns);
        let (is_there, has_room) = (columns.flag(), columns.flag());
        let (refusal, user_id) = (Refusal::of(columns.integer()), columns.integer());
        // After a lost answer, the contact exists because this request has added it.
        if is_there && !ctx.is_repeat {
            return Err(Error::Conflict(format!("'{name}' is already a contact")));
        }
        if let (false, Some(refusal)) = (is_there, refusal) {
            return Err(refusal.error(name));
        }
        if !has_room && !is_there {
            return Err(Error::TooLarge(format!(
                "a user can have at most {CONTACTS_MAX} contacts"
            )));
        }
        if let Some(row) = rows[3].first()
            && (!rows[1].is_empty() || ctx.is_repeat)
        {
            out.push(Output::Push {
                to: Audience::Users(vec![user_id]),
                event: push("contact_added", &json(&Profile::read(&mut row.columns()))),
                is_droppable: false,
            });
        }
        Ok(Reply::of(&AddedContact {
            message: format!("'{name}' successfully added"),
            contact,
        }))
    }
}
