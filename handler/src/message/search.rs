//! `search_messages`: the messages that have certain words.

use serde::Serialize;

use crate::answer_budget::AnswerBudget;
use crate::declaration::Declared;
use crate::error::Error;
use crate::field::{Field, Kind, Length};
use crate::fields::Fields;
use crate::member::Guard;
use crate::message::{Message, message_columns, sender};
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::reply::{Reply, json};
use crate::search::QUERY_CHARS_MAX;
use crate::search::places::Place;
use crate::search::query::{OF_CONVERSATION, Query};
use crate::sql::{Rows, Statement};

/// The most messages in one answer.
pub const SEARCH_PAGE_MAX: i64 = 100;

/// Messages named by the index, and messages that are not in it yet, that one search looks at. Then
/// it stops and says where it would go on. Of the index, it is a random number of those from
/// `INDEXED_LOOKED_AT_MIN` on.
pub const INDEXED_LOOKED_AT_MAX: i64 = 4_000;
pub const INDEXED_LOOKED_AT_MIN: i64 = 2_000;
pub const UNINDEXED_LOOKED_AT_MAX: i64 = 2_000;
/// Messages that are compared with the query, if the index cannot tell exactly which are hits.
pub const COMPARED_MAX: i64 = 1_000;
/// Bytes of their contents, without those of the last one.
pub const COMPARED_BYTES_MAX: i64 = 1024 * 1024;
/// Words and signs of their contents, without those of the last one. So many bytes of a language have
/// fewer; but there are characters that stand for four words. A phrase that nearly begins at each word
/// counts for more.
pub const COMPARED_ELEMENTS_MAX: usize = 250_000;

const QUERY: Field = Field::required("query", Kind::Text(Length::characters(1, QUERY_CHARS_MAX)));
const CONVERSATION_ID: Field = Field::optional("conversation_id", Kind::Conversation)
    .wrong("expected conversation_id as integer");
const BEFORE: Field = Field::optional("before", Kind::Position).wrong("expected before as integer");
const LIMIT: Field = Field::optional(
    "limit",
    Kind::Integer {
        min: 1,
        max: SEARCH_PAGE_MAX,
    },
);

/// `search_messages {query, conversation_id?, before?, limit?}` → [`FoundMessages`]: the messages that have
/// all words of the query, in the conversation or, without one, in the caller's conversations.
pub struct SearchMessages {
    query: Query,
    conversation_id: Option<i64>,
    before: i64,
    limit: i64,
}

/// The answer. Hits come newest first.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FoundMessages<'a> {
    /// As JSON: [`Hit`]s, put together already.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<Hit>"))]
    messages: &'a serde_json::value::RawValue,
    /// Whether there may be more: the page is full, or the search has stopped because it took long.
    has_more: bool,
    /// For the next page: all messages from this id on were looked at. Absent without `has_more`.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<i64>,
}

/// A message that was found.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Hit<'a> {
    #[serde(flatten)]
    message: Message<'a>,
    /// Where its content has what was searched for: from where to where, in UTF-16 code units, in
    /// the order of the content. At most `PLACES_MAX`.
    hits: Vec<Place>,
}

/// Messages that may be hits, with what is known of the rest. `$found` are common table expressions,
/// the last of which is `found(id)`: ids from the highest one. `$stopped` and `$floor` are ids below
/// which it has not looked, or null.
///
/// The first row has no message, but the ids below which a bound has stopped the search, or null,
/// and the number of messages that the caller may see. Of those, the messages follow whose contents,
/// without their own, add up to no more than `?9` bytes.
///
/// `?1` is the caller, `?2` the id before which to look, `?3` the conversation or null, `?4` the
/// expression for the index, `?5` the expressions for samples, `?6` the sender's username or null,
/// `?7` the most ids, `?8` the most messages to compare.
macro_rules! candidates {
    ($found:expr, $stopped:expr, $floor:expr) => {
        concat!(
            "with ",
            $found,
            ", seen(id) as materialized (
                 select m.id from found cross join messages m on m.id = found.id
                 where (?3 is null or m.conversation_id = ?3)
                     and exists (select 1 from members where conversation_id = m.conversation_id and user_id = ?1)
                 limit +?8)
             select ",
            $stopped,
            ", (select iif(count(*) = ?8, min(id), null) from seen), ",
            $floor,
            ", (select count(*) from seen), null, null, null, null, null
             union all
             select * from (select ",
            message_columns!(),
            " from (
                 select id, sum(bytes) over (order by id desc) - bytes as before from (
                     select seen.id as id, coalesce(octet_length(x.content), 0) as bytes
                     from seen cross join messages x on x.id = seen.id)
                 ) as read cross join messages m on m.id = read.id",
            sender!(),
            " where read.before <= ?9 order by m.id desc)"
        )
    };
}

/// The id at which the search has stopped, if it has found as many messages as it may.
macro_rules! lowest_found {
    () => {
        "(select iif(count(*) = ?7, min(id), null) from found)"
    };
}

