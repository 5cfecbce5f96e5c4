//! How much of the server one client may use: how many of something at once, and how often.

pub mod account_guesses;
pub mod answer_room;
pub mod arrivals;
pub mod client_address;
pub mod exports;
pub mod large_events;
pub mod memory;
pub mod places;
pub mod rates;
pub mod refusal;
pub mod remembered;
pub mod spending;
pub mod unfinished;
pub mod user_rates;

/// The limits that an operator may set. 0 means no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// SOCKETS_MAX: open sockets.
    pub sockets: u32,
    /// SOCKETS_PER_USER: open sockets of one user, on this host.
    pub sockets_per_user: u32,
    /// SOCKETS_PER_ADDRESS: open sockets from one address.
    pub sockets_per_address: u32,
    /// EVENTS_PER_SECOND: events of one socket; ten seconds' worth may come at once.
    pub events_per_second: u32,
    /// LOGINS_PER_MINUTE: attempts from one address; as many may come at once.
    pub logins_per_minute: u32,
    /// REGISTRATIONS_PER_HOUR: attempts from one address; as many may come at once.
    pub registrations_per_hour: u32,
}

impl Limits {
    /// No limits at all.
    #[cfg(test)]
    pub const OFF: Limits = Limits {
        sockets: 0,
        sockets_per_user: 0,
        sockets_per_address: 0,
        events_per_second: 0,
        logins_per_minute: 0,
        registrations_per_hour: 0,
    };
}
