//! Parameters as literals: SQLite reads the same values from them as from bound parameters, and
//! libsql splits a batch of such statements at their ends.
#![no_main]

use std::cell::LazyCell;

use arbitrary::Arbitrary;
use fallible_iterator::FallibleIterator;
use fuzz::now;
use handler::{Row, Rows, Statement, render, run};
use libfuzzer_sys::fuzz_target;
use libsql::{Connection, Database, Value};
use sqlite3_parser::lexer::sql::Parser;

/// The first statement selects each parameter's type and its value; text is selected as a blob,
/// because libsql cuts text at a NUL. The others combine the parameters with each other and with
/// the parts of expressions.
const STATEMENTS: [&str; 4] = [
    "select typeof(?1), iif(typeof(?1) = 'text', cast(?1 as blob), ?1), typeof(?2), iif(typeof(?2) = 'text', cast(?2 as blob), ?2),
         typeof(?11), iif(typeof(?11) = 'text', cast(?11 as blob), ?11), 'end'",
    "select 1-?1, 1 - ?2, -?11, +?1, ~?2, not ?11, ?1 is ?2, ?1=?2, ?1<?2, ?1 in (?2,?11), ?2 between ?1 and ?11, 'end'",
    "select cast('a'||?1||'b' as blob), cast(?2||?11 as blob), cast(quote(?1) as blob), length(?2), 'end'",
    "with given as (select ?1 as a union all select ?2) select typeof(a), hex(a) from given where a is not ?11",
];

#[derive(Debug, Arbitrary)]
enum Parameter<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Text(&'a str),
    Blob(&'a [u8]),
}

impl Parameter<'_> {
    fn value(&self) -> Value {
        match self {
            Parameter::Null => Value::Null,
            Parameter::Integer(number) => Value::Integer(*number),
            // SQLite has no NaN.
            Parameter::Real(number) if number.is_nan() => Value::Null,
            Parameter::Real(number) => Value::Real(*number),
            Parameter::Text(text) => Value::Text(text.to_string()),
            Parameter::Blob(bytes) => Value::Blob(bytes.to_vec()),
        }
    }
}

thread_local! {
    static MEMORY: LazyCell<(Database, Connection)> = LazyCell::new(|| {
        let database = now(libsql::Builder::new_local(":memory:").build()).expect("a database");
        let db = database.connect().expect("a connection");
        (database, db)
    });
}

fuzz_target!(|parameters: [Parameter; 3]| {
    let [first, second, last] = parameters.map(|parameter| parameter.value());
    let mut expected = Vec::new();
    for value in [&first, &second, &last] {
        expected.extend(exact(value));
    }
    expected.push(Value::Text("end".into()));

    let mut parameters = vec![Value::Null; 11];
    (parameters[0], parameters[1], parameters[10]) = (first, second, last);
    let statements = STATEMENTS.map(|sql| Statement {
        sql,
        parameters: parameters.clone(),
        reason_for: None,
    });
    let mut script = String::new();
    for statement in &statements {
        render(statement, &mut script);
        script.push_str(";\n");
    }
    let mut cut = Parser::new(script.as_bytes());
    MEMORY.with(|memory| {
        let db = &memory.1;
        for (index, statement) in statements.into_iter().enumerate() {
            let text = cut
                .next()
                .expect("statements")
                .expect("as many as there were")
                .to_string();
            let found = rows(db, &text, Vec::new());
            if index == 0 {
                assert_eq!(found, Rows(vec![Row(expected.clone())]));
            }
            let bound = rows(db, statement.sql, statement.parameters);
            assert_eq!(found, bound, "{text}");
        }
    });
    assert!(
        cut.next().expect("statements").is_none(),
        "one more: {script}"
    );
});

/// The columns of a parameter in the first statement.
fn exact(value: &Value) -> [Value; 2] {
    let (kind, value) = match value {
        Value::Text(text) => ("text", Value::Blob(text.clone().into())),
        Value::Null => ("null", Value::Null),
        Value::Integer(_) => ("integer", value.clone()),
        Value::Blob(_) => ("blob", value.clone()),
        Value::Real(_) => ("real", value.clone()),
    };
    [Value::Text(kind.into()), value]
}

fn rows(db: &Connection, sql: &str, parameters: Vec<Value>) -> Rows {
    let mut prepared = now(db.prepare(sql)).unwrap_or_else(|error| panic!("{error}: {sql}"));
    now(run(&mut prepared, parameters)).unwrap_or_else(|error| panic!("{error}: {sql}"))
}
