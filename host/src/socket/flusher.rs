//! Writes what is queued for sockets: on the registry's own thread, or on threads that share the
//! sockets.
//!
//! The registry queues the frames, in commit order, under each socket's lock, and a flush writes all
//! that a socket has. So the order on a socket does not depend on which thread writes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::socket::handle::Socket;
use crate::socket::outgoing::FlushTurn;
use crate::threads;

/// The most threads that write. A registry's thread that writes nothing keeps about as many busy: of
/// an isolated delivery, the writing is seven eighths (deploy/performance.md, "More cores").
const THREADS_MAX: usize = 8;
/// Rounds of the registry that may wait for a thread. If there are more, the registry waits for the
/// thread, and the store for the registry.
const ROUNDS_QUEUED_MAX: usize = 16;
/// Sockets of the crowd that are flushed before others have their turn: that takes a millisecond or
/// two.
const CROWD_PART: usize = 200;

/// How many threads write on so many cores; 0 means that the registry's thread does.
///
/// The other half of the cores is for reading requests, committing, and working out who receives
/// what. On two cores these keep both busy, and handing on would only cost.
pub fn threads_for(cores: usize) -> usize {
    match cores {
        ..=2 => 0,
        _ => (cores / 2).min(THREADS_MAX),
    }
}

pub struct Flusher {
    /// Since the last flush: of each thread, or of the caller's if there is no other.
    waiting: Vec<Waiting>,
    threads: Vec<Thread>,
}

struct Thread {
    rounds: SyncSender<Waiting>,
    handle: JoinHandle<()>,
}

/// Sockets that wait to be flushed.
#[derive(Default)]
struct Waiting {
    /// Those with a reply. They are flushed first, so that a reply does not wait for the pushes to
    /// others.
    answered: Vec<Arc<Socket>>,
    /// Those with another frame.
    soon: Vec<Arc<Socket>>,
    /// The many of large conversations that have a push. They are flushed in parts, so that nobody
    /// else waits for all of them. Meanwhile more pushes may come for the same sockets.
    crowd: VecDeque<Arc<Socket>>,
}

impl Flusher {
    /// With 0 threads, `flush` writes.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let start = |number| {
            let (rounds, queue) = sync_channel(ROUNDS_QUEUED_MAX);
            let handle = threads::spawn(&format!("flusher-{number}"), move || run(&queue))?;
            Ok(Thread { rounds, handle })
        };
        Ok(Flusher {
            waiting: (0..threads.max(1)).map(|_| Waiting::default()).collect(),
            threads: (0..threads).map(start).collect::<std::io::Result<_>>()?,
        })
    }

    /// A reply is queued for this socket.
    pub fn add_answered(&mut self, socket: Arc<Socket>) {
        self.of(&socket).answered.push(socket);
    }

    /// Another frame is queued for this socket.
    pub fn add(&mut self, socket: Arc<Socket>, turn: FlushTurn) {
        let waiting = self.of(&socket);
        match turn {
            FlushTurn::Soon => waiting.soon.push(socket),
            FlushTurn::InCrowd => waiting.crowd.push_back(socket),
        }
    }

    /// Each thread has its own sockets.
    fn of(&mut self, socket: &Socket) -> &mut Waiting {
        let count = self.waiting.len() as u64;
        &mut self.waiting[(socket.id % count) as usize]
    }

    /// Has the sockets written to that wait for it, of the crowd a part. The threads go on with the
    /// rest of it by themselves.
    pub fn flush(&mut self) {
        if self.threads.is_empty() {
            self.waiting.iter_mut().for_each(Waiting::flush);
            return;
        }
        for (waiting, thread) in self.waiting.iter_mut().zip(&self.threads) {
            if !waiting.is_empty() {
                // A thread that ends before its queue has panicked, and so the process ends.
                let _ = thread.rounds.send(std::mem::take(waiting));
            }
        }
    }

    /// Whether `flush` has left something.
    pub fn has_rest(&self) -> bool {
        !self.waiting.iter().all(Waiting::is_empty)
    }

    /// Returns when everything is written that the system accepts without waiting.
    pub fn finish(mut self) {
        while self.has_rest() {
            self.flush();
        }
        for Thread { rounds, handle } in self.threads {
            drop(rounds);
            let _ = handle.join();
        }
    }
}

/// Flushes until the queue has ended.
fn run(queue: &Receiver<Waiting>) {
    let mut waiting = Waiting::default();
    loop {
        if waiting.is_empty() {
            match queue.recv() {
                Ok(round) => waiting = round,
                Err(_) => return,
            }
        }
        // Rounds that have come meanwhile share the writes.
        queue.try_iter().for_each(|round| waiting.append(round));
        waiting.flush();
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.answered.is_empty() && self.soon.is_empty() && self.crowd.is_empty()
    }

    fn append(&mut self, round: Waiting) {
        self.answered.extend(round.answered);
        self.soon.extend(round.soon);
        self.crowd.extend(round.crowd);
    }

    /// Writes once for each socket, however many frames it has: a second flush of the same socket
    /// finds nothing.
    fn flush(&mut self) {
        for socket in self.answered.drain(..).chain(self.soon.drain(..)) {
            socket.flush();
        }
        let part = CROWD_PART.min(self.crowd.len());
        for socket in self.crowd.drain(..part) {
            socket.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::socket::push_memory::PushMemory;

    const SOCKETS: u64 = 250;
    const ROUNDS: u32 = 200;

    #[test]
    fn the_cores_are_shared_with_those_who_read_and_commit() {
        let threads = [1, 2, 3, 4, 8, 16, 64].map(threads_for);
        assert_eq!(threads, [0, 0, 1, 2, 4, 8, 8]);
    }

    /// Replies, pushes and pushes of large conversations, a few of each in each round. Everything
    /// arrives at each socket in the order in which it was queued, before `finish` returns.
    async fn check(threads: usize) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (mut sockets, mut peers) = (Vec::new(), Vec::new());
        for id in 0..SOCKETS {
            let (peer, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            peers.push(peer.expect("connected"));
            let stream = accepted.expect("accepted").0;
            sockets.push(Arc::new(Socket::new(id, stream)));
        }
        let mut flusher = Flusher::start(threads).expect("threads");
        let mut random = fastrand::Rng::with_seed(threads as u64);
        let mut expected = vec![Vec::new(); sockets.len()];
        for round in 0..ROUNDS {
            let frame = round.to_le_bytes().to_vec();
            for (socket, expected) in sockets.iter().zip(&mut expected) {
                let turn = match random.u8(..8) {
                    0 => {
                        socket
                            .unanswered
                            .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        socket.answer(frame.clone().into());
                        flusher.add_answered(socket.clone());
                        expected.extend_from_slice(&frame);
                        continue;
                    }
                    1 => FlushTurn::Soon,
                    2..5 => FlushTurn::InCrowd,
                    _ => continue,
                };
                if socket.push(frame.clone().into(), false, turn, &PushMemory::default()) {
                    flusher.add(socket.clone(), turn);
                }
                expected.extend_from_slice(&frame);
            }
            flusher.flush();
        }
        flusher.finish();
        drop(sockets);
        for (peer, expected) in peers.iter_mut().zip(expected) {
            let mut received = Vec::new();
            peer.read_to_end(&mut received).await.expect("read");
            assert!(received == expected, "{threads} threads: not in order");
        }
    }

    #[tokio::test]
    async fn everything_is_written_in_order_however_many_threads_share_it() {
        for threads in [0, 1, 3, 8] {
            check(threads).await;
        }
    }
}
