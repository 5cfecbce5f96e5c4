//! The export of an account by the real program.

use std::ffi::OsStr;
use std::thread::available_parallelism;

use tests::host::{Log, SECRET, register};
use tests::memory::{peak_resident_kib, resident_kib};
use tests::tokens::foreign_token;
use tests::{Data, Process, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn an_export_of_many_messages_takes_little_memory() {
    const MESSAGES: usize = 50_000;
    let data = Data::create();
    let host = data.start().await;
    register(host.address, "alice").await;
    host.stop().await;
    // Each character of a content takes six bytes of the document, 300 MB in all.
    let fill = format!(
        "insert into conversations (id, name) values (1, 'long');
         insert into members (conversation_id, user_id) values (1, 1);
         with recursive n(n) as (select 1 union all select n + 1 from n where n < {MESSAGES})
         insert into messages (sender_id, conversation_id, sent_at, content, rev)
         select 1, 1, 0, replace(hex(zeroblob(500)), '0', char(1)), 1 + n from n"
    );
    let db = data.open().await;
    db.execute_batch(&fill).await.expect("filled");
    drop(db);
    let file = data.file();
    let variables = [
        ("DBPATH", file.as_os_str()),
        // The memory is that of the export alone.
        ("SEARCH", OsStr::new("off")),
    ];
    let host = Process::start_with(&variables, Log::Test).await;
    let before = resident_kib(host.id()).expect("it runs");
    let mut stream = TcpStream::connect(host.address).await.expect("it listens");
    let token = foreign_token(SECRET, "alice");
    let request = format!(
        "GET /account/export HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let (mut bytes, mut end, mut buffer) = (0, Vec::new(), vec![0; 256 * 1024]);
    soon("the end of the export", async {
        loop {
            let read = stream.read(&mut buffer).await.expect("read");
            if read == 0 {
                return;
            }
            bytes += read;
            end = [end.as_slice(), &buffer[..read]].concat();
            end = end.split_off(end.len().saturating_sub(16));
        }
    })
    .await;
    assert!(end.ends_with(b"\r\n0\r\n\r\n"), "it was cut short");
    assert!(bytes > MESSAGES * 1000 * 6, "{bytes} bytes");
    let grown = (peak_resident_kib(host.id()).expect("it runs") - before) / 1024.0;
    // Each reader may fill a page cache of 32 MiB. As much as two more is for all else.
    let readers = available_parallelism().map_or(1, usize::from).min(4);
    assert!(grown < 32.0 * (readers + 2) as f64, "{grown} MiB");
}
