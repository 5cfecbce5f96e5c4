//! A running host: in the test's own process, or as the real program.

use std::ffi::OsStr;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use once_cell::sync::OnceCell;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;

use crate::servers::{shared_nats, shared_sqld};
use crate::{Client, Gateway, Nats, schema, soon, until};

pub const SECRET: &str = "a secret for tests only";
pub const PASSWORD: &str = "a password";
pub const ORIGIN: &str = "http://localhost:5173";

/// The variables that limit what one user or one address may do; 0 is no limit.
pub const LIMITS: [&str; 5] = [
    "SOCKETS_PER_USER",
    "SOCKETS_PER_ADDRESS",
    "EVENTS_PER_SECOND",
    "LOGINS_PER_MINUTE",
    "REGISTRATIONS_PER_HOUR",
];

/// A host's answer to an HTTP request.
#[derive(Debug)]
pub struct Http {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Http {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .map(|value| value.to_str().expect("a header of text"))
    }
}

/// Sends one request on a connection of its own. If the headers have no `host`, it is the address.
pub async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Http {
    let stream = TcpStream::connect(address).await.expect("the host listens");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("a connection");
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path);
    if headers.iter().all(|(name, _)| *name != "host") {
        request = request.header("host", address.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let sent = body.into();
    let request = request.body(Full::new(sent.clone())).expect("a request");
    let response = soon("an answer", sender.send_request(request))
        .await
        .expect("an answer");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    let answer = Http {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: String::from_utf8(body.into()).expect("a body of text"),
    };
    // Only the host's own answers to what it could read have this.
    if answer.header("x-request-id").is_some() {
        schema::check_http(method, path, &sent, &answer);
    }
    answer
}

/// A request that the host has let in, and whose body is still to be sent.
pub struct Begun {
    stream: TcpStream,
    body: String,
}

impl Begun {
    /// Sends the head, and waits until the host reads the body.
    pub async fn send(
        address: SocketAddr,
        method: &str,
        path: &str,
        bearer: &str,
        body: String,
    ) -> Self {
        const GO_AHEAD: &str = "HTTP/1.1 100 Continue\r\n\r\n";
        let mut stream = TcpStream::connect(address).await.expect("the host listens");
        let bytes = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: {bearer}\r\n\
             content-length: {bytes}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("written");
        let mut answer = vec![0; GO_AHEAD.len()];
        let answered = soon("a go-ahead", stream.read_exact(&mut answer));
        answered.await.expect("a go-ahead");
        assert_eq!(String::from_utf8_lossy(&answer), GO_AHEAD);
        Begun { stream, body }
    }

    /// Sends the body, and leaves before the answer; returns when the host has heard of that.
    pub async fn leave(mut self) {
        let body = self.body.as_bytes();
        self.stream.write_all(body).await.expect("written");
        self.stream.shutdown().await.expect("shut down");
        let mut rest = Vec::new();
        let reading = soon("the end", self.stream.read_to_end(&mut rest));
        reading.await.expect("the end");
    }

    /// Sends the body; returns the status of the answer, and its text.
    pub async fn end(mut self) -> (u16, String) {
        let body = self.body.as_bytes();
        self.stream.write_all(body).await.expect("written");
        let mut answer = String::new();
        let reading = soon("an answer", self.stream.read_to_string(&mut answer));
        reading.await.expect("a text");
        let status = answer.split(' ').nth(1).expect("a status");
        (status.parse().expect("a number"), answer)
    }
}

/// Registers a user with `PASSWORD`.
pub async fn register(address: SocketAddr, username: &str) {
    let body = json!({ "username": username, "password": PASSWORD, "fullname": username });
    let answer = request(address, "POST", "/register", &[], body.to_string()).await;
    assert_eq!((answer.status, answer.body.as_str()), (201, "registered"));
}

/// Logs a user in; returns the cookie to send.
pub async fn login(address: SocketAddr, username: &str) -> String {
    let body = json!({ "username": username, "password": PASSWORD });
    let answer = request(address, "POST", "/auth/login", &[], body.to_string()).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (202, "login successful")
    );
    let cookie = answer.header("set-cookie").expect("a cookie");
    cookie.split(';').next().expect("a value").to_owned()
}

/// The ways to run the same chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One host on a file.
    File,
    /// One host on a database of a libSQL server.
    Remote,
    /// Two hosts on one database, joined by a bus.
    Cluster,
}

/// The place of a chat's data. It outlives the hosts.
pub enum Site {
    Folder(TempDir),
    Database(Gateway),
}

/// A chat in this process: one host, or two with the users spread over both.
pub struct Host {
    /// The address of the first host.
    pub address: SocketAddr,
    pub addresses: Vec<SocketAddr>,
    form: Form,
    site: Site,
    running: Vec<(host::Stopper, JoinHandle<anyhow::Result<()>>)>,
    next: AtomicUsize,
    /// A client of each host, for `settle`.
    probes: Mutex<Vec<Client>>,
}

