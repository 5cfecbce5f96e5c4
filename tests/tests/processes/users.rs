//! `chatapp user` and `chatapp key`: beside a running server, without one, and over HTTP.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

use serde_json::json;
use tests::host::{Form, Log, PASSWORD, SECRET, login, request, run};
use tests::servers::shared_sqld;
use tests::tokens::foreign_token;
use tests::{Client, Data, Gateway, Host, Process, until};
use tokio::io::AsyncWriteExt;

/// Runs the program with these arguments; returns whether it succeeded, and what it said.
async fn chatapp(database: &str, arguments: &[&str]) -> (bool, String) {
    let (status, output, errors) =
        run(arguments, &[("DBPATH", database), ("LOG_LEVEL", "warn")]).await;
    (status.success(), output + &errors)
}

/// The same, if it has to succeed.
async fn done(database: &str, arguments: &[&str]) -> String {
    let (is_done, said) = chatapp(database, arguments).await;
    assert!(is_done, "{arguments:?}: {said}");
    said
}

/// Runs the program with a password on its standard input.
async fn with_password(database: &str, arguments: &[&str], password: &str) -> (bool, String) {
    let mut child = tokio::process::Command::new(tests::host::program())
        .args(arguments)
        .env("DBPATH", database)
        .env("LOG_LEVEL", "warn")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(password.as_bytes()).await.expect("written");
    drop(input);
    let output = child.wait_with_output().await.expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8(said).expect("text"),
    )
}

/// What the operator does with users, whether a server runs on the database or not. `listed` are the
/// lines of the users who are there already.
async fn manage(database: &str) {
    let said = done(
        database,
        &["user", "add", "user-1", "--fullname", "Ann \u{1b}[2J"],
    )
    .await;
    assert_eq!(said, "\"user-1\" is added\n");
    let (is_done, said) =
        with_password(database, &["user", "add", "bob", "--password"], "xyz\n").await;
    assert!(is_done, "{said}");
    let (is_done, said) = chatapp(database, &["user", "add", "bob"]).await;
    assert!(
        !is_done && said.contains("there is a user \"bob\" already"),
        "{said}"
    );
    done(database, &["user", "ban", "bob"]).await;
    let listed = done(database, &["user", "list"]).await;
    let lines = "bob  bob  [banned]\nuser-1  Ann \\u{1b}[2J  [no password]\n";
    assert!(listed.ends_with(lines), "{listed}");
    done(database, &["user", "unban", "bob"]).await;
    let (is_done, said) = with_password(database, &["user", "password", "user-1"], PASSWORD).await;
    assert!(is_done, "{said}");
    let (is_done, said) = with_password(database, &["user", "password", "user-1"], "").await;
    assert!(
        !is_done && said.contains("no password on standard input"),
        "{said}"
    );
    for action in ["ban", "unban", "delete"] {
        let (is_done, said) = chatapp(database, &["user", action, "nobody"]).await;
        assert!(
            !is_done && said.contains("no such user \"nobody\""),
            "{said}"
        );
    }
    done(database, &["user", "delete", "bob"]).await;
    let listed = done(database, &["user", "list"]).await;
    assert!(listed.ends_with("user-1  Ann \\u{1b}[2J\n"), "{listed}");
    assert!(!listed.contains("bob"), "{listed}");
    let (is_done, said) = chatapp(database, &["user", "add", "bob"]).await;
    assert!(
        !is_done && said.contains("username already exists"),
        "{said}"
    );
}

#[tokio::test]
async fn users_are_managed_without_a_server() {
    let data = Data::create();
    let file = data.file();
    let database = file.to_str().expect("text");
    let (is_done, said) = chatapp(database, &["user", "list"]).await;
    assert!(!is_done && said.contains("there is no database"), "{said}");
    data.start().await.stop().await;
    manage(database).await;
    // The server finds it all.
    let host = data.start().await;
    let mut ann = host.connect("user-1").await;
    assert_eq!(
        ann.ok(json!({ "type": "self" })).await["fullname"],
        "Ann \u{1b}[2J"
    );
    drop(ann);
    host.stop().await;
}

