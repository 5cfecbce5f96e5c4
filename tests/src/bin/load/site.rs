//! The chat under load: a running one, or one that is started for it, with users in groups.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use handler::account::login_id::SessionId;
use handler::account::password;
use handler::account::register::Register;
use handler::account::session::StartSession;
use handler::account::token::LIFETIME_SECONDS;
use handler::{Context, Event, Operation, handle_remote};
use hyper::Uri;
use serde_json::{Value, json};
use tests::Process;
use tests::host::{LIMITS, Log, PASSWORD, SECRET};
use tests::tokens::{foreign_token, session_token};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::floor::Floor;
use crate::floor_servers::FloorServer;
use crate::frame::text;
use crate::machine::ensure_files;
use crate::swarm::{PATIENCE, Swarm, Target};
use crate::tls::Tls;

/// The arguments of every scenario.
#[derive(Args, Clone)]
pub struct Common {
    /// A running chat, http://HOST:PORT or https://HOST:PORT, instead of one that is started on a
    /// new file. Its limits for users, addresses, logins and registrations must be off. Floors are
    /// still measured on this machine, without TLS.
    #[arg(long)]
    pub url: Option<String>,
    /// PEM file of authorities to trust besides the system's, for https.
    #[arg(long)]
    pub ca: Option<PathBuf>,
    /// The secret with which the chat at --url signs tokens; makes logins unnecessary. JWTSECRET in
    /// the environment does the same.
    #[arg(long)]
    pub secret: Option<String>,
    /// Process id of the host at --url, if it runs on this machine, to measure its CPU and memory.
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// Length of a round, and of a round of its floor, in seconds.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Without the floor: half of the time, and no ratio.
    #[arg(long)]
    pub no_floor: bool,
    /// Start the host with this many threads that write to sockets, whatever the number of cores.
    /// Then the registry's thread only hands out.
    #[arg(long, conflicts_with = "url")]
    pub flushers: Option<usize>,
    /// Loopback addresses to connect from, in turn, if the chat is on this machine.
    #[arg(long, default_value_t = 8)]
    pub sources: usize,
}

impl Common {
    pub fn length(&self) -> Result<Duration> {
        Duration::try_from_secs_f64(self.seconds).context("--seconds")
    }
}

/// The users: groups of the same size, each with a conversation of its own.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    pub groups: usize,
    pub members: usize,
    /// Messages in each conversation, sent by its first member.
    pub messages: usize,
}

impl Crowd {
    pub fn users(&self) -> usize {
        self.groups * self.members
    }

    /// The users of a group.
    pub fn members_of(&self, group: usize) -> Range<usize> {
        group * self.members..(group + 1) * self.members
    }

    /// The rev of each group's conversation.
    pub fn rev(&self) -> i64 {
        1 + self.messages as i64
    }
}

/// A chat with a crowd in it.
pub struct Site {
    pub target: Target,
    pub crowd: Crowd,
    /// The cookie of each user.
    pub cookies: Vec<String>,
    /// The username of each user.
    pub names: Vec<String>,
    /// The conversation of each group.
    pub conversation_ids: Vec<i64>,
    pub pid: Option<u32>,
    sources: usize,
    /// The host that ends with this value, and its folder.
    _own: Option<(Box<dyn Send>, tempfile::TempDir)>,
}

impl Site {
    pub async fn make(common: &Common, crowd: Crowd) -> Result<Site> {
        match &common.url {
            Some(url) => Self::join(common, parse(url, common.ca.as_deref())?, crowd).await,
            None => Self::start(common, crowd).await,
        }
    }

    /// Starts a host on a file that contains the crowd.
    async fn start(common: &Common, crowd: Crowd) -> Result<Site> {
        let folder = tempfile::TempDir::new()?;
        let file = folder.path().join("chat.db");
        let conversation_ids = populate(&file, crowd).await?;
        if let Some(flushers) = common.flushers {
            let file = file.to_str().context("a name in UTF-8")?;
            let host = FloorServer::start(&["host", file, &flushers.to_string()])?;
            let (address, pid) = (host.address, host.id());
            let site = Self::at(common, crowd, conversation_ids, address, pid);
            return Ok(Site {
                _own: Some((Box::new(host), folder)),
                ..site
            });
        }
        let process = start_host(&file, folder.path()).await;
        let site = Self::of(common, crowd, conversation_ids, &process);
        Ok(Site {
            _own: Some((Box::new(process), folder)),
            ..site
        })
    }