/// Messages that are not in the index: their ids are in this range.
macro_rules! unindexed {
    ($range:literal) => {
        candidates!(
            concat!(
                "found(id) as materialized (
                     select m.id from search_state s cross join messages m on ",
                $range,
                " and m.id < ?2 where s.id = 1 order by m.id desc limit +?7)"
            ),
            lowest_found!(),
            "null"
        )
    };
}

/// Messages whose content is another one than that in the index.
const CHANGED: &str = candidates!(
    "found(id) as materialized (
         select message_id from search_stale where message_id < ?2 order by message_id desc limit +?7)",
    lowest_found!(),
    "null"
);

/// Messages that the index names. If the caller is in 16 conversations or fewer, it is asked for
/// messages of these conversations only. For a caller in more of them, it is quicker to look
/// everywhere, and then whether a hit is in one of them.
///
/// FTS5 goes through the messages of the rarest word and looks whether they have the others. Where
/// two frequent words hardly ever meet, it would go through all messages and find nothing. So `walk`
/// estimates the cost, in microseconds for each message of the chat: from the latest 300 messages of
/// each word follows its density, the share of messages that have it. A step to a far place in a
/// word's list costs up to 60 µs, one to the next place 0.15 µs. The search goes back as far as
/// 20 to 30 ms allow, but 60,000 ids at least and 200,000 at most: the words may be more frequent before
/// the latest messages. A word that has fewer than 300 messages costs less than that.
///
/// Where it stops depends on messages that the caller may not see. Nobody is to learn from the answer
/// which words these have. So it says that it has looked as far as it always does (2,000 messages that
/// were found, or 60,000 ids), or to the last message that the caller may see, if that is further. And
/// its bounds are random: without that, somebody who has sent as many messages with a word as a bound
/// allows, less one, would learn whether anybody else has sent one.
const INDEXED: &str = candidates!(
    concat!(
        "mine(id) as materialized (
             select conversation_id from members
             where user_id = ?1 and ?3 is null limit 17),
         is_few(yes) as materialized (select ?3 is not null or (select count(*) from mine) <= 16),
         asked(expression) as materialized (
             select ?4
                 || case when ?6 is null then ''
                     else ' AND \"§s' || coalesce((select id from users where username = ?6), 'none') || '\"' end
                 || case when ?3 is null and (select yes from is_few)
                     then ' AND (' || coalesce((select group_concat('\"§c' || id || '\"', ' OR ') from mine), '\"§cnone\"') || ')'
                     else '' end),
         bounds(found, sample, cost) as materialized (
             select ?7 - abs(random() % (?7 / 2)), 300 + abs(random() % 600), 20000 + abs(random() % 10000)),
         span(top, bottom) as materialized (
             select min(?2, high), max(low, (select coalesce(min(id), 0) from messages) - 1) from search_state where id = 1),
         densities(density) as materialized (
             select 1.0 * (select sample from bounds) / max(1, span.top - (
                 select iif(count(*) = (select sample from bounds), min(id), null) from (
                     select t.rowid as id from search_state s cross join search t
                     where s.id = 1 and s.is_clearing = 0 and t.search match j.value and t.rowid < ?2
                     order by t.rowid desc limit (select sample from bounds))))
             from span cross join json_each(?5) j
             union all
             select iif(messages < 300, null, min(1.0, 1.0 * messages / max(1, top - bottom))) from span, (
                 select sum(rev) as messages from conversations where id in (select id from mine union all select ?3))
             where (select yes from is_few)),
         walk(low) as materialized (
             select max(bottom, case when rare is null then bottom
                 else top - min(200000, max(60000, cast((select cost from bounds) / min(60 * rare, 0.15 * (rare + frequent)) as integer))) end)
             from span, (
                 select iif(count(*) = count(density), min(density), null) as rare, sum(density) as frequent from densities)),
         found(id) as materialized (
             select t.rowid from search_state s cross join search t
             where s.id = 1 and s.is_clearing = 0 and t.search match (select expression from asked)
                 and t.rowid < ?2 and t.rowid > (select low from walk)
             order by t.rowid desc limit (select found from bounds))"
    ),
    "(select iif((select count(*) from found) = bounds.found, min(top - ?7 / 2 + 1, (select coalesce(min(id), top) from seen)), null)
      from bounds, span)",
    "(select iif(walk.low > bottom, min(top - 60000, (select coalesce(min(id), top) from seen)), null) from walk, span)"
);

impl Declared for SearchMessages {
    const TYPE: &'static str = "search_messages";
    const FIELDS: &'static [Field] = &[QUERY, CONVERSATION_ID, BEFORE, LIMIT];
    type Data = FoundMessages<'static>;

    fn read(fields: &Fields) -> Result<Self, Error> {
        Ok(SearchMessages {
            query: Query::parse(&QUERY.required_text(fields)?)?,
            conversation_id: CONVERSATION_ID.integer(fields)?,
            before: BEFORE.integer(fields)?.unwrap_or(i64::MAX),
            limit: LIMIT.integer(fields)?.unwrap_or(SEARCH_PAGE_MAX),
        })
    }
}

