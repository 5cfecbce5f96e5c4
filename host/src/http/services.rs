//! The services that requests use.

use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use handler::Error;
use handler::account::login_id::LoginId;
use handler::account::token::Claim;
use hyper::header::HeaderValue;
use ipnet::IpNet;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::accounts::Accounts;
use crate::audit;
use crate::cluster::bus::BusStatus;
use crate::config::{Config, SameSite};
use crate::issuers::Issuers;
use crate::limits::account_guesses::Attempt;
use crate::limits::client_address::ClientNetwork;
use crate::limits::exports::Exports;
use crate::limits::places::{Places, SocketPlaces};
use crate::limits::user_rates::UserRates;
use crate::logins::{Login, Logins};
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
    pub issuers: Issuers,
    /// Origins of other sites whose pages may use this server with the user's cookie.
    pub origins: Vec<HeaderValue>,
    pub trusted_proxies: Vec<IpNet>,
    pub same_site: SameSite,
    /// Whether people may register.
    pub has_registration: bool,
    /// Whether a valid token creates its user.
    creates_unknown_users: bool,
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
    /// The tasks of open sockets and of requests.
    pub tasks: TaskTracker,
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
            issuers: Issuers::new(&config.auth),
            store,
            origins: config.origins.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            same_site: config.same_site,
            has_registration: config.has_registration,
            creates_unknown_users: config.creates_unknown_users,
            has_page: config.has_page,
            user_rates: UserRates::new(&config.limits),
            request_places: Places::new(REQUESTS_PER_ADDRESS).into(),
            socket_places: SocketPlaces::new(&config.limits).into(),
            exports: Exports::new(),
            body_timeout: config.body_timeout,
            message_timeout: config.message_timeout,
            export_page_timeout: config.export_page_timeout,
            tasks: TaskTracker::new(),
            next_socket_id: AtomicU64::new(1),
            next_request: AtomicU64::new(0),
            request_ids: RandomState::new(),
        }
    }

    /// What a token claims, if this server or a trusted issuer has signed it and it is valid now. The
    /// first token of an identity creates its user.
    pub async fn verify(&self, token: &str, address: IpAddr) -> Option<Claim> {
        if let Some(claim) = self.logins.verify(token) {
            return Some(claim);
        }
        let source = self.store.source(address);
        let identity = self.issuers.verify(token, &source).await?;
        let login = LoginId::of_token(identity.made_at);
        let suggested = identity.username.clone();
        let identified = self.accounts.identify(identity).await;
        if !matches!(identified, Ok((_, false))) {
            let attempt = Attempt::FirstLogin;
            audit::attempted(attempt, &identified, address, suggested.as_deref());
        }
        let (username, _) = identified.ok()?;
        Some(Claim {
            username,
            login,
            fullname: None,
        })
    }

    /// The login of a token. If its user does not exist yet, this may create the user.
    pub async fn find_login(&self, claim: Claim, address: IpAddr) -> Result<Login, Error> {
        match self.logins.find(claim.clone()).await {
            Err(Error::Unauthorized(_)) if self.create_unknown(&claim, address).await => {
                self.logins.find(claim).await
            }
            found => found,
        }
    }

    /// Creates the user of a token that another program has signed, if there is none and the operator
    /// wants that. Returns whether there is one then: another request may have created it at the same
    /// moment.
    pub async fn create_unknown(&self, claim: &Claim, address: IpAddr) -> bool {
        if !self.creates_unknown_users || claim.login.session().is_some() {
            return false;
        }
        let (username, fullname) = (&claim.username, claim.fullname.clone());
        let created = self.accounts.create_unknown(username, fullname).await;
        if !matches!(created, Ok(false)) {
            audit::attempted(Attempt::FirstLogin, &created, address, Some(username));
        }
        created.is_ok()
    }
}
