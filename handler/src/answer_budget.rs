//! The limits on the size of an answer.

/// Bytes of JSON after which an answer takes no further message or conversation.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of JSON of an answer that names one user and a few numbers.
pub const SMALL_ANSWER_BYTES_MAX: usize = 512;

/// Bytes of JSON of an answer that names the owners, admins and members of a conversation, of whom
/// at most a hundred are listed, or those who have reacted to a message and those whom it mentions.
/// No username takes more than 386 bytes.
pub const NAMES_ANSWER_BYTES_MAX: usize = 256 * 1024;

/// How much more fits into an answer.
pub(crate) struct AnswerBudget {
    items: i64,
    bytes: usize,
    is_empty: bool,
}

impl AnswerBudget {
    /// A budget for at most this many messages or conversations.
    pub fn new(items: i64) -> Self {
        AnswerBudget {
            items,
            bytes: ANSWER_BYTES_MAX,
            is_empty: true,
        }
    }

    /// Takes this many bytes for something other than an item. Returns whether they fit; the first
    /// thing in an answer always does.
    pub fn charge(&mut self, bytes: usize) -> bool {
        let fits = self.bytes == ANSWER_BYTES_MAX || bytes <= self.bytes;
        self.bytes = self.bytes.saturating_sub(bytes);
        fits
    }

    /// Returns the item if it fits; the first one always does. After one that does not fit, none
    /// does.
    pub fn take(&mut self, item: String) -> Option<String> {
        let fits = self.is_empty || item.len() <= self.bytes;
        if self.items == 0 || !fits {
            self.items = 0;
            return None;
        }
        self.is_empty = false;
        self.items -= 1;
        self.bytes = self.bytes.saturating_sub(item.len());
        Some(item)
    }
}