impl Host {
    /// Starts a host on a file in a folder of its own.
    pub async fn start() -> Self {
        Self::start_as(Form::File).await
    }

    pub async fn start_as(form: Form) -> Self {
        Self::start_with(form, |_| {}).await
    }

    /// Starts on a database of its own, with a changed configuration.
    pub async fn start_with(form: Form, change: impl Fn(&mut host::Config)) -> Self {
        let site = match form {
            Form::File => Site::Folder(TempDir::new().expect("a folder")),
            Form::Remote | Form::Cluster => {
                Site::Database(Gateway::start(shared_sqld().await).await)
            }
        };
        Self::start_at(form, site, change).await
    }

    /// Starts on a database that exists already.
    pub async fn start_at(form: Form, site: Site, change: impl Fn(&mut host::Config)) -> Self {
        let host = Self::listen_at(form, site, change).await;
        for address in &host.addresses {
            ready(*address).await;
        }
        host
    }

    /// Starts one more host on a remote database, without a bus.
    pub async fn listen_beside(gateway: &Gateway, change: impl Fn(&mut host::Config)) -> Self {
        Self::listen_at(Form::Remote, Site::Database(gateway.clone()), change).await
    }

    /// Like `start_at`, but does not wait until the hosts are ready: the database may not exist
    /// yet.
    pub async fn listen_at(form: Form, site: Site, change: impl Fn(&mut host::Config)) -> Self {
        let database = match &site {
            Site::Folder(folder) => folder.path().join("data/chat.db").into_os_string(),
            Site::Database(gateway) => gateway.url().into(),
        };
        let bus = match form {
            Form::Cluster => Some(shared_nats().await.url()),
            Form::File | Form::Remote => None,
        };
        let (mut config, _) = host::Config::read(|name| match name {
            "DBPATH" => Some(database.clone()),
            "NATS_URL" => bus.clone().map(Into::into),
            "JWTSECRET" => Some(SECRET.into()),
            "PORT" => Some("0".into()),
            _ if LIMITS.contains(&name) => Some("0".into()),
            _ => None,
        })
        .expect("a configuration");
        // Some clients here read nothing for long, or are in the middle of a frame, where a pong
        // would become a part of it. A test that is about pings sets this itself.
        config.ping_interval = Duration::from_secs(3600);
        // Both ways to write to sockets are tried on every machine.
        config.flushers = match form {
            Form::File => 0,
            Form::Remote | Form::Cluster => 3,
        };
        change(&mut config);
        let (mut addresses, mut running) = (Vec::new(), Vec::new());
        let hosts = if form == Form::Cluster { 2 } else { 1 };
        for _ in 0..hosts {
            let (server, stopper) = host::Server::bind(&config).await.expect("a server");
            addresses.push(server.address().expect("an address"));
            running.push((stopper, tokio::spawn(server.run())));
        }
        Host {
            address: addresses[0],
            addresses,
            form,
            site,
            running,
            next: AtomicUsize::new(0),
            probes: Mutex::default(),
        }
    }

    /// Stops normally; returns the data.
    pub async fn stop(self) -> Site {
        let (stoppers, running): (Vec<_>, Vec<_>) = self.running.into_iter().unzip();
        stoppers.into_iter().for_each(host::Stopper::stop);
        for running in running {
            let result = soon("the end of the server", running).await;
            result.expect("no panic").expect("a clean stop");
        }
        self.site
    }

    /// The data file.
    pub fn database(&self) -> PathBuf {
        match &self.site {
            Site::Folder(folder) => folder.path().join("data/chat.db"),
            Site::Database(_) => panic!("the database is not a file"),
        }
    }

    /// The gateway in front of the remote database.
    pub fn gateway(&self) -> &Gateway {
        match &self.site {
            Site::Folder(_) => panic!("the database is a file"),
            Site::Database(gateway) => gateway,
        }
    }

    pub fn form(&self) -> Form {
        self.form
    }

