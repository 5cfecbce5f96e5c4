//! The schema of the protocol, made from what the handlers and the host declare, and the documents
//! that are written from it.
//!
//! | Document | for |
//! |---|---|
//! | `handler/spec/schema.json` | every frame of the socket, as JSON Schema |
//! | `host/web/sdk/src/protocol.ts` | the same types for TypeScript |

mod docs;
mod events;
mod field;
mod type_script;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// Named schemas.
pub type Definitions = Map<String, Value>;

/// A file that is written from the schema.
pub struct Document {
    /// Relative to the root of the repository.
    pub path: &'static str,
    pub text: String,
}

impl Document {
    pub fn file(&self) -> PathBuf {
        root().join(self.path)
    }
}

/// All documents, as they have to be.
pub fn documents() -> Vec<Document> {
    let mut schema = events::schema();
    docs::explain(&mut schema);
    vec![
        Document {
            path: "handler/spec/schema.json",
            text: pretty(&schema),
        },
        Document {
            path: "host/web/sdk/src/protocol.ts",
            text: type_script::types(&schema),
        },
    ]
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn pretty(document: &Value) -> String {
    let text = serde_json::to_string_pretty(document);
    text.expect("JSON") + "\n"
}
