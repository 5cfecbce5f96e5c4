//! Checks what a receiver gets: nothing is lost, repeated or out of order.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The place of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub id: i64,
    pub conversation_id: i64,
    pub rev: i64,
}

impl Place {
    /// Reads the place from a reply to `send_message` or from its push. It parses no more than
    /// needed, because this program shares the machine with the host.
    pub fn of(event: &[u8]) -> Result<Place> {
        if let Some(place) = Self::scan(event) {
            return Ok(place);
        }
        // Perhaps the fields are in another order.
        let text = || String::from_utf8_lossy(event).into_owned();
        let value: Value = serde_json::from_slice(event).with_context(text)?;
        let field = |name: &str| {
            let field = value["data"][name].as_i64();
            field.with_context(|| format!("not a message: {}", text()))
        };
        ensure!(value["type"] == "send_message", "not a message: {}", text());
        Ok(Place {
            id: field("id")?,
            conversation_id: field("conversation_id")?,
            rev: field("rev")?,
        })
    }

    fn scan(event: &[u8]) -> Option<Place> {
        let rest = event.strip_prefix(br#"{"type":"send_message","success":true,"data":{"id":"#)?;
        let (id, rest) = digits(rest)?;
        let (conversation_id, rest) = digits(rest.strip_prefix(br#","conversation_id":"#)?)?;
        let (rev, _) = digits(rest.strip_prefix(br#","rev":"#)?)?;
        Some(Place {
            id,
            conversation_id,
            rev,
        })
    }
}

fn digits(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let count = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (digits, rest) = bytes.split_at(count);
    let add =
        |number: i64, digit: &u8| number.checked_mul(10)?.checked_add(i64::from(digit - b'0'));
    Some((digits.iter().try_fold(0, add)?, rest)).filter(|_| count > 0)
}

/// What one socket has received of one conversation. It receives every message in it.
#[derive(Debug, Clone)]
pub struct Order {
    conversation_id: i64,
    rev: i64,
    id: i64,
}

impl Order {
    /// Expects the revs after this one.
    pub fn after(conversation_id: i64, rev: i64) -> Self {
        Order {
            conversation_id,
            rev,
            id: 0,
        }
    }

    /// Takes the next message, which must have the next rev and a higher id.
    pub fn take(&mut self, event: &[u8]) -> Result<()> {
        let Place {
            id,
            conversation_id,
            rev,
        } = Place::of(event)?;
        ensure!(
            conversation_id == self.conversation_id,
            "a message of conversation {conversation_id} on a socket for conversation {}",
            self.conversation_id
        );
        let last_id = self.id;
        self.take_change(rev)?;
        ensure!(
            id > last_id,
            "out of order: id {id} after {last_id} in conversation {conversation_id}"
        );
        self.id = id;
        Ok(())
    }

    /// Takes any change, which must have the next rev.
    pub fn take_change(&mut self, rev: i64) -> Result<()> {
        let (last, conversation_id) = (self.rev, self.conversation_id);
        ensure!(
            rev > last,
            "twice or out of order: rev {rev} after {last} in conversation {conversation_id}"
        );
        ensure!(
            rev == last + 1,
            "lost: rev {rev} follows {last} in conversation {conversation_id}"
        );
        self.rev = rev;
        Ok(())
    }

    pub fn rev(&self) -> i64 {
        self.rev
    }

    /// The id of the latest message; 0 before the first one.
    pub fn id(&self) -> i64 {
        self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(id: i64, conversation_id: i64, rev: i64) -> String {
        format!(
            r#"{{"type":"send_message","success":true,"data":{{"id":{id},"conversation_id":{conversation_id},"rev":{rev},"content":"x"}}}}"#
        )
    }

    #[test]
    fn what_is_wrong_is_noticed() {
        for (pushes, error) in [
            (vec![(5, 7, 2), (6, 7, 3), (9, 7, 4)], None),
            (vec![(5, 7, 2), (5, 7, 2)], Some("twice or out of order")),
            (vec![(5, 7, 2), (7, 7, 4)], Some("lost")),
            (vec![(5, 7, 3)], Some("lost")),
            (
                vec![(5, 7, 2), (6, 7, 3), (5, 7, 2)],
                Some("twice or out of order"),
            ),
            (vec![(5, 7, 2), (4, 7, 3)], Some("out of order: id")),
            (vec![(5, 8, 2)], Some("a message of conversation 8")),
        ] {
            let mut order = Order::after(7, 1);
            let mut taken = pushes.iter().map(|(id, conversation_id, rev)| {
                order.take(push(*id, *conversation_id, *rev).as_bytes())
            });
            let found = taken.find_map(Result::err).map(|error| error.to_string());
            match (&found, error) {
                (None, None) => {}
                (Some(found), Some(error)) if found.starts_with(error) => {}
                _ => panic!("{pushes:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_message_is_found_however_its_fields_are_ordered() {
        let place = Place {
            id: 5,
            conversation_id: 7,
            rev: 2,
        };
        let other =
            r#"{"success":true,"type":"send_message","data":{"rev":2,"id":5,"conversation_id":7}}"#;
        for event in [push(5, 7, 2).as_str(), other] {
            assert_eq!(Place::of(event.as_bytes()).expect("a message"), place);
        }
        for event in [
            "",
            "{}",
            r#"{"type":"send_message","success":false,"error":"x","code":"internal"}"#,
            r#"{"type":"ping","success":true,"data":"pong"}"#,
        ] {
            assert!(Place::of(event.as_bytes()).is_err(), "{event}");
        }
    }
}
