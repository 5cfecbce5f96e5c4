//! Usernames that look the same: two names are twins if they have the same skeleton.

use serde_json::json;
use unicode_security::confusable_detection;

use crate::error::Error;
use crate::operation::{Access, Context, Operation};
use crate::outbox::Outbox;
use crate::sql::{Rows, Statement};

/// Accounts that get their skeletons in one operation.
pub const ACCOUNTS_AT_ONCE: i64 = 1000;

/// The looks of a username: its confusable skeleton (Unicode Technical Standard 39, section 4),
/// without control characters, and without spaces at the ends, because nobody sees them. The skeleton itself has no
/// characters that take no place, such as a zero-width space or a change of direction. Upper and
/// lower case look different.
pub fn skeleton(username: &str) -> String {
    let visible: String = username.chars().filter(|c| !c.is_control()).collect();
    let skeleton: String = confusable_detection::skeleton(&visible).collect();
    skeleton.trim().to_owned()
}

/// An account that was stored without a skeleton, by another program or a release before this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unseen {
    pub user_id: i64,
    pub username: String,
}

/// Finds accounts without a skeleton, at most `ACCOUNTS_AT_ONCE`.
pub struct FindUnseen;

impl Operation for FindUnseen {
    type Output = Vec<Unseen>;

    fn access(&self) -> Access {
        Access::Read
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        vec![Statement::new(
            "select id, cast(username as blob) from users where skeleton is null limit +?1",
            [ACCOUNTS_AT_ONCE.into()],
        )]
    }

    fn conclude(&self, _: &Context, rows: &[Rows], _: &mut Outbox) -> Result<Vec<Unseen>, Error> {
        let unseen = rows[0].0.iter().map(|row| {
            let mut columns = row.columns();
            Unseen {
                user_id: columns.integer(),
                username: columns.text(),
            }
        });
        Ok(unseen.collect())
    }
}

/// Stores the skeletons of accounts that had none.
pub struct StoreSkeletons {
    pub of: Vec<Unseen>,
}

impl Operation for StoreSkeletons {
    type Output = ();

    fn access(&self) -> Access {
        Access::Write
    }

    fn statements(&self, _: &Context) -> Vec<Statement> {
        let skeletons = self.of.iter();
        let skeletons = skeletons.map(|of| json!([of.user_id, skeleton(&of.username)]));
        let skeletons: Vec<_> = skeletons.collect();
        vec![Statement::new(
            "update users set skeleton = value ->> 1 from json_each(?1)
             where users.id = value ->> 0 and skeleton is null",
            [json!(skeletons).to_string().into()],
        )]
    }

    fn conclude(&self, _: &Context, _: &[Rows], _: &mut Outbox) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::skeleton;

    #[test]
    fn twins_have_one_skeleton() {
        for twin in [
            "alice ",
            " alice",
            "alice\u{a0}",
            "al\u{200b}ice",
            "alice\u{feff}",
            "\u{202e}alice",
            "\u{2066}alice\u{2069}",
            "alice\0",
            "al\u{7}ice",
            // Cyrillic.
            "\u{430}lic\u{435}",
            // Fullwidth and mathematical letters.
            "\u{ff41}lice",
            "\u{1d41a}lice",
        ] {
            assert_eq!(skeleton(twin), skeleton("alice"), "{twin:?}");
        }
        assert_eq!(skeleton("e\u{301}"), skeleton("\u{e9}"));
        for other in ["Alice", "alice1", "a lice", "alic", "\u{e1}lice"] {
            assert_ne!(skeleton(other), skeleton("alice"), "{other:?}");
        }
        // A name that nobody sees looks like any other of that kind.
        assert_eq!(skeleton(" \u{200b}"), "");
    }
}