    /// A host that runs on a file in which `populate` has made the crowd, or on a remote database in
    /// which `populate_remote` has.
    pub fn of(
        common: &Common,
        crowd: Crowd,
        conversation_ids: Vec<i64>,
        process: &Process,
    ) -> Site {
        Self::at(
            common,
            crowd,
            conversation_ids,
            process.address,
            process.id(),
        )
    }

    fn at(
        common: &Common,
        crowd: Crowd,
        conversation_ids: Vec<i64>,
        address: SocketAddr,
        pid: u32,
    ) -> Site {
        let names: Vec<_> = (0..crowd.users()).map(|user| name("load", user)).collect();
        Site {
            target: address.into(),
            crowd,
            cookies: names.iter().enumerate().map(session_cookie).collect(),
            names,
            conversation_ids,
            pid: Some(pid),
            sources: common.sources,
            _own: None,
        }
    }

    /// Creates the crowd in a running chat.
    pub async fn join(common: &Common, target: Target, crowd: Crowd) -> Result<Site> {
        // The names are unique to this run, so that the program can run again on the same database.
        let run = std::time::UNIX_EPOCH.elapsed()?.as_millis();
        let run = format!("load-{run:x}-{}", std::process::id());
        let names: Vec<_> = (0..crowd.users()).map(|user| name(&run, user)).collect();
        let secret = common.secret.clone();
        let secret = secret.or_else(|| std::env::var("JWTSECRET").ok());
        let make = stream::iter(names.iter().enumerate()).map(|(index, name)| {
            if index % 500 == 499 {
                eprintln!("{} of {} users", index + 1, crowd.users());
            }
            let (target, is_signed) = (&target, secret.is_some());
            async move {
                register(target, name).await?;
                match is_signed {
                    true => Ok(String::new()),
                    false => login(target, name).await,
                }
            }
        });
        let mut cookies: Vec<String> = make.buffered(8).try_collect().await?;
        if let Some(secret) = secret {
            cookies = sign(&names, &secret);
        }
        let mut site = Site {
            target,
            crowd,
            cookies,
            names,
            conversation_ids: Vec::new(),
            pid: common.server_pid,
            sources: common.sources,
            _own: None,
        };
        site.converse()?;
        Ok(site)
    }

    /// Creates the conversations and their messages through sockets of the groups' first members.
    fn converse(&mut self) -> Result<()> {
        let mut swarm = self.swarm()?;
        let firsts = (0..self.crowd.groups).map(|group| self.crowd.members_of(group).start);
        swarm.join(firsts.map(|first| (&self.target, &*self.cookies[first])))?;
        for group in 0..self.crowd.groups {
            let create = self.creation(group);
            swarm.send(group, &text(&create.to_string()));
        }
        let mut ids = vec![0; self.crowd.groups];
        let mut missing = self.crowd.groups * (1 + self.crowd.messages);
        let is_done = missing == 0
            || swarm.run(Instant::now() + 4 * PATIENCE, |swarm, group, payload| {
                if ids[group] == 0 {
                    let created: Value = serde_json::from_slice(payload)?;
                    let id = created["data"]["id"].as_i64();
                    ids[group] = id.with_context(|| format!("no conversation: {created}"))?;
                    for _ in 0..self.crowd.messages {
                        swarm.send(group, &message(ids[group], 64));
                    }
                }
                missing -= 1;
                Ok(missing == 0)
            })?;
        ensure!(is_done, "{missing} conversations or messages were not made");
        self.conversation_ids = ids;
        Ok(())
    }

    fn creation(&self, group: usize) -> Value {
        creation(&self.names[self.crowd.members_of(group)])
    }

    /// A swarm without sockets.
    pub fn swarm(&self) -> Result<Swarm> {
        Swarm::new(self.sources)
    }

    /// A swarm with a socket for each user, which has the user's number.
    pub fn connected(&self) -> Result<Swarm> {
        self.connect_first(self.cookies.len())
    }

    /// A swarm with a socket for each of the first users.
    pub fn connect_first(&self, count: usize) -> Result<Swarm> {
        let mut swarm = self.swarm()?;
        ensure_files(count)?;
        let cookies = self.cookies.iter().take(count);
        swarm.join(cookies.map(|cookie| (&self.target, &**cookie)))?;
        Ok(swarm)
    }
}