#[tokio::test]
async fn users_are_managed_beside_a_running_server() {
    let data = Data::create();
    let host = data.start_logging().await;
    let file = data.file();
    let database = file.to_str().expect("text");
    let socket = data.beside("chat.db-socket");
    let mode = socket.metadata().expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut aaron = host.join("aaron").await;
    manage(database).await;
    // It takes effect at once.
    done(database, &["user", "ban", "aaron"]).await;
    assert_eq!(aaron.closed().await, (1008, "session ended".into()));
    for line in [
        "creation of a user result=\"ok\" address=127.0.0.1 program=\"the operator\" username=\"user-1\"",
        "ban of a user result=\"ok\" address=127.0.0.1 program=\"the operator\" username=\"aaron\"",
        "new password of a user result=\"ok\" address=127.0.0.1 program=\"the operator\" username=\"user-1\"",
        "deletion of a user result=\"ok\" address=127.0.0.1 program=\"the operator\" username=\"bob\"",
    ] {
        assert_eq!(data.logged(line), 1, "{line}");
    }
    // The socket is for this and nothing else: not even for a login.
    for (path, status) in [
        ("/users", "200"),
        ("/auth/verify", "404"),
        ("/ws", "404"),
        ("/", "404"),
    ] {
        let curl = tokio::process::Command::new("curl")
            .args([
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "--unix-socket",
            ])
            .arg(&socket)
            .arg(format!("http://localhost{path}"))
            .output();
        let output = curl.await.expect("curl runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), status, "{path}");
    }
    // A server that is killed leaves its socket; the next one takes its place, and removes it.
    host.kill().await;
    assert!(socket.exists());
    done(database, &["user", "unban", "aaron"]).await;
    let host = data.start().await;
    done(database, &["user", "list"]).await;
    host.stop().await;
    assert!(!socket.exists());
}

/// What curl exits with when this user of the machine asks the operator's socket.
fn curl_as(uid: u32, socket: &Path) -> Option<i32> {
    let mut curl = std::process::Command::new("curl");
    curl.args(["-s", "-m", "60", "http://localhost/users", "--unix-socket"])
        .arg(socket)
        .stdout(std::process::Stdio::null())
        .uid(uid)
        .gid(uid);
    curl.status().expect("curl runs").code()
}

#[tokio::test]
async fn no_other_user_of_the_machine_opens_the_operators_socket() {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tested: only root can be another user");
        return;
    }
    let data = Data::create();
    let host = data.start_logging().await;
    let socket = data.beside("chat.db-socket");
    let allow = |path: &Path, mode| {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("allowed");
    };
    // The others may see what is in the folder.
    allow(data.folder(), 0o755);
    assert_eq!(curl_as(0, &socket), Some(0));
    assert_ne!(curl_as(NOBODY, &socket), Some(0));
    assert_eq!(curl_as(0, &socket), Some(0));
    // Even if the file let them in, the server would not.
    allow(&socket, 0o666);
    assert_ne!(curl_as(NOBODY, &socket), Some(0));
    assert_eq!(curl_as(0, &socket), Some(0));
    host.stop().await;
    // The first time it has not come as far as the server.
    let line = "the operator's socket was opened by another user of this machine uid=65534";
    until("it is logged", async || data.logged(line) > 0).await;
    assert_eq!(data.logged(line), 1);
}

