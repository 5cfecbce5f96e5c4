//! What users do with their whole account: take all of its data, and delete it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use handler::account::delete::Farewell;
use handler::account::export::{BeginExport, ExportPage, Exported};
use handler::{Context, Error};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::audit::{self, Action};
use crate::awake;
use crate::clock;
use crate::http::answers::{Answer, AnswerBody, HttpError, whole_body, with};
use crate::http::call::Call;
use crate::limits::exports::ExportPlace;
use crate::limits::refusal::Refusal;
use crate::logins::Login;
use crate::store::Store;
use crate::store::snapshot::{Document, Snapshot, Snapshots};
use crate::store::source::Source;

/// How often a page is tried while the database is busy, and the pause between.
const TRIES: usize = 5;
const RETRY: Duration = Duration::from_secs(1);

/// `DELETE /account`
pub async fn delete(call: Call<Bytes>, login: Login) -> Result<Answer, HttpError> {
    let services = call.services;
    let farewell = Farewell::parse(call.request.body())?;
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
pub async fn export(call: Call<Bytes>, login: Login) -> Result<Answer, HttpError> {
    let (services, address) = (call.services, call.address);
    let begun = async {
        let place = services.exports.begin(&login.username).inspect_err(|_| {
            audit::refused(Refusal::Export, address, Some(&login.username));
        })?;
        let begin = BeginExport {
            username: login.username.to_string(),
        };
        let pieces = match services.store.snapshots() {
            Some(snapshots) => written(write(snapshots, begin).await?).boxed(),
            None => {
                let source = services.store.source(address);
                let first = run(&services.store, &source, begin).await?;
                pages(services.store.clone(), source, first).boxed()
            }
        };
        Ok((place, pieces))
    };
    let begun = begun.await;
    audit::done(Action::Export, &begun, address, &login.username);
    let (place, pieces) = begun?;
    let answer = Response::new(body(services.export_page_timeout, place, pieces));
    let json = HeaderValue::from_static("application/json");
    let answer = with(answer, header::CONTENT_TYPE, json);
    // A username may have characters that are none of a file name.
    let attachment = HeaderValue::from_static("attachment; filename=\"chatapp-export.json\"");
    let answer = with(answer, header::CONTENT_DISPOSITION, attachment);
    let no_store = HeaderValue::from_static("no-store");
    Ok(with(answer, header::CACHE_CONTROL, no_store))
}

/// Writes the whole export, as the account is at one moment.
async fn write(snapshots: &Snapshots, begin: BeginExport) -> Result<Document, Error> {
    let write = move |snapshot: &mut Snapshot, document: &mut Document| {
        let ctx = Context::anonymous(clock::now());
        let mut page = snapshot.run(&ctx, &begin)?;
        loop {
            document.write(&page.text)?;
            match page.next {
                Some(next) => page = snapshot.run(&ctx, &next)?,
                None => return Ok(()),
            }
        }
    };
    snapshots.write(write).await
}

/// The pieces of a document, each read when the client has taken the one before.
fn written(document: Document) -> impl Stream<Item = Result<Bytes, Error>> {
    stream::try_unfold(document, async |mut document| {
        let reading = spawn_blocking(move || document.read().map(|piece| (piece, document)));
        let read = reading.await;
        let read = read.map_err(|error| Error::Internal(error.to_string()))??;
        Ok(Some(read).filter(|(piece, _)| !piece.is_empty()))
    })
}

/// The pages of an export from a remote database, each read when the client has taken the one before.
fn pages(
    store: Store,
    source: Arc<Source>,
    first: Exported,
) -> impl Stream<Item = Result<Bytes, Error>> {
    let next = first.next.map(|next| (store, source, next));
    let rest = stream::try_unfold(next, async |rest| {
        let Some((store, source, page)) = rest else {
            return Ok(None);
        };
        let Exported { text, next } = read(&store, &source, page).await?;
        let rest = next.map(|next| (store, source, next));
        Ok(Some((Bytes::from(text), rest)))
    });
    stream::once(async { Ok(Bytes::from(first.text)) }).chain(rest)
}

/// Sends the pieces. If one cannot be read, or the client does not take it in time, the body is cut
/// short, which the client sees.
fn body(
    time: Duration,
    place: ExportPlace,
    mut pieces: BoxStream<'static, Result<Bytes, Error>>,
) -> AnswerBody {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        // Without a receiver, the client has gone.
        while let Some(piece) = pieces.next().await {
            let is_error = piece.is_err();
            let sent = awake::timeout(time, sender.send(piece.map(Some))).await;
            if is_error || !matches!(sent, Some(Ok(()))) {
                return;
            }
        }
        // At the end, the user may begin the next one.
        drop((pieces, place));
        let _ = awake::timeout(time, sender.send(Ok(None))).await;
    });
    let frames = stream::try_unfold(receiver, async |mut receiver| match receiver.recv().await {
        Some(Ok(Some(piece))) => Ok(Some((Frame::data(piece), receiver))),
        Some(Ok(None)) => Ok(None),
        Some(Err(error)) => Err(io::Error::other(error)),
        None => Err(io::Error::from(io::ErrorKind::TimedOut)),
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
