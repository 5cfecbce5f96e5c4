//! The schema of the protocol, made from what the handlers and the host declare, and the documents
//! that are written from it.
//!
//! | Document | for |
//! |---|---|
//! | `handler/spec/schema.json` | every frame of the socket, as JSON Schema |
//! | `handler/spec/asyncapi.json` | the socket, as AsyncAPI |
//! | `handler/spec/openapi.json` | HTTP, as OpenAPI |
//! | `host/web/sdk/src/protocol.ts` | the same types for TypeScript |

mod async_api;
mod check;
mod docs;
mod events;
mod field;
mod open_api;
mod routes;
mod type_script;

pub use check::{check_answered, check_http, check_received, request_faults};
pub use routes::ROUTES;

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
    let mut open_api = open_api::document(&schema);
    docs::clarify(&mut open_api);
    vec![
        Document {
            path: "handler/spec/schema.json",
            text: pretty(&schema),
        },
        Document {
            path: "handler/spec/asyncapi.json",
            text: pretty(&async_api::document(&schema)),
        },
        Document {
            path: "handler/spec/openapi.json",
            text: pretty(&open_api),
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
