//! What a request is: statements to run in one transaction, and what their rows mean.

use std::sync::Arc;

use libsql::Value;

use crate::error::Error;
use crate::outbox::Outbox;
use crate::sql::{Rows, Statement};

/// A request, decided in two pure steps around one round trip to the database.
pub trait Operation: Send + Sync {
    /// What the caller gets.
    type Output;

    /// What the statements do to the database. `Access::None` where there are none.
    fn access(&self) -> Access;

    /// What to ask the database: run in order, inside one transaction. Every statement guards itself, because no code
    /// runs between them, and an operation that `conclude`s with an error has changed nothing. With
    /// `Context::is_repeat` they change nothing that they have changed before.
    fn statements(&self, ctx: &Context) -> Vec<Statement>;

    /// What the rows mean (one `Rows` for each statement): the answer to the caller, and what others are told.
    fn conclude(
        &self,
        ctx: &Context,
        rows: &[Rows],
        out: &mut Outbox,
    ) -> Result<Self::Output, Error>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    None,
    Read,
    Write,
}

/// What a pure function may not fetch for itself.
#[derive(Debug, Clone)]
pub struct Context {
    /// The caller; 0 where nobody is logged in.
    pub user_id: i64,
    pub username: Arc<str>,
    /// Unix seconds.
    pub now: i64,
    /// Random; names this request where the database is on a server: its answer may get lost on the way back, and what it
    /// made can be found by this. Other hosts may use the same database.
    pub request_id: Option<RequestId>,
    /// This request has been committed, and its answer was lost: its statements find what it did and change nothing,
    /// and others are told again.
    pub is_repeat: bool,
}

pub type RequestId = [u8; 8];

impl Context {
    pub fn new(user_id: i64, username: Arc<str>, now: i64) -> Self {
        Context {
            user_id,
            username,
            now,
            request_id: None,
            is_repeat: false,
        }
    }

    /// For operations that have no logged-in caller.
    pub fn anonymous(now: i64) -> Self {
        Context::new(0, "".into(), now)
    }

    /// Whether other hosts may use the same database, and do not hear of its commits in their order.
    pub(crate) fn is_shared(&self) -> bool {
        self.request_id.is_some()
    }

    /// The request's id as a parameter: null where it has none.
    pub(crate) fn request_key(&self) -> Value {
        self.request_id
            .map_or(Value::Null, |id| Value::Blob(id.into()))
    }
}

impl<O: Operation + ?Sized> Operation for Box<O> {
    type Output = O::Output;

    fn access(&self) -> Access {
        (**self).access()
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        (**self).statements(ctx)
    }

    fn conclude(
        &self,
        ctx: &Context,
        rows: &[Rows],
        out: &mut Outbox,
    ) -> Result<Self::Output, Error> {
        (**self).conclude(ctx, rows, out)
    }
}
