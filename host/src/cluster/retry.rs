//! Retries for work that has to succeed in the end.

use std::time::Duration;

use handler::Error;
use tokio::time::sleep;

/// The pause between two tries.
pub const RETRY: Duration = Duration::from_secs(1);

/// Repeats `work` until it succeeds. The store has logged why it failed.
pub async fn until_done<T, F>(work: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, Error>>,
{
    loop {
        match work().await {
            Ok(done) => return done,
            Err(_) => sleep(RETRY).await,
        }
    }
}