/// Starts the host on this file, without the limits for users and addresses. Its log is a file in
/// the folder.
pub async fn start_host(file: &Path, folder: &Path) -> Process {
    let variables = [
        ("DBPATH", file.as_os_str()),
        ("LOG_LEVEL", OsStr::new("info")),
    ];
    Process::start_with(&variables, Log::File(folder.join("log"))).await
}

/// Serves this file with so many threads that write to sockets, which no variable can say.
pub async fn serve(file: &Path, flushers: usize) -> Result<()> {
    let (mut config, _) = host::Config::read(|name| match name {
        "DBPATH" => Some(file.into()),
        "JWTSECRET" => Some(SECRET.into()),
        "PORT" => Some("0".into()),
        _ if LIMITS.contains(&name) => Some("0".into()),
        _ => None,
    })?;
    config.flushers = flushers;
    let (server, _stopper) = host::Server::bind(&config).await?;
    println!("{}", server.address()?);
    server.run().await
}

fn parse(url: &str, authorities: Option<&Path>) -> Result<Target> {
    let uri: Uri = url.parse().with_context(|| format!("--url {url}"))?;
    let (is_tls, default_port) = match uri.scheme_str() {
        Some("http") => (false, 80),
        Some("https") => (true, 443),
        _ => bail!("--url {url}: expected http://HOST:PORT or https://HOST:PORT"),
    };
    let authority = uri.authority().context("a URL with a scheme has a host")?;
    let name = authority.host().trim_matches(['[', ']']);
    let port = authority.port_u16().unwrap_or(default_port);
    let addresses = (name, port).to_socket_addrs();
    let addresses: Vec<_> = addresses.with_context(|| format!("--url {url}"))?.collect();
    // A server on localhost may listen only on IPv4.
    let address = addresses.iter().find(|address| address.is_ipv4());
    Ok(Target {
        address: *address
            .or(addresses.first())
            .context("--url has no address")?,
        host: authority.to_string(),
        tls: is_tls.then(|| Tls::new(name, authorities)).transpose()?,
    })
}

fn name(run: &str, user: usize) -> String {
    format!("{run}-{user}")
}

/// The cookie of a user of `populate`.
fn session_cookie((user, name): (usize, &String)) -> String {
    format!("login-token={}", session_token(SECRET, name, session(user)))
}

fn session(user: usize) -> SessionId {
    SessionId::new((user as u64).to_be_bytes())
}

fn sign(names: &[String], secret: &str) -> Vec<String> {
    let sign = |name: &String| format!("login-token={}", foreign_token(secret, name));
    names.iter().map(sign).collect()
}

/// The event of the first user, who becomes a member too.
fn creation(names: &[String]) -> Value {
    json!({ "type": "create_conversation", "members": names[1..], "name": "load" })
}

/// The frame that sends a message of this many bytes.
pub fn message(conversation_id: i64, bytes: usize) -> Vec<u8> {
    let content = "x".repeat(bytes);
    let event =
        json!({ "type": "send_message", "conversation_id": conversation_id, "content": content });
    text(&event.to_string())
}

/// Makes a file that contains the crowd, in one transaction. Returns the ids of its conversations.
/// All users have `PASSWORD`.
pub async fn populate(file: &Path, crowd: Crowd) -> Result<Vec<i64>> {
    let db = Floor::open_file(file).await?;
    let mut prepared = Prepared::default();
    let now = std::time::UNIX_EPOCH.elapsed()?.as_secs() as i64;
    db.execute_batch("begin immediate").await?;
    for (register, start) in registers(crowd) {
        let anonymous = Context::anonymous(now);
        prepared.run(&db, &anonymous, &register).await?;
        prepared.run(&db, &anonymous, &start).await?;
    }
    let mut ids = Vec::new();
    for group in 0..crowd.groups {
        let (ctx, create) = create(crowd, group, now);
        let created = prepared
            .run(&db, &ctx, &Event::parse(&create).operation?)
            .await?;
        let id = id_of(&created.0)?;
        ids.push(id);
        let content = "x".repeat(64);
        let send = json!({ "type": "send_message", "conversation_id": id, "content": content });
        let send = Event::parse(&send.to_string()).operation?;
        for _ in 0..crowd.messages {
            prepared.run(&db, &ctx, &send).await?;
        }
    }
    db.execute_batch("commit; pragma wal_checkpoint(truncate)")
        .await?;
    Ok(ids)
}

