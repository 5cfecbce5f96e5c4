//! An operation on its way through the store.

use handler::{Context, Element, Error, Operation, Outbox, Rows, Statement};

use crate::awake::Moment;
use crate::delivery::Delivery;
use crate::store::source::Room;
use crate::threads::contain;

/// One operation, with its type erased.
pub struct Job {
    /// The statements to run first; empty once they are taken, or if it can be an element.
    pub statements: Vec<Statement>,
    /// The operation as an element of a set, if it can be one.
    pub element: Option<Element>,
    /// The caller; 0 if nobody is logged in.
    pub user_id: i64,
    /// The bytes of its parameters.
    pub bytes: usize,
    pub submitted_at: Moment,
    pub work: Box<dyn Work>,
    pub room: Room,
}

impl Job {
    pub fn take_statements(&mut self) -> Vec<Statement> {
        match std::mem::take(&mut self.statements) {
            taken if taken.is_empty() => self.work.statements(),
            first => first,
        }
    }
}

/// The bytes of the parameters, approximately.
pub fn bytes(statements: &[Statement]) -> usize {
    let parameters = statements.iter().flat_map(|s| &s.parameters);
    let sizes = parameters.map(|value| match value {
        libsql::Value::Text(text) => text.len(),
        libsql::Value::Blob(bytes) => bytes.len(),
        _ => 8,
    });
    sizes.sum()
}

/// An operation and what to do with its outcome, with their types erased.
pub trait Work: Send {
    fn statements(&self) -> Vec<Statement>;

    /// The operation was committed, but its rows were lost: from now on its statements find what it
    /// did.
    fn repeat(&mut self);

    /// See `Operation::is_count_unknown`.
    fn is_count_unknown(&self, rows: &[Rows]) -> bool;

    /// Takes the rows once they are committed; returns what to deliver.
    fn finish(self: Box<Self>, rows: Result<Vec<Rows>, Error>) -> Option<Delivery>;
}

/// An operation and what to do with its outcome.
pub struct Submitted<O, F> {
    pub ctx: Context,
    pub operation: O,
    pub then: F,
}

impl<O, F> Work for Submitted<O, F>
where
    O: Operation,
    F: FnOnce(Result<O::Output, Error>, Outbox) -> Option<Delivery> + Send,
{
    fn statements(&self) -> Vec<Statement> {
        self.operation.statements(&self.ctx)
    }

    fn repeat(&mut self) {
        self.ctx.is_repeat = true;
    }

    fn is_count_unknown(&self, rows: &[Rows]) -> bool {
        self.operation.is_count_unknown(&self.ctx, rows)
    }

    fn finish(self: Box<Self>, rows: Result<Vec<Rows>, Error>) -> Option<Delivery> {
        let Submitted {
            ctx,
            operation,
            then,
        } = *self;
        let mut outbox = Outbox::new();
        let conclude = || operation.conclude(&ctx, &rows?, &mut outbox);
        let outcome = contain(conclude);
        if outcome.is_err() {
            outbox.clear();
        }
        then(outcome, outbox)
    }
}

#[cfg(test)]
impl Job {
    /// A job that does nothing.
    pub fn idle(bytes: usize, room: Room) -> Self {
        struct Idle;
        impl Work for Idle {
            fn statements(&self) -> Vec<Statement> {
                Vec::new()
            }

            fn repeat(&mut self) {}

            fn is_count_unknown(&self, _: &[Rows]) -> bool {
                false
            }

            fn finish(self: Box<Self>, _: Result<Vec<Rows>, Error>) -> Option<Delivery> {
                None
            }
        }
        Job {
            statements: Vec::new(),
            element: None,
            user_id: 0,
            bytes,
            submitted_at: Moment::now(),
            work: Box::new(Idle),
            room,
        }
    }
}
