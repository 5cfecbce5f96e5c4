//! A request: the statements to run in one transaction, and what their rows mean.

use std::sync::Arc;

use libsql::Value;

use crate::answer_budget::ANSWER_BYTES_MAX;
use crate::error::Error;
use crate::outbox::Outbox;
use crate::set::Element;
use crate::sql::{Rows, Statement};

/// A request, handled in two pure steps around one round trip to the database.
pub trait Operation: Send + Sync {
    /// The answer to the caller.
    type Output;

    /// What the statements do to the database. `Access::None` if there are none.
    fn access(&self) -> Access;

    /// The bytes of JSON that the answer may have, besides what it repeats of the request. The host
    /// finds room for them before the statements run. An answer to an event that changes nothing may
    /// have more, which is refused if there is no room for it.
    fn answer_bytes_max(&self) -> usize {
        ANSWER_BYTES_MAX
    }

    /// Whether the statements may take long for a short answer.
    fn takes_long(&self) -> bool {
        false
    }

    /// The most mentions that the statements store. The caller pays for them.
    fn mentions_max(&self) -> usize {
        0
    }

    /// The statements to run, in order, in one transaction. No code runs between them, so every
    /// statement guards itself: if `conclude` returns an error, nothing has changed. With
    /// `Context::is_repeat` they make no change that they have already made.
    fn statements(&self, ctx: &Context) -> Vec<Statement>;

    /// The operation as an element of a [`Set`](crate::Set), if several like it can run as one. On a
    /// server a set costs a fraction of what its operations cost alone.
    fn element(&self, _: &Context) -> Option<Element> {
        None
    }

    /// Derives from the rows (one `Rows` for each statement) the answer to the caller and what
    /// others are told.
    fn conclude(
        &self,
        ctx: &Context,
        rows: &[Rows],
        out: &mut Outbox,
    ) -> Result<Self::Output, Error>;

    /// Whether the rows of a repeated operation leave open whether it has counted a socket. Then the
    /// host counts all of its sockets again.
    fn is_count_unknown(&self, _: &Context, _: &[Rows]) -> bool {
        false
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    None,
    Read,
    Write,
}

/// What a pure function may not get for itself.
#[derive(Debug, Clone)]
pub struct Context {
    /// The caller; 0 if nobody is logged in.
    pub user_id: i64,
    pub username: Arc<str>,
    /// Unix seconds.
    pub now: i64,
    /// A random id for this request, set if the database is on a server. The answer from such a
    /// server may get lost, and what the request made can then be found by this id. Other hosts may
    /// use the same database.
    pub request_id: Option<RequestId>,
    /// This request has been committed, but its answer was lost. Its statements find what it did
    /// and change nothing, and the others are told again.
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

    /// A context for operations without a logged-in caller.
    pub fn anonymous(now: i64) -> Self {
        Context::new(0, "".into(), now)
    }

    /// Whether other hosts may use the same database. They do not hear of its commits in commit
    /// order.
    pub(crate) fn is_shared(&self) -> bool {
        self.request_id.is_some()
    }

    /// The request's id as a parameter; null if it has none.
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

    fn answer_bytes_max(&self) -> usize {
        (**self).answer_bytes_max()
    }

    fn takes_long(&self) -> bool {
        (**self).takes_long()
    }

    fn mentions_max(&self) -> usize {
        (**self).mentions_max()
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        (**self).statements(ctx)
    }

    fn element(&self, ctx: &Context) -> Option<Element> {
        (**self).element(ctx)
    }

    fn conclude(
        &self,
        ctx: &Context,
        rows: &[Rows],
        out: &mut Outbox,
    ) -> Result<Self::Output, Error> {
        (**self).conclude(ctx, rows, out)
    }

    fn is_count_unknown(&self, ctx: &Context, rows: &[Rows]) -> bool {
        (**self).is_count_unknown(ctx, rows)
    }
}
