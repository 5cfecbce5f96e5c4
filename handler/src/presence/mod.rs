//! Who is online: a user with an open socket on a living host.
//!
//! The database counts a user's sockets on each host. So the order of commits decides which socket
//! was the first to open or the last to close, whatever sockets do at the same time.

mod connected;
mod connects;
mod disconnected;
mod disconnects;
mod status;

pub use connected::{Arrival, Connected};
pub use connects::ARRIVAL_CONVERSATIONS_MAX;
pub use disconnected::Disconnected;
pub use status::UserStatus;

pub(crate) use status::{
    contacts_by_user, contacts_of, contacts_to_tell, tell_contacts, tell_users,
};
