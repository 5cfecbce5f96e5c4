//! Contacts: mutual, so that each pair is two rows.

use serde::Serialize;

use crate::error::Error;
use crate::event::Reply;
use crate::fields::Fields;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::statement::{Rows, Statement};
use crate::user::{Profile, profile_columns};

/// Contacts that a user may have.
pub const CONTACTS_MAX: i64 = 10_000;

/// Whether the caller (`?1`) and the user `u` can have one more each; `?3` is `CONTACTS_MAX`. One who has the other already gets
/// no more.
macro_rules! room {
    () => {
        "(select count(*) from contacts where user_id = ?1) < ?3
             and (select count(*) from contacts where user_id = u.id and contact_id <> ?1) < ?3"
    };
}

/// `add_contact {contact_username}` → `{message, contact: profile}`.
pub struct AddContact {
    username: String,
}

impl AddContact {
    pub fn parse(fields: &Fields) -> Result<Self, Error> {
        match fields.text("contact_username") {
            Ok(Some(username)) => Ok(AddContact { username }),
            _ => Err(Error::Invalid(
                "invalid contact_username, expected a string".into(),
            )),
        }
    }
}

impl Operation for AddContact {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        vec![
            Statement::new(
                concat!(
                    "select ",
                    profile_columns!(),
                    ", exists (select 1 from contacts where user_id = ?1 and contact_id = u.id)",
                    ", ",
                    room!(),
                    " from users u where u.username = ?2"
                ),
                [
                    ctx.user_id.into(),
                    self.username.as_str().into(),
                    CONTACTS_MAX.into(),
                ],
            ),
            Statement::new(
                concat!(
                    "insert into contacts (user_id, contact_id)
                     select ?1, u.id from users u where u.username = ?2 and u.id <> ?1 and ",
                    room!(),
                    " on conflict do nothing"
                ),
                [
                    ctx.user_id.into(),
                    self.username.as_str().into(),
                    CONTACTS_MAX.into(),
                ],
            ),
            // The other direction, which may be there. changes() is 1 where the statement before has added the contact.
            Statement::new(
                "insert into contacts (user_id, contact_id)
                 select id, ?1 from users where username = ?2 and changes() = 1
                 on conflict do nothing",
                [ctx.user_id.into(), self.username.as_str().into()],
            ),
        ]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        let name = &self.username;
        if **name == *ctx.username {
            return Err(Error::Invalid("cannot add itself as a contact".into()));
        }
        let Some(row) = rows[0].first() else {
            return Err(Error::NotFound(format!("no such user '{name}' exists")));
        };
        let (already, room) = (row.flag(5), row.flag(6));
        if already && !ctx.is_repeat {
            return Err(Error::Conflict(format!("'{name}' is already a contact")));
        }
        if !room && !already {
            return Err(Error::TooLarge(format!(
                "a user can have at most {CONTACTS_MAX} contacts"
            )));
        }
        #[derive(Serialize)]
        struct Added {
            message: String,
            contact: Profile,
        }
        Ok(Reply::of(&Added {
            message: format!("'{name}' successfully added"),
            contact: Profile::of(row),
        }))
    }
}

/// `get_contacts` → `{message, contacts: [usernames], profiles}`, in the order of adding.
pub struct GetContacts;

impl Operation for GetContacts {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        vec![Statement::new(
            concat!(
                "select ",
                profile_columns!(),
                " from contacts c join users u on u.id = c.contact_id
                 where c.user_id = ?1 order by c.rowid"
            ),
            [ctx.user_id.into()],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        #[derive(Serialize)]
        struct Contacts<'a> {
            message: &'static str,
            contacts: Vec<&'a str>,
            profiles: &'a [Profile],
        }
        let profiles: Vec<Profile> = rows[0].0.iter().map(Profile::of).collect();
        Ok(Reply::of(&Contacts {
            message: "got all the contacts",
            contacts: profiles.iter().map(|p| p.username.as_str()).collect(),
            profiles: &profiles,
        }))
    }
}
