//! The length of the write-ahead log while others read.

use std::fs;

use tests::{Client, Data, until};
use tokio::task::JoinSet;

use crate::stored::rows;

/// deploy/limits.md.
const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

fn length(data: &Data) -> u64 {
    fs::metadata(data.wal()).map_or(0, |metadata| metadata.len())
}

/// Sends twenty long messages.
async fn write(client: &mut Client, conversation: i64) {
    client
        .send_many(conversation, &"x".repeat(60_000), 20)
        .await;
}

#[tokio::test]
async fn a_write_ahead_log_that_a_long_reader_held_is_short_again_when_it_has_gone() {
    let data = Data::create();
    let host = data.start_logging().await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    let reader = data.open().await;
    reader.execute_batch("begin").await.expect("begun");
    rows(&reader, "select count(*) from messages").await;
    while length(&data) < LOG_BYTES_MAX * 5 / 4 {
        write(&mut alice, conversation).await;
    }
    let warned = "the write-ahead log";
    until("a warning", async || data.logged(warned) > 0).await;
    write(&mut alice, conversation).await;
    assert_eq!(data.logged(warned), 1, "logged once");
    reader.execute_batch("rollback").await.expect("rolled back");
    until("a short log", async || {
        write(&mut alice, conversation).await;
        length(&data) < LOG_BYTES_MAX
    })
    .await;
    until("a second line in the log", async || {
        data.logged(warned) == 2
    })
    .await;
}

#[tokio::test]
async fn under_constant_reads_the_write_ahead_log_stays_short() {
    let data = Data::create();
    let host = data.start().await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    // bob is not told of alice's messages: on a busy machine he would be closed as too slow. A
    // read transaction keeps the log from being reset, whatever it reads.
    let mut bob = host.join("bob").await;
    let elsewhere = bob.converse(&[]).await;
    write(&mut bob, elsewhere).await;
    let mut readers = JoinSet::new();
    for _ in 0..4 {
        let mut reader = host.connect("bob").await;
        readers.spawn(async move {
            loop {
                reader.history(elsewhere).await;
            }
        });
    }
    let mut longest = 0;
    // 96 MB.
    for _ in 0..80 {
        write(&mut alice, conversation).await;
        longest = longest.max(length(&data));
    }
    assert!(longest < LOG_BYTES_MAX * 5 / 4, "{longest} bytes");
    assert!(readers.try_join_next().is_none(), "the readers still read");
}
