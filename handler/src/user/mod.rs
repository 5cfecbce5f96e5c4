//! Users as others see them.

pub mod add_contact;
pub mod get_contacts;
pub mod profile;

use serde::Serialize;

/// The name under which the messages of deleted accounts are shown. Nobody can register it.
pub const DELETED_USERNAME: &str = "deleted";

use crate::sql::Columns;

/// The columns of a `Profile`, from a `users` row called `u`.
macro_rules! profile_columns {
    () => {
        "cast(u.username as blob), cast(u.fullname as blob), \
         cast(u.is_online as integer), cast(u.last_online as integer), cast(u.created_at as integer)"
    };
}
pub(crate) use profile_columns;

/// The JSON text of a [`Profile`], from a `users` row called `$user`.
macro_rules! profile_json {
    ($user:literal) => {
        concat!(
            "cast(json_object('username', ",
            $user,
            ".username, 'fullname', ",
            $user,
            ".fullname, 'is_online', json(iif(",
            $user,
            ".is_online <> 0, 'true', 'false')), 'last_online', cast(coalesce(",
            $user,
            ".last_online, 0) as integer), 'created_at', cast(coalesce(",
            $user,
            ".created_at, 0) as integer)) as blob)"
        )
    };
}
pub(crate) use profile_json;

/// What everybody may know of a user. Times are Unix seconds.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Profile {
    /// Unique, and never changes.
    pub username: String,
    pub fullname: String,
    /// Whether a socket of the user is open.
    pub is_online: bool,
    /// When the user last came or went.
    pub last_online: i64,
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
            last_online: 0,
            created_at: 0,
        }
    }

    /// Reads the columns of `profile_columns!()`. If there was no row, it is that of `deleted`.
    pub(crate) fn read(columns: &mut Columns) -> Self {
        Profile {
            username: columns
                .optional_str()
                .unwrap_or(DELETED_USERNAME.into())
                .into_owned(),
            fullname: columns.text(),
            is_online: columns.flag(),
            last_online: columns.integer(),
            created_at: columns.integer(),
        }
    }
}
