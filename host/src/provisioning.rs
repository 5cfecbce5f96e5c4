//! What the operator, and programs of the operator, do with accounts. They need no password of theirs.

use handler::account::delete::DeleteAccount;
use handler::account::identity::{CreateIdentified, FindIdentity};
use handler::account::login::{Account, FindAccount};
use handler::account::password::NO_PASSWORD;
use handler::account::provision::{
    FindUser, ListUsers, ListedUser, ListedUsers, SetPassword, UserChange,
};
use handler::account::register::{Register, check_username};
use handler::moderation::ban::{BanUser, UnbanUser};
use handler::user::update::UpdateProfile;
use handler::{Context, Error};

use crate::accounts::{Accounts, add_words};
use crate::clock;
use crate::issuers::Identity;
use crate::random::random_bytes;

impl Accounts {
    /// Creates the user, or changes one that exists. Each step may be repeated, so if one fails, the
    /// same request goes on. Returns the user, and whether it was created.
    pub async fn put_user(
        &self,
        username: &str,
        change: UserChange,
    ) -> Result<(ListedUser, bool), Error> {
        let UserChange {
            fullname,
            password,
            banned,
        } = change;
        // A password that is refused refuses everything.
        let password_hash = match password {
            Some(password) => {
                let place = self.hashing.reserve()?;
                let of_user = [Some(username.to_owned()), fullname.clone()];
                let of_user = of_user.into_iter().flatten().collect();
                Some(self.hash(place, "password", password, of_user).await?)
            }
            None => None,
        };
        let mut is_new = false;
        let account = match self.find_account(username).await? {
            Some(account) => account,
            None => {
                check_username(username)?;
                let register = Register {
                    username: username.to_owned(),
                    fullname: fullname.clone().unwrap_or_else(|| username.to_owned()),
                    password_hash: password_hash.clone().unwrap_or(NO_PASSWORD.into()),
                };
                let registered = self.store_new(register).await;
                is_new = registered.is_ok();
                match (registered, self.find_account(username).await?) {
                    // Perhaps another request has created it at the same moment.
                    (_, Some(account)) => account,
                    (Err(error), None) => return Err(error),
                    (Ok(()), None) => return Err(gone(username)),
                }
            }
        };
        let has_user = match banned {
            Some(true) => {
                let username = username.to_owned();
                self.store.run_now(BanUser { username }).await?
            }
            Some(false) => {
                let username = username.to_owned();
                let has_user = self.store.run_now(UnbanUser { username }).await?;
                // So that others find the user again.
                add_words(&self.store).await?;
                has_user
            }
            None => true,
        };
        if !has_user {
            return Err(gone(username));
        }
        if let (Some(fullname), false) = (fullname, is_new) {
            let ctx = context(&account, username);
            let update = UpdateProfile::of_fullname(fullname);
            self.store.run(ctx, update).await?;
        }
        if let (Some(password_hash), false) = (password_hash, is_new) {
            let username = username.to_owned();
            let set = SetPassword {
                username,
                password_hash,
            };
            self.store.run_now(set).await?;
        }
        Ok((self.find_user(username).await?, is_new))
    }

    pub async fn find_user(&self, username: &str) -> Result<ListedUser, Error> {
        let username = username.to_owned();
        self.store.run_now(FindUser { username }).await
    }

    /// The users behind this name, in the order of their names.
    pub async fn list_users(&self, after: String, limit: usize) -> Result<ListedUsers, Error> {
        self.store.run_now(ListUsers { after, limit }).await
    }

    /// Deletes an account, as its user can. `NotFound` if there is none.
    pub async fn delete_user(&self, username: &str) -> Result<(), Error> {
        let account = self.find_account(username).await?;
        let account = account.ok_or_else(|| gone(username))?;
        let ctx = context(&account, username);
        let delete = DeleteAccount {
            password_hash: account.password_hash,
        };
        self.store.run(ctx, delete).await?;
        self.deleted.notify_one();
        Ok(())
    }

    /// Creates the user of a valid token, without a password, unless there is one. Returns whether it
    /// was created.
    pub async fn create_unknown(
        &self,
        username: &str,
        fullname: Option<String>,
    ) -> Result<bool, Error> {
        if self.find_account(username).await?.is_some() {
            return Ok(false);
        }
        check_username(username)?;
        let register = Register {
            username: username.to_owned(),
            fullname: fullname.unwrap_or_else(|| username.to_owned()),
            password_hash: NO_PASSWORD.into(),
        };
        match self.store_new(register).await {
            Ok(()) => Ok(true),
            Err(error) => match self.find_account(username).await? {
                // Another request has created it at the same moment.
                Some(_) => Ok(false),
                None => Err(error),
            },
        }
    }

    /// The username of an identity, and whether its user was created by this. A username that exists is
    /// given to nobody: `Conflict`.
    pub async fn identify(&self, identity: Identity) -> Result<(String, bool), Error> {
        let Identity {
            issuer,
            subject,
            username,
            fullname,
            ..
        } = identity;
        let find = || {
            let (issuer, subject) = (issuer.clone(), subject.clone());
            self.store.run_now(FindIdentity { issuer, subject })
        };
        if let Some(username) = find().await? {
            return Ok((username, false));
        }
        let username = username.filter(|username| !username.is_empty());
        let text = "the token names no user";
        let username = username.ok_or_else(|| Error::Invalid(text.into()))?;
        check_username(&username)?;
        let register = Register {
            username: username.clone(),
            fullname: fullname.unwrap_or_else(|| username.clone()),
            password_hash: CreateIdentified::no_password(random_bytes()?),
        };
        let create = CreateIdentified {
            issuer: issuer.clone(),
            subject: subject.clone(),
            register,
        };
        self.complete_accounts().await?;
        match self.store.run_now(create).await {
            Ok(()) => Ok((username, true)),
            // Another request has created it at the same moment.
            Err(error) => find().await?.map(|name| (name, false)).ok_or(error),
        }
    }

    pub async fn find_account(&self, username: &str) -> Result<Option<Account>, Error> {
        let username = username.to_owned();
        self.store.run_now(FindAccount { username }).await
    }
}

fn context(account: &Account, username: &str) -> Context {
    Context::new(account.user_id, username.into(), clock::now())
}

fn gone(username: &str) -> Error {
    Error::NotFound(format!("no such user '{username}' exists"))
}
