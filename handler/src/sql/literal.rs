//! Values as SQL literals, for statements that cannot have parameters.

use std::fmt::Write;

use libsql::Value;

use crate::sql::statement::Statement;

/// Appends the statement with its parameters in place.
pub fn render(statement: &Statement, sql: &mut String) {
    // In our own statements a question mark is always a parameter.
    let mut pieces = statement.sql.split('?');
    sql.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let digits = piece.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = piece.split_at(digits);
        let value = number
            .parse::<usize>()
            .ok()
            .and_then(|number| statement.parameters.get(number.checked_sub(1)?));
        literal(value.unwrap_or(&Value::Null), sql);
        sql.push_str(rest);
    }
}

/// Appends a literal. No value can end it early and inject SQL.
pub fn literal(value: &Value, sql: &mut String) {
    match value {
        Value::Null => sql.push_str("null"),
        // In parentheses, because two minus signs would start a comment. The lowest integer has no
        // literal.
        Value::Integer(i64::MIN) => sql.push_str("(-9223372036854775807 - 1)"),
        Value::Integer(number) if *number < 0 => push(sql, format_args!("({number})")),
        Value::Integer(number) => push(sql, format_args!("{number}")),
        Value::Real(number) => real(*number, sql),
        // A NUL would end it.
        Value::Text(text) if text.contains('\0') => text_literal(text.as_bytes(), sql),
        Value::Text(text) => quoted(text, sql),
        Value::Blob(bytes) => blob(bytes, sql),
    }
}

/// Appends text in quotes. Only a quote can end it, so each one is doubled.
fn quoted(text: &str, sql: &mut String) {
    sql.reserve(text.len() + 2);
    sql.push('\'');
    for (number, piece) in text.split('\'').enumerate() {
        if number > 0 {
            sql.push_str("''");
        }
        sql.push_str(piece);
    }
    sql.push('\'');
}

/// Appends a text literal. The text need not be UTF-8.
pub fn text_literal(bytes: &[u8], sql: &mut String) {
    // The plus removes the affinity that a cast has and a parameter does not: with it, '1' would
    // become 1.
    sql.push_str("+cast(");
    blob(bytes, sql);
    sql.push_str(" as text)");
}

/// Writes the number as an integer times powers of two, because SQLite does not read decimals
/// exactly to the last bit.
fn real(number: f64, sql: &mut String) {
    if number.is_nan() {
        // SQLite has no NaN.
        return sql.push_str("null");
    }
    if number.is_infinite() {
        return sql.push_str(if number > 0.0 { "9e999" } else { "(-9e999)" });
    }
    let bits = number.to_bits();
    let (exponent, fraction) = ((bits >> 52) & 0x7ff, bits & ((1 << 52) - 1));
    // ±integer × 2^power
    let (mut integer, mut power) = match exponent {
        0 => (fraction, -1074),
        _ => (fraction | (1 << 52), exponent as i32 - 1075),
    };
    while power < 0 && integer % 2 == 0 {
        integer /= 2;
        power += 1;
    }
    // For the plus, see `text_literal`.
    push(sql, format_args!("(+cast({integer} as real)"));
    if number.is_sign_negative() {
        sql.push_str(" * cast(-1 as real)");
    }
    while power != 0 {
        let step = power.clamp(-62, 62);
        let operator = if step > 0 { '*' } else { '/' };
        let factor = 1_u64 << step.unsigned_abs();
        push(sql, format_args!(" {operator} cast({factor} as real)"));
        power -= step;
    }
    sql.push(')');
}

fn blob(bytes: &[u8], sql: &mut String) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    sql.reserve(bytes.len() * 2 + 3);
    sql.push_str("x'");
    for byte in bytes {
        sql.push(DIGITS[usize::from(byte >> 4)].into());
        sql.push(DIGITS[usize::from(byte & 15)].into());
    }
    sql.push('\'');
}

fn push(sql: &mut String, text: std::fmt::Arguments) {
    // Writing to a string cannot fail.
    let _ = sql.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(sql: &'static str, parameters: Vec<Value>) -> String {
        let mut text = String::new();
        let statement = Statement {
            sql,
            parameters,
            reason_for: None,
        };
        render(&statement, &mut text);
        text
    }

    #[test]
    fn parameters_become_literals() {
        for (value, literal) in [
            (Value::Null, "null"),
            (Value::Integer(7), "7"),
            (Value::Integer(-7), "(-7)"),
            (Value::Integer(i64::MIN), "(-9223372036854775807 - 1)"),
            (
                Value::Real(-1.5),
                "(+cast(3 as real) * cast(-1 as real) / cast(2 as real))",
            ),
            (Value::Real(0.0), "(+cast(0 as real))"),
            (Value::Real(f64::NAN), "null"),
            (
                Value::Text("it's; --\0é".into()),
                "+cast(x'697427733b202d2d00c3a9' as text)",
            ),
            (Value::Text(String::new()), "''"),
            (
                Value::Text("it's; --\n'é\\?1".into()),
                "'it''s; --\n''é\\?1'",
            ),
            (Value::Blob(vec![0, 255]), "x'00ff'"),
        ] {
            assert_eq!(rendered("a-?1", vec![value]), format!("a-{literal}"));
        }
    }

    #[test]
    fn each_place_takes_the_parameter_of_its_number() {
        let values = (1..=12).map(Value::Integer).collect();
        assert_eq!(rendered("?2, ?12 and ?1) ?2", values), "2, 12 and 1) 2");
    }
}
