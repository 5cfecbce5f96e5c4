//! Registration, and the check of passwords.

use std::net::IpAddr;
use std::sync::Arc;

use handler::account::change_password::{ChangePassword, PasswordChange};
use handler::account::delete::{DeleteAccount, Farewell};
use handler::account::login::{Account, Credentials, FindAccount, ReplacePasswordHash};
use handler::account::password::{self, Verdict};
use handler::account::register::{Register, Registration};
use handler::account::skeleton::{ACCOUNTS_AT_ONCE, FindUnseen, StoreSkeletons};
use handler::user::words::{FindWordless, StoreWords, WORDLESS_AT_ONCE};
use handler::{Context, Error};
use tokio::sync::Notify;

use crate::audit;
use crate::background::{BackgroundPlace, BackgroundThreads};
use crate::clock;
use crate::config::Config;
use crate::limits::account_guesses::{AccountGuesses, Attempt};
use crate::logins::Login;
use crate::metrics::METRICS;
use crate::password_policy::PasswordPolicy;
use crate::random::random_bytes;
use crate::store::Store;

pub struct Accounts {
    pub(crate) store: Store,
    pub(crate) hashing: BackgroundThreads,
    guesses: AccountGuesses,
    policy: PasswordPolicy,
    /// Told when an account was deleted.
    pub(crate) deleted: Arc<Notify>,
}

impl Accounts {
    pub fn new(config: &Config, store: Store, deleted: Arc<Notify>) -> Self {
        Accounts {
            store,
            hashing: BackgroundThreads::start(),
            guesses: AccountGuesses::new(&config.limits),
            policy: PasswordPolicy {
                chars_min: config.password_chars_min as usize,
            },
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

    /// The account of these credentials. `Unauthorized` if the password is wrong, or, after the same
    /// time, if there is no such user.
    pub async fn check(&self, credentials: Credentials, address: IpAddr) -> Result<Account, Error> {
        let Credentials {
            username, password, ..
        } = credentials;
        let place = self.hashing.reserve()?;
        let checked = self.check_password(place, &username, password, address);
        checked.await?.ok_or_else(|| {
            let text = "mismatch username and password";
            Error::Unauthorized(text.into())
        })
    }

    /// Deletes the account of a logged-in user, who gives the password once more.
    pub async fn delete(
        &self,
        login: &Login,
        farewell: Farewell,
        address: IpAddr,
    ) -> Result<(), Error> {
        let account = self.confirm(login, farewell.password, address).await?;
        let password_hash = account.password_hash;
        let delete = DeleteAccount { password_hash };
        self.store.run(login.context(), delete).await?;
        self.deleted.notify_one();
        Ok(())
    }

    /// Changes the password of a user who knows the old one, and ends all other logins.
    pub async fn change_password(
        &self,
        login: &Login,
        change: PasswordChange,
        address: IpAddr,
    ) -> Result<(), Error> {
        let account = self.confirm(login, change.old_password, address).await?;
        let place = self.hashing.reserve()?;
        let username = login.username.clone();
        let new_password = change.new_password;
        let new_hash = self
            .hash(
                place,
                "new_password",
                new_password,
                vec![username.to_string()],
            )
            .await?;
        let change = ChangePassword {
            old_hash: account.password_hash,
            new_hash,
            kept: login.id.session(),
        };
        self.store.run(login.context(), change).await
    }

    /// The account of a logged-in user who gives the password once more. `Forbidden` if it is wrong.
    pub async fn confirm(
        &self,
        login: &Login,
        password: String,
        address: IpAddr,
    ) -> Result<Account, Error> {
        let place = self.hashing.reserve()?;
        let checked = self.check_password(place, &login.username, password, address);
        let account = checked.await?;
        // The name may have been given to another user since.
        let account = account.filter(|account| account.user_id == login.user_id);
        account.ok_or_else(|| Error::Forbidden("wrong password".into()))
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
        if self.store.run(ctx, find).await?.is_some() {
            return Err(Error::Conflict("username already exists".into()));
        }
        let of_user = vec![username.clone(), fullname.clone()];
        let password_hash = self.hash(place, "password", password, of_user).await?;
        let register = Register {
            username,
            fullname,
            password_hash,
        };
        self.store_new(register).await
    }

    /// Stores a new account.
    pub(crate) async fn store_new(&self, register: Register) -> Result<(), Error> {
        self.complete_accounts().await?;
        self.store.run_now(register).await
    }

    /// Completes accounts that others have stored, before a new one.
    pub(crate) async fn complete_accounts(&self) -> Result<(), Error> {
        // If there are more, the registration is refused until a host has done them all.
        add_skeletons(&self.store).await?;
        // Another program may have stored accounts; those of this one have their words.
        add_words(&self.store).await.map(drop)
    }

    /// The hash of a new password. `Invalid` if the policy does not allow the password: the error
    /// calls it `name`.
    pub(crate) async fn hash(
        &self,
        place: BackgroundPlace,
        name: &'static str,
        password: String,
        of_user: Vec<String>,
    ) -> Result<String, Error> {
        let (salt, policy) = (random_bytes()?, self.policy);
        let hashed = place.run(move || {
            let _timer = METRICS.password_seconds.start_timer();
            let of_user: Vec<&str> = of_user.iter().map(String::as_str).collect();
            policy.check(name, &password, &of_user)?;
            Ok(password::hash(&password, salt))
        });
        hashed.await?
    }

    /// The account of this user, if the password is right.
    async fn check_password(
        &self,
        place: BackgroundPlace,
        username: &str,
        password: String,
        address: IpAddr,
    ) -> Result<Option<Account>, Error> {
        // After the place was reserved, so that a password that is not checked does not count as a
        // guess.
        self.guesses.password(username, address)?;
        let ctx = Context::anonymous(clock::now());
        let find = FindAccount {
            username: username.to_owned(),
        };
        let account = self.store.run(ctx.clone(), find).await?;
        let stored = account
            .as_ref()
            .map(|account| account.password_hash.clone());
        let salt = random_bytes()?;
        let (verdict, new_hash) = place
            .run(move || {
                let _timer = METRICS.password_seconds.start_timer();
                let verdict = password::verify(&password, stored.as_deref());
                let outdated = verdict == Verdict::Outdated;
                (verdict, outdated.then(|| password::hash(&password, salt)))
            })
            .await?;
        let Some(mut account) = account.filter(|_| verdict != Verdict::Wrong) else {
            return Ok(None);
        };
        self.guesses.logged_in(username, address);
        // Only who knows the password hears of it.
        if account.is_banned {
            return Err(Error::Forbidden("this account is banned".into()));
        }
        if let Some(new) = new_hash {
            let replace = ReplacePasswordHash {
                user_id: account.user_id,
                old: account.password_hash.clone(),
                new: new.clone(),
            };
            // The password is right without it. The store has logged why it failed, and the next
            // login tries again.
            if self.store.run(ctx, replace).await.is_ok() {
                account.password_hash = new;
            }
        }
        Ok(Some(account))
    }
}

/// Stores the words of some of the accounts that have none, so that they are found. Returns whether
/// there may be more.
pub async fn add_words(store: &Store) -> Result<bool, Error> {
    let wordless = store.run_now(FindWordless).await?;
    let is_full = wordless.len() == WORDLESS_AT_ONCE as usize;
    if !wordless.is_empty() {
        store.run_now(StoreWords { of: wordless }).await?;
    }
    Ok(is_full)
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