impl SearchMessages {
    fn guard(&self) -> Option<Guard> {
        let stranger = |id, ctx: &Context| {
            Error::NotFound(format!(
                "{} not part of conversation with {id} id",
                ctx.username
            ))
        };
        let id = self.conversation_id?;
        Some(Guard::of_reference(id, stranger))
    }
}

impl Operation for SearchMessages {
    type Output = Reply;

    fn access(&self) -> Access {
        Access::Read
    }

    fn takes_long(&self) -> bool {
        true
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let question = self.query.question();
        let mut expression = question.expression();
        if let Some(id) = self.conversation_id {
            expression += &format!(" AND \"{OF_CONVERSATION}{id}\"");
        }
        let compared = match question.is_vague {
            true => COMPARED_MAX,
            // One message more than was asked for shows whether there are more.
            false => self.limit + 1,
        };
        let samples = json(&question.samples());
        let statement = |sql, found: i64, compared: i64| {
            Statement::new(
                sql,
                [
                    ctx.user_id.into(),
                    self.before.into(),
                    self.conversation_id.into(),
                    expression.as_str().into(),
                    samples.as_str().into(),
                    self.query.from.as_deref().into(),
                    found.into(),
                    compared.into(),
                    COMPARED_BYTES_MAX.into(),
                ],
            )
        };
        let unindexed = |sql| statement(sql, UNINDEXED_LOOKED_AT_MAX, COMPARED_MAX);
        let mut statements = vec![
            Statement::new("select is_off from search_state where id = 1", []),
            statement(INDEXED, INDEXED_LOOKED_AT_MAX, compared),
            unindexed(unindexed!("m.id > s.high")),
            unindexed(unindexed!("m.id <= s.low")),
            unindexed(CHANGED),
        ];
        statements.extend(self.guard().map(|guard| guard.statement(ctx)));
        statements
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Reply, Error> {
        if let (Some(guard), Some(rows)) = (self.guard(), rows.get(SOURCES.end)) {
            guard.check(rows, ctx)?;
        }
        let is_off = rows[0].first().is_some_and(|row| row.columns().flag());
        if is_off {
            let text = "the search is switched off on this server";
            return Err(Error::Forbidden(text.into()));
        }
        let sources = rows[SOURCES].iter().map(Candidates::read);
        let sources: Vec<_> = sources.collect();
        // Below the highest floor, one of the sources has not been looked through.
        let floor = sources.iter().filter_map(|source| source.floor).max();
        let mut messages: Vec<_> = sources
            .into_iter()
            .flat_map(|source| source.messages)
            .collect();
        messages.sort_by_key(|message| std::cmp::Reverse(message.id));
        messages.dedup_by_key(|message| message.id);
        let mut budget = AnswerBudget::new(self.limit);
        let mut taken: Vec<String> = Vec::new();
        let mut before = floor;
        let mut last = None;
        let (mut compared, mut lowest) = (0, None);
        for message in messages {
            let id = message.id;
            if floor.is_some_and(|floor| id < floor) {
                break;
            }
            if compared > COMPARED_ELEMENTS_MAX {
                before = lowest;
                break;
            }
            lowest = Some(id);
            let Some(hit) = self.hit(message, &mut compared) else {
                continue;
            };
            let Some(item) = budget.take(hit) else {
                before = last;
                break;
            };
            taken.push(item);
            last = Some(id);
        }
        let messages = format!("[{}]", taken.join(","));
        let messages = serde_json::value::RawValue::from_string(messages);
        Ok(Reply::of(&FoundMessages {
            messages: &messages.map_err(|error| Error::Internal(error.to_string()))?,
            has_more: before.is_some(),
            before,
        }))
    }
}

impl SearchMessages {
    /// The message with the places of its hits, as JSON; `None` if it is no hit. One without content
    /// is deleted.
    fn hit(&self, message: Message, compared: &mut usize) -> Option<String> {
        let is_from = |name: &String| *name == message.sender_username;
        if message.content.is_empty() || !self.query.from.iter().all(is_from) {
            return None;
        }
        let hits = self.query.places(&message.content, compared)?;
        Some(json(&Hit { message, hits }))
    }
}

/// The statements of `candidates!` among all.
const SOURCES: std::ops::Range<usize> = 1..5;

/// What a statement of `candidates!` has found.
struct Candidates<'a> {
    messages: Vec<Message<'a>>,
    /// Messages with lower ids were not looked at. `None` if all were.
    floor: Option<i64>,
}

impl<'a> Candidates<'a> {
    fn read(rows: &'a Rows) -> Self {
        let mut rows = rows.0.iter();
        let mut first = rows.next().map(|row| row.columns());
        let mut next = || {
            first
                .as_mut()
                .and_then(|columns| columns.optional_integer())
        };
        let floors = [next(), next(), next()];
        let seen = next().unwrap_or(0);
        let messages: Vec<_> = rows.map(|row| Message::read(&mut row.columns())).collect();
        // The others were too long.
        let is_cut = (messages.len() as i64) < seen;
        let cut = messages.last().filter(|_| is_cut);
        let floors = floors.into_iter().chain([cut.map(|message| message.id)]);
        Candidates {
            floor: floors.flatten().max(),
            messages,
        }
    }
}
