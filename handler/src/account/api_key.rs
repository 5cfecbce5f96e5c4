//! API keys: other programs of the operator act with them, not for one user but for any.

use std::fmt;
use std::str::FromStr;

use crate::account::register::USERNAME_CHARS_MAX;
use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::sql::{Row, Rows, Statement};

/// A key's `last_used` is stored at most once in this time.
const USED_SECONDS: i64 = 3600;
/// The most keys of a chat: each program has one, and there are few programs.
pub const KEYS_MAX: i64 = 1000;
/// The longest name of a key, in characters.
pub const KEY_NAME_CHARS_MAX: usize = USERNAME_CHARS_MAX;

/// The SHA-256 of a key. Keys are random, so nobody can choose what a hash begins with, and the time
/// of a look-up by it says nothing about the keys there are.
pub type KeyHash = [u8; 32];

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Create, change, ban, delete and list users.
    Users,
    /// Send events as any user.
    Events,
}

impl Scope {
    pub const ALL: [Scope; 2] = [Scope::Users, Scope::Events];

    pub fn name(self) -> &'static str {
        match self {
            Scope::Users => "users",
            Scope::Events => "events",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let scope = Scope::ALL.into_iter().find(|scope| scope.name() == text);
        scope.ok_or_else(|| "expected users or events".into())
    }
}

/// Stores a new key. Fails with `Conflict` if there is one of this name, and with `TooLarge` if there
/// are `KEYS_MAX`.
pub struct CreateKey {
    pub name: String,
    pub hash: KeyHash,
    pub scopes: Vec<Scope>,
}

impl CreateKey {
    /// A name is what operators type and read in logs: visible, and not too long.
    pub fn check_name(name: &str) -> Result<(), Error> {
        let is_visible = !name.is_empty() && !name.contains(|c: char| c.is_control());
        if !is_visible || name.chars().count() > KEY_NAME_CHARS_MAX {
            let text =
                format!("the name of a key has 1 to {KEY_NAME_CHARS_MAX} visible characters");
            return Err(Error::Invalid(text));
        }
        Ok(())
    }
}

impl Operation for CreateKey {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        let hash = || self.hash.to_vec().into();
        let names: Vec<_> = Scope::ALL
            .into_iter()
            .filter(|scope| self.scopes.contains(scope))
            .map(Scope::name)
            .collect();
        vec![
            Statement::new(
                "insert into api_keys (name, hash, scopes, created_at) select ?1, ?2, ?3, ?4
                 where (select count(*) from api_keys) < ?5 on conflict do nothing",
                [
                    self.name.as_str().into(),
                    hash(),
                    names.join(",").into(),
                    ctx.now.into(),
                    KEYS_MAX.into(),
                ],
            ),
            Statement::new("select 1 from api_keys where hash = ?1", [hash()]),
            Statement::new(
                "select 1 from api_keys where name = ?1",
                [self.name.as_str().into()],
            ),
        ]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<(), Error> {
        match (rows[1].is_empty(), rows[2].is_empty()) {
            (false, _) => Ok(()),
            (true, false) => Err(Error::Conflict(format!(
                "there is a key {:?} already",
                self.name
            ))),
            (true, true) => Err(Error::TooLarge(format!(
                "there are {KEYS_MAX} keys already"
            ))),
        }
    }
}

/// A key, without what only its owner knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedKey {
    pub name: String,
    pub scopes: String,
    /// In UTC: `2026-11-29 18:03:11`.
    pub created_at: String,
    /// The same, exact to the hour; empty if it was never used.
    pub last_used: String,
}

/// Lists all keys, by name.
pub struct ListKeys;

impl Operation for ListKeys {
    type Output = Vec<ListedKey>;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "select cast(name as blob), cast(scopes as blob), cast(datetime(created_at, 'unixepoch') as blob),
                 cast(datetime(last_used, 'unixepoch') as blob)
             from api_keys order by name limit +?1",
            [KEYS_MAX.into()],
        )]
    }

    fn conclude(
        &self,
        _: &Context,
        rows: &[Rows],
        _: &mut Outbox,
    ) -> Result<Vec<ListedKey>, Error> {
        let key = |row: &Row| {
            let mut columns = row.columns();
            ListedKey {
                name: columns.text(),
                scopes: columns.text(),
                created_at: columns.text(),
                last_used: columns.text(),
            }
        };
        Ok(rows[0].0.iter().map(key).collect())
    }
}

/// Revokes a key: from now on it is as if it had never been. Fails with `NotFound` if there is none
/// of this name.
pub struct RevokeKey {
    pub name: String,
}

impl Operation for RevokeKey {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "delete from api_keys where name = ?1 returning id",
            [self.name.as_str().into()],
        )]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], _: &mut Outbox) -> Result<(), Error> {
        // A repeat finds nothing any more.
        if rows[0].is_empty() && !ctx.is_repeat {
            return Err(Error::NotFound(format!("there is no key {:?}", self.name)));
        }
        Ok(())
    }
}

/// Finds the key with this hash. Fails with `Unauthorized` if there is none: it was revoked, or never
/// was.
pub struct FindKey {
    pub hash: KeyHash,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundKey {
    pub name: String,
    pub scopes: Vec<Scope>,
    /// It is time for [`UseKey`].
    pub is_used_late: bool,
}

impl Operation for FindKey {
    type Output = FoundKey;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "select cast(name as blob), cast(scopes as blob), last_used from api_keys where hash = ?1",
            [self.hash.to_vec().into()],
        )]
    }

    fn conclude(&self, ctx: &Context, rows: &[Rows], _: &mut Outbox) -> Result<FoundKey, Error> {
        let row = rows[0].first();
        let row = row.ok_or_else(|| Error::Unauthorized("invalid API key".into()))?;
        let mut columns = row.columns();
        let (name, scopes) = (columns.text(), columns.text());
        let last_used = columns.optional_integer();
        Ok(FoundKey {
            name,
            scopes: scopes
                .split(',')
                .filter_map(|name| name.parse().ok())
                .collect(),
            is_used_late: last_used.is_none_or(|last_used| last_used <= ctx.now - USED_SECONDS),
        })
    }
}

/// Notes that this key is in use, if that was not noted lately.
pub struct UseKey {
    pub hash: KeyHash,
}

impl Operation for UseKey {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, ctx: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "update api_keys set last_used = ?2 where hash = ?1 and coalesce(last_used <= ?2 - ?3, 1)",
            [
                self.hash.to_vec().into(),
                ctx.now.into(),
                USED_SECONDS.into(),
            ],
        )]
    }

    fn conclude(&self, _: &Context, _: &[Rows], _: &mut Outbox) -> Result<(), Error> {
        Ok(())
    }
}
