//! Accounts that no longer exist, or are banned.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::reply::json;
use crate::sql::{Row, Rows, Statement};

/// Finds those of these users (id and name) whose account no longer exists, or is banned.
pub struct FindDeletedAccounts {
    pub users: Vec<(i64, Arc<str>)>,
}

impl Operation for FindDeletedAccounts {
    type Output = Vec<(i64, Arc<str>)>;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        let ids: Vec<i64> = self.users.iter().map(|(id, _)| *id).collect();
        vec![Statement::new(
            "select id, cast(username as blob) from users
             where id in (select value from json_each(?1)) and banned_at is null",
            [json(&ids).into()],
        )]
    }

    fn conclude(
        &self,
        _: &Context,
        rows: &[Rows],
        _: &mut Outbox,
    ) -> Result<Vec<(i64, Arc<str>)>, Error> {
        let account = |row: &Row| {
            let mut columns = row.columns();
            (columns.integer(), columns.text())
        };
        let there: HashMap<i64, String> = rows[0].0.iter().map(account).collect();
        // The id may have been given to another user since.
        let is_there = |id, name: &str| there.get(&id).is_some_and(|now| now == name);
        let gone = self.users.iter().filter(|(id, name)| !is_there(*id, name));
        Ok(gone.cloned().collect())
    }
}
