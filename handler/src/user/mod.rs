//! Users as others see them.

pub mod add_contact;
pub mod block;
pub mod blocked_list;
pub mod get;
pub mod get_contacts;
pub mod profile;
pub mod remove_contact;
pub mod search;
pub mod unblock;
pub mod update;
pub mod words;

use serde::Serialize;

use crate::error::Error;
use crate::sql::Columns;

/// The name under which the messages of deleted accounts are shown. Nobody can register it.
pub const DELETED_USERNAME: &str = "deleted";

/// Whether `$user` has blocked `$other`; both are ids.
macro_rules! has_blocked {
    ($user:expr, $other:expr) => {
        concat!(
            "exists (select 1 from blocks where user_id = ",
            $user,
            " and blocked_id = ",
            $other,
            ")"
        )
    };
}
pub(crate) use has_blocked;

/// Why the user `u` cannot be put into contacts or conversations by the user with the id `$caller`,
/// as the number of a [`Refusal`]; 0 if nothing speaks against it.
macro_rules! refusal {
    ($caller:literal) => {
        concat!(
            "case when u.id = ",
            $caller,
            " then 0 when ",
            $crate::user::has_blocked!($caller, "u.id"),
            " then 1 when ",
            $crate::user::has_blocked!("u.id", $caller),
            " or (u.reachable_by = 1
                and not exists (select 1 from contacts where user_id = u.id and contact_id = ",
            $caller,
            ")) then 2 else 0 end"
        )
    };
}
pub(crate) use refusal;

/// The columns of a `Profile`, from a `users` row called `u`, as the user with the id `$viewer` may
/// see it.
macro_rules! profile_columns {
    ($viewer:expr) => {
        concat!(
            "cast(u.username as blob), cast(u.fullname as blob), \
             cast(u.is_online as integer), cast(u.last_online as integer), cast(u.created_at as integer), ",
            $crate::user::has_blocked!("u.id", $viewer)
        )
    };
}
pub(crate) use profile_columns;

/// The JSON text of a [`Profile`], from a `users` row called `$user`, as the user with the id
/// `$viewer` may see it.
macro_rules! profile_json {
    ($user:literal, $viewer:literal) => {
        concat!(
            "(select cast(json_object('username', ",
            $user,
            ".username, 'fullname', ",
            $user,
            ".fullname, 'is_online', json(iif(",
            $user,
            ".is_online <> 0 and not is_hidden, 'true', 'false')), 'last_online', iif(is_hidden, null, cast(coalesce(",
            $user,
            ".last_online, 0) as integer)), 'created_at', cast(coalesce(",
            $user,
            ".created_at, 0) as integer)) as blob) from (select ",
            $crate::user::has_blocked!(concat!($user, ".id"), $viewer),
            " as is_hidden))"
        )
    };
}
pub(crate) use profile_json;

/// Why somebody cannot be put into contacts or conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The caller has blocked them.
    Blocking,
    /// They have blocked the caller, or only their contacts may. The caller cannot tell which.
    NotAllowed,
}

impl Refusal {
    /// From the number that `refusal!` gives.
    pub fn of(number: i64) -> Option<Self> {
        match number {
            1 => Some(Refusal::Blocking),
            2 => Some(Refusal::NotAllowed),
            _ => None,
        }
    }

    pub fn error(self, username: &str) -> Error {
        Error::Forbidden(match self {
            Refusal::Blocking => format!("you have blocked '{username}'"),
            Refusal::NotAllowed => format!("'{username}' does not allow this"),
        })
    }
}

pub(crate) fn no_such_user(username: &str) -> Error {
    Error::NotFound(format!("no such user '{username}' exists"))
}

/// What everybody may know of a user. Times are Unix seconds. Who is blocked by the user sees that
/// the user is offline, and no `last_online`.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Profile {
    /// Unique, and never changes.
    pub username: String,
    pub fullname: String,
    /// Whether a socket of the user is open.
    pub is_online: bool,
    /// When the user last came or went; `null` for who is blocked, and if the account is deleted.
    pub last_online: Option<i64>,
    /// When the user registered.
    pub created_at: i64,
}

impl Profile {
    /// Stands for someone whose account is deleted.
    pub(crate) fn deleted() -> Self {
        Profile {
            username: DELETED_USERNAME.into(),
            fullname: String::new(),
            is_online: false,
            last_online: None,
            created_at: 0,
        }
    }

    /// Reads the columns of `profile_columns!()`. If there was no row, it is that of `deleted`.
    pub(crate) fn read(columns: &mut Columns) -> Self {
        let username = columns.optional_str();
        let is_deleted = username.is_none();
        let mut profile = Profile {
            username: username.unwrap_or_default().into_owned(),
            fullname: columns.text(),
            is_online: columns.flag(),
            last_online: Some(columns.integer()),
            created_at: columns.integer(),
        };
        let is_hidden = columns.flag();
        if is_deleted {
            return Profile::deleted();
        }
        if is_hidden {
            profile.hide_presence();
        }
        profile
    }

    /// The profile as those see it whom the user has blocked.
    pub(crate) fn hide_presence(&mut self) {
        self.is_online = false;
        self.last_online = None;
    }
}
