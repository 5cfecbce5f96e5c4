//! Clients of hosts that run in the test's own process, and what a client's frames decode to.

mod account;
mod embed;
mod frames;
mod http;
mod issuers;
mod limits;
mod logins;
mod moderation;
mod page;
mod protocol_page;
mod stories;
