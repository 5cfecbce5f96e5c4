//! Clients of the library `host/web/sdk`, in a Node process. A test uses them like
//! [`ReferenceClient`].

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command as Program};
use tokio::sync::{mpsc, oneshot};

use crate::reference_client::{Command, Conversation, Memory, ReferenceClient};
use crate::servers::installed;

type Waiting = Arc<Mutex<HashMap<usize, oneshot::Sender<Memory>>>>;

/// The process. It ends with this value.
pub struct SdkClients {
    _process: Child,
    lines: mpsc::UnboundedSender<Value>,
    waiting: Waiting,
    count: usize,
}

/// `host/web`, where npm has put the packages of the library.
fn web() -> PathBuf {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/web");
    assert!(
        web.join("node_modules/esbuild").exists(),
        "the packages of host/web are not installed: run tests/setup"
    );
    web
}

impl SdkClients {
    pub async fn start() -> Self {
        let program = bundle("torture").await;
        let mut process = Program::new(installed("node"))
            .args(["--enable-source-maps".as_ref(), program.as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts");
        let mut input = process.stdin.take().expect("piped");
        let mut output = BufReader::new(process.stdout.take().expect("piped")).lines();
        let (lines, mut queue) = mpsc::unbounded_channel::<Value>();
        tokio::spawn(async move {
            while let Some(line) = queue.recv().await {
                let line = format!("{line}\n");
                input.write_all(line.as_bytes()).await.expect("node reads");
            }
        });
        let waiting = Waiting::default();
        let answered = waiting.clone();
        tokio::spawn(async move {
            while let Some(line) = output.next_line().await.expect("text") {
                let answer: Value = serde_json::from_str(&line).expect("JSON");
                let id = answer["id"].as_u64().expect("an id") as usize;
                let done = answered.lock().expect("no panic").remove(&id);
                let _ = done.expect("asked").send(memory(&answer["memory"]));
            }
        });
        SdkClients {
            _process: process,
            lines,
            waiting,
            count: 0,
        }
    }

    /// A client of the library that a test uses like the reference client. `cookie` is a login.
    pub fn client(&mut self, address: SocketAddr, cookie: &str, seed: u64) -> ReferenceClient {
        let client = self.count;
        self.count += 1;
        let url = format!("http://{address}");
        let start =
            json!({ "do": "start", "client": client, "url": url, "cookie": cookie, "seed": seed });
        self.lines.send(start).expect("node runs");
        let (commands, mut queue) = mpsc::unbounded_channel();
        let (lines, waiting) = (self.lines.clone(), self.waiting.clone());
        tokio::spawn(async move {
            let mut id = client << 32;
            while let Some(command) = queue.recv().await {
                id += 1;
                let ask = |what, done| {
                    waiting.lock().expect("no panic").insert(id, done);
                    json!({ "do": what, "client": client, "id": id })
                };
                let line = match command {
                    Command::Send(event) => {
                        json!({ "do": "send", "client": client, "event": event })
                    }
                    Command::Look(done) => ask("look", done),
                    Command::Settle(done) => ask("settle", done),
                };
                // The process has ended with the test.
                let _ = lines.send(line);
            }
        });
        ReferenceClient { commands }
    }
}

/// Makes one file of `host/web/sdk/tests/<name>.ts` and what it imports.
async fn bundle(name: &str) -> PathBuf {
    let web = web();
    // Beside the packages, so that Node finds them.
    let program = web.join(format!("sdk/.build/{name}-{}.mjs", std::process::id()));
    let built = Program::new(installed("node"))
        .arg(web.join("node_modules/esbuild/bin/esbuild"))
        .arg(web.join(format!("sdk/tests/{name}.ts")))
        .args([
            "--bundle",
            "--packages=external",
            "--platform=node",
            "--format=esm",
            "--sourcemap",
            "--log-level=warning",
        ])
        .arg(format!("--outfile={}", program.display()))
        .status()
        .await
        .expect("esbuild starts");
    assert!(built.success(), "esbuild: {built}");
    program
}

fn memory(said: &Value) -> Memory {
    let count = |name: &str| said[name].as_u64().expect("a count") as usize;
    let conversations = said["conversations"].as_array().expect("a list").iter();
    Memory {
        username: said["username"].as_str().expect("a name").to_owned(),
        conversations: conversations.map(conversation).collect(),
        connections: count("connections"),
        duplicates: count("duplicates"),
        refused: count("refused"),
        ..Memory::default()
    }
}

fn conversation(said: &Value) -> (i64, Conversation) {
    let names = said["members"].as_array().into_iter().flatten();
    let messages = said["messages"].as_array().expect("a list").iter();
    let conversation = Conversation {
        rev: said["rev"].as_i64().expect("a rev"),
        members: names
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect(),
        messages: messages
            .map(|message| (message["id"].as_i64().expect("an id"), message.clone()))
            .collect::<BTreeMap<_, _>>(),
    };
    (said["id"].as_i64().expect("an id"), conversation)
}