/// Makes the crowd in a new remote database, without messages. Returns the ids of its
/// conversations.
pub async fn populate_remote(db: &libsql::Connection, crowd: Crowd) -> Result<Vec<i64>> {
    let now = std::time::UNIX_EPOCH.elapsed()?.as_secs() as i64;
    for (register, start) in registers(crowd) {
        let anonymous = Context::anonymous(now);
        handle_remote(db, &anonymous, &register, &mut Vec::new()).await?;
        handle_remote(db, &anonymous, &start, &mut Vec::new()).await?;
    }
    let mut ids = Vec::new();
    for group in 0..crowd.groups {
        let (ctx, create) = create(crowd, group, now);
        let create = Event::parse(&create).operation?;
        let created = handle_remote(db, &ctx, &create, &mut Vec::new()).await?;
        ids.push(id_of(&created.0)?);
    }
    Ok(ids)
}

/// Each user of a new database, and the session that the user has.
fn registers(crowd: Crowd) -> impl Iterator<Item = (Register, StartSession)> {
    let hash = password::hash(PASSWORD, [7; 16]);
    (0..crowd.users()).map(move |user| {
        let register = Register {
            username: name("load", user),
            fullname: name("load", user),
            password_hash: hash.clone(),
        };
        let start = StartSession {
            id: session(user),
            user_id: 1 + user as i64,
            password_hash: hash.clone(),
            lifetime_seconds: LIFETIME_SECONDS,
            user_agent: "load".into(),
        };
        (register, start)
    })
}

/// The event with which a group's first member creates its conversation. A new database numbers its
/// users from 1.
fn create(crowd: Crowd, group: usize, now: i64) -> (Context, String) {
    let members = crowd.members_of(group);
    let user_id = 1 + members.start as i64;
    let names: Vec<_> = members.map(|user| name("load", user)).collect();
    let ctx = Context::new(user_id, names[0].as_str().into(), now);
    (ctx, creation(&names).to_string())
}

fn id_of(created: &str) -> Result<i64> {
    let created: Value = serde_json::from_str(created)?;
    created["id"].as_i64().context("no conversation")
}

/// Prepared statements by their text.
#[derive(Default)]
struct Prepared(HashMap<&'static str, libsql::Statement>);

impl Prepared {
    /// Runs an operation in the present transaction.
    async fn run<O: Operation>(
        &mut self,
        db: &libsql::Connection,
        ctx: &Context,
        operation: &O,
    ) -> Result<O::Output> {
        let mut rows = Vec::new();
        for statement in operation.statements(ctx) {
            let prepared = match self.0.entry(statement.sql) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    entry.insert(db.prepare(statement.sql).await?)
                }
            };
            rows.push(handler::run(prepared, statement.parameters).await?);
        }
        Ok(operation.conclude(ctx, &rows, &mut Vec::new())?)
    }
}

async fn register(target: &Target, username: &str) -> Result<()> {
    let body = json!({ "username": username, "password": PASSWORD, "fullname": username });
    let answer = http(target, "POST", "/register", &body.to_string()).await?;
    ensure!(answer.starts_with("HTTP/1.1 201"), "registering: {answer}");
    Ok(())
}

/// Logs a user in, over a connection of its own; returns the cookie.
pub async fn login(target: &Target, username: &str) -> Result<String> {
    let body = json!({ "username": username, "password": PASSWORD });
    let answer = http(target, "POST", "/auth/login", &body.to_string()).await?;
    ensure!(answer.starts_with("HTTP/1.1 202"), "logging in: {answer}");
    let cookie = answer.split_once("login-token=");
    let cookie = cookie.and_then(|(_, rest)| rest.split_once(';'));
    let (token, _) = cookie.with_context(|| format!("no cookie: {answer}"))?;
    Ok(format!("login-token={token}"))
}

/// Sends one request on a connection of its own; returns the whole answer.
pub async fn http(target: &Target, method: &str, path: &str, body: &str) -> Result<String> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        target.host,
        body.len()
    );
    let exchange = async {
        let stream = TcpStream::connect(target.address).await?;
        match &target.tls {
            None => exchange(stream, &request).await,
            Some(tls) => exchange(tls.connect(stream).await?, &request).await,
        }
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await;
    answer.with_context(|| format!("{method} {path} is not answered"))?
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> Result<String> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
