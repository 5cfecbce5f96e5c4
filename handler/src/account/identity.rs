//! Users whom an identity provider knows. The provider says who logs in by two claims that never change
//! and never come again: `iss` and `sub`. The username that it suggests only counts when the user is
//! created, so nobody becomes somebody else by choosing a name there.

use crate::account::register::Register;
use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::sql::{Rows, Statement};

/// Finds the username of an identity, if it has a user.
pub struct FindIdentity {
    pub issuer: String,
    pub subject: String,
}

impl Operation for FindIdentity {
    type Output = Option<String>;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "select cast(users.username as blob) from identities join users on users.id = identities.user_id
             where identities.issuer = ?1 and identities.subject = ?2",
            [self.issuer.as_str().into(), self.subject.as_str().into()],
        )]
    }

    fn conclude(
        &self,
        _: &Context,
        rows: &[Rows],
        _: &mut Outbox,
    ) -> Result<Option<String>, Error> {
        Ok(rows[0].first().map(|row| row.columns().text()))
    }
}

/// Creates the user of an identity. Fails like [`Register`]: an account that exists is not given to an
/// identity.
pub struct CreateIdentified {
    pub issuer: String,
    pub subject: String,
    /// Its `password_hash` is [`no_password`](CreateIdentified::no_password).
    pub register: Register,
}

impl CreateIdentified {
    /// What is stored in the place of a password hash: no password matches it, and no other user has
    /// it.
    pub fn no_password(random: [u8; 16]) -> String {
        format!("identity {:032x}", u128::from_be_bytes(random))
    }
}

impl Operation for CreateIdentified {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let mut statements = self.register.statements(ctx);
        // Only if the user was created by this.
        statements.push(Statement::new(
            "insert into identities (issuer, subject, user_id)
             select ?1, ?2, id from users where username = ?3 and password = ?4
             on conflict do nothing",
            [
                self.issuer.as_str().into(),
                self.subject.as_str().into(),
                self.register.username.as_str().into(),
                self.register.password_hash.as_str().into(),
            ],
        ));
        statements
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], out: &mut Outbox) -> Result<(), Error> {
        self.register.conclude(ctx, rows, out)
    }
}
