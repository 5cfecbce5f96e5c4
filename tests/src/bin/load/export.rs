//! The export of an account that has written very many messages: its time and its memory.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::value::RawValue;
use tests::Process;
use tests::host::{Log, SECRET};
use tests::memory::{peak_resident_kib, resident_kib};
use tests::tokens::foreign_token;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::growth::populate;
use crate::measurement::{Goal, Measurement};

#[derive(Args)]
pub struct Export {
    /// Messages of the user.
    #[arg(long, default_value_t = 1_000_000)]
    messages: i64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// The page caches of up to four readers, of 32 MiB each, and as much for all else.
const MEMORY_MAX: Goal = Goal::AtMost(5.0 * 32.0);

pub async fn export(arguments: Export) -> Result<Vec<Measurement>> {
    let Export { messages, rounds } = arguments;
    ensure!(rounds > 0, "--rounds must be at least 1");
    let folder = tempfile::TempDir::new()?;
    let file = folder.path().join("export.db");
    populate(&file, messages).await?;
    let (mut times, mut memory, mut size) = (vec![], vec![], 0);
    for _ in 0..rounds {
        // A new host each time: its peak is that of the export, and a user may not have many.
        let variables = [
            ("DBPATH", file.as_os_str()),
            // Filling the index would count too.
            ("SEARCH", OsStr::new("off")),
        ];
        let host = Process::start_with(&variables, Log::File(folder.path().join("log"))).await;
        let before = resident_kib(host.id())?;
        let started = Instant::now();
        let answer = download(&host).await?;
        times.push(started.elapsed().as_secs_f64());
        memory.push((peak_resident_kib(host.id())? - before) / 1024.0);
        host.stop().await;
        let head = answer.windows(4).position(|end| end == b"\r\n\r\n");
        let document = &answer[head.map_or(0, |at| at + 4)..];
        let parts: HashMap<&str, &RawValue> = serde_json::from_slice(document)?;
        let exported: Vec<&RawValue> = serde_json::from_str(parts["messages"].get())?;
        let count = exported.len();
        ensure!(count as i64 >= messages, "{count} messages came");
        size = document.len();
    }
    let name = format!("export of {messages} messages");
    Ok(vec![
        Measurement::new(name.as_str(), "s", times).with("document_mb", size as f64 / 1e6),
        Measurement::new(format!("{name}, memory"), "MiB", memory).aims(MEMORY_MAX),
    ])
}

/// The whole answer, without chunks.
async fn download(host: &Process) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(host.address).await?;
    let request = format!(
        "GET /account/export HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
        host.address,
        foreign_token(SECRET, "b")
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}
