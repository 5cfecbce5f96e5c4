//! `deploy/smoke` passes on the real program, and reports what is wrong if something is.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::process::Stdio;

use tests::host::Log;
use tests::servers::installed;
use tests::{Data, Process, TlsProxy, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/smoke");

/// Runs `deploy/smoke`; returns its exit code and its output, standard error last.
async fn smoke(arguments: &str) -> (Option<i32>, String) {
    smoke_with(arguments, &[]).await
}

async fn smoke_with(arguments: &str, variables: &[(&str, &OsStr)]) -> (Option<i32>, String) {
    // The script's first line needs node.
    installed("node");
    let output = Command::new(PROGRAM)
        .args(arguments.split_whitespace())
        .env_remove("NODE_EXTRA_CA_CERTS")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = soon("the end of deploy/smoke", output)
        .await
        .expect("deploy/smoke starts");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("text");
    (output.status.code(), text)
}

/// Starts the host with limits.
async fn start(data: &Data) -> Process {
    let file = data.file();
    let variables = [
        ("DBPATH", file.as_os_str()),
        // Fewer events than the script would send without a limit.
        ("EVENTS_PER_SECOND", "5".as_ref()),
        ("SOCKETS_PER_USER", "100".as_ref()),
        ("LOGINS_PER_MINUTE", "300".as_ref()),
        ("REGISTRATIONS_PER_HOUR", "300".as_ref()),
    ];
    Process::start_with(&variables, Log::Test).await
}

#[tokio::test]
async fn a_chat_that_works() {
    let data = Data::create();
    let host = start(&data).await;
    // A second run is not affected by the first.
    for run in 1..=2 {
        let (code, text) = smoke(&format!("http://{}", host.address)).await;
        assert_eq!(code, Some(0), "{text}");
        let (checks, left) = text.trim().rsplit_once('\n').expect("lines");
        assert!(checks.lines().all(|line| line.starts_with("ok ")), "{text}");
        assert!(left.starts_with("left behind: user smoke-"), "{text}");
        assert!(left.ends_with(&format!("conversation {run}")), "{text}");
    }
    let db = data.open().await;
    let count =
        "select conversation_id, count(*), count(distinct sender_id) from messages group by 1";
    let mut rows = db.query(count, ()).await.expect("a query");
    for run in 1..=2 {
        let row = rows.next().await.expect("a row").expect("a row");
        let row = [0, 1, 2].map(|column| row.get::<i64>(column).expect("a number"));
        // The messages that it reports, the missed ones, and the last one.
        assert_eq!(row, [run, 100 + 5 + 1, 2]);
    }
}

#[tokio::test]
async fn what_is_not_a_chat() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let down = closed.local_addr().expect("an address");
    drop(closed);
    let other = answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
    let proxy = answering("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await;
    let moved = "HTTP/1.1 308 Permanent Redirect\r\nLocation: https://chat.example/\r\nContent-Length: 0\r\n\r\n";
    let moved = answering(moved).await;
    let foreign = answering("220 mail.example ESMTP\r\n").await;
    let silent = answering("").await;
    for (arguments, expected) in [
        (format!("http://{down}"), "cannot be reached"),
        (format!("http://{other}"), "saw 200 hello"),
        (format!("http://{proxy}"), "saw 502"),
        (
            format!("http://{moved}"),
            "redirects to https://chat.example/",
        ),
        (format!("http://{foreign}"), "speaks something else"),
        (
            format!("--timeout 1 http://{silent}"),
            "not done within 1 s: GET /misc/ping is not answered",
        ),
        (String::new(), "expected one URL"),
        ("ws://localhost".to_owned(), "expected an http or https URL"),
        (
            "--timeout soon http://localhost".to_owned(),
            "expected a number of seconds",
        ),
    ] {
        let (code, text) = smoke(&arguments).await;
        assert_eq!(code, Some(2), "{arguments}: {text}");
        assert!(text.contains(expected), "{arguments}: {text}");
    }
    let (code, text) = smoke("--help").await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("Usage: deploy/smoke"), "{text}");
}

/// A server that sends this text on each connection, or nothing if it is empty, and keeps the
/// connections open.
async fn answering(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut streams = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(answer.as_bytes()).await;
            streams.push(stream);
        }
    });
    address
}

/// A fault of a push on its way from the host.
#[derive(Clone, Copy)]
enum Fault {
    Lose,
    Double,
    /// It arrives after the next push.
    Swap,
}

