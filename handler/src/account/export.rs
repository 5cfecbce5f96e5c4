//! `GET /account/export`: everything that is stored about the caller, as one JSON document.
//!
//! The document is made of pages. On a file, the host reads all of them in one transaction, so that the
//! document is of one moment. On a libSQL server each is a read of its own: what was stored after the
//! export had begun is left out, what was changed meanwhile may be as before or as after, and a
//! message that was changed, which gets a new rev, may come twice.

use libsql::Value;
use serde::Serialize;

use crate::account::login_id::SessionId;
use crate::account::open_login::no_login;
use crate::error::Error;
use crate::message::{Message, message_bytes, message_columns, sender};
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::reply::json;
use crate::role::Role;
use crate::sql::{Columns, Row, Rows, Statement};
use crate::user::profile::OwnProfile;
use crate::user::{DELETED_USERNAME, profile_columns};

/// The rows that a page reads at most, apart from those that it only looks at.
pub const PAGE_ROWS_MAX: i64 = 500;
/// About how many bytes of content a page of messages reads at most.
pub const PAGE_BYTES_MAX: i64 = 256 * 1024;
/// The messages, reactions or reports of all users that a page looks at to find the caller's: no index
/// finds them, because each message would pay for it.
pub const LOOKED_AT_MAX: i64 = 10_000;

/// The parts of the document, in its order, each with its name there. Another table that has
/// something of a user gets a line here and its query in `Section::page`.
const SECTIONS: &[(&str, Section)] = &[
    ("sessions", Section::Sessions),
    ("contacts", Section::Contacts),
    ("conversations", Section::Conversations),
    ("messages", Section::Messages),
    ("reactions", Section::Reactions),
    ("mentions", Section::Mentions),
    ("blocked", Section::Blocked),
    ("reports", Section::Reports),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Sessions,
    Contacts,
    Conversations,
    Messages,
    Reactions,
    Mentions,
    Blocked,
    Reports,
}

/// The first page: the profile, and the beginning of the document. Fails with `Unauthorized` if the
/// caller has no account.
pub struct BeginExport {
    pub username: String,
}

/// A page after the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportPage {
    user_id: i64,
    username: String,
    /// Messages, reactions and reports after these came later.
    last_message: i64,
    last_reaction: i64,
    last_report: i64,
    /// An index of `SECTIONS`.
    section: usize,
    /// The key of the last row that was looked at in the section, in the order of its index.
    after: [i64; 4],
    /// Whether the section has no items yet.
    is_first: bool,
}

/// Some of the document, and how to get what follows; `None` after its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    pub text: String,
    pub next: Option<ExportPage>,
}

/// Everything that is stored about the caller.
#[cfg(feature = "schema")]
#[derive(schemars::JsonSchema)]
#[expect(dead_code, reason = "only described")]
pub struct Export<'a> {
    /// Unix seconds.
    exported_at: i64,
    profile: OwnProfile,
    /// How an identity provider knows the user. Left out if none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<OwnIdentity<'a>>,
    /// The logins that have not ended.
    sessions: Vec<OwnSession<'a>>,
    contacts: Vec<Person<'a>>,
    conversations: Vec<OwnConversation<'a>>,
    messages: Vec<Message<'a>>,
    reactions: Vec<OwnReaction<'a>>,
    mentions: Vec<OwnMention>,
    blocked: Vec<Person<'a>>,
    reports: Vec<OwnReport<'a>>,
}

/// The beginning of every section: no key is smaller.
const BEGINNING: [i64; 4] = [i64::MIN; 4];

/// A login that has not ended. Times are Unix seconds.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct OwnSession<'a> {
    id: Option<String>,
    created_at: i64,
    last_seen: i64,
    user_agent: &'a str,
}

/// The claims `iss` and `sub` of the user's tokens.
#[cfg(feature = "schema")]
#[derive(schemars::JsonSchema)]
#[expect(dead_code, reason = "only described")]
struct OwnIdentity<'a> {
    issuer: &'a str,
    subject: &'a str,
}

/// A contact, or somebody whom the caller has blocked.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Person<'a> {
    username: &'a str,
}

