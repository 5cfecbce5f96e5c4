//! `deploy/chat.mjs`, the example of a client: two users talk with it over the real program.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;
use tests::host::{PASSWORD, register};
use tests::servers::{free_address, installed};
use tests::{Data, soon};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The example with the package ws beside it, as npm puts it there.
fn example() -> TempDir {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("chat.mjs");
    fs::copy(tests.join("../deploy/chat.mjs"), file).expect("a copy");
    let packages = installed("node_modules/ws");
    let packages = packages.parent().expect("a folder");
    symlink(packages, folder.path().join("node_modules")).expect("a link");
    folder
}

/// Somebody in a terminal.
struct User {
    child: Child,
    types: Option<ChildStdin>,
    sees: Lines<BufReader<ChildStdout>>,
}

impl User {
    fn start(example: &TempDir, server: &str, arguments: [&str; 3]) -> Self {
        let mut child = Command::new(installed("node"))
            .arg(example.path().join("chat.mjs"))
            .args(arguments)
            .env("SERVER", server)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts");
        let types = child.stdin.take();
        let sees = BufReader::new(child.stdout.take().expect("piped")).lines();
        User { child, types, sees }
    }

    async fn types(&mut self, line: &str) {
        let line = format!("{line}\n");
        let types = self.types.as_mut().expect("it is open");
        types.write_all(line.as_bytes()).await.expect("typed");
    }

    async fn sees(&mut self) -> String {
        let line = soon("a line", self.sees.next_line()).await;
        line.expect("text").expect("a line")
    }

    /// Ends the input.
    async fn leaves(mut self) -> (Option<i32>, String) {
        self.types = None;
        self.ends().await
    }

    /// The exit code, and what else was written, errors last.
    async fn ends(mut self) -> (Option<i32>, String) {
        let status = soon("the end", self.child.wait()).await.expect("a status");
        let mut text = String::new();
        while let Some(line) = self.sees.next_line().await.expect("text") {
            text += &(line + "\n");
        }
        let mut errors = self.child.stderr.take().expect("piped");
        errors.read_to_string(&mut text).await.expect("text");
        (status.code(), text)
    }
}

#[tokio::test]
async fn two_users_talk() {
    let data = Data::create();
    let host = data.start().await;
    let server = format!("http://{}", host.address);
    for name in ["alice", "bob", "carol"] {
        register(host.address, name).await;
    }
    // Another conversation of both is not the one of the two.
    let mut alice = host.connect("alice").await;
    let three = alice.converse(&["bob", "carol"]).await;
    alice.send(three, "for three").await;

    let example = example();
    let mut bob = User::start(&example, &server, ["bob", PASSWORD, "alice"]);
    let mut alice = User::start(&example, &server, ["alice", PASSWORD, "bob"]);
    alice.types("hello").await;
    assert_eq!(bob.sees().await, "alice: hello");
    bob.types("\u{1b}[2Jhi").await;
    assert_eq!(alice.sees().await, "bob:  [2Jhi");
    assert_eq!(alice.leaves().await, (Some(0), String::new()));

    // The same conversation, with its history.
    let mut alice = User::start(&example, &server, ["alice", PASSWORD, "bob"]);
    assert_eq!(alice.sees().await, "alice: hello");
    assert_eq!(alice.sees().await, "bob:  [2Jhi");
    alice.types("bye").await;
    assert_eq!(bob.sees().await, "alice: bye");
    alice.types(&"x".repeat(65537)).await;
    let too_long = "send_message: message content should be at most 65536 bytes\n";
    assert_eq!(alice.leaves().await, (Some(0), too_long.to_owned()));

    host.stop().await;
    let stopped = "closed: 1001 server is shutting down\n";
    assert_eq!(bob.ends().await, (Some(1), stopped.to_owned()));
}

#[tokio::test]
async fn mistakes_are_a_line() {
    let data = Data::create();
    let host = data.start().await;
    let server = format!("http://{}", host.address);
    register(host.address, "alice").await;
    let nobody = format!("http://{}", free_address());
    let no_server = format!(
        "no server at {nobody}: start one with cargo run -p host, or name another with SERVER=http://…\n"
    );
    let with_tls = format!("https://{}", host.address);
    let no_tls = format!("{with_tls}: TLS failed: the server may speak http, not https\n");
    let no_scheme = host.address.to_string();
    let expected = format!("SERVER is \"{no_scheme}\": expected http://… or https://…\n");
    let example = example();
    for (server, arguments, expected) in [
        (&no_scheme, ["alice", PASSWORD, "bob"], expected.as_str()),
        (
            &format!("{server}/"),
            ["alice", "wrong", "bob"],
            "login: mismatch username and password\n",
        ),
        (
            &server,
            ["alice", PASSWORD, "bob"],
            "there is no user bob: register it first\n",
        ),
        (&nobody, ["alice", PASSWORD, "bob"], &no_server),
        (&with_tls, ["alice", PASSWORD, "bob"], &no_tls),
    ] {
        let user = User::start(&example, server, arguments);
        assert_eq!(user.ends().await, (Some(1), expected.to_owned()));
    }
}
