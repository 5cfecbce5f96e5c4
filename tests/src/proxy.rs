//! A proxy between clients and a host that cuts, delays and stalls connections at random. The seed
//! makes it repeatable.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// The average number of pieces of data between two faults.
const PIECES_PER_FAULT: u32 = 25;
const DELAY_MAX_MS: u64 = 60;

pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: Mutex<SocketAddr>,
    is_calm: AtomicBool,
    swallows: AtomicBool,
}

impl Proxy {
    pub async fn start(target: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            is_calm: AtomicBool::new(false),
            swallows: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        tokio::spawn(async move {
            let mut seeds = Rng::with_seed(seed);
            while let Ok((client, _)) = listener.accept().await {
                let (shared, random) = (accepting.clone(), seeds.fork());
                tokio::spawn(async move {
                    // Errors are ignored: connections are meant to end.
                    let _ = shared.pass(client, random).await;
                });
            }
        });
        Proxy { address, shared }
    }

    /// New connections go to this address.
    pub fn aim_at(&self, target: SocketAddr) {
        *self.shared.target.lock().expect("no panic") = target;
    }

    /// From now on, the proxy causes no faults.
    pub fn calm(&self) {
        self.shared.is_calm.store(true, Ordering::Relaxed);
    }

    /// From now on, nothing passes, but connections stay open.
    pub fn swallow(&self) {
        self.shared.swallows.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    async fn pass(&self, client: TcpStream, mut random: Rng) -> std::io::Result<()> {
        let target = *self.target.lock().expect("no panic");
        let server = TcpStream::connect(target).await?;
        let (client_reads, client_writes) = client.into_split();
        let (server_reads, server_writes) = server.into_split();
        let (up, down) = (random.fork(), random);
        tokio::select! {
            result = self.pump(client_reads, server_writes, up) => result,
            result = self.pump(server_reads, client_writes, down) => result,
        }
    }

    async fn pump(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        mut random: Rng,
    ) -> std::io::Result<()> {
        let mut buffer = vec![0; 4096];
        loop {
            // Pieces have any size, so frames are split.
            let size = random.usize(1..=buffer.len());
            let read = from.read(&mut buffer[..size]).await?;
            if read == 0 {
                return Ok(());
            }
            if self.swallows.load(Ordering::Relaxed) {
                continue;
            }
            if !self.is_calm.load(Ordering::Relaxed) && random.u32(..PIECES_PER_FAULT) == 0 {
                match random.u32(..4) {
                    0 => return Ok(()),
                    // Half of the piece arrives.
                    1 => {
                        to.write_all(&buffer[..read / 2]).await?;
                        return Ok(());
                    }
                    // Nothing passes any more, but the connection stays open until the peer gives
                    // up.
                    2 => std::future::pending().await,
                    _ => sleep(Duration::from_millis(random.u64(..DELAY_MAX_MS))).await,
                }
            }
            to.write_all(&buffer[..read]).await?;
        }
    }
}