#[tokio::test]
async fn what_is_lost_doubled_or_swapped_is_found() {
    let data = Data::create();
    let host = data.start().await;
    let (talk, meanwhile) = ("100 messages, both ways", "and nothing came twice");
    // The fault of the push that contains the text, and the check and the reason that are reported.
    let faults = [
        ("message 7:", Fault::Lose, talk, "did not come"),
        ("message 7:", Fault::Double, talk, "came more than once"),
        ("message 7:", Fault::Swap, talk, "came too late"),
        ("message 49:", Fault::Lose, talk, "not done within 10 s"),
        ("goodbye:", Fault::Double, meanwhile, "came more than once"),
        (
            "user_status",
            Fault::Lose,
            "presence",
            "not told of user_status",
        ),
        (
            "create_conversation",
            Fault::Lose,
            "a conversation",
            "not told of create_",
        ),
    ];
    let runs = faults.map(|(text, fault, check, reason)| async move {
        let proxy = tampering(host.address, text, fault).await;
        let (code, output) = smoke(&format!("--timeout 10 http://{proxy}")).await;
        assert_eq!(code, Some(1), "{text}: {output}");
        let failed = output.lines().find(|line| line.starts_with("FAILED "));
        let failed = failed.unwrap_or_else(|| panic!("{text}: {output}"));
        assert!(
            failed.contains(check) && failed.contains(reason),
            "{text}: {failed}"
        );
    });
    futures_util::future::join_all(runs).await;
}

/// A proxy to the host that applies the fault to pushes with this text.
async fn tampering(host: SocketAddr, text: &'static str, fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(host).await.expect("the host listens");
            let (mut client_reads, client_writes) = client.into_split();
            let (server_reads, mut server_writes) = server.into_split();
            tokio::spawn(async move { copy(&mut client_reads, &mut server_writes).await });
            tokio::spawn(tamper(server_reads, client_writes, text, fault));
        }
    });
    address
}

async fn tamper(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    text: &str,
    fault: Fault,
) -> std::io::Result<()> {
    let (mut input, mut held) = (Vec::new(), None);
    let mut is_upgraded = false;
    while from.read_buf(&mut input).await? > 0 {
        if !is_upgraded {
            let end = input.windows(4).position(|end| end == b"\r\n\r\n");
            let Some(end) = end else { continue };
            if !input.starts_with(b"HTTP/1.1 101") {
                to.write_all(&input).await?;
                copy(&mut from, &mut to).await?;
                return Ok(());
            }
            is_upgraded = true;
            to.write_all(&input[..end + 4]).await?;
            input.drain(..end + 4);
        }
        while let Some(end) = frame_bytes(&input).filter(|end| *end <= input.len()) {
            let frame: Vec<u8> = input.drain(..end).collect();
            let content = String::from_utf8_lossy(&frame);
            let is_push = !content.contains(r#""ref":"#);
            match fault {
                Fault::Lose if is_push && content.contains(text) => {}
                Fault::Swap if is_push && content.contains(text) => held = Some(frame),
                Fault::Double if is_push && content.contains(text) => {
                    to.write_all(&frame.repeat(2)).await?
                }
                _ => {
                    to.write_all(&frame).await?;
                    if is_push && let Some(held) = held.take() {
                        to.write_all(&held).await?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// The length of the frame that begins here, including its head.
fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    match *bytes {
        [_, length @ ..=125, ..] => Some(2 + usize::from(length)),
        [_, 126, a, b, ..] => Some(4 + usize::from(u16::from_be_bytes([a, b]))),
        [_, 127, _, _, _, _, a, b, c, d, ..] => {
            Some(10 + u32::from_be_bytes([a, b, c, d]) as usize)
        }
        _ => None,
    }
}

#[tokio::test]
async fn a_proxy_that_passes_no_websockets_is_named() {
    let data = Data::create();
    let host = data.start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let proxy = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(host.address)
                .await
                .expect("the host listens");
            tokio::spawn(async move {
                let mut request = vec![0; 64 * 1024];
                let count = client.read(&mut request).await?;
                let request = String::from_utf8_lossy(&request[..count]);
                let request = request.replace("upgrade: websocket\r\n", "");
                server.write_all(request.as_bytes()).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    let (code, output) = smoke(&format!("http://{proxy}")).await;
    assert_eq!(code, Some(1), "{output}");
    let expected = "FAILED a forged token is refused: /ws: expected 101, saw 426";
    assert!(output.contains(expected), "{output}");
    assert!(
        output.contains("has to pass WebSockets through"),
        "{output}"
    );
}

#[tokio::test]
async fn tls_has_to_be_trusted() {
    let data = Data::create();
    let host = data.start().await;
    let proxy = TlsProxy::start(host.address).await;
    let url = format!("https://localhost:{}", proxy.address.port());
    let (code, output) = smoke(&url).await;
    assert_eq!(code, Some(2), "{output}");
    assert!(
        output.contains("is not trusted (self-signed certificate); NODE_EXTRA_CA_CERTS"),
        "{output}"
    );
    let authority = proxy.authority();
    let variables = [("NODE_EXTRA_CA_CERTS", authority.as_os_str())];
    let (code, output) = smoke_with(&url, &variables).await;
    assert_eq!(code, Some(0), "{output}");
}
