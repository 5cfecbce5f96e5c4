//! Filling the index, in batches: the words of new messages, of older ones, and of those that were
//! changed.

use std::sync::Arc;

use serde::Serialize;

use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::reply::json;
use crate::search::tokens::tokens;
use crate::search::words::WORDS_VERSION;
use crate::sql::{Row, Rows, Statement};

/// How much one operation takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    pub messages_max: i64,
    /// Of their contents, without that of the last message.
    pub bytes_max: i64,
    /// Of all messages, those to be taken out too. A message that has more is taken in alone.
    pub tokens_max: usize,
}

impl Batch {
    /// So small that other operations hardly wait for it.
    pub const BESIDE_OTHERS: Batch = Batch {
        messages_max: 128,
        bytes_max: 64 * 1024,
        tokens_max: 4_000,
    };
    /// For a program that works alone.
    pub const ALONE: Batch = Batch {
        messages_max: 1024,
        bytes_max: 512 * 1024,
        tokens_max: 1_000_000,
    };
}

impl Batch {
    /// The first of these messages, at least one, that do not have too many tokens together.
    fn first<M>(&self, messages: impl Iterator<Item = M>, tokens: impl Fn(&M) -> usize) -> Vec<M> {
        let mut sum = 0;
        let fits = |(number, message): &(usize, M)| {
            sum += tokens(message);
            *number == 0 || sum <= self.tokens_max
        };
        let first = messages.enumerate().take_while(fits);
        first.map(|(_, message)| message).collect()
    }
}

/// Of a text of `tokens`.
fn count(tokens: &str) -> usize {
    tokens.split(' ').count()
}

/// Finds what the index needs next.
pub struct FindUnindexed {
    pub host_id: Arc<str>,
    /// Of several hosts, one fills the index: the first of those that gave a sign of life within
    /// this many seconds.
    pub lease_seconds: i64,
    pub batch: Batch,
}

/// What the index needs next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexWork {
    /// It holds all messages, or another host fills it, or nobody wants it.
    Nothing,
    /// It was filled by a program that makes other tokens, or is being emptied: see `ClearIndex`.
    Clear,
    Change(IndexChanges),
    Add(IndexMessages),
}

/// The messages of an id range, `$order` first, with their running number of bytes.
macro_rules! unindexed {
    ($range:literal, $order:literal) => {
        concat!(
            "select id, cast(conversation_id as integer), cast(sender_id as integer), coalesce(changed_rev, 0), cast(content as blob)
             from (
                 select *, sum(octet_length(content)) over (order by id ", $order, ") as bytes from (
                     select m.* from search_state s cross join messages m on ", $range, "
                     where s.id = 1 order by m.id ", $order, " limit +?1))
             where bytes - octet_length(content) <= ?2 order by id ", $order
        )
    };
}

impl Operation for FindUnindexed {
    type Output = IndexWork;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        let Batch {
            messages_max,
            bytes_max,
            ..
        } = self.batch;
        let max = || [messages_max.into(), bytes_max.into()];
        vec![
            Statement::new(
                "select low, high, words_version, is_clearing, is_off,
                     exists (select 1 from hosts where id < ?1 and seen_at >= unixepoch() - ?2)
                 from search_state where id = 1",
                [(&*self.host_id).into(), self.lease_seconds.into()],
            ),
            Statement::new(
                "select m.id, cast(m.conversation_id as integer), cast(m.sender_id as integer), coalesce(m.changed_rev, 0),
                     cast(m.content as blob), cast(st.content as blob)
                 from (
                     select *, sum(octet_length(content)) over (order by message_id) as bytes
                     from (select * from search_stale order by message_id limit +?1)) st
                     cross join messages m on m.id = st.message_id
                 where st.bytes - octet_length(st.content) <= ?2 order by m.id",
                max(),
            ),
            Statement::new(unindexed!("m.id > s.high", "asc"), max()),
            Statement::new(unindexed!("m.id <= s.low", "desc"), max()),
        ]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<IndexWork, Error> {
        let Some(state) = rows[0].first() else {
            return Ok(IndexWork::Nothing);
        };
        let mut columns = state.columns();
        let (low, high) = (columns.integer(), columns.integer());
        let (words_version, is_clearing) = (columns.integer(), columns.flag());
        let (is_off, is_of_another) = (columns.flag(), columns.flag());
        if is_off || is_of_another {
            return Ok(IndexWork::Nothing);
        }
        if is_clearing || words_version != WORDS_VERSION {
            return Ok(IndexWork::Clear);
        }
        if !rows[1].is_empty() {
            let changed = rows[1].0.iter().map(Changed::of);
            let tokens =
                |Changed(_, new, _, old): &Changed| new.as_deref().map_or(0, count) + count(old);
            let messages = self.batch.first(changed, tokens);
            return Ok(IndexWork::Change(IndexChanges { messages }));
        }
        let (new, old) = (&rows[2].0, &rows[3].0);
        let next = if new.is_empty() { old } else { new };
        let tokens = |Unindexed(_, tokens, _): &Unindexed| tokens.as_deref().map_or(0, count);
        let mut messages = self.batch.first(next.iter().map(Unindexed::of), tokens);
        // FTS5 would write a part of the index for each message that comes after a later one.
        messages.sort_unstable_by_key(|message| message.0);
        let (Some(first), Some(last)) = (messages.first(), messages.last()) else {
            return Ok(IndexWork::Nothing);
        };
        let after = match new.is_empty() {
            true => (first.0 - 1, high),
            false => (low, last.0),
        };
        Ok(IndexWork::Add(IndexMessages {
            before: (low, high),
            after,
            messages,
        }))
    }
}

