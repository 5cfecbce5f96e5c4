//! The schema of the protocol.

use std::fs;

use tests::schema::documents;

#[test]
fn documents_are_up_to_date() {
    for document in documents() {
        let text = fs::read_to_string(document.file()).unwrap_or_default();
        assert!(
            text == document.text,
            "{} is not: cargo run -p tests --bin schema -- write",
            document.path
        );
    }
}
