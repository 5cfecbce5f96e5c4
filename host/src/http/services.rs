//! The services that requests use.

use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hyper::header::HeaderValue;
use ipnet::IpNet;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::accounts::Accounts;
use crate::cluster::bus::BusStatus;
use crate::config::{Config, SameSite};
use crate::limits::client_address::ClientNetwork;
use crate::limits::exports::Exports;
use crate::limits::places::{Places, SocketPlaces};
use crate::limits::user_rates::UserRates;
use crate::logins::Logins;
use crate::readiness::Readiness;
use crate::socket::presence::Presence;
use crate::store::Store;

/// Requests under way for one client address, whether it connects directly or through a proxy.
const REQUESTS_PER_ADDRESS: u32 = 256;

pub struct Services {
    pub store: Store,
    pub presence: Arc<Presence>,
    pub readiness: Readiness,
    pub accounts: Accounts,
    pub logins: Logins,
    /// Origins of other sites whose pages may use this server with the user's cookie.
    pub origins: Vec<HeaderValue>,
    pub trusted_proxies: Vec<IpNet>,
    pub same_site: SameSite,
    /// Whether browsers get the page.
    pub has_page: bool,
    pub user_rates: UserRates,
    /// Requests under way, by the address of the client.
    pub request_places: Arc<Places<ClientNetwork>>,
    pub socket_places: Arc<SocketPlaces>,
    pub exports: Exports,
    /// Time for a body to arrive.
    pub body_timeout: Duration,
    /// Time for a whole message on a socket.
    pub message_timeout: Duration,
    /// Time in which a client has to take the next page of its export.
    pub export_page_timeout: Duration,
    /// The tasks of open sockets.
    pub sockets: TaskTracker,
    pub next_socket_id: AtomicU64,
    pub next_request: AtomicU64,
    /// Turns the number of a request into its id, which tells nobody how many there are.
    pub request_ids: RandomState,
}

impl Services {
    /// `deleted` is told when an account was deleted.
    pub fn new(
        config: &Config,
        presence: Arc<Presence>,
        bus: Option<Arc<BusStatus>>,
        deleted: Arc<Notify>,
    ) -> Self {
        let store = presence.store.clone();
        Services {
            presence,
            readiness: Readiness::new(store.clone(), bus),
            accounts: Accounts::new(config, store.clone(), deleted),
            logins: Logins::new(config, store.clone()),
            store,
            origins: config.origins.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            same_site: config.same_site,
            has_page: config.has_page,
            user_rates: UserRates::new(&config.limits),
            request_places: Places::new(REQUESTS_PER_ADDRESS).into(),
            socket_places: SocketPlaces::new(&config.limits).into(),
            exports: Exports::new(),
            body_timeout: config.body_timeout,
            message_timeout: config.message_timeout,
            export_page_timeout: config.export_page_timeout,
            sockets: TaskTracker::new(),
            next_socket_id: AtomicU64::new(1),
            next_request: AtomicU64::new(0),
            request_ids: RandomState::new(),
        }
    }
}