#[tokio::test]
async fn users_are_managed_over_http() {
    let data = Data::create();
    let host = data.start_logging().await;
    let file = data.file();
    let database = file.to_str().expect("text");
    let key = done(database, &["key", "create", "laptop", "--scope", "users"]).await;
    let key = key.trim_end();
    let other = done(database, &["key", "create", "bot", "--scope", "events"]).await;
    let server = format!("http://{}", host.address);
    let remote = async |key: &str, server: &str, action: &[&str]| {
        let arguments = [&["user", "--server", server][..], action].concat();
        let (status, output, errors) = run(&arguments, &[("API_KEY", key)]).await;
        (status.success(), output + &errors)
    };
    let (is_done, said) = remote(key, &server, &["add", "ann"]).await;
    assert!(is_done, "{said}");
    let (_, said) = remote(key, &server, &["list"]).await;
    assert_eq!(said, "ann  ann  [no password]\n");
    let line =
        "creation of a user result=\"ok\" address=127.0.0.1 program=\"laptop\" username=\"ann\"";
    assert_eq!(data.logged(line), 1);
    for (key, server, expected) in [
        ("", server.as_str(), "API_KEY is not set"),
        (other.trim_end(), &server, "this API key has no scope users"),
        ("chatapp_0", &server, "invalid API key"),
        (key, "http://chat.example", "a key goes over TLS only"),
        (key, "ftp://localhost", "expected http"),
        (key, "http://127.0.0.1:1", "http://127.0.0.1:1: "),
    ] {
        let (is_done, said) = remote(key, server, &["list"]).await;
        assert!(!is_done && said.contains(expected), "{server}: {said}");
    }
    // Both that came so far are in the log, the one by its name.
    assert_eq!(data.logged("reason=\"key\""), 2);
    assert_eq!(data.logged("program=\"bot\""), 1);
    let listed = done(database, &["key", "list"]).await;
    let lines: Vec<_> = listed.lines().collect();
    assert!(lines[0].starts_with("bot  events  created "), "{listed}");
    assert!(
        lines[1].starts_with("laptop  users  created ") && lines[1].contains(", last used "),
        "{listed}"
    );
    done(database, &["key", "revoke", "laptop"]).await;
    let (is_done, said) = remote(key, &server, &["list"]).await;
    assert!(!is_done && said.contains("invalid API key"), "{said}");
    let (is_done, said) = chatapp(database, &["key", "revoke", "laptop"]).await;
    assert!(
        !is_done && said.contains("there is no key \"laptop\""),
        "{said}"
    );
    let (is_done, said) = chatapp(database, &["key", "create", "x", "--scope", "all"]).await;
    assert!(
        !is_done && said.contains("expected users or events"),
        "{said}"
    );
    // No key is in the log.
    assert_eq!(data.logged(key), 0);
    host.stop().await;
}

/// Who asks what, the status, and the lines of the log, in which `@` is the address.
const LOGGED: &str = r#"
app PUT /users/ann {} → 201
    creation of a user result="ok" @ program="app" username="ann"

app PUT /users/ann {} → 200
    change of a user result="ok" @ program="app" username="ann"

app PUT /users/ann [] → 400
    change of a user result="invalid" @ program="app" username="ann"

app PUT /users/%20 {} → 400
    change of a user result="invalid" @ program="app" username=" "

app PUT /users/ann {"fullname": "Ann", "banned": true} → 200
    change of a user result="ok" @ program="app" username="ann"
    ban of a user result="ok" @ program="app" username="ann"

bot POST /events {"type": "self", "as": "ann"} → 403
    event for a user result="forbidden" @ program="bot" username="ann" event="self"

app PUT /users/ann {"banned": false, "password": "a password"} → 200
    end of a ban result="ok" @ program="app" username="ann"
    new password of a user result="ok" @ program="app" username="ann"

bot POST /events {"type": "self", "as": "ann"} → 200
    event for a user result="ok" @ program="bot" username="ann" event="self"

bot POST /events {"type": "self"} → 400
    event for a user result="invalid" @ program="bot" event="self"

app GET /users/ann  → 200
    reading of a user result="ok" @ program="app" username="ann"

app GET /users/bob  → 404
    reading of a user result="not_found" @ program="app" username="bob"

app GET /users  → 200
    list of users result="ok" @ program="app"

app DELETE /users/ann  → 204
    deletion of a user result="ok" @ program="app" username="ann"

app DELETE /users/ann  → 404
    deletion of a user result="not_found" @ program="app" username="ann"

bot GET /users/ann  → 403
    refused reason="key" @ program="bot"

chatapp_0 GET /users/ann  → 401
    refused reason="key" @

user GET /auth/verify  → 200
    registration result="ok" @ username="user-9"
"#;

