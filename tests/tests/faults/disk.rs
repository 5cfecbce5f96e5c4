//! Disks that are full or read-only.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::process::Signal;
use serde_json::json;
use tests::host::{Log, login, ready, refuse_in, register, request, run, run_in};
use tests::servers::shared_sqld;
use tests::{Client, Data, Gateway, Process, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stored::{check, heard};

/// A script that starts the program with these mounts, which no other process sees. None if this
/// user may not mount: then the test is skipped, and standard error says so even if the output of
/// tests is captured.
fn mounted(mounts: &str, folder: &Path) -> Option<String> {
    for options in ["-m", "-rm"] {
        let mut command = std::process::Command::new("unshare");
        command
            .args([options, "sh", "-c", mounts])
            .env("DIR", folder);
        if command.output().is_ok_and(|output| output.status.success()) {
            return Some(format!(
                r#"exec unshare {options} sh -c '{mounts} && exec "$0" "$@"' "$0" "$@""#
            ));
        }
    }
    let _ = writeln!(
        std::io::stderr(),
        "SKIPPED, because this user may not mount anything: {mounts}"
    );
    None
}
#[tokio::test]
async fn a_full_disk_makes_sends_unavailable_until_there_is_room() {
    let data = Data::create();
    let (file, folder) = (data.file(), data.folder());
    let Some(script) = mounted(r#"mount -t tmpfs -o size=4m tmpfs "$DIR""#, folder) else {
        return;
    };
    let variables = [
        ("DBPATH", file.as_os_str()),
        ("DIR", folder.as_os_str()),
        ("LOG_LEVEL", OsStr::new("info")),
    ];
    // The mount is over the folder, but the test itself still sees the folder, with the log in it.
    let host = Process::start_in(&script, &variables, Log::File(data.log())).await;
    let inside = format!("/proc/{}/root{}", host.id(), folder.display());
    let inside = Path::new(&inside);
    for name in ["alice", "bob", "carol"] {
        register(host.address, name).await;
    }
    let mut alice = host.connect("alice").await;
    let bob_cookie = login(host.address, "bob").await;
    let carol = host.connect("carol").await;
    alice.add_contact("carol").await;
    let conversation = alice.converse(&["bob"]).await;
    let send = |content: &str| json!({ "type": "send_message", "conversation_id": conversation, "content": content });
    let mut stored = vec![heard(&alice.ok(send("before")).await)];

    let ballast = inside.join("ballast");
    let mut filling = File::create(&ballast).expect("a file");
    while match filling.write(&[0; 4096]) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::StorageFull);
            false
        }
    } {}
    let started = Instant::now();
    let mut refused = 0;
    for round in 0..100 {
        for count in 0..20 {
            alice
                .text(&send(&format!("full {round} {count}")).to_string())
                .await;
        }
        for _ in 0..20 {
            let reply = alice.receive().await;
            if reply["success"] == true {
                // The write-ahead log still had room within a page.
                stored.push(heard(&reply["data"]));
                continue;
            }
            assert_eq!(reply["code"], "unavailable", "{reply}");
            assert!(reply["retry_after"].as_i64() > Some(0), "{reply}");
            refused += 1;
        }
    }
    assert!(refused > 1000, "{refused} of 2000");
    let newest = stored.last().expect("a message").0;
    let history = alice.history(conversation).await;
    assert_eq!(history[0]["id"], newest, "reads go on");
    // The readiness check writes less than a message, so there may be room for it a few times more.
    until("not ready", async || {
        let ready = request(host.address, "GET", "/readyz", &[], "").await;
        (ready.status, ready.body.as_str()) == (503, "the database is not available")
    })
    .await;
    let mut bob = Client::connect(host.address, &bob_cookie).await;
    assert_eq!(bob.closed().await.0, 1013, "try again later");
    carol.close().await;
    let reason = "database or disk is full";
    until("a line in the log", async || data.logged(reason) > 0).await;
    let named = data.logged(reason);
    let most = started.elapsed().as_secs() as usize + 1;
    assert!(
        named <= most,
        "{named} lines for {refused} refusals, at most {most}"
    );

    fs::remove_file(ballast).expect("removed");
    drop(filling);
    stored.push(heard(&alice.ok(send("after")).await));
    let offline = alice.push().await;
    assert_eq!(
        (&offline["data"]["username"], &offline["data"]["is_online"]),
        (&json!("carol"), &json!(false)),
        "what could not be stored before is stored now"
    );
    ready(host.address).await;
    host.signal(Signal::STOP);
    let contents = check(&inside.join("chat.db"), &stored).await;
    assert_eq!(
        contents.len(),
        stored.len(),
        "refused messages are not stored"
    );
    host.signal(Signal::CONT);
    host.stop().await;
}