/// A message as a list for `json_each`: its id, its tokens (null if it has no content), and its
/// `changed_rev` (0 if it has not changed).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Unindexed(i64, Option<String>, i64);

impl Unindexed {
    fn of(row: &Row) -> Self {
        let mut columns = row.columns();
        let (id, conversation_id) = (columns.integer(), columns.integer());
        let (sender_id, changed_rev) = (columns.integer(), columns.integer());
        let content = columns.str();
        let tokens = (!content.is_empty()).then(|| tokens(&content, conversation_id, sender_id));
        Unindexed(id, tokens, changed_rev)
    }
}

/// Adds messages to the index. It does nothing if one of them was changed since they were read, or
/// if the index was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexMessages {
    /// `low` and `high` of the index, before and after.
    before: (i64, i64),
    after: (i64, i64),
    messages: Vec<Unindexed>,
}

/// Has FTS5 write what it was given. Otherwise it does so at a later statement of the transaction,
/// perhaps of another operation, whose `changes()` would then be of that.
fn write_out() -> Statement {
    Statement::new("insert into search (search) values ('flush')", [])
}

impl IndexMessages {
    /// The number of messages.
    pub fn count(&self) -> usize {
        self.messages.len()
    }
}

impl Operation for IndexMessages {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        let as_read = self.messages.iter().map(|Unindexed(id, _, rev)| (id, rev));
        let as_read: Vec<_> = as_read.collect();
        vec![
            Statement::new(
                "update search_state set low = ?3, high = ?4
                 where id = 1 and low = ?1 and high = ?2 and is_clearing = 0 and is_off = 0 and not exists (
                     select 1 from json_each(?5) j cross join messages m on m.id = j.value ->> 0
                     where coalesce(m.changed_rev, 0) <> j.value ->> 1)",
                [
                    self.before.0.into(),
                    self.before.1.into(),
                    self.after.0.into(),
                    self.after.1.into(),
                    json(&as_read).into(),
                ],
            ),
            // FTS5's own statements count as changes, so this looks before the first of them.
            Statement::new(
                "with before(has_changed) as materialized (select changes() = 1)
                 insert into search (rowid, words)
                 select j.value ->> 0, j.value ->> 1 from before cross join json_each(?1) j
                 where before.has_changed and j.value ->> 1 is not null",
                [json(&self.messages).into()],
            ),
            write_out(),
        ]
    }

    fn conclude(&self, _: &Context, _: &[Rows], _: &mut Outbox) -> Result<(), Error> {
        Ok(())
    }
}

/// A message as a list for `json_each`: its id, its present tokens, its `changed_rev`, and the
/// tokens that the index holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Changed(i64, Option<String>, i64, String);

impl Changed {
    fn of(row: &Row) -> Self {
        let Unindexed(id, new, changed_rev) = Unindexed::of(row);
        let mut columns = row.columns();
        let _id = columns.integer();
        let (conversation_id, sender_id) = (columns.integer(), columns.integer());
        let _changed_rev = columns.integer();
        let _content = columns.str();
        let old = tokens(&columns.str(), conversation_id, sender_id);
        Changed(id, new, changed_rev, old)
    }
}

/// Replaces the words of changed messages in the index, and forgets what they were. A message that
/// was changed again since it was read is left for the next time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexChanges {
    messages: Vec<Changed>,
}

/// The messages of the list `?1` that are still as they were read.
macro_rules! as_read {
    () => {
        "json_each(?1) j cross join search_stale st on st.message_id = j.value ->> 0
             cross join messages m on m.id = st.message_id
         where coalesce(m.changed_rev, 0) = j.value ->> 2"
    };
}

impl Operation for IndexChanges {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        let messages = || [json(&self.messages).into()];
        vec![
            Statement::new(
                concat!(
                    "insert into search (search, rowid, words)
                     select 'delete', j.value ->> 0, j.value ->> 3 from ",
                    as_read!()
                ),
                messages(),
            ),
            Statement::new(
                concat!(
                    "insert into search (rowid, words) select j.value ->> 0, j.value ->> 1 from ",
                    as_read!(),
                    " and j.value ->> 1 is not null"
                ),
                messages(),
            ),
            Statement::new(
                concat!(
                    "delete from search_stale where message_id in (select st.message_id from ",
                    as_read!(),
                    ")"
                ),
                messages(),
            ),
            write_out(),
        ]
    }

    fn conclude(&self, _: &Context, _: &[Rows], _: &mut Outbox) -> Result<(), Error> {
        Ok(())
    }
}
