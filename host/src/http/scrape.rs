//! `GET /metrics` on METRICS_ADDR, for Prometheus.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Encoder, TEXT_FORMAT, TextEncoder};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::http::services::Services;
use crate::metrics::METRICS;

/// Scrapes at once; more wait.
const SCRAPES_MAX: usize = 16;
/// Time for a whole scrape.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after an accept that failed.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

/// Binds METRICS_ADDR.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("METRICS_ADDR: cannot listen on {address}"))
}

/// All metrics in Prometheus's text format.
fn text(services: &Services) -> prometheus::Result<Vec<u8>> {
    let metrics = &*METRICS;
    let (writes, reads) = services.store.queued();
    for (queue, length) in [("writes", writes), ("reads", reads)] {
        let gauge = metrics.store_queue.with_label_values(&[queue]);
        gauge.set(length as i64);
    }
    metrics
        .password_queue
        .set(services.accounts.queued() as i64);
    if let Some(is_connected) = services.readiness.is_bus_connected() {
        let gauge = metrics.bus_connected.with_label_values::<&str>(&[]);
        gauge.set(is_connected.into());
    }
    for (file, bytes) in services.store.file_bytes() {
        let gauge = metrics.database_bytes.with_label_values(&[file]);
        gauge.set(bytes as i64);
    }
    let mut text = Vec::new();
    TextEncoder::new().encode(&prometheus::gather(), &mut text)?;
    Ok(text)
}

/// Answers scrapes until the future is dropped.
pub async fn serve(listener: TcpListener, services: Arc<Services>) {
    let permits = Arc::new(Semaphore::new(SCRAPES_MAX));
    while let Ok(permit) = permits.clone().acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "METRICS_ADDR: accept failed");
                sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let services = services.clone();
        let service = service_fn(move |request| {
            let answer = answer(&services, &request);
            async { Ok::<_, Infallible>(answer) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            let _permit = permit;
            // It fails only if the client has gone, or sends nonsense.
            let _ = timeout(SCRAPE_TIMEOUT, connection).await;
        });
    }
}

fn answer<B>(services: &Services, request: &Request<B>) -> Response<Full<Bytes>> {
    let (status, content_type, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => match text(services) {
            Ok(text) => (StatusCode::OK, TEXT_FORMAT, text),
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be encoded");
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                (status, "text/plain", b"internal error".to_vec())
            }
        },
        _ => (StatusCode::NOT_FOUND, "text/plain", b"not found".to_vec()),
    };
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
