//! Logins: their sessions and tokens, from the first one to the end.

use std::sync::Arc;

use handler::account::login::Account;
use handler::account::login_id::{LoginId, SessionId};
use handler::account::open_login::{FindLogin, SeeSessions};
use handler::account::session::{EndSession, ListSessions, RefreshSession, Session, StartSession};
use handler::account::token::{Claim, LIFETIME_SECONDS, TokenKey};
use handler::{Context, Error};

use crate::clock;
use crate::config::Config;
use crate::random::random_bytes;
use crate::store::Store;

pub struct Logins {
    store: Store,
    token_key: TokenKey,
    /// How long a token is valid if the user wants to be remembered.
    remembered_seconds: i64,
}

/// A login that holds: who makes a request.
#[derive(Debug, Clone)]
pub struct Login {
    pub user_id: i64,
    pub username: Arc<str>,
    pub id: LoginId,
}

impl Login {
    pub fn context(&self) -> Context {
        Context::new(self.user_id, self.username.clone(), clock::now())
    }
}

/// A new login token.
pub struct Token {
    pub text: String,
    pub lifetime_seconds: i64,
    /// Unix seconds.
    pub expires_at: i64,
}

impl Logins {
    pub fn new(config: &Config, store: Store) -> Self {
        Logins {
            store,
            token_key: TokenKey::new(config.jwt_secret.as_bytes()),
            remembered_seconds: i64::from(config.session_days) * 24 * 3600,
        }
    }

    /// What a token claims, if this server's secret signed it and it is valid now.
    pub fn verify(&self, token: &str) -> Option<Claim> {
        self.token_key.verify(token, clock::now())
    }

    /// The login of a token. `Unauthorized` if it has ended.
    pub async fn find(&self, claim: Claim) -> Result<Login, Error> {
        let (username, id) = (claim.username.as_str().into(), claim.login);
        let found = self.store.run_now(FindLogin { claim }).await?;
        if let (true, Some(session)) = (found.is_seen_late, id.session()) {
            // The login holds without it. The store has logged why it failed, and the next request
            // tries again.
            let ids = vec![session];
            let _ = self.store.run_now(SeeSessions { ids }).await;
        }
        Ok(Login {
            user_id: found.user_id,
            username,
            id,
        })
    }

    /// Starts a session of a user whose password was checked. `user_agent` is what the client says
    /// of itself.
    pub async fn start(
        &self,
        account: Account,
        username: &str,
        remember: bool,
        user_agent: String,
    ) -> Result<Token, Error> {
        let id = SessionId::new(random_bytes()?);
        let lifetime_seconds = match remember {
            true => self.remembered_seconds,
            false => LIFETIME_SECONDS,
        };
        let start = StartSession {
            id,
            user_id: account.user_id,
            password_hash: account.password_hash,
            lifetime_seconds,
            user_agent,
        };
        self.store.run_now(start).await?;
        Ok(self.sign(username, id, lifetime_seconds))
    }

    /// A new token for the session of this login, as long-lived as the one before.
    pub async fn refresh(&self, login: &Login) -> Result<Token, Error> {
        let Some(id) = login.id.session() else {
            let text = "this login has no session and cannot be refreshed: log in again";
            return Err(Error::Forbidden(text.into()));
        };
        let refresh = RefreshSession { id };
        let lifetime_seconds = self.store.run(login.context(), refresh).await?;
        Ok(self.sign(&login.username, id, lifetime_seconds))
    }

    pub async fn list(&self, login: &Login) -> Result<Vec<Session>, Error> {
        let list = ListSessions { current: login.id };
        self.store.run(login.context(), list).await
    }

    /// Ends one of the user's sessions: its tokens are refused from now on, and its sockets are
    /// closed. `NotFound` if there is none with this id.
    pub async fn end(&self, login: &Login, id: SessionId) -> Result<(), Error> {
        self.store.run(login.context(), EndSession { id }).await
    }

    fn sign(&self, username: &str, id: SessionId, lifetime_seconds: i64) -> Token {
        let expires_at = clock::now() + lifetime_seconds;
        let login = LoginId::of_session(id);
        Token {
            text: self.token_key.sign(username, login, expires_at),
            lifetime_seconds,
            expires_at,
        }
    }

    /// A token of this user without a session, as another program may sign it.
    #[cfg(test)]
    pub fn sign_without_session(&self, username: &str) -> String {
        let login = LoginId::of_token(None);
        let expires_at = clock::now() + LIFETIME_SECONDS;
        self.token_key.sign(username, login, expires_at)
    }
}
