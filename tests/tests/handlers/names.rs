//! Usernames and full names can contain any characters.

use handler::account::register::Register;
use serde_json::json;
use tests::{World, places};

#[tokio::test]
async fn names_are_any_characters() {
    let names = [
        "\0",
        "bobo\0",
        "b\0b",
        "BOB",
        "?1",
        "' --",
        "\"\\",
        "\u{1}\nx",
        " y",
        "123",
        "null",
        "e\u{301}",
        "é2",
        "\u{feff}z",
        "\u{10ffff}",
    ];
    for &place in places() {
        let world = World::new_at(place).await;
        for name in names {
            let register = Register {
                username: name.into(),
                fullname: name.into(),
                password_hash: name.into(),
            };
            assert_eq!(world.run("", &register).await.0, Ok(()), "{name:?}");
        }
        for name in names {
            let add = json!({ "type": "add_contact", "contact_username": name });
            let (reply, _) = world.event("carol", &add.to_string()).await;
            assert_eq!(reply["data"]["contact"]["username"], name, "{reply}");
        }
        let create = json!({ "type": "create_conversation", "members": names });
        let (reply, _) = world.event("carol", &create.to_string()).await;
        let info = json!({ "type": "get_conversation_info", "id": reply["data"]["id"] });
        let (info, _) = world.event("carol", &info.to_string()).await;
        let (contacts, _) = world.event("carol", r#"{"type": "get_contacts"}"#).await;
        assert_eq!(contacts["data"]["contacts"], json!(names));
        let members = [&["carol"], &names[..]].concat();
        assert_eq!(reply["data"]["members"], json!(members));
        assert_eq!(info["data"]["members"], json!(members));
    }
}
