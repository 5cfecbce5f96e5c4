//! `chatapp demo`: a new file with people who can log in and have talked.

use serde_json::json;
use tests::host::{request, run};
use tests::{Data, Process};

#[tokio::test]
async fn a_demo_is_a_new_file_that_can_be_used() {
    let data = Data::create();
    let file = data.file();
    let database = [("DBPATH", file.to_str().expect("text"))];
    let (status, said, errors) = run(&["demo"], &database).await;
    assert!(status.success(), "{errors}");
    assert!(
        said.contains("log in as alice, bob, carol, each with the password \"demo\""),
        "{said}"
    );

    let host = Process::start(&file).await;
    for username in ["alice", "bob", "carol"] {
        let body = json!({ "username": username, "password": "demo" }).to_string();
        let answer = request(host.address, "POST", "/auth/login", &[], body).await;
        assert_eq!(answer.status, 202, "{username}: {}", answer.body);
    }
    host.stop().await;
    let list = r#"{"type": "get_conversations"}"#;
    let (status, reply, errors) = run(&["event", "--user", "alice", list], &database).await;
    assert!(status.success(), "{errors}");
    assert!(reply.contains("\"name\":\"Trip to the lake\""), "{reply}");
    // There is something to read.
    assert!(reply.contains("\"mentions\":1"), "{reply}");

    // It never touches a file that is there.
    let before = std::fs::read(&file).expect("the file");
    let (status, _, errors) = run(&["demo"], &database).await;
    assert_eq!(status.code(), Some(1));
    assert!(errors.contains("exists already"), "{errors}");
    assert!(before == std::fs::read(&file).expect("the file"));
}
