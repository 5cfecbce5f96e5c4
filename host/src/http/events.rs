//! `POST /events`: one event, for programs that need no socket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use handler::account::api_key::Scope;
use handler::account::login_id::LoginId;
use handler::{Access, Error, Event, EventOperation, Outbox, Reply};

use crate::audit::{self, Deed, Provisioning};
use crate::http::answers::{Answer, HttpError, reply, until_sent};
use crate::http::call::Call;
use crate::http::login_token;
use crate::http::program::{self, Sender};
use crate::http::services::Services;
use crate::limits::answer_room::{self, AnswerRoom};
use crate::limits::large_events;
use crate::limits::refusal::Refusal;
use crate::limits::user_rates::{Prepared, RequestRates, UserCosts};
use crate::logins::Login;
use crate::metrics::METRICS;
use crate::store::source::Source;
use crate::threads::contain;

/// After a longer wait, the login is checked again: it may have ended.
const CHECK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Answers with the reply that a socket would get. What one user may send, and have under way, is the
/// same as on sockets, whoever sends it.
pub async fn answer_event(call: Call<Bytes>, sender: Sender) -> Result<Answer, HttpError> {
    let started = Instant::now();
    let services = &call.services;
    let body = call.request.body();
    let Event {
        envelope,
        operation,
        users,
    } = parse(body);
    let named = acting_as(body);
    let audited = match &sender {
        Sender::User(_) => None,
        Sender::Program(program) => {
            let (deed, username) = (Deed::Act(envelope.kind), named.clone().unwrap_or_default());
            Some(Provisioning::begin(
                deed,
                call.address,
                program.name(),
                username,
            ))
        }
    };
    let answering = async {
        let login = match &sender {
            Sender::User(login) if named.clone()?.is_none() => login.clone(),
            Sender::User(_) => {
                return Err(Error::Forbidden(
                    "as is for programs with an API key".into(),
                ));
            }
            Sender::Program(_) => {
                let username = named.clone()?;
                let username = username.ok_or_else(|| Error::Invalid("as required".into()))?;
                find_user(services, &username).await?
            }
        };
        let rates = services.user_rates.request(&login.username);
        rates.event(users).inspect_err(|_| {
            audit::refused(Refusal::Flood, call.address, Some(&login.username));
        })?;
        let caller = Caller {
            call: &call,
            sender: &sender,
            rates: &rates,
            source: services.store.source(call.address),
            login,
        };
        Ok(caller.run(operation?, body.len()).await)
    };
    let answered = answering.await;
    let (outcome, room) = answered.unwrap_or_else(|error| (Err(error), None));
    let result = outcome.as_ref().map_or_else(Error::code, |_| "ok");
    if let Some(audited) = audited {
        audited.end(result);
    }
    METRICS.count_event(envelope.kind, result);
    let elapsed = started.elapsed();
    METRICS.event_seconds.observe(elapsed.as_secs_f64());
    if let Err(Error::Internal(detail)) = &outcome {
        tracing::error!(kind = envelope.kind, detail, "an event failed");
    }
    let body = Bytes::from(envelope.reply(&outcome));
    let Some(room) = room else {
        return Ok(reply(&outcome, body));
    };
    let holder = room.holder();
    match room.hold(body) {
        Ok(body) => Ok(until_sent(reply(&outcome, body), call.place.unsent(holder))),
        Err(error) => {
            let refused = Err(error);
            let body = Bytes::from(envelope.reply(&refused));
            Ok(reply(&refused, body))
        }
    }
}

/// Whom a program acts for: a user who may log in.
async fn find_user(services: &Services, username: &str) -> Result<Login, Error> {
    let account = services.accounts.find_account(username).await?;
    match account {
        Some(account) if account.is_banned => {
            Err(Error::Forbidden(format!("'{username}' is banned")))
        }
        Some(account) => Ok(Login {
            user_id: account.user_id,
            username: username.into(),
            id: LoginId::of_token(None),
        }),
        None => Err(Error::NotFound(format!("no such user '{username}' exists"))),
    }
}

fn acting_as(body: &[u8]) -> Result<Option<String>, Error> {
    std::str::from_utf8(body).map_or(Ok(None), handler::acting_as)
}

fn parse(body: &[u8]) -> Event {
    let unreadable = || Event::unreadable(Error::Invalid("invalid json event".into()));
    let Ok(text) = std::str::from_utf8(body) else {
        return unreadable();
    };
    large_events::read(text)
}

struct Caller<'a> {
    call: &'a Call<Bytes>,
    sender: &'a Sender,
    rates: &'a RequestRates,
    source: Arc<Source>,
    login: Login,
}

impl Caller<'_> {
    /// The outcome, and the room for its answer.
    async fn run(
        &self,
        operation: EventOperation,
        bytes: usize,
    ) -> (Result<Reply, Error>, Option<AnswerRoom>) {
        let ctx = self.login.context();
        let access = operation.access();
        if access == Access::None {
            let outcome = contain(|| operation.conclude(&ctx, &[], &mut Outbox::new()));
            return (outcome, None);
        }
        let costs = self.rates.costs();
        let answer_bytes = operation.answer_bytes_max();
        let started = Instant::now();
        // Held until the event is answered: by then it is known what it cost.
        let prepared = match costs.prepare(&operation, bytes).await {
            Ok(prepared) => prepared,
            Err(error) => return (Err(error), None),
        };
        if started.elapsed() >= CHECK_AGAIN_AFTER
            && let Err(error) = self.check_again().await
        {
            return (Err(error), None);
        }
        // The room is taken only now, so that a user in debt takes none from others meanwhile.
        let room = match self.room(costs, bytes + answer_bytes).await {
            Ok(room) => room,
            Err(error) => return (Err(error), None),
        };
        let Prepared { payment, turn } = prepared;
        let running =
            self.call
                .services
                .store
                .run_from(&self.source, (None, Some(payment)), ctx, operation);
        let outcome = running.await;
        if let (Access::Read, Ok(Reply(data))) = (access, &outcome) {
            costs.reading.charge_answer(data.len());
        }
        drop(turn);
        (outcome, room)
    }

    /// Fails if the login or the key has ended, or the user is banned.
    async fn check_again(&self) -> Result<(), Error> {
        let Call {
            services,
            request,
            address,
            ..
        } = self.call;
        match self.sender {
            Sender::User(_) => {
                let claim = login_token::claim(services, request.headers(), *address).await?;
                services.logins.find(claim).await?;
            }
            Sender::Program(_) => {
                program::authorize(self.call, Scope::Events).await?;
                find_user(services, &self.login.username).await?;
            }
        }
        Ok(())
    }

    async fn room(&self, costs: &UserCosts, bytes: usize) -> Result<Option<AnswerRoom>, Error> {
        if answer_room::is_free(bytes) {
            return Ok(None);
        }
        let (source, all) = (&self.source.answers, &self.source.all.answers);
        all.room(&costs.answers, source, bytes).await.map(Some)
    }
}
