//! The data file as a whole: backup under load, restore and check, and the script that keeps
//! backups.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tests::data::{open, open_remote};
use tests::host::{ids, login, program, run, run_in};
use tests::servers::shared_sqld;
use tests::{Data, Gateway, Process, ReferenceClient, Sqld, soon, until};

/// A data file, and the paths of other files beside it.
struct Site {
    data: Data,
}

impl Site {
    fn new() -> Self {
        Site {
            data: Data::create(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.data.beside(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name)
            .into_os_string()
            .into_string()
            .expect("UTF-8")
    }

    fn data(&self) -> PathBuf {
        self.data.file()
    }

    async fn start(&self) -> Process {
        self.data.start().await
    }

    /// Runs a command of the program on the data file; returns whether it succeeded, and its
    /// output.
    async fn host(&self, arguments: &[&str]) -> (bool, String) {
        let (status, output, errors) = run(arguments, &[("DBPATH", &self.text("chat.db"))]).await;
        (status.success(), output + &errors)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.data.folder()).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> = names
            .map(|name| name.into_string().expect("UTF-8"))
            .collect();
        names.sort();
        names
    }

    /// Starts a host with two users and a conversation in which each has sent a message.
    async fn fill(&self) -> Process {
        let host = self.start().await;
        let (mut alice, mut bob) = (host.join("alice").await, host.join("bob").await);
        let conversation = alice.converse(&["bob"]).await;
        alice
            .send(conversation, "before the backup\0of alice")
            .await;
        bob.send(conversation, "before the backup, of bob").await;
        host
    }
}

async fn messages(host: &Process, username: &str) -> Value {
    host.connect(username).await.history(1).await
}

#[tokio::test]
async fn a_backup_of_a_busy_server_has_what_was_acknowledged_and_serves_it() {
    let site = Site::new();
    let host = site.fill().await;
    let mut alice = host.connect("alice").await;
    let flood = tokio::spawn(async move {
        for count in 0.. {
            alice.send(1, &count.to_string()).await;
        }
    });
    let mut bob = host.connect("bob").await;
    // Wait until the flood is under way.
    while bob.push().await["type"] != "send_message" {}
    let acknowledged = bob.send(1, "acknowledged before the backup").await;
    let backup = site.text("backup.db");
    let (is_done, said) = site.host(&["backup", &backup]).await;
    assert!(is_done, "{said}");
    assert!(
        said.starts_with(&backup) && said.contains("2 users, 1 conversation, "),
        "{said}"
    );
    let later = bob.send(1, "after the backup").await;
    flood.abort();
    host.stop().await;
    // The backup contains password hashes.
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(&backup)
        .expect("a backup")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(site.names(), ["backup.db", "chat.db", "chat.db-lock"]);

    let other = Site::new();
    let (is_done, said) = other.host(&["restore", &backup]).await;
    assert!(is_done, "{said}");
    let host = other.start().await;
    let mut bob = host.connect("bob").await;
    let mut found = Vec::new();
    loop {
        let before = found.last().copied();
        let page = json!({ "type": "get_messages", "conversation_id": 1, "before": before });
        let page = bob.ok(page).await;
        found.extend(ids(&page["messages"]));
        if page["has_more"] == false {
            break;
        }
    }
    found.reverse();
    let last = *found.last().expect("messages");
    assert_eq!(
        found,
        (1..=last).collect::<Vec<_>>(),
        "all messages up to one of them"
    );
    assert!(
        (acknowledged..later).contains(&last),
        "{acknowledged} {last} {later}"
    );
    // Members, their order, contacts and passwords are restored too.
    let info = json!({ "type": "get_conversation_info", "id": 1 });
    assert_eq!(bob.ok(info).await["members"], json!(["alice", "bob"]));
    bob.send(1, "the chat goes on").await;
}

#[tokio::test]
async fn the_file_of_a_database_server_is_backed_up_while_it_works() {
    let sqld = Sqld::start().await;
    let gateway = Gateway::start(&sqld).await;
    let host = Process::start_on(&gateway, None, 30).await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    let acknowledged = alice.send(conversation, "before\0the backup").await;
    let flood = tokio::spawn(async move {
        loop {
            alice.send(conversation, "more").await;
        }
    });
    let file = sqld.files().into_iter().find(|file| {
        let log = file.with_file_name("data-wal");
        log.metadata().is_ok_and(|log| log.len() > 100_000)
    });
    let file = file.expect("the file of the one database in use");
    let file = file.to_str().expect("UTF-8");
    let site = Site::new();
    let backup = site.text("backup.db");
    let (status, output, errors) = run(&["backup", &backup], &[("DBPATH", file)]).await;
    assert!(status.success(), "{output}{errors}");
    flood.abort();
    host.stop().await;
    let (is_done, said) = site.host(&["restore", &backup]).await;
    assert!(is_done, "{said}");
    let host = site.start().await;
    let mut alice = host.connect("alice").await;
    let page = json!({ "type": "get_messages", "conversation_id": conversation, "before": acknowledged + 1 });
    let page = alice.ok(page).await;
    assert_eq!(page["messages"][0]["content"], "before\0the backup");
}

#[tokio::test]
async fn clients_forget_what_a_restored_backup_does_not_have() {
    let site = Site::new();
    let host = site.fill().await;
    // A login that the backup does not have would have ended.
    let cookie = login(host.address, "bob").await;
    let backup = site.text("backup.db");
    assert!(site.host(&["backup", &backup]).await.0);
    let device = ReferenceClient::start(host.address, cookie, 1);
    device.send(1, "lost".into());
    device.send(1, "lost too".into());
    let known = device.settle().await;
    assert_eq!(known.conversations[&1].messages.len(), 4);
    let address = host.address;
    host.stop().await;
    // Nobody knows what has the id of its conversation after a restore.
    device.send(1, "of before".into());

    let (is_done, said) = site.host(&["restore", &backup]).await;
    assert!(is_done, "{said}");
    let port = address.port().to_string();
    let data = site.data();
    let variables = [("DBPATH", data.as_os_str()), ("PORT", OsStr::new(&port))];
    let host = Process::start_with(&variables, tests::host::Log::Test).await;
    let mut alice = host.connect("alice").await;
    for content in ["the third once more", "the fourth once more", "a fifth"] {
        alice.send(1, content).await;
    }
    // The device knew revs and ids that now belong to other messages.
    let expected = alice.history(1).await;
    soon("what the server has", async {
        loop {
            let known = device.settle().await;
            let messages = known.conversations.get(&1).map(|c| &c.messages);
            let messages = messages
                .into_iter()
                .flatten()
                .rev()
                .map(|(_, message)| message);
            if Value::from_iter(messages.cloned()) == expected {
                assert_eq!(known.refused, 1);
                break;
            }
        }
    })
    .await;
    assert_eq!(alice.history(1).await, expected);
}

#[tokio::test]
async fn a_terminal_shows_how_far_it_is() {
    let site = Site::new();
    let host = site.fill().await;
    // `script` runs the program in a terminal.
    let on_terminal = r#"script --quiet --return --command "$0 backup '$1'" /dev/null"#;
    let data = site.text("chat.db");
    let arguments = [site.text("backup.db")];
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let (status, output, _) = run_in(on_terminal, &arguments, &[("DBPATH", &data)]).await;
    assert!(status.success(), "{output}");
    assert!(
        output.contains("\rbackup: 100 % of 0.") && output.contains(" MB\r\n"),
        "{output:?}"
    );
    // Without a terminal, no progress is shown.
    let (is_done, said) = site.host(&["backup", &site.text("another.db")]).await;
    assert!(is_done && !said.contains('%'), "{said}");
    host.stop().await;
}

#[tokio::test]
async fn what_is_replaced_stays_and_can_be_put_back() {
    let site = Site::new();
    let host = site.fill().await;
    let backup = site.text("backup.db");
    assert!(site.host(&["backup", &backup]).await.0);
    let mut alice = host.connect("alice").await;
    let lost = alice.send(1, "after the backup").await;
    // Its commits are only in its write-ahead log.
    host.kill().await;
    let (is_done, said) = site.host(&["restore", &backup]).await;
    assert!(is_done, "{said}");
    let (_, replaced) = said.split_once("what was there is now ").expect("its name");
    let replaced = replaced.trim().to_owned();
    let (is_whole, said) = site.host(&["check", &replaced]).await;
    assert!(is_whole && said.contains("3 messages"), "{said}");

    let host = site.start().await;
    assert_eq!(ids(&messages(&host, "bob").await), [2, 1]);
    host.stop().await;
    let (is_done, said) = site.host(&["restore", &replaced]).await;
    assert!(is_done, "{said}");
    let host = site.start().await;
    assert_eq!(ids(&messages(&host, "bob").await), [lost, 2, 1]);
}

/// Otherwise the replaced file would be without a part of its log if the restore were killed.
#[tokio::test]
async fn a_file_that_another_process_reads_is_not_replaced() {
    let site = Site::new();
    let host = site.fill().await;
    let backup = site.text("backup.db");
    assert!(site.host(&["backup", &backup]).await.0);
    let reader = open(&site.data()).await;
    let read = "begin; select count(*) from messages";
    reader.execute_batch(read).await.expect("read");
    let mut alice = host.connect("alice").await;
    alice.send(1, "after the backup").await;
    host.kill().await;
    let (is_done, said) = site.host(&["restore", &backup]).await;
    assert!(!is_done && said.contains("another process reads"), "{said}");
    reader.execute_batch("commit").await.expect("ended");
    drop(reader);
    let (is_whole, said) = site.host(&["check"]).await;
    assert!(is_whole && said.contains("3 messages"), "{said}");
    assert!(site.host(&["restore", &backup]).await.0);
    let host = site.start().await;
    assert_eq!(ids(&messages(&host, "bob").await), [2, 1]);
}

#[tokio::test]
async fn restores_that_are_killed_leave_one_file_or_the_other() {
    let site = Site::new();
    let host = site.fill().await;
    let backup = site.text("backup.db");
    assert!(site.host(&["backup", &backup]).await.0);
    let mut alice = host.connect("alice").await;
    alice.send(1, "after the backup").await;
    drop(alice);
    host.stop().await;
    let data = site.text("chat.db");
    let mut was_replaced = false;
    for milliseconds in (0..60).step_by(3) {
        // `timeout` kills the restore at various moments, unless it ends first.
        let script = format!(r#"timeout -s KILL 0.{:03} "$0" "$@""#, milliseconds + 1);
        let variables = [("DBPATH", data.as_str())];
        run_in(&script, &["restore", &backup], &variables).await;
        let (is_whole, said) = site.host(&["check"]).await;
        assert!(is_whole, "{said}");
        was_replaced |= said.contains(" 2 messages");
        assert!(was_replaced || said.contains(" 3 messages"), "{said}");
    }
    let (is_done, said) = site.host(&["restore", &backup]).await;
    assert!(is_done, "{said}");
    assert!(!site.names().contains(&"chat.db.restoring".to_owned()));
    let host = site.start().await;
    assert_eq!(ids(&messages(&host, "bob").await), [2, 1]);
}

#[tokio::test]
async fn a_restored_file_keeps_the_owner_and_the_mode_of_the_data_file() {
    let site = Site::new();
    let host = site.fill().await;
    let backup = site.text("backup.db");
    assert!(site.host(&["backup", &backup]).await.0);
    host.stop().await;
    let data = site.data();
    // Only root can give a file to somebody else.
    let own = rustix::process::geteuid();
    let owner = if own.is_root() { 65534 } else { own.as_raw() };
    chown(&data, Some(owner), None).expect("given away");
    fs::set_permissions(&data, Permissions::from_mode(0o640)).expect("changed");
    let lock = data.with_file_name("chat.db-lock");
    fs::remove_file(&lock).expect("removed");
    let (is_done, said) = site.host(&["restore", &backup]).await;
    assert!(is_done, "{said}");
    for file in [&data, &lock] {
        let restored = fs::metadata(file).expect("a file");
        assert_eq!((restored.uid(), restored.mode() & 0o777), (owner, 0o640));
    }
    // On a new machine only the folder has an owner.
    for command in ["restore", "copy"] {
        let folder = site.data().with_file_name(command);
        fs::create_dir(&folder).expect("a folder");
        chown(&folder, Some(owner), None).expect("given away");
        let path = folder.join("chat.db").display().to_string();
        let arguments = match command {
            "copy" => vec![command, &backup, &path],
            _ => vec![command, &backup],
        };
        let (status, output, errors) = run(&arguments, &[("DBPATH", &path)]).await;
        assert!(status.success(), "{output}{errors}");
        for file in fs::read_dir(&folder).expect("files") {
            let file = file.expect("a file");
            assert_eq!(file.metadata().expect("a file").uid(), owner, "{file:?}");
        }
    }
    // Who is not root gives nothing away, also in a folder of somebody else.
    if own.is_root() {
        let folder = data.parent().expect("a folder");
        let program_file = folder.join("chatapp");
        fs::copy(program(), &program_file).expect("copied");
        for (path, mode) in [(folder, 0o777), (&program_file, 0o755)] {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("changed");
        }
        let script = r#"shift; exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@""#;
        let program_file = program_file.display().to_string();
        let path = folder.join("nobodys.db").display().to_string();
        let arguments = ["", &program_file, "demo"];
        let (status, output, errors) = run_in(script, &arguments, &[("DBPATH", &path)]).await;
        assert!(status.success(), "{output}{errors}");
        let copy = folder.join("copy.db").display().to_string();
        let arguments = ["", &program_file, "copy", &path, &copy];
        let (status, output, errors) = run_in(script, &arguments, &[]).await;
        assert!(status.success(), "{output}{errors}");
    }
    // A backup is checked whatever a server on this machine would need.
    let variables = [("DBPATH", "none.db"), ("HOST", "0.0.0.0")];
    let (status, output, errors) = run(&["check", &backup], &variables).await;
    assert!(status.success() && errors.is_empty(), "{output}{errors}");
    assert!(!output.contains("JWTSECRET"), "{output}");
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_and_changes_nothing() {
    let site = Site::new();
    let host = site.fill().await;
    let backup = site.text("backup.db");
    assert!(site.host(&["backup", &backup]).await.0);
    let (is_done, said) = site.host(&["backup", &backup]).await;
    assert!(!is_done && said.contains("exists already"), "{said}");
    let (is_done, said) = site.host(&["restore", &backup]).await;
    assert!(
        !is_done && said.contains("a server is running on") && said.contains("stop it first"),
        "{said}"
    );
    let (is_done, said) = site.host(&["backup", &site.text("no/such/folder")]).await;
    assert!(!is_done && said.contains("cannot write"), "{said}");
    host.stop().await;

    let before = fs::read(site.data()).expect("the data");
    let damaged = site.path("damaged.db");
    let mut bytes = fs::read(&backup).expect("the backup");
    // This is the page of the last table or index, with its header: an empty page has nothing else
    // that could be damaged.
    let at = bytes.len() - 4096;
    bytes[at..].fill(0xa5);
    fs::write(&damaged, bytes).expect("written");
    fs::write(
        site.path("text"),
        "no database, but long enough for a header of one".repeat(99),
    )
    .expect("written");
    fs::write(site.path("empty"), "").expect("written");
    let newer = site.path("newer.db");
    fs::copy(&backup, &newer).expect("copied");
    execute(
        &newer,
        "insert into migrations (version, applied_at) values (99, 0)",
    )
    .await;
    let foreign = site.path("foreign.db");
    execute(&foreign, "create table notes (id integer primary key)").await;
    for (file, reason) in [
        ("damaged.db", "damaged: "),
        ("text", "it is not a data file of chatapp"),
        ("empty", "no host has used it"),
        ("newer.db", "schema version 99"),
        ("foreign.db", "not a chat database"),
        ("missing.db", "no such file"),
        ("chat.db", "is the data file itself"),
    ] {
        let (is_done, said) = site.host(&["restore", &site.text(file)]).await;
        assert!(!is_done && said.contains(reason), "{file}: {said}");
        if file != "chat.db" {
            let (is_whole, said) = site.host(&["check", &site.text(file)]).await;
            assert!(!is_whole && said.contains(reason), "{file}: {said}");
        }
    }
    assert_eq!(fs::read(site.data()).expect("the data"), before);
    assert!(!site.path("missing.db").exists());
    let elsewhere = Site::new();
    let (is_done, said) = elsewhere.host(&["backup", &backup]).await;
    assert!(!is_done && said.contains("there is no database"), "{said}");
    assert!(elsewhere.names().is_empty());
    let (is_fine, said) = elsewhere.host(&["check"]).await;
    assert!(is_fine && said.contains("not there yet"), "{said}");
    assert!(elsewhere.names().is_empty());
}

async fn execute(path: &Path, sql: &str) {
    let db = open(path).await;
    db.execute(sql, ()).await.expect("executed");
}

/// Runs `deploy/backup` with these arguments in the folder of the data file.
async fn script(site: &Site, arguments: &str) -> (bool, String) {
    let script = format!(
        r#"cd {} && CHAT="$0" exec {}/../deploy/backup {arguments}"#,
        site.data.folder().display(),
        env!("CARGO_MANIFEST_DIR"),
    );
    let (status, output, errors) = run_in(&script, &[], &[("DBPATH", "chat.db")]).await;
    (status.success(), output + &errors)
}

#[tokio::test]
async fn the_script_keeps_the_latest_backups() {
    let site = Site::new();
    let host = site.fill().await;
    let old = [
        "chat-20260101T000000Z.db",
        "chat-20260102T000000Z.db",
        "chat-20260103T000000Z.db",
    ];
    fs::create_dir(site.path("backups")).expect("a folder");
    for name in old {
        fs::write(site.path("backups").join(name), "").expect("written");
    }
    for left in ["", "-journal"] {
        let name = format!("backups/chat-20260104T000000Z.db.part{left}");
        fs::write(site.path(&name), "").expect("written");
    }
    fs::write(site.path("backups/notes.txt"), "").expect("written");
    let (is_done, said) = script(&site, "backups 2").await;
    assert!(is_done, "{said}");
    let entries = fs::read_dir(site.path("backups")).expect("a folder");
    let mut names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!((&*names[0], &*names[2]), (old[2], "notes.txt"));
    assert!(
        said.contains(&names[1]) && said.contains("2 backups"),
        "{said}"
    );

    // If no new backup can be made, no old one is removed.
    host.stop().await;
    fs::rename(site.data(), site.path("elsewhere.db")).expect("renamed");
    let (is_done, said) = script(&site, "backups 1").await;
    assert!(!is_done && said.contains("there is no database"), "{said}");
    assert!(site.path("backups").join(old[2]).exists());
    for arguments in ["", "backups 0", "backups -1", "backups x", "backups 1 2"] {
        let (is_done, said) = script(&site, arguments).await;
        assert!(!is_done && said.contains("usage"), "{arguments}: {said}");
    }
}

#[tokio::test]
async fn a_server_says_whether_it_is_healthy() {
    let site = Site::new();
    let host = site.fill().await;
    let port = host.address.port().to_string();
    let ask = async |address: &str| {
        let secret = ("JWTSECRET", "a secret that is long enough");
        let variables = [("HOST", address), ("PORT", port.as_str()), secret];
        let (status, output, errors) = run(&["health"], &variables).await;
        (status.success(), output + &errors)
    };
    assert_eq!(ask("127.0.0.1").await, (true, "ready\n".to_owned()));
    assert_eq!(ask("0.0.0.0").await, (true, "ready\n".to_owned()));
    host.stop().await;
    let (is_ready, said) = ask("0.0.0.0").await;
    assert!(!is_ready && said.contains("readyz"), "{said}");
}

/// The tables and indexes of a database with their columns. The SQL that created them is not
/// compared, because servers store it in different forms.
async fn schema(db: &libsql::Connection) -> Vec<String> {
    let mut rows = db
        .query(
            "select type || ' ' || name || ' of ' || tbl_name || ': ' || (select coalesce(group_concat(name), '') from (
                 select name from pragma_table_info(m.name) union all select name from pragma_index_info(m.name)))
             from sqlite_master m order by 1",
            (),
        )
        .await
        .expect("a query");
    let mut lines = Vec::new();
    while let Some(row) = rows.next().await.expect("a row") {
        lines.push(row.get(0).expect("text"));
    }
    lines
}

/// The schema of the previous release, made by its migrations.
async fn previous_schema() -> Vec<String> {
    let db = open(Path::new(":memory:")).await;
    let script = concat!(
        "create table migrations (version integer primary key, applied_at integer not null);",
        include_str!("../../../handler/migrations/0001_chat.sql"),
        include_str!("../../../handler/migrations/0002_revs.sql"),
        include_str!("../../../handler/migrations/0003_hosts.sql"),
        include_str!("../../../handler/migrations/0004_one_order.sql"),
        include_str!("../../../handler/migrations/0005_changes.sql"),
    );
    db.execute_batch(script).await.expect("made");
    schema(&db).await
}

/// Tests an upgrade and the way back, on the database that `db` connects to and that `start` starts
/// the program on.
async fn upgrade_and_back(
    database: &str,
    db: libsql::Connection,
    start: impl AsyncFn() -> Process,
) {
    let downgrade = async || {
        let (status, output, errors) = run(&["downgrade"], &[("DBPATH", database)]).await;
        (status.success(), output + &errors)
    };
    let host = start().await;
    let mut alice = host.join("alice").await;
    let conversation = alice.converse(&[]).await;
    alice.send(conversation, "by the present release").await;
    let (is_done, said) = downgrade().await;
    assert!(!is_done && said.contains("a server is running"), "{said}");
    drop(alice);
    host.stop().await;
    let present = schema(&db).await;
    for end in [
        "schema version 5",
        "schema version 5 already, nothing was changed",
    ] {
        let (is_done, said) = downgrade().await;
        assert!(is_done && said.ends_with(&format!("{end}\n")), "{said}");
        assert_eq!(schema(&db).await, previous_schema().await);
    }
    // A command does not undo this.
    let arguments = ["event", "--user", "alice", r#"{"type": "self"}"#];
    let (status, _, errors) = run(&arguments, &[("DBPATH", database)]).await;
    let needs = "has schema version 5, but this program needs 10";
    assert!(!status.success() && errors.contains(needs), "{errors}");
    assert_eq!(schema(&db).await, previous_schema().await);
    // The previous release writes to it meanwhile.
    let sql = "insert into messages (sender_id, conversation_id, content, rev) values (1, 1, 'by the previous one', 3);
               update conversations set rev = 3, activity = 2 where id = 1;
               insert into users (username, fullname, password) values ('zoe', 'Zoë Zandt', '')";
    db.execute_batch(sql).await.expect("written");
    let host = start().await;
    assert_eq!(schema(&db).await, present);
    let found = messages(&host, "alice").await;
    assert_eq!(ids(&found), [2, 1]);
    assert_eq!(found[0]["content"], "by the previous one");
    let mut alice = host.connect("alice").await;
    assert_eq!(alice.send(1, "once more").await, 3);
    // The accounts of the previous release get the words by which they are found.
    until("words", async || {
        let sql = "select count(*) from users where has_words = 0";
        let mut rows = db.query(sql, ()).await.expect("a query");
        let row = rows.next().await.expect("a row").expect("a row");
        row.get::<i64>(0).expect("a number") == 0
    })
    .await;
    for (query, username) in [("ali", "alice"), ("zand", "zoe")] {
        let search = json!({ "type": "search_users", "query": query });
        let found = alice.ok(search).await;
        assert_eq!(found["users"][0]["username"], username);
    }
    host.stop().await;
}

#[tokio::test]
async fn a_file_of_the_previous_release_is_upgraded_and_can_go_back() {
    let site = Site::new();
    site.start().await.stop().await;
    let db = site.data.open().await;
    let start = async || site.start().await;
    upgrade_and_back(&site.text("chat.db"), db, start).await;
}

#[tokio::test]
async fn a_remote_database_of_the_previous_release_is_upgraded_and_can_go_back() {
    let gateway = Gateway::start(shared_sqld().await).await;
    let db = open_remote(gateway.url()).await;
    let start = async || Process::start_on(&gateway, None, 30).await;
    upgrade_and_back(&gateway.url(), db, start).await;
}
