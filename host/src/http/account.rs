//! What users do with their whole account: take all of its data, and delete it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use handler::account::delete::Farewell;
use handler::account::export::{BeginExport, ExportPage, Exported};
use handler::{Context, Error};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;

use crate::audit::{self, Action};
use crate::awake;
use crate::clock;
use crate::http::answers::{Answer, AnswerBody, HttpError, whole_body, with};
use crate::http::call::{Call, read_whole};
use crate::http::services::Services;
use crate::limits::exports::ExportPlace;
use crate::limits::refusal::Refusal;
use crate::logins::Login;
use crate::store::Store;
use crate::store::source::Source;

/// How often a page is tried while the database is busy, and the pause between.
const TRIES: usize = 5;
const RETRY: Duration = Duration::from_secs(1);

/// `DELETE /account`
pub async fn delete(call: Call, login: Login) -> Result<Answer, HttpError> {
    let services = call.services;
    let body = read_whole(call.request.into_body(), services.body_timeout).await?;
    let farewell = Farewell::parse(&body)?;
    let accounts = &services.accounts;
    let outcome = accounts.delete(&login, farewell, call.address).await;
    audit::done(
        Action::DeleteAccount,
        &outcome,
        call.address,
        &login.username,
    );
    outcome?;
    let mut answer = Response::new(whole_body(""));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    Ok(answer)
}

/// `GET /account/export`
pub async fn export(call: Call, login: Login) -> Result<Answer, HttpError> {
    let (services, address) = (call.services, call.address);
    let begun = async {
        let place = services.exports.begin(&login.username).inspect_err(|_| {
            audit::refused(Refusal::Export, address, Some(&login.username));
        })?;
        let source = services.store.source(address);
        let begin = BeginExport {
            username: login.username.to_string(),
        };
        let first = run(&services.store, &source, begin).await?;
        Ok((place, source, first))
    };
    let begun = begun.await;
    audit::done(Action::Export, &begun, address, &login.username);
    let (place, source, first) = begun?;
    let answer = Response::new(body(&services, source, place, first));
    let json = HeaderValue::from_static("application/json");
    let answer = with(answer, header::CONTENT_TYPE, json);
    // A username may have characters that are none of a file name.
    let attachment = HeaderValue::from_static("attachment; filename=\"chatapp-export.json\"");
    let answer = with(answer, header::CONTENT_DISPOSITION, attachment);
    let no_store = HeaderValue::from_static("no-store");
    Ok(with(answer, header::CACHE_CONTROL, no_store))
}

/// The pages, each read when the client has taken the one before. If one cannot be read, or the
/// client does not take it in time, the body is cut short, which the client sees.
fn body(
    services: &Services,
    source: Arc<Source>,
    place: ExportPlace,
    first: Exported,
) -> AnswerBody {
    let (store, time) = (services.store.clone(), services.export_page_timeout);
    let (pages, taken) = mpsc::channel(1);
    tokio::spawn(async move {
        let _place = place;
        let mut page = Ok(first);
        loop {
            let (text, next) = match page {
                Ok(Exported { text, next }) => (Ok(text), next),
                Err(error) => (Err(error), None),
            };
            let is_last = next.is_none();
            let sent = awake::timeout(time, pages.send((text, is_last))).await;
            // Without a receiver, the client has gone.
            let (Some(next), Some(Ok(()))) = (next, sent) else {
                return;
            };
            page = read(&store, &source, next).await;
        }
    });
    let frames = stream::try_unfold(Some(taken), |taken| async {
        let Some(mut taken) = taken else {
            return Ok(None);
        };
        match taken.recv().await {
            Some((Ok(text), is_last)) => {
                let rest = (!is_last).then_some(taken);
                Ok(Some((Frame::data(Bytes::from(text)), rest)))
            }
            Some((Err(error), _)) => Err(io::Error::other(error)),
            None => Err(io::Error::from(io::ErrorKind::TimedOut)),
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// Reads a page; waits if the database is busy.
async fn read(store: &Store, source: &Source, page: ExportPage) -> Result<Exported, Error> {
    for _ in 1..TRIES {
        match run(store, source, page.clone()).await {
            Err(Error::Unavailable { .. }) => awake::sleep(RETRY).await,
            outcome => return outcome,
        }
    }
    run(store, source, page).await
}

/// Runs an operation on account of the client's address.
async fn run<O>(store: &Store, source: &Source, operation: O) -> Result<O::Output, Error>
where
    O: handler::Operation<Output = Exported> + 'static,
{
    let ctx = Context::anonymous(clock::now());
    store.run_from(source, (None, None), ctx, operation).await
}
