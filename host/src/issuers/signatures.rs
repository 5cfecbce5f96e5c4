//! Checks signatures of tokens on threads of their own, because one takes a third of a millisecond, and
//! anyone can send a token with a wrong one.

use crate::background::BackgroundThreads;
use crate::store::source::Source;

pub struct Signatures {
    threads: BackgroundThreads,
}

impl Signatures {
    pub fn start() -> Self {
        Signatures {
            threads: BackgroundThreads::start(),
        }
    }

    /// Runs a check when it is its turn: an address has one under way, so that a flood of wrong tokens
    /// delays only those of its own address.
    pub async fn check<T: Send + 'static>(
        &self,
        source: &Source,
        check: impl FnOnce() -> Option<T> + Send + 'static,
    ) -> Option<T> {
        let _turn = source.signatures.lock().await;
        let place = self.threads.place().await.ok()?;
        place.run(check).await.ok()?
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::{Arc, mpsc};

    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::*;
    use crate::background::thread_count;
    use crate::limits::client_address::ClientNetwork;
    use crate::limits::memory::AllMemory;

    #[tokio::test]
    async fn an_address_has_one_signature_under_way() {
        let signatures = Signatures::start();
        let all = Arc::new(AllMemory::new());
        let source = |last| {
            let address = ClientNetwork::from(IpAddr::from([192, 0, 2, last]));
            Source::of(address, all.clone())
        };
        let (flooding, other) = (source(1), source(2));
        // Every thread has something to do, so that what comes next waits.
        let mut ends = Vec::new();
        for _ in 0..thread_count() {
            let place = signatures.threads.place().await.expect("a place");
            let ((begun, begins), (end, ended)) = (oneshot::channel(), mpsc::channel::<()>());
            tokio::spawn(place.run(move || {
                let _ = begun.send(());
                ended.recv().is_ok()
            }));
            begins.await.expect("begun");
            ends.push(end);
        }
        let check = |source| Box::pin(signatures.check(source, || Some(())));
        let (mut first, mut second, mut third) =
            (check(&flooding), check(&flooding), check(&other));
        for (check, queued) in [(&mut first, 1), (&mut second, 1), (&mut third, 2)] {
            assert!(check.now_or_never().is_none());
            assert_eq!(signatures.threads.queued(), queued);
        }
        drop(ends);
        assert_eq!(
            tokio::join!(first, second, third),
            (Some(()), Some(()), Some(()))
        );
    }
}
