//! schemathesis makes up requests from the description of the HTTP interface, right and wrong ones,
//! and checks the answers against it.

use std::process::Stdio;

use tests::host::{Log, SECRET, register};
use tests::servers::installed;
use tests::tokens::foreign_token;
use tests::{Data, Process, soon};
use tokio::process::Command;

/// So many seconds of requests.
const SECONDS: &str = "60";

#[tokio::test]
async fn what_schemathesis_makes_up_is_answered_as_described() {
    let data = Data::create();
    let host = Process::start_with(&[("DBPATH", data.file().as_os_str())], Log::Test).await;
    register(host.address, "alice").await;
    // It has no session that a request could end.
    let token = foreign_token(SECRET, "alice");
    let settings = concat!(env!("CARGO_MANIFEST_DIR"), "/schemathesis.toml");
    let description = concat!(env!("CARGO_MANIFEST_DIR"), "/../handler/spec/openapi.json");
    let run = Command::new(installed("schemathesis/bin/schemathesis"))
        .args(["--config-file", settings])
        .args(["run", description, "--no-color", "--max-time", SECONDS])
        .args(["--url", &format!("http://{}", host.address)])
        .args(["--header", &format!("authorization: Bearer {token}")])
        // It needs a WebSocket handshake.
        .args(["--exclude-path", "/ws"])
        // It keeps what it has found there for the next run.
        .current_dir(data.folder())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = soon("the end of schemathesis", run).await.expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    host.stop().await;
}