    pub async fn http(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Http {
        request(self.address, method, path, headers, body).await
    }

    pub async fn register(&self, username: &str) {
        register(self.address, username).await;
    }

    /// Registers the user, logs in and connects.
    pub async fn join(&self, username: &str) -> Client {
        self.register(username).await;
        self.connect(username).await
    }

    /// Logs the user in and connects one more device, to each host in turn. The device hears
    /// everything that happens from now on, on any host.
    pub async fn connect(&self, username: &str) -> Client {
        let cookie = login(self.address, username).await;
        let mut client = Client::connect(self.next_address(), &cookie).await;
        assert_eq!(client.ok(json!({ "type": "ping" })).await, "pong");
        client
    }

    /// The address of each host in turn.
    pub fn next_address(&self) -> SocketAddr {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.addresses[turn % self.addresses.len()]
    }

    /// The pushes so far: everything that was on its way to this client has arrived, also from
    /// other hosts.
    pub async fn pushes_so_far(&self, client: &mut Client) -> Vec<Value> {
        self.settle().await;
        client.pushes_so_far().await
    }

    /// Waits until every host has received everything that the other hosts have sent so far. The
    /// bus keeps their order, so a message sent now arrives last.
    pub async fn settle(&self) {
        if self.addresses.len() == 1 {
            return;
        }
        let mut probes = self.probes.lock().await;
        if probes.is_empty() {
            self.register("probe").await;
            let cookie = login(self.address, "probe").await;
            for address in &self.addresses {
                let mut probe = Client::connect(*address, &cookie).await;
                probe.ok(json!({ "type": "ping" })).await;
                probes.push(probe);
            }
            let made = json!({ "type": "create_conversation", "members": [], "name": "probe" });
            probes[0].ok(made).await;
            for probe in &mut probes[1..] {
                assert_eq!(probe.push().await["type"], "create_conversation");
            }
        }
        let list = probes[0].ok(json!({ "type": "get_conversations" })).await;
        let id = &list[0]["id"];
        for index in 0..probes.len() {
            let typing = json!({ "type": "typing", "conversation_id": id, "on": true });
            probes[index].ok(typing).await;
            for (other, probe) in probes.iter_mut().enumerate() {
                if other != index {
                    assert_eq!(probe.push().await["type"], "typing");
                }
            }
        }
    }
}

/// Waits until a host is ready.
pub async fn ready(address: SocketAddr) {
    until("a ready host", async || {
        request(address, "GET", "/readyz", &[], "").await.status == 200
    })
    .await;
}

/// The real program, in a process that can be killed.
pub struct Process {
    pub address: SocketAddr,
    child: Child,
}

/// Where the log of a process goes.
pub enum Log {
    /// The test's own standard error.
    Test,
    /// A pipe whose reader has gone.
    Nobody,
    /// A file, with everything that can be logged.
    File(PathBuf),
    /// A file, but nothing is read before the notice.
    FileAfter(PathBuf, Arc<Notify>),
}

impl Process {
    /// Starts the program on this database file and waits until it listens.
    pub async fn start(database: &Path) -> Self {
        Self::start_logging_to(database, Log::Test).await
    }

    pub async fn start_logging_to(database: &Path, log: Log) -> Self {
        Self::start_with(&[("DBPATH", database.as_os_str())], log).await
    }

    /// Starts the program on a remote database and waits until it is ready. With a bus, it is one
    /// of several hosts.
    pub async fn start_on(gateway: &Gateway, nats: Option<&Nats>, lease_seconds: u32) -> Self {
        let nats = nats.map(Nats::url).unwrap_or_default();
        let (url, lease) = (gateway.url(), lease_seconds.to_string());
        let variables = [
            ("DBPATH", &url),
            ("NATS_URL", &nats),
            ("LEASE_SECONDS", &lease),
        ];
        let variables = variables.map(|(name, value)| (name, OsStr::new(value)));
        let process = Self::start_with(&variables, Log::Test).await;
        ready(process.address).await;
        process
    }

    pub async fn start_with(variables: &[(&str, &OsStr)], log: Log) -> Self {
        Self::start_in(PLAINLY, variables, log).await
    }

    /// Starts the program with a shell script that ends like `PLAINLY` and changes the program's
    /// surroundings before.
    pub async fn start_in(script: &str, variables: &[(&str, &OsStr)], log: Log) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .arg(program())
            .env("JWTSECRET", SECRET)
            .env("PORT", "0")
            .env_remove("HOST")
            .env_remove("CORS_ALLOW_ORIGIN")
            // Many tests run from one address at once.
            .envs(LIMITS.map(|name| (name, "0")))
            .env(
                "LOG_LEVEL",
                if matches!(log, Log::File(_)) {
                    "trace"
                } else {
                    "info"
                },
            )
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut begun = String::new();
        let listening = async {
            while let Some(line) = lines.next_line().await.expect("text") {
                begun += &line;
                begun += "\n";
                if let Some((_, rest)) = line.split_once("listens on http://") {
                    let address = rest.split(',').next().expect("an address");
                    return address.parse().expect("an address");
                }
                eprintln!("host: {line}");
            }
            panic!("the program ended without listening");
        };
        let address = soon("listening", listening).await;
        match log {
            Log::Nobody => {}
            Log::Test => {
                tokio::spawn(async move {
                    while let Ok(Some(line)) = lines.next_line().await {
                        eprintln!("host: {line}");
                    }
                });
            }
            Log::File(path) => drop(tokio::spawn(write_to(path, begun, lines))),
            Log::FileAfter(path, notice) => {
                tokio::spawn(async move {
                    notice.notified().await;
                    write_to(path, begun, lines).await;
                });
            }
        }
        Process { address, child }
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.id() as i32).expect("a process id");
        kill_process(pid, signal).expect("signalled");
    }

    /// SIGKILL: the program finishes nothing and writes nothing more.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }

    /// Sends a signal and waits until the process has ended.
    pub async fn end(mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        soon("the end of the program", self.child.wait())
            .await
            .expect("a status")
    }

    /// Stops the program normally.
    pub async fn stop(self) {
        assert_eq!(self.end(Signal::TERM).await.code(), Some(0));
    }

    /// Registers the user, logs in and connects.
    pub async fn join(&self, username: &str) -> Client {
        register(self.address, username).await;
        self.connect(username).await
    }

    /// Logs the user in and connects. When this returns, the host knows of the connection.
    pub async fn connect(&self, username: &str) -> Client {
        let cookie = login(self.address, username).await;
        let mut client = Client::connect(self.address, &cookie).await;
        assert_eq!(client.ok(json!({ "type": "ping" })).await, "pong");
        client
    }
}

