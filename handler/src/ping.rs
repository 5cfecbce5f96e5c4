//! `ping`: answered without the database.

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

/// `ping` → [`Pong`].
pub struct Ping;

/// Always the same text.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Pong {
    #[serde(rename = "pong")]
    Pong,
}

impl Declared for Ping {
    const TYPE: &'static str = "ping";
    const FIELDS: &'static [Field] = &[];
    type Data = Pong;

    fn read(_: &Fields) -> Result<Self, Error> {
        Ok(Ping)
    }
}

impl Operation for Ping {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::None
    }

    fn answer_bytes_max(&self) -> usize {
        SMALL_ANSWER_BYTES_MAX
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        Vec::new()
    }

    fn conclude(&self, _: &Context, _: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        Ok(Reply::of(&Pong::Pong))
    }
}
