//! `sync`: what a client missed, by the revs it has.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::conversation::unread_column;
use crate::error::Error;
use crate::event::{Reply, json, push};
use crate::fields::Fields;
use crate::message::{Message, Page, limit, message_columns};
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::statement::{Row, Rows, Statement};

/// Conversations whose revs a client may send: each costs some microseconds of a reader.
pub const SYNC_REVS_MAX: usize = 20_000;
/// Messages in one answer.
pub const SYNC_MESSAGES_MAX: i64 = 1_000;
const SYNC_MESSAGES_DEFAULT: i64 = 500;

/// Longest `epoch`, in characters.
pub const EPOCH_CHARS_MAX: usize = 64;

/// `sync {revs: {"<conversation id>": rev}, limit?, epoch?}` → `{conversations, left, more, epoch?}`.
///
/// Of each of the caller's conversations whose rev is higher than the given one: the conversation, `read_id`, `unread` and,
/// in the order of their revs, the messages that changed since; of one that the client has never seen, or has at rev 0,
/// those of the latest 100. A conversation whose messages are cut short has the rev of the last one in the answer. `left` are
/// those of `revs` that the caller is not in. With `more`, the client takes this in and asks again. `epoch` is answered where
/// it is given: it is another one once a backup was restored, after which ids and revs may be given out anew; then `revs` count as
/// none.
pub struct Sync {
    revs: BTreeMap<i64, i64>,
    limit: i64,
    epoch: Option<String>,
}

/// An answer that nobody asked for and that holds nothing but `more`: the client may have missed something, and asks.
pub fn hint() -> String {
    push("sync", r#"{"conversations":[],"left":[],"more":true}"#)
}

/// The conversations of users, for a host that may have missed who joined what.
pub struct FindMembers {
    pub user_ids: Vec<i64>,
}

impl Operation for FindMembers {
    /// Users with their conversations.
    type Output = Vec<(i64, Vec<i64>)>;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "select user_id, cast(json_group_array(conversation_id) as blob) from members
             where user_id in (select value from json_each(?1)) group by user_id",
            [json(&self.user_ids).into()],
        )]
    }

    fn conclude(
        &self,
        _: &Context,
        rows: &[Rows],
        _: &mut Outbox,
    ) -> Result<Vec<(i64, Vec<i64>)>, Error> {
        let rows = rows[0].0.iter();
        let ids = |row: &Row| serde_json::from_str(&row.text(1)).unwrap_or_default();
        Ok(rows.map(|row| (row.integer(0), ids(row))).collect())
    }
}

impl Sync {
    pub fn parse(fields: &Fields) -> Result<Self, Error> {
        let revs = fields.raw("revs").unwrap_or("{}");
        // What is too long is not even read: each conversation has its colon.
        if revs.bytes().filter(|byte| *byte == b':').count() > SYNC_REVS_MAX {
            return Err(Error::TooLarge(format!(
                "revs should have at most {SYNC_REVS_MAX} conversations"
            )));
        }
        let revs: BTreeMap<i64, Option<i64>> = serde_json::from_str(revs).map_err(|_| {
            let text = "revs should be an object from conversation ids to integers";
            Error::Invalid(text.into())
        })?;
        let epoch = fields.text("epoch");
        let epoch = epoch.ok().filter(|epoch| {
            epoch
                .as_ref()
                .is_none_or(|epoch| epoch.chars().count() <= EPOCH_CHARS_MAX)
        });
        let Some(epoch) = epoch else {
            return Err(Error::Invalid(format!(
                "epoch should be a string of at most {EPOCH_CHARS_MAX} characters"
            )));
        };
        Ok(Sync {
            epoch,
            revs: revs
                .into_iter()
                .map(|(id, rev)| (id, rev.unwrap_or_default()))
                .collect(),
            limit: limit(fields, SYNC_MESSAGES_MAX)?.unwrap_or(SYNC_MESSAGES_DEFAULT),
        })
    }
}

/// `given`: the client's revs. `changed`: what is newer; `since` is null for what it has never seen, and `size` is at least
/// the number of messages that changed, without counting them: each has a rev of its own; twenty members weigh as much as
/// a message. `page`: as many of those, in the
/// order of ids, as `limit` has room for; only the last one of them can be cut short.
///
/// `?1` is the caller, `?2` the revs as JSON, `?3` the limit, `?4` the epoch of the revs.
macro_rules! page {
    () => {
        "with given as materialized (
             select cast(key as integer) as id, value as rev
             from json_each(iif(?4 is null or ?4 = (select id from community), ?2, '{}'))
         ), changed as materialized (
             select c.id, c.name, c.rev, mb.read_id, g.rev as since,
                 iif(g.rev is null, min(c.rev, 100), c.rev - g.rev)
                     + (select count(*) from members where conversation_id = c.id) / 20 as size
             from members mb
                 cross join conversations c on c.id = mb.conversation_id
                 left join given g on g.id = c.id and g.rev > 0
             where mb.user_id = ?1 and c.rev > coalesce(g.rev, 0)
         ), page as materialized (
             select * from (
                 select *, sum(size) over (order by id rows unbounded preceding) - size as taken from changed
             ) where taken < ?3
         )"
    };
}

