//! Running hosts in the test's own process, as clients see them.

mod frames;
mod http;
mod limits;
mod protocol_page;
mod stories;
