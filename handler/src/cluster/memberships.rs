//! Who is in which conversation, for a host that may have missed a change of members.

use crate::conversation::members_rev;
use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::reply::json;
use crate::sql::{Row, Rows, Statement};

/// Finds the conversations of these users.
pub struct FindMemberships {
    pub user_ids: Vec<i64>,
}

/// A user and all the user's conversations, each with its `members_rev`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memberships {
    pub user_id: i64,
    pub conversations: Vec<(i64, i64)>,
}

impl Operation for FindMemberships {
    /// One entry for each of the users.
    type Output = Vec<Memberships>;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            concat!(
                "select value, (select cast(json_group_array(json_array(conversation_id, ",
                members_rev!("members.conversation_id"),
                ")) as blob) from members where user_id = value) from json_each(?1)"
            ),
            [json(&self.user_ids).into()],
        )]
    }

    fn conclude(
        &self,
        _: &Context,
        rows: &[Rows],
        _: &mut Outbox,
    ) -> Result<Vec<Memberships>, Error> {
        let memberships = |row: &Row| {
            let mut columns = row.columns();
            Memberships {
                user_id: columns.integer(),
                conversations: serde_json::from_str(&columns.str()).unwrap_or_default(),
            }
        };
        Ok(rows[0].0.iter().map(memberships).collect())
    }
}
