//! The role of a member in a conversation.

/// Each role may do what the roles before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Member,
    Admin,
    Owner,
}

impl Role {
    /// The names on the wire, in the order of the numbers in the database.
    pub(crate) const NAMES: &[&str] = &["member", "admin", "owner"];

    /// The role with this number in the database.
    pub(crate) fn of(number: i64) -> Self {
        match number {
            2.. => Role::Owner,
            1 => Role::Admin,
            ..=0 => Role::Member,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Member => "member",
            Role::Admin => "admin",
            Role::Owner => "owner",
        }
    }

    /// The members with at least this role, for the text of a refusal.
    pub(crate) fn who(self) -> &'static str {
        match self {
            Role::Member => "members",
            Role::Admin => "owners and admins",
            Role::Owner => "owners",
        }
    }
}