/// A conversation that the caller is in.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct OwnConversation<'a> {
    id: i64,
    name: &'a str,
    direct: bool,
    /// Unix seconds; null for a conversation from before this was stored.
    created_at: Option<i64>,
    member_count: i64,
    /// The caller's: `owner`, `admin` or `member`.
    role: &'static str,
    /// The id of the last message that the caller has read; 0 if there is none.
    read_id: i64,
}

/// A reaction of the caller.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct OwnReaction<'a> {
    message_id: i64,
    conversation_id: i64,
    emoji: &'a str,
}

/// A report that the caller has made. `reported_at` is in Unix seconds.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct OwnReport<'a> {
    message_id: i64,
    reason: &'a str,
    reported_at: i64,
}

/// A message of somebody else that mentions the caller.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct OwnMention {
    message_id: i64,
    conversation_id: i64,
}

impl Operation for BeginExport {
    type Output = Exported;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            concat!(
                "select u.id, (select coalesce(max(id), 0) from messages),
                     (select coalesce(max(rowid), 0) from reactions), (select coalesce(max(id), 0) from reports), ",
                profile_columns!("0"),
                ", u.reachable_by, (select cast(json_object('issuer', issuer, 'subject', subject) as blob)
                     from identities where user_id = u.id) from users u where u.username = ?1"
            ),
            [self.username.as_str().into()],
        )]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Exported, Error> {
        let row = rows[0].first().ok_or_else(no_login)?;
        let mut columns = row.columns();
        let next = ExportPage {
            user_id: columns.integer(),
            username: self.username.clone(),
            last_message: columns.integer(),
            last_reaction: columns.integer(),
            last_report: columns.integer(),
            section: 0,
            after: BEGINNING,
            is_first: true,
        };
        let profile = json(&OwnProfile::read(&mut columns));
        let identity = columns.optional_str();
        let identity = identity.map(|identity| format!("\"identity\":{identity},\n"));
        let identity = identity.unwrap_or_default();
        let (now, name) = (ctx.now, SECTIONS[0].0);
        Ok(Exported {
            text: format!(
                "{{\"exported_at\":{now},\n\"profile\":{profile},\n{identity}\"{name}\":["
            ),
            next: Some(next),
        })
    }
}

/// A condition that holds as long as the account is not deleted.
macro_rules! has_account {
    () => {
        "exists (select 1 from users where id = ?1 and username = ?2)"
    };
}