impl Operation for Sync {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let revs = json(&self.revs);
        let epoch = || self.epoch.clone().into();
        let parameters = || {
            [
                ctx.user_id.into(),
                revs.as_str().into(),
                self.limit.into(),
                epoch(),
            ]
        };
        let mut statements = vec![
            Statement::new(
                concat!(
                    page!(),
                    " select page.id, cast(page.name as blob), page.rev, page.read_id, ",
                    unread_column!(),
                    ", (select count(*) from changed) > (select count(*) from page)
                     from page order by page.id"
                ),
                parameters(),
            ),
            Statement::new(
                concat!(
                    page!(),
                    " select page.id, cast(u.username as blob)
                     from page cross join members mb on mb.conversation_id = page.id
                         cross join users u on u.id = mb.user_id
                     order by page.id, mb.rowid"
                ),
                parameters(),
            ),
            // `touched`: of one conversation at most one message more than an answer has room for, which shows that it is
            // cut short. `chosen`: how many bytes of content come before each, so that no more are read than
            // `PAGE_BYTES_MAX` (1048576) and the one that shows the cut.
            Statement::new(
                concat!(
                    page!(),
                    ", touched as materialized (
                         select m.id, m.conversation_id, m.rev, coalesce(octet_length(m.content), 0) as bytes
                         from page cross join messages m on m.conversation_id = page.id and m.rev > page.since
                             and m.rev <= coalesce((select rev from messages
                                 where conversation_id = page.id and rev > page.since
                                 order by rev limit 1 offset ?3), page.rev)
                         where page.since is not null
                         union all
                         select m.id, m.conversation_id, m.rev, coalesce(octet_length(m.content), 0)
                         from page cross join messages m on m.conversation_id = page.id
                             and m.rev >= coalesce((select rev from messages
                                 where conversation_id = page.id order by rev desc limit 1 offset 99), 0)
                         where page.since is null
                     ), chosen as materialized (
                         select id, sum(bytes) over (
                             order by conversation_id, rev rows unbounded preceding) - bytes as taken
                         from touched
                     )
                     select ",
                    message_columns!(),
                    " from chosen cross join messages m on m.id = chosen.id
                     where chosen.taken <= 1048576 order by 2, 3"
                ),
                parameters(),
            ),
            Statement::new(
                "select cast(key as integer) as id
                 from json_each(iif(?3 is null or ?3 = (select id from community), ?2, '{}'))
                 where not exists (select 1 from members where conversation_id = cast(key as integer) and user_id = ?1)",
                [ctx.user_id.into(), revs.as_str().into(), epoch()],
            ),
        ];
        if self.epoch.is_some() {
            let epoch = "select cast(id as blob) from community";
            statements.push(Statement::new(epoch, []));
        }
        statements
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        #[derive(Serialize)]
        struct Changed {
            id: i64,
            name: String,
            rev: i64,
            members: Vec<String>,
            read_id: i64,
            unread: i64,
            messages: Vec<Box<RawValue>>,
        }
        #[derive(Serialize)]
        struct Answer {
            conversations: Vec<Changed>,
            left: Vec<i64>,
            more: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            epoch: Option<String>,
        }
        let [conversations, members, messages, left, epoch @ ..] = rows else {
            return Err(Error::Internal("four statements, four results".into()));
        };
        let mut members = members.0.iter().peekable();
        let mut messages = messages.0.iter().peekable();
        let mut page = Page::new(self.limit);
        let mut answer = Answer {
            conversations: Vec::new(),
            left: left.integers(),
            more: conversations.first().is_some_and(|row| row.flag(5)),
            epoch: epoch.first().and_then(Rows::first).map(|row| row.text(0)),
        };
        for row in &conversations.0 {
            let id = row.integer(0);
            let mut changed = Changed {
                id,
                name: row.text(1),
                rev: row.integer(2),
                members: std::iter::from_fn(|| members.next_if(|row| row.integer(0) == id))
                    .map(|row| row.text(1))
                    .collect(),
                read_id: row.integer(3),
                unread: row.integer(4),
                messages: Vec::new(),
            };
            let usernames: usize = changed.members.iter().map(String::len).sum();
            if !page.charge(usernames) {
                answer.more = true;
                return Ok(Reply::of(&answer));
            }
            let mut last_rev = None;
            while let Some(row) = messages.next_if(|row| row.integer(1) == id) {
                let message = Message::of(row, 0);
                match page.take(json(&message)) {
                    Some(text) => changed.messages.push(
                        RawValue::from_string(text)
                            .expect("text that this crate serialised is JSON"),
                    ),
                    None => {
                        answer.more = true;
                        // Nothing of it fits: it comes with the next page.
                        let Some(rev) = last_rev else {
                            return Ok(Reply::of(&answer));
                        };
                        changed.rev = rev;
                        answer.conversations.push(changed);
                        return Ok(Reply::of(&answer));
                    }
                }
                last_rev = Some(message.rev);
            }
            answer.conversations.push(changed);
        }
        Ok(Reply::of(&answer))
    }
}
