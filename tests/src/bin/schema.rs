//! Writes the documents that follow from the schema of the protocol, or checks that they are as they
//! have to be:
//!
//!     cargo run -p tests --bin schema -- write
//!     cargo run -p tests --bin schema -- check

use std::fs;

use anyhow::{Context, Result, ensure};
use clap::Parser;

/// The schema of the protocol.
#[derive(Parser)]
enum Arguments {
    /// Writes all documents.
    Write,
    /// Fails if a document is not as it has to be.
    Check,
}

fn main() -> Result<()> {
    for document in tests::schema::documents() {
        let file = document.file();
        match Arguments::parse() {
            Arguments::Write => fs::write(&file, document.text).context(document.path)?,
            Arguments::Check => {
                let found = fs::read_to_string(&file).context(document.path)?;
                ensure!(
                    found == document.text,
                    "{} is not up to date: cargo run -p tests --bin schema -- write",
                    document.path
                );
            }
        }
    }
    Ok(())
}
