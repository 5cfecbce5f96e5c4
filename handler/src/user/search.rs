//! `search_users`: users by the beginnings of their names.

use serde::Serialize;

use crate::declaration::Declared;
use crate::error::Error;
use crate::field::{Field, Kind, Length};
use crate::fields::Fields;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::reply::Reply;
use crate::sql::{Row, Rows, Statement};
use crate::user::words::{USER_WORDS_MAX, WORD_CHARS_MAX, fold, range};
use crate::user::{Profile, profile_columns};

/// The most users in one answer.
pub const USERS_FOUND_MAX: i64 = 50;

const QUERY: Field = Field::required("query", Kind::Text(Length::characters(1, WORD_CHARS_MAX)));
const LIMIT: Field = Field::optional(
    "limit",
    Kind::Integer {
        min: 1,
        max: USERS_FOUND_MAX,
    },
);

/// `search_users {query, limit?}` → [`FoundUsers`], in the order of what the query has found: a username
/// that is the query comes before one that only begins with it.
pub struct SearchUsers {
    query: String,
    limit: i64,
}

/// The users who were found.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FoundUsers {
    /// At most `limit`.
    users: Vec<Profile>,
}

impl Declared for SearchUsers {
    const TYPE: &'static str = "search_users";
    const FIELDS: &'static [Field] = &[QUERY, LIMIT];
    type Data = FoundUsers;

    fn read(fields: &Fields) -> Result<Self, Error> {
        Ok(SearchUsers {
            query: fold(&QUERY.required_text(fields)?),
            limit: LIMIT.integer(fields)?.unwrap_or(USERS_FOUND_MAX),
        })
    }
}

impl Operation for SearchUsers {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let [first, end] = range(&self.query);
        // So many rows have enough users, because none has more rows than `USER_WORDS_MAX`.
        let rows = self.limit * USER_WORDS_MAX as i64;
        vec![Statement::new(
            concat!(
                "with matching as materialized (
                     select word, user_id from user_words where word >= ?2 and word < ?3
                     order by word, user_id limit +?4
                 ), found as materialized (
                     select user_id, min(word) as word from matching
                     group by user_id order by min(word), user_id limit +?5
                 )
                 select ",
                profile_columns!("?1"),
                " from found cross join users u on u.id = found.user_id
                  order by found.word, found.user_id"
            ),
            [
                ctx.user_id.into(),
                first,
                end,
                rows.into(),
                // Accents alone are no query.
                (if self.query.is_empty() { 0 } else { self.limit }).into(),
            ],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        let profile = |row: &Row| Profile::read(&mut row.columns());
        Ok(Reply::of(&FoundUsers {
            users: rows[0].0.iter().map(profile).collect(),
        }))
    }
}
