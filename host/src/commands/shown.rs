//! Text of users, in a terminal.

/// Text of a user, for a terminal: characters that would control it, or that change the direction of
/// what follows, are escaped.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                shown.extend(c.escape_unicode());
            }
            _ if c.is_control() => shown.extend(c.escape_default()),
            _ => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn text_of_users_does_not_control_the_terminal() {
        let text = "é 👍 \u{1b}[2J\0\r\n\u{202e}x\u{9b}";
        assert_eq!(shown(text), "é 👍 \\u{1b}[2J\\u{0}\\r\\n\\u{202e}x\\u{9b}");
    }
}