async fn write_to(path: PathBuf, begun: String, mut lines: Lines<BufReader<ChildStderr>>) {
    let mut file = std::fs::File::create(path).expect("a file");
    file.write_all(begun.as_bytes()).expect("written");
    while let Ok(Some(line)) = lines.next_line().await {
        writeln!(file, "{line}").expect("written");
    }
}

/// Starts the program with its arguments.
const PLAINLY: &str = r#"exec "$0" "$@""#;

/// Runs the program to its end with these arguments and variables. Returns its status, standard
/// output and standard error.
pub async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (ExitStatus, String, String) {
    run_in(PLAINLY, arguments, variables).await
}

/// Starts the program on a file. It must refuse the file for this reason and leave it unchanged.
pub async fn refuse(file: &Path, reason: &str) {
    refuse_in(PLAINLY, file, &[], reason).await;
}

/// Like `refuse`, but starts the program as `Process::start_in` does.
pub async fn refuse_in(script: &str, file: &Path, variables: &[(&str, &str)], reason: &str) {
    let before = std::fs::read(file).ok();
    let database = ("DBPATH", file.to_str().expect("text"));
    let (status, _, errors) = run_in(script, &[], &[&[database], variables].concat()).await;
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(errors.contains("DBPATH: "), "{errors}");
    assert!(errors.contains(reason), "{reason:?} is not in {errors:?}");
    let after = std::fs::read(file).ok();
    assert!(after == before, "{} has changed", file.display());
}

/// Starts the program with arguments. The caller can read its output.
pub fn spawn(arguments: &[&str]) -> Child {
    Command::new(program())
        .args(arguments)
        .env_remove("DBPATH")
        .env_remove("DB_AUTH_TOKEN")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts")
}

/// Like `run`, but starts the program as `Process::start_in` does.
pub async fn run_in(
    script: &str,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> (ExitStatus, String, String) {
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(program())
        .args(arguments)
        .env("PORT", "0")
        .env_remove("HOST")
        .env_remove("JWTSECRET")
        .env_remove("LOG_LEVEL")
        .envs(variables.iter().copied())
        .kill_on_drop(true)
        .output();
    let output = soon("the end of the program", output)
        .await
        .expect("the program starts");
    (
        output.status,
        String::from_utf8(output.stdout).expect("text"),
        String::from_utf8(output.stderr).expect("text"),
    )
}

/// The program, built in the profile of the tests. Cargo does not build it for the tests of another
/// package.
pub fn program() -> &'static Path {
    static PROGRAM: OnceCell<PathBuf> = OnceCell::new();
    PROGRAM.get_or_init(|| {
        let mut build = std::process::Command::new(env!("CARGO"));
        // The whole workspace, as the tests are built: a smaller choice would build dependencies anew, with fewer features.
        build.args(["build", "--quiet", "--workspace", "--bin", "chatapp"]);
        // What cargo tells a running test makes ring's build script, and all that depends on it, run again.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                build.env_remove(&*name);
            }
        }
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(
            build.status().expect("cargo runs").success(),
            "the program does not build"
        );
        // target/<profile>/deps/<test>, or target/<profile>/load.
        let own = std::env::current_exe().expect("the program's own path");
        let folders = own.ancestors().skip(1);
        let mut profile = folders.filter(|folder| !folder.ends_with("deps"));
        profile.next().expect("a folder").join("chatapp")
    })
}

/// The ids of a list of messages, in the given order.
pub fn ids(messages: &Value) -> Vec<i64> {
    let messages = messages.as_array().expect("a list of messages");
    messages
        .iter()
        .map(|m| m["id"].as_i64().expect("an id"))
        .collect()
}