#[tokio::test]
async fn what_programs_do_is_logged() {
    let data = Data::create();
    let file = data.file();
    let variables = [
        ("DBPATH", file.as_os_str()),
        ("LOG_LEVEL", OsStr::new("info")),
        ("UNKNOWN_USERS", OsStr::new("create")),
    ];
    let host = Process::start_with(&variables, Log::File(data.log())).await;
    let database = file.to_str().expect("text");
    // Keys are made and revoked beside the server: the command says so itself.
    let command = async |arguments: &[&str]| {
        let (status, output, errors) = run(arguments, &[("DBPATH", database)]).await;
        assert!(status.success(), "{errors}");
        (output.trim_end().to_owned(), errors)
    };
    let uid = rustix::process::getuid().as_raw();
    let (app, said) = command(&["key", "create", "app"]).await;
    let line = format!("creation of a key uid={uid} key=\"app\" scopes=\"users,events\"");
    assert!(said.contains(&line) && !said.contains(&app), "{said}");
    let (bot, _) = command(&["key", "create", "bot", "--scope", "events"]).await;
    let user = foreign_token(SECRET, "user-9");
    for row in LOGGED.trim().split("\n\n") {
        let (asked, lines) = row.split_once('\n').expect("what is logged");
        let (request_line, status) = asked.split_once(" → ").expect("a status");
        let [who, method, path, body] = request_line.splitn(4, ' ').collect::<Vec<_>>()[..] else {
            panic!("{request_line}");
        };
        let bearer = match who {
            "app" => &app,
            "bot" => &bot,
            "user" => &user,
            wrong => wrong,
        };
        let bearer = format!("Bearer {bearer}");
        let headers = [
            ("authorization", &*bearer),
            ("x-forwarded-for", "192.0.2.7"),
        ];
        let lines: Vec<_> = lines
            .lines()
            .map(|line| line.trim().replace('@', "address=192.0.2.7"))
            .collect();
        let before: Vec<_> = lines.iter().map(|line| data.logged(line)).collect();
        let answer = request(host.address, method, path, &headers, body.trim().to_owned()).await;
        assert_eq!(answer.status.to_string(), status, "{asked}");
        for (line, before) in lines.iter().zip(before) {
            until(line, async || data.logged(line) == before + 1).await;
        }
    }
    let (_, said) = command(&["key", "revoke", "app"]).await;
    let line = format!("revocation of a key uid={uid} key=\"app\"");
    assert!(said.contains(&line), "{said}");
    host.stop().await;
}

/// Beside hosts over a remote database, the command is one more host for a moment.
#[tokio::test]
async fn users_are_managed_on_a_remote_database() {
    let gateway = Gateway::start(shared_sqld().await).await;
    let database = gateway.url();
    let host = Process::start_on(&gateway, None, 30).await;
    manage(&database).await;
    let cookie = login(host.address, "user-1").await;
    Client::connect(host.address, &cookie).await.close().await;
    host.stop().await;
    done(&database, &["user", "ban", "user-1"]).await;
    // It has left: the database counts no host any more.
    let db = tests::data::open_remote(gateway.url()).await;
    let mut rows = db
        .query("select count(*) from hosts", ())
        .await
        .expect("rows");
    let row = rows.next().await.expect("a row").expect("a row");
    assert_eq!(row.get::<i64>(0).expect("a count"), 0);
}

/// With a bus, the other hosts close the sockets at once.
#[tokio::test]
async fn a_ban_on_a_remote_database_reaches_the_hosts_over_the_bus() {
    let host = Host::start_as(Form::Cluster).await;
    let mut mallory = host.join("mallory").await;
    let nats = tests::servers::shared_nats().await.url();
    let url = host.gateway().url();
    let variables = [("DBPATH", url.as_str()), ("NATS_URL", &nats)];
    let (status, output, errors) = run(&["user", "ban", "mallory"], &variables).await;
    assert!(status.success(), "{output}{errors}");
    assert_eq!(mallory.closed().await, (1008, "session ended".into()));
    let bearer = format!("Bearer {}", foreign_token(SECRET, "mallory"));
    let headers = [("authorization", bearer.as_str())];
    let answer = request(host.address, "GET", "/auth/verify", &headers, "").await;
    assert_eq!(answer.status, 401);
}