#[tokio::test]
async fn exports_leave_room_on_a_disk() {
    /// Bytes that exports leave free, deploy/limits.md.
    const LEFT: u64 = 128 << 20;
    let data = Data::create();
    let (file, folder) = (data.file(), data.folder());
    let Some(script) = mounted(r#"mount -t tmpfs -o size=320m tmpfs "$DIR""#, folder) else {
        return;
    };
    let variables = [("DBPATH", file.as_os_str()), ("DIR", folder.as_os_str())];
    let host = Process::start_in(&script, &variables, Log::File(data.log())).await;
    let inside = format!("/proc/{}/root{}", host.id(), folder.display());
    let inside = Path::new(&inside);
    register(host.address, "alice").await;
    let mut alice = host.connect("alice").await;
    let conversation = alice.converse(&[]).await;
    // More than the buffers of a connection hold.
    for _ in 0..20 {
        alice.send_many(conversation, &"x".repeat(60_000), 20).await;
    }
    let cookie = login(host.address, "alice").await;
    let mut stream = TcpStream::connect(host.address).await.expect("connected");
    let head = format!("GET /account/export HTTP/1.1\r\nhost: x\r\ncookie: {cookie}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.expect("a status");
    assert_eq!(answer, b"HTTP/1.1 200");

    let ballast = File::create(inside.join("ballast")).expect("a file");
    let disk = statvfs(inside).expect("a disk");
    let taken = disk.f_bavail * disk.f_frsize - LEFT + 1;
    fallocate(&ballast, FallocateFlags::empty(), 0, taken).expect("room");
    // What others store counts for more than the rest of this export.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.ends_with(b"0\r\n\r\n") && answer.len() < 400 * 60_000);
    let cookie = [("cookie", cookie.as_str())];
    let export = async || request(host.address, "GET", "/account/export", &cookie, "").await;
    // The first one gives its room back.
    let refused = export().await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.header("retry-after").is_some());
    assert!(refused.body.contains(r#""code":"unavailable""#));
    assert!(data.logged("leaves 134 MB of the disk free") > 0);
    let names = fs::read_dir(inside).expect("a folder").flatten();
    let names = names.map(|file| file.file_name().into_string().expect("text"));
    let others: Vec<_> = names.filter(|name| !name.starts_with("chat.db")).collect();
    assert_eq!(others, ["ballast"]);
    alice
        .send_many(conversation, "there is room for this", 20)
        .await;

    ballast.set_len(0).expect("emptied");
    assert_eq!(export().await.status, 200);
    host.stop().await;
}

/// A data file of some megabytes on which no server runs.
async fn filled(data: &Data) {
    let host = data.start().await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    alice.send_many(conversation, &"x".repeat(60_000), 60).await;
    host.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_on_a_disk_is_not_begun() {
    let data = Data::create();
    filled(&data).await;
    let small = data.beside("small");
    fs::create_dir(&small).expect("a folder");
    let Some(script) = mounted(r#"mount -t tmpfs -o size=1m tmpfs "$DIR""#, &small) else {
        return;
    };
    let script = script.replace(
        r#"exec "$0" "$@"'"#,
        r#""$0" "$@"; code=$?; ls -A "$DIR"; exit $code'"#,
    );
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let (file, small) = (text(&data.file()), text(&small));
    let inside = format!("{small}/chat.db");
    for (arguments, database, left) in [
        (["backup", &inside].as_slice(), &file, ""),
        (&["restore", &file], &inside, "chat.db-lock\n"),
        (&["copy", &file, &inside], &file, ""),
    ] {
        let variables = [("DBPATH", database.as_str()), ("DIR", &small)];
        let (status, output, errors) = run_in(&script, arguments, &variables).await;
        assert_eq!(status.code(), Some(1), "{arguments:?}: {errors}");
        let reason = "16.8 MB more that stay free; the disk of";
        assert!(errors.contains(reason), "{arguments:?}: {errors}");
        assert_eq!(output, left, "{arguments:?}");
    }
}

#[tokio::test]
async fn a_copy_that_fails_midway_leaves_nothing() {
    let data = Data::create();
    filled(&data).await;
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let (file, copy) = (text(&data.file()), text(&data.beside("copy.db")));
    // No file may become longer than a megabyte: the same as a disk that others fill meanwhile.
    let script = r#"trap "" XFSZ; ulimit -f 2000; exec "$0" "$@""#;
    for (arguments, database) in [(["backup", &copy], &file), (["restore", &file], &copy)] {
        let variables = [("DBPATH", database.as_str())];
        let (status, _, errors) = run_in(script, &arguments, &variables).await;
        assert_eq!(status.code(), Some(1), "{errors}");
        let files = fs::read_dir(data.folder()).expect("a folder").flatten();
        let names = files.map(|file| file.file_name().into_string().expect("text"));
        let mut names: Vec<_> = names.filter(|name| !name.starts_with("chat.db")).collect();
        names.retain(|name| name != "copy.db-lock");
        assert_eq!(names, [] as [String; 0], "{arguments:?}: {errors}");
    }
}

#[tokio::test]
async fn a_copy_from_a_server_that_does_not_fit_is_removed() {
    let data = Data::create();
    filled(&data).await;
    let gateway = Gateway::start(shared_sqld().await).await;
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let (file, url) = (text(&data.file()), gateway.url());
    let (status, _, errors) = run(&["copy", &file, &url], &[]).await;
    assert_eq!(status.code(), Some(0), "{errors}");
    let small = data.beside("small");
    fs::create_dir(&small).expect("a folder");
    let Some(script) = mounted(r#"mount -t tmpfs -o size=2m tmpfs "$DIR""#, &small) else {
        return;
    };
    let script = script.replace(
        r#"exec "$0" "$@"'"#,
        r#""$0" "$@"; code=$?; ls -A "$DIR"; exit $code'"#,
    );
    let small = text(&small);
    let inside = format!("{small}/chat.db");
    let arguments = ["copy", url.as_str(), &inside];
    let (status, output, errors) = run_in(&script, &arguments, &[("DIR", &small)]).await;
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("the incomplete copy was removed"),
        "{errors}"
    );
    assert!(errors.contains("database or disk is full"), "{errors}");
    assert_eq!(output, "chat.db-lock\n");
}

#[tokio::test]
async fn where_it_cannot_write_it_says_so_and_does_not_start() {
    let data = Data::create();
    let file = data.file();
    let read_only = r#"mount --bind "$DIR" "$DIR" && mount -o remount,bind,ro "$DIR""#;
    let Some(folder_read_only) = mounted(read_only, data.folder()) else {
        return;
    };
    let refuse = async |script: &str, place: &Path, reason: &str| {
        let variables = [("DIR", place.to_str().expect("text"))];
        refuse_in(script, &file, &variables, reason).await;
    };
    let reason = "Read-only file system";
    refuse(&folder_read_only, data.folder(), reason).await;
    let tiny = r#"mount -t tmpfs -o size=64k tmpfs "$DIR""#;
    let full = mounted(tiny, data.folder()).expect("as before");
    refuse(&full, data.folder(), "database or disk is full").await;
    let host = data.start().await;
    register(host.address, "alice").await;
    host.stop().await;
    refuse(&folder_read_only, data.folder(), reason).await;
    // Only the file is read-only.
    let file_read_only = mounted(read_only, &file).expect("as before");
    refuse(&file_read_only, &file, "may not write the file").await;
}
