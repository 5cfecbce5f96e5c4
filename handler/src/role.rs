//! What somebody is in a conversation.

/// Each may do what the ones before may. Nobody is more than a member yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Member,
    Admin,
    Owner,
}

impl Role {
    /// As the database numbers them.
    pub(crate) fn of(number: i64) -> Self {
        match number {
            2.. => Role::Owner,
            1 => Role::Admin,
            ..=0 => Role::Member,
        }
    }

    /// Those who are at least that, for a refusal.
    pub(crate) fn who(self) -> &'static str {
        match self {
            Role::Member => "members",
            Role::Admin => "owners and admins",
            Role::Owner => "owners",
        }
    }
}