impl Section {
    /// Selects the next rows. Each begins with the four columns of its key.
    fn page(self, page: &ExportPage) -> Vec<Statement> {
        let ExportPage { after, .. } = page;
        let user_id = page.user_id.into();
        let username = page.username.as_str().into();
        match self {
            Section::Sessions => vec![Statement::new(
                concat!(
                    "select number, 0, 0, 0, id, created_at, last_seen, cast(user_agent as blob)
                     from sessions where user_id = ?1 and number > ?3 and ",
                    has_account!(),
                    " order by number limit +?4"
                ),
                [user_id, username, after[0].into(), PAGE_ROWS_MAX.into()],
            )],
            Section::Contacts => vec![Statement::new(
                concat!(
                    "select contact_id, 0, 0, 0, cast(u.username as blob)
                     from contacts c left join users u on u.id = c.contact_id
                     where c.user_id = ?1 and c.contact_id > ?3 and ",
                    has_account!(),
                    " order by c.contact_id limit +?4"
                ),
                [user_id, username, after[0].into(), PAGE_ROWS_MAX.into()],
            )],
            Section::Conversations => vec![Statement::new(
                concat!(
                    "select mb.conversation_id, 0, 0, 0, cast(c.name as blob), c.direct is not null,
                         c.created_at, c.member_count, mb.role, mb.read_id
                     from members mb left join conversations c on c.id = mb.conversation_id
                     where mb.user_id = ?1 and mb.conversation_id > ?3 and ",
                    has_account!(),
                    " order by mb.conversation_id limit +?4"
                ),
                [user_id, username, after[0].into(), PAGE_ROWS_MAX.into()],
            )],
            Section::Messages => {
                /// The messages that this page looks at.
                macro_rules! looked_at {
                    ($columns:literal, $limit:literal) => {
                        concat!(
                            "select ",
                            $columns,
                            " from messages where (conversation_id, rev, sender_id, id) > (?3, ?4, ?5, ?6)
                             order by conversation_id, rev, sender_id, id limit ",
                            $limit
                        )
                    };
                }

                vec![
                    Statement::new(
                        concat!(
                            "with own as materialized (
                                 select id from (",
                            looked_at!("id, sender_id", "+?7"),
                            ") where sender_id = ?1 and id <= ?8 and ",
                            has_account!(),
                            " limit +?9
                             ), sized as materialized (
                                 select id, sum(bytes) over (order by conversation_id, rev, sender_id, id
                                     rows unbounded preceding) - bytes as taken
                                 from (select m.id, m.conversation_id, m.rev, m.sender_id, ",
                            message_bytes!(),
                            " as bytes from own cross join messages m on m.id = own.id)
                             )
                             select m.conversation_id, m.rev, m.sender_id, m.id,
                                 (select count(*) from own), ",
                            message_columns!(),
                            " from sized cross join messages m on m.id = sized.id",
                            sender!(),
                            " where sized.taken <= ?10
                              order by m.conversation_id, m.rev, m.sender_id, m.id"
                        ),
                        [
                            user_id,
                            username,
                            after[0].into(),
                            after[1].into(),
                            after[2].into(),
                            after[3].into(),
                            LOOKED_AT_MAX.into(),
                            page.last_message.into(),
                            PAGE_ROWS_MAX.into(),
                            PAGE_BYTES_MAX.into(),
                        ],
                    ),
                    // The last one that was looked at.
                    Statement::new(
                        looked_at!("conversation_id, rev, sender_id, id", "1 offset +?7 - 1"),
                        [
                            Value::Null,
                            Value::Null,
                            after[0].into(),
                            after[1].into(),
                            after[2].into(),
                            after[3].into(),
                            LOOKED_AT_MAX.into(),
                        ],
                    ),
                ]
            }
            Section::Blocked => vec![Statement::new(
                concat!(
                    "select b.blocked_id, 0, 0, 0, cast(u.username as blob)
                     from blocks b left join users u on u.id = b.blocked_id
                     where b.user_id = ?1 and b.blocked_id > ?3 and ",
                    has_account!(),
                    " order by b.blocked_id limit +?4"
                ),
                [user_id, username, after[0].into(), PAGE_ROWS_MAX.into()],
            )],
            Section::Reports => vec![Statement::new(
                concat!(
                    "select rp.id, 0, 0, 0, rp.message_id, cast(rp.reason as blob), rp.reported_at
                     from reports rp
                     where rp.id > ?3 and rp.id <= ?4 and rp.reporter_id = ?1 and ",
                    has_account!(),
                    " order by rp.id"
                ),
                [
                    user_id,
                    username,
                    after[0].into(),
                    page.last_looked_at(page.last_report).into(),
                ],
            )],
            Section::Reactions => vec![Statement::new(
                concat!(
                    "select r.rowid, 0, 0, 0, r.message_id, m.conversation_id, cast(r.emoji as blob)
                     from reactions r left join messages m on m.id = r.message_id
                     where r.rowid > ?3 and r.rowid <= ?4 and r.user_id = ?1 and ",
                    has_account!(),
                    " order by r.rowid"
                ),
                [
                    user_id,
                    username,
                    after[0].into(),
                    page.last_looked_at(page.last_reaction).into(),
                ],
            )],
            Section::Mentions => vec![Statement::new(
                concat!(
                    "select mn.message_id, 0, 0, 0, mn.conversation_id from mentions mn
                     where mn.user_id = ?1 and mn.message_id > ?3 and mn.message_id <= ?4 and ",
                    has_account!(),
                    " order by mn.message_id limit +?5"
                ),
                [
                    user_id,
                    username,
                    after[0].into(),
                    page.last_message.into(),
                    PAGE_ROWS_MAX.into(),
                ],
            )],
        }
    }

    /// The JSON of one row, from the columns after its key.
    fn item(self, key: [i64; 4], columns: &mut Columns) -> String {
        match self {
            Section::Sessions => json(&OwnSession {
                id: SessionId::from_number(columns.integer()).map(|id| id.to_string()),
                created_at: columns.integer(),
                last_seen: columns.integer(),
                user_agent: &columns.text(),
            }),
            Section::Contacts | Section::Blocked => json(&Person {
                username: &columns.optional_str().unwrap_or(DELETED_USERNAME.into()),
            }),
            Section::Conversations => json(&OwnConversation {
                id: key[0],
                name: &columns.text(),
                direct: columns.flag(),
                created_at: columns.optional_integer(),
                member_count: columns.integer(),
                role: Role::of(columns.integer()).name(),
                read_id: columns.integer(),
            }),
            Section::Messages => {
                let _own = columns.integer();
                json(&Message::read(columns))
            }
            Section::Reactions => json(&OwnReaction {
                message_id: columns.integer(),
                conversation_id: columns.integer(),
                emoji: &columns.text(),
            }),
            Section::Mentions => json(&OwnMention {
                message_id: key[0],
                conversation_id: columns.integer(),
            }),
            Section::Reports => json(&OwnReport {
                message_id: columns.integer(),
                reason: &columns.text(),
                reported_at: columns.integer(),
            }),
        }
    }
}

impl ExportPage {
    /// The last reaction, or report, that a page of them looks at. `last` is the last one of all.
    fn last_looked_at(&self, last: i64) -> i64 {
        let after = self.after[0].max(0);
        after.saturating_add(LOOKED_AT_MAX).min(last)
    }

