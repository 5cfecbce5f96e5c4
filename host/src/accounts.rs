//! Registration, login, and the check of login tokens.

use std::net::IpAddr;
use std::sync::Arc;

use handler::account::delete::{DeleteAccount, Farewell};
use handler::account::login::{Credentials, FindAccount, ReplacePasswordHash};
use handler::account::password::{self, Verdict};
use handler::account::register::{Register, Registration};
use handler::account::skeleton::{ACCOUNTS_AT_ONCE, FindUnseen, StoreSkeletons};
use handler::account::token::TokenKey;
use handler::{Context, Error};
use tokio::sync::Notify;

use crate::audit;
use crate::clock;
use crate::config::Config;
use crate::hashing::HashingThreads;
use crate::limits::account_guesses::{AccountGuesses, Attempt};
use crate::store::Store;

pub struct Accounts {
    store: Store,
    hashing: HashingThreads,
    guesses: AccountGuesses,
    token_key: TokenKey,
    /// Told when an account was deleted.
    deleted: Arc<Notify>,
}

impl Accounts {
    pub fn new(config: &Config, store: Store, deleted: Arc<Notify>) -> Self {
        Accounts {
            store,
            hashing: HashingThreads::start(),
            guesses: AccountGuesses::new(&config.limits),
            token_key: TokenKey::new(config.jwt_secret.as_bytes()),
            deleted,
        }
    }

    /// Counts one more attempt from this address, before the request's body is read.
    pub fn admit(&self, attempt: Attempt, address: IpAddr) -> Result<(), Error> {
        let admitted = self.guesses.attempt(attempt, address);
        if admitted.is_err() {
            audit::attempted(attempt, &admitted, address, None);
        }
        admitted
    }

    pub async fn register(&self, registration: Registration, address: IpAddr) -> Result<(), Error> {
        let username = registration.username.clone();
        let outcome = self.store_account(registration).await;
        audit::attempted(Attempt::Registration, &outcome, address, Some(&username));
        outcome
    }

    /// Checks the password; returns a login token.
    pub async fn log_in(&self, credentials: Credentials, address: IpAddr) -> Result<String, Error> {
        let username = credentials.username.clone();
        let outcome = self.check_password(credentials, address).await;
        audit::attempted(Attempt::Login, &outcome, address, Some(&username));
        outcome?;
        Ok(self.sign(&username))
    }

    /// Deletes the account of a logged-in user, who gives the password once more.
    pub async fn delete(
        &self,
        username: &str,
        farewell: Farewell,
        address: IpAddr,
    ) -> Result<(), Error> {
        let outcome = self.delete_account(username, farewell, address).await;
        audit::deleted(&outcome, address, username);
        outcome
    }

    async fn delete_account(
        &self,
        username: &str,
        farewell: Farewell,
        address: IpAddr,
    ) -> Result<(), Error> {
        let place = self.hashing.reserve()?;
        self.guesses.password(username, address)?;
        let ctx = Context::anonymous(clock::now());
        let find = FindAccount {
            username: username.into(),
        };
        let Some(account) = self.store.run(ctx, find).await? else {
            return Err(Error::Unauthorized("invalid login-token".into()));
        };
        let stored = account.password_hash.clone();
        let verify = move || password::verify(&farewell.password, Some(&stored));
        if place.run(verify).await? == Verdict::Wrong {
            return Err(Error::Forbidden("wrong password".into()));
        }
        self.guesses.logged_in(username, address);
        let ctx = Context::new(account.user_id, username.into(), clock::now());
        let delete = DeleteAccount {
            password_hash: account.password_hash,
        };
        self.store.run(ctx, delete).await?;
        self.deleted.notify_one();
        Ok(())
    }

    /// A login token for this user.
    pub fn sign(&self, username: &str) -> String {
        self.token_key.sign(username, clock::now())
    }

    /// The username in a login token, if the token is valid.
    pub fn verify(&self, token: &str) -> Option<String> {
        self.token_key.verify(token, clock::now())
    }

    /// Logins and registrations that wait for a thread.
    pub fn queued(&self) -> usize {
        self.hashing.queued()
    }

    async fn store_account(&self, registration: Registration) -> Result<(), Error> {
        let Registration {
            username,
            password,
            fullname,
        } = registration;
        let place = self.hashing.reserve()?;
        let ctx = Context::anonymous(clock::now());
        let find = FindAccount {
            username: username.clone(),
        };
        // The insert below checks again; this saves the hashing for a name that is taken.
        if self.store.run(ctx.clone(), find).await?.is_some() {
            return Err(Error::Conflict("username already exists".into()));
        }
        let salt = salt()?;
        let password_hash = place.run(move || password::hash(&password, salt)).await?;
        let register = Register {
            username,
            fullname,
            password_hash,
        };
        // If there are more, the registration is refused until a host has done them all.
        add_skeletons(&self.store).await?;
        self.store.run(ctx, register).await
    }

    /// `Unauthorized` if the password is wrong, or, after the same time, if there is no such user.
    async fn check_password(&self, credentials: Credentials, address: IpAddr) -> Result<(), Error> {
        let Credentials { username, password } = credentials;
        // Reserved first, so that a password that is not checked does not count as a guess.
        let place = self.hashing.reserve()?;
        self.guesses.password(&username, address)?;
        let ctx = Context::anonymous(clock::now());
        let find = FindAccount {
            username: username.clone(),
        };
        let account = self.store.run(ctx.clone(), find).await?;
        let stored = account
            .as_ref()
            .map(|account| account.password_hash.clone());
        let salt = salt()?;
        let (verdict, new_hash) = place
            .run(move || {
                let verdict = password::verify(&password, stored.as_deref());
                let outdated = verdict == Verdict::Outdated;
                (verdict, outdated.then(|| password::hash(&password, salt)))
            })
            .await?;
        if verdict == Verdict::Wrong {
            let text = "mismatch username and password";
            return Err(Error::Unauthorized(text.into()));
        }
        self.guesses.logged_in(&username, address);
        if let (Some(account), Some(new)) = (account, new_hash) {
            let replace = ReplacePasswordHash {
                user_id: account.user_id,
                old: account.password_hash,
                new,
            };
            // The login is valid without it. The store has logged why it failed, and the next login
            // tries again.
            let _ = self.store.run(ctx, replace).await;
        }
        Ok(())
    }
}

/// Gives skeletons to some of the accounts that have none, because a release before this one or
/// another program has stored them. Returns whether there may be more.
pub async fn add_skeletons(store: &Store) -> Result<bool, Error> {
    let unseen = store.run_now(FindUnseen).await?;
    let is_full = unseen.len() == ACCOUNTS_AT_ONCE as usize;
    if !unseen.is_empty() {
        store.run_now(StoreSkeletons { of: unseen }).await?;
    }
    Ok(is_full)
}

fn salt() -> Result<[u8; 16], Error> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| {
        tracing::error!(%error, "the system gives no random bytes");
        Error::Internal("no random bytes".into())
    })?;
    Ok(salt)
}
