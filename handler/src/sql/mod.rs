//! SQL: statements and their rows, as parameters or as literals, and the schema.

mod batch;
mod column_types;
mod literal;
mod row;
pub mod schema;
mod statement;

pub use batch::{run_batch, run_script};
pub use literal::{literal, render, text_literal};
pub use row::{Columns, Row, Rows};
pub use statement::{Statement, is_left_out, run};
