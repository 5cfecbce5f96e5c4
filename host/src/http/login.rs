//! Registration, login, and what a user may do with the own logins.

use std::sync::Arc;

use bytes::Bytes;
use handler::Error;
use handler::account::change_password::PasswordChange;
use handler::account::login::Credentials;
use handler::account::login_id::SessionId;
use handler::account::register::Registration;
use handler::account::session::Session;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap};
use serde::Serialize;

use crate::audit::{self, Action};
use crate::http::answers::{Answer, HttpError, json, nothing, text};
use crate::http::call::{Call, read_whole};
use crate::http::login_token::{drop_cookies, set_cookies};
use crate::http::plain_http;
use crate::http::services::Services;
use crate::limits::account_guesses::Attempt;
use crate::logins::{Login, Token};

pub async fn register(call: Call) -> Result<Answer, HttpError> {
    let services = call.services;
    if !services.has_registration {
        let closed = Err(Error::Forbidden("registration is closed".into()));
        audit::attempted(Attempt::Registration, &closed, call.address, None);
        closed?;
    }
    let body = read_whole(call.request.into_body(), &services, call.address).await?;
    let registration = Registration::parse(&body)?;
    let accounts = &services.accounts;
    accounts.register(registration, call.address).await?;
    Ok(text(StatusCode::CREATED, "registered"))
}

/// Logs in with a cookie.
pub async fn log_in(call: Call) -> Result<Answer, HttpError> {
    let (services, token) = start_session(call).await?;
    let mut answer = text(StatusCode::ACCEPTED, "login successful");
    set_cookies(&mut answer, &token, services.same_site.text())?;
    Ok(answer)
}

/// Logs in without a cookie.
pub async fn give_token(call: Call) -> Result<Answer, HttpError> {
    let (_, token) = start_session(call).await?;
    Ok(json(StatusCode::OK, &TokenBody::of(&token)))
}

pub async fn verify(_: Call<Bytes>, login: Login) -> Result<Answer, HttpError> {
    let username = login.username;
    Ok(text(StatusCode::OK, format!("Hello, {username}")))
}

/// Gives the session of the request a new token.
pub async fn refresh(call: Call<Bytes>, login: Login) -> Result<Answer, HttpError> {
    let services = call.services;
    let refreshed = services.logins.refresh(&login).await;
    audit::done(Action::Refresh, &refreshed, call.address, &login.username);
    let token = refreshed?;
    let mut answer = json(StatusCode::OK, &TokenBody::of(&token));
    set_cookies(&mut answer, &token, services.same_site.text())?;
    Ok(answer)
}

/// Ends the session of the request. A token without a session stays valid, but the cookie goes.
pub async fn log_out(call: Call<Bytes>, login: Login) -> Result<Answer, HttpError> {
    let services = call.services;
    if let Some(session) = login.id.session() {
        let ended = match services.logins.end(&login, session).await {
            // Another request has ended it at the same moment.
            Err(Error::NotFound(_)) => Ok(()),
            ended => ended,
        };
        audit::done(Action::Logout, &ended, call.address, &login.username);
        ended?;
    }
    let mut answer = nothing();
    drop_cookies(&mut answer, services.same_site.text())?;
    Ok(answer)
}

pub async fn list_sessions(call: Call<Bytes>, login: Login) -> Result<Answer, HttpError> {
    #[derive(Serialize)]
    struct Body {
        sessions: Vec<Session>,
    }
    let sessions = call.services.logins.list(&login).await?;
    Ok(json(StatusCode::OK, &Body { sessions }))
}

pub async fn end_session(call: Call<Bytes>, login: Login) -> Result<Answer, HttpError> {
    let id = call.parameters.get("id").parse::<SessionId>();
    let ended = match id {
        Ok(id) => call.services.logins.end(&login, id).await,
        Err(()) => Err(Error::NotFound("no such session".into())),
    };
    audit::done(Action::EndSession, &ended, call.address, &login.username);
    ended?;
    Ok(nothing())
}

pub async fn change_password(call: Call<Bytes>, login: Login) -> Result<Answer, HttpError> {
    let services = call.services;
    let change = PasswordChange::parse(call.request.body())?;
    let changing = services
        .accounts
        .change_password(&login, change, call.address);
    let changed = changing.await;
    audit::done(
        Action::ChangePassword,
        &changed,
        call.address,
        &login.username,
    );
    changed?;
    Ok(nothing())
}

/// Checks the credentials in the body, and starts a session.
async fn start_session(call: Call) -> Result<(Arc<Services>, Token), HttpError> {
    let Call {
        services,
        request,
        address,
        ..
    } = call;
    let (head, body) = request.into_parts();
    let body = read_whole(body, &services, address).await?;
    let credentials = Credentials::parse(&body)?;
    let (username, remember) = (credentials.username.clone(), credentials.remember);
    plain_http::note_login(&head.headers);
    let starting = async {
        let account = services.accounts.check(credentials, address).await?;
        let user_agent = user_agent(&head.headers);
        let logins = &services.logins;
        logins.start(account, &username, remember, user_agent).await
    };
    let started = starting.await;
    audit::attempted(Attempt::Login, &started, address, Some(&username));
    Ok((services, started?))
}

/// What the client says of itself.
fn user_agent(headers: &HeaderMap) -> String {
    let value = headers.get(header::USER_AGENT);
    let bytes = value.map(|value| value.as_bytes()).unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

#[derive(Serialize)]
struct TokenBody<'a> {
    token: &'a str,
    expires_at: i64,
}

impl<'a> TokenBody<'a> {
    fn of(token: &'a Token) -> Self {
        TokenBody {
            token: &token.text,
            expires_at: token.expires_at,
        }
    }
}