    fn rest_of(&self, last: i64) -> Option<[i64; 4]> {
        let looked_at = self.last_looked_at(last);
        (looked_at < last).then_some([looked_at, 0, 0, 0])
    }

    /// The key after which the section goes on; `None` at its end.
    fn rest(&self, section: Section, rows: &[Rows], read: &[Row]) -> Option<[i64; 4]> {
        let last = read.last().map(|row| key(&mut row.columns()));
        match section {
            Section::Messages => {
                let own = read.first().map_or(0, |row| {
                    let mut columns = row.columns();
                    key(&mut columns);
                    columns.integer()
                });
                let is_cut = own == PAGE_ROWS_MAX || own > read.len() as i64;
                match is_cut {
                    true => last,
                    false => rows[1].first().map(|row| key(&mut row.columns())),
                }
            }
            Section::Reactions => self.rest_of(self.last_reaction),
            Section::Reports => self.rest_of(self.last_report),
            _ => last.filter(|_| read.len() as i64 == PAGE_ROWS_MAX),
        }
    }
}

fn key(columns: &mut Columns) -> [i64; 4] {
    std::array::from_fn(|_| columns.integer())
}

impl Operation for ExportPage {
    type Output = Exported;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        let mut statements = SECTIONS[self.section].1.page(self);
        statements.push(Statement::new(
            concat!("select 1 where ", has_account!()),
            [self.user_id.into(), self.username.as_str().into()],
        ));
        statements
    }

    /// Fails with `Unauthorized` if the account has been deleted meanwhile.
    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Exported, Error> {
        if rows.last().is_none_or(Rows::is_empty) {
            return Err(no_login());
        }
        let section = SECTIONS[self.section].1;
        let read = &rows[0].0;
        let mut text = String::new();
        for (index, row) in read.iter().enumerate() {
            text.push_str(if self.is_first && index == 0 {
                "\n"
            } else {
                ",\n"
            });
            let mut columns = row.columns();
            let key = key(&mut columns);
            text.push_str(&section.item(key, &mut columns));
        }
        let same = |section, after, is_first| ExportPage {
            username: self.username.clone(),
            section,
            after,
            is_first,
            ..*self
        };
        let next = match self.rest(section, rows, read) {
            Some(after) => Some(same(self.section, after, self.is_first && read.is_empty())),
            None => {
                text.push(']');
                let next = self.section + 1;
                match SECTIONS.get(next) {
                    Some((name, _)) => text.push_str(&format!(",\n\"{name}\":[")),
                    None => text.push_str("}\n"),
                }
                SECTIONS.get(next).map(|_| same(next, BEGINNING, true))
            }
        };
        Ok(Exported { text, next })
    }
}
