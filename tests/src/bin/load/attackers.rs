//! The attackers: a process of its own, at a low priority. Each attack runs until it is killed.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};
use fastrand::Rng;
use serde_json::json;
use tests::host::PASSWORD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

use crate::attacks::{
    ATTACKERS, BUSY_CONVERSATION, CROWD, CROWDED_CONVERSATION, LIST_USERS, LONG_CONVERSATION,
    VISITOR, cookie,
};
use crate::frame::{PING, TEXT, frame};
use crate::socket::Socket;

#[derive(Args)]
pub struct Attackers {
    attack: Attack,
    address: SocketAddr,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Attack {
    /// 20 sockets that send far more messages than allowed, and reconnect when they are closed.
    Events,
    /// 1,000 sockets of as many users, all from one address.
    ManyEvents,
    /// 20 sockets that send invalid JSON.
    Nonsense,
    /// 20 sockets that send 1 MiB of numbers in each event.
    Large,
    /// 20 sockets that send pings.
    Pings,
    /// 20 sockets that send a message in endless one-byte fragments.
    Fragments,
    /// Wrong passwords for one username, from one address.
    Logins,
    /// The same, each from another address.
    LoginsFromEverywhere,
    /// New accounts, from one address.
    Registrations,
    /// The same, each from another address.
    RegistrationsFromEverywhere,
    /// Connections that are opened and dropped.
    Connects,
    /// Sockets with an invalid token.
    BadTokens,
    /// Sockets of one user, more than allowed.
    ManySockets,
    /// Request heads that arrive one byte at a time, through a proxy.
    Slowloris,
    /// The same, from one address.
    SlowlorisAlone,
    /// 50 sockets that read nothing in a busy conversation.
    Deaf,
    /// 20 sockets that request 1 MB of history, as often as allowed.
    Pages,
    /// 20 sockets that request everything that they have missed, as often as allowed.
    Syncs,
    /// The same, with 1 MiB of revs.
    LargeSyncs,
    /// Three users whose 99 sockets each request 16 MiB of conversations and read nothing.
    UnreadLists,
    /// The same, but each socket reads 64 KiB a second.
    HardlyReadLists,
    /// 2,000 sockets of 40 users that send a message of 1 MiB except for its last byte.
    Unfinished,
    /// 20 sockets of users in 10,000 conversations that come and go.
    LargeConnects,
    /// Two sockets of a user in 10,000 conversations request all of them, and two everything missed.
    HeavyReads,
    /// 20 sockets that create conversations of 11: each 500 at once, and then one a second.
    SmallCreations,
    /// A socket that creates conversations of 9,999, of whom 1,000 are online.
    LargeCreations,
    /// 2,000 sockets in a conversation to which one user sends as much as allowed.
    Crowd,
    /// The same, but three users send, on 60 sockets each.
    Bursts,
    /// Four sockets of one user that send 64 KiB in each message.
    LargeMessages,
    /// The same, of random Chinese signs: each pair of them is a word of the search.
    ManyWords,
    /// Eight users who send such messages to somebody who reads 1 MB a second.
    SlowVictim,
}

impl Attack {
    /// The name of the attack on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

const SOCKETS: usize = 20;
/// Attackers below this index have addresses of their own. From this index on, they share one
/// address, and the users are counted from 0 again.
const ONE_ADDRESS: usize = ATTACKERS;

pub async fn attack(attackers: Attackers) {
    let address = attackers.address;
    let event = |event: serde_json::Value| frame(TEXT, event.to_string().as_bytes());
    let send = |index: usize, content: &str| {
        let id = 1 + index;
        event(json!({ "type": "send_message", "conversation_id": id, "content": content }))
    };
    match attackers.attack {
        Attack::Events => {
            let flood = |index| flood(address, index, send(index, "flood").repeat(100));
            swarm(SOCKETS, flood).await;
        }
        Attack::ManyEvents => {
            let flood = |index| flood(address, ONE_ADDRESS + index, send(index, "flood"));
            swarm(ATTACKERS, flood).await;
        }
        Attack::Nonsense => {
            let frames = frame(TEXT, br#"{"type": "ping", "#).repeat(1000);
            swarm(SOCKETS, |index| flood(address, index, frames.clone())).await;
        }
        Attack::Large => {
            let numbers = vec![1; 500_000];
            let frames = event(json!({ "type": "ping", "x": numbers }));
            swarm(SOCKETS, |index| flood(address, index, frames.clone())).await;
        }
        Attack::Pings => {
            let frames = frame(PING, b"x").repeat(1000);
            swarm(SOCKETS, |index| flood(address, index, frames.clone())).await;
        }
        Attack::Fragments => {
            // The first fragment of a text message.
            let mut frames = frame(TEXT & 0x0f, b"{");
            frames.extend(frame(0, b" ").repeat(2000));
            swarm(SOCKETS, |index| flood(address, index, frames.clone())).await;
        }
        Attack::Logins => posts(address, "/auth/login", guess, one_address).await,
        Attack::LoginsFromEverywhere => posts(address, "/auth/login", guess, anywhere).await,
        Attack::Registrations => posts(address, "/register", newcomer, one_address).await,
        Attack::RegistrationsFromEverywhere => {
            posts(address, "/register", newcomer, anywhere).await;
        }
        Attack::Connects => {
            swarm(SOCKETS, |_| async move {
                TcpStream::connect(address).await?;
                Ok(())
            })
            .await;
        }
        Attack::BadTokens => {
            swarm(SOCKETS, |_| async move {
                let mut socket = Socket::connect(address, "login-token=a.b.c").await?;
                socket.receive().await?;
                Ok(())
            })
            .await;
        }
        Attack::ManySockets => swarm(200, |_| stay(address, 0)).await,
        Attack::Slowloris => {
            let slow = |_| trickle(address, Ipv4Addr::new(127, 0, 0, 1));
            swarm(4200, slow).await;
        }
        Attack::SlowlorisAlone => {
            let slow = |_| trickle(address, Ipv4Addr::new(127, 0, 0, 2));
            swarm(4200, slow).await;
        }
        Attack::Deaf => {
            let content = "x".repeat(20_000);
            let busy = event(json!({
                "type": "send_message", "conversation_id": BUSY_CONVERSATION, "content": content,
            }));
            let part = |index| {
                let busy = busy.clone();
                async move {
                    match index {
                        ..4 => pace(address, index, busy).await,
                        _ => deaf(address, index).await,
                    }
                }
            };
            swarm(54, part).await;
        }
        Attack::Pages => {
            let get = event(json!({
                "type": "get_messages", "conversation_id": LONG_CONVERSATION, "limit": 100,
            }));
            swarm(SOCKETS, |index| pace(address, index, get.clone())).await;
        }
        Attack::Syncs => {
            let sync = event(json!({ "type": "sync", "limit": 1000 }));
            swarm(SOCKETS, |index| pace(address, index, sync.clone())).await;
        }
        Attack::LargeSyncs => {
            let revs = (0..90_000).map(|id| ((100_000 + id).to_string(), 1));
            let revs: std::collections::BTreeMap<_, _> = revs.collect();
            let sync = event(json!({ "type": "sync", "revs": revs }));
            swarm(SOCKETS, |index| pace(address, index, sync.clone())).await;
        }
        Attack::UnreadLists => {
            let get = event(json!({ "type": "get_conversations" }));
            let ask = |index| ask_in_vain(address, index % LIST_USERS, get.clone(), 0);
            swarm(99 * LIST_USERS, ask).await;
        }
        Attack::HardlyReadLists => {
            let get = event(json!({ "type": "get_conversations" }));
            let ask = |index| ask_in_vain(address, index % LIST_USERS, get.clone(), 64 * 1024);
            swarm(99 * LIST_USERS, ask).await;
        }
        Attack::Unfinished => {
            let mut whole = event(json!({ "type": "ping", "x": "x".repeat(1024 * 1024 - 30) }));
            whole.pop();
            let send = |index: usize| {
                let unfinished = whole.clone();
                async move {
                    let mut socket = connect(address, index % 40).await?;
                    socket.sink.write_all(&unfinished).await?;
                    socket.receive().await?;
                    Ok(())
                }
            };
            swarm(2000, send).await;
        }
        Attack::LargeConnects => {
            swarm(SOCKETS, |index| async move {
                connect(address, index).await?;
                Ok(())
            })
            .await;
        }
        Attack::HeavyReads => {
            let get = event(json!({ "type": "get_conversations" }));
            let sync = event(json!({ "type": "sync" }));
            let read = |index: usize| pace(address, 0, [&get, &sync][index % 2].clone());
            swarm(4, read).await;
        }
        Attack::SmallCreations => {
            let members: Vec<_> = (1..11).map(|index| format!("attacker-{index}")).collect();
            let create = event(json!({ "type": "create_conversation", "members": members }));
            swarm(SOCKETS, |index| flood(address, index, create.clone())).await;
        }
        Attack::LargeCreations => {
            let online = (0..ATTACKERS).map(|index| format!("attacker-{index}"));
            let others = (0..CROWD - ATTACKERS - 1).map(|index| format!("member-{index}"));
            let members: Vec<_> = online.chain(others).collect();
            let create = event(json!({ "type": "create_conversation", "members": members }));
            let part = |index| {
                let create = create.clone();
                async move {
                    match index {
                        ATTACKERS => flood(address, 0, create).await,
                        _ => stay(address, index).await,
                    }
                }
            };
            swarm(ATTACKERS + 1, part).await;
        }
        Attack::Crowd | Attack::Bursts => {
            let (senders, sockets) = match attackers.attack {
                Attack::Bursts => (3, 180),
                _ => (1, 8),
            };
            let short = event(json!({
                "type": "send_message", "conversation_id": CROWDED_CONVERSATION, "content": "short",
            }));
            let part = |index| {
                let short = short.clone();
                async move {
                    match index {
                        _ if index < sockets => flood(address, index % senders, short).await,
                        _ => stay(address, index % ATTACKERS).await,
                    }
                }
            };
            swarm(2 * ATTACKERS + sockets, part).await;
        }
        Attack::LargeMessages => {
            let large = send(0, &"x".repeat(64 * 1024));
            swarm(4, |_| flood(address, 0, large.clone())).await;
        }
        Attack::ManyWords => {
            let signs = |random: &mut Rng| -> String {
                let signs = (0..64 * 1024 / 3).map(|_| random.char('\u{4e00}'..'\u{9fa5}'));
                signs.collect()
            };
            let messages = |index| {
                let mut random = Rng::with_seed(index as u64);
                let messages = (0..8).map(|_| send(0, &signs(&mut random)));
                messages.collect::<Vec<_>>().concat()
            };
            swarm(4, |index| flood(address, 0, messages(index))).await;
        }
        Attack::SlowVictim => {
            let large = event(json!({
                "type": "send_message", "conversation_id": BUSY_CONVERSATION, "content": "x".repeat(64 * 1024),
            }));
            let part = |index| {
                let large = large.clone();
                async move {
                    match index {
                        ..8 => flood(address, index, large).await,
                        _ => read_slowly(address, index).await,
                    }
                }
            };
            swarm(9, part).await;
        }
    }
}

/// Runs this many attackers at once. Each starts again whenever it ends.
async fn swarm<F>(count: usize, attacker: impl Fn(usize) -> F + Clone)
where
    F: Future<Output = anyhow::Result<()>>,
{
    let attackers = (0..count).map(|index| {
        let attacker = attacker.clone();
        async move {
            loop {
                // The host's metrics show how it ended.
                let _ = attacker(index).await;
                // It may have been refused at once. Without a pause, this program would mostly load
                // itself.
                sleep(Duration::from_millis(1)).await;
            }
        }
    });
    futures_util::future::join_all(attackers).await;
}

/// Opens an attacker's socket.
async fn connect(address: SocketAddr, index: usize) -> anyhow::Result<Socket> {
    let cookie = cookie(&format!("attacker-{}", index % ATTACKERS));
    let from = Ipv4Addr::from_bits(0xcb00_7100 + index.min(ONE_ADDRESS) as u32);
    let headers = format!("Cookie: {cookie}\r\nX-Forwarded-For: {from}\r\n");
    Socket::connect_with(address, &headers).await
}

/// Sends these frames again and again, and reads what arrives, until the socket is closed.
async fn flood(address: SocketAddr, index: usize, frames: Vec<u8>) -> anyhow::Result<()> {
    let Socket {
        mut source,
        mut sink,
    } = connect(address, index).await?;
    let write = async {
        while sink.write_all(&frames).await.is_ok() {}
        // The other direction brings the reason.
        std::future::pending::<()>().await;
    };
    let read = async {
        while source.next().await? & 0x0f != 8 {}
        bail!("closed: {}", String::from_utf8_lossy(source.payload()));
    };
    tokio::select! {
        () = write => Ok(()),
        ended = read => ended,
    }
}

/// Sends this frame whenever the last one was answered, within the rate of a socket.
async fn pace(address: SocketAddr, index: usize, frame: Vec<u8>) -> anyhow::Result<()> {
    let mut socket = connect(address, index).await?;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    loop {
        ticks.tick().await;
        socket.sink.write_all(&frame).await?;
        socket.receive().await?;
    }
}

/// Sends a request each second, and reads only so many bytes of the answers.
async fn ask_in_vain(
    address: SocketAddr,
    index: usize,
    request: Vec<u8>,
    bytes: usize,
) -> anyhow::Result<()> {
    let Socket {
        mut source,
        mut sink,
    } = connect(address, index).await?;
    loop {
        sink.write_all(&request).await?;
        sleep(Duration::from_secs(1)).await;
        source.discard(bytes).await?;
    }
}

/// Keeps a socket open and reads from it.
async fn stay(address: SocketAddr, index: usize) -> anyhow::Result<()> {
    let mut socket = connect(address, index).await?;
    loop {
        socket.receive().await?;
    }
}

/// Keeps a socket open and reads 1 MB a second from it.
async fn read_slowly(address: SocketAddr, index: usize) -> anyhow::Result<()> {
    let mut socket = connect(address, index).await?;
    loop {
        socket.source.discard(20_000).await?;
        sleep(Duration::from_millis(20)).await;
    }
}

/// Keeps a socket open for a while without reading from it.
async fn deaf(address: SocketAddr, index: usize) -> anyhow::Result<()> {
    let _socket = connect(address, index).await?;
    sleep(Duration::from_secs(4)).await;
    Ok(())
}

fn one_address() -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, 1)
}

fn anywhere() -> Ipv4Addr {
    Ipv4Addr::from_bits(fastrand::u32(0x1000_0000..0x7000_0000))
}

fn guess() -> serde_json::Value {
    json!({ "username": VISITOR, "password": "a guess" })
}

fn newcomer() -> serde_json::Value {
    let username = format!("new-{}", fastrand::u64(..));
    json!({ "username": username, "password": PASSWORD, "fullname": "new" })
}

/// Posts as fast as answers arrive, 200 requests at once.
async fn posts(
    address: SocketAddr,
    path: &str,
    body: fn() -> serde_json::Value,
    from: fn() -> Ipv4Addr,
) {
    let post = |_| {
        let (body, from) = (body().to_string(), from());
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {from}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(request.as_bytes()).await?;
            stream.read_to_end(&mut Vec::new()).await?;
            Ok(())
        }
    };
    swarm(200, post).await;
}

/// Sends a request head, one byte each second.
async fn trickle(address: SocketAddr, from: Ipv4Addr) -> anyhow::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let mut stream = socket.connect(address).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nx: ").await?;
    loop {
        sleep(Duration::from_secs(1)).await;
        stream.write_all(b"x").await?;
    }
}
