//! The packets between hosts.

use std::borrow::Cow;

use bytes::Bytes;
use handler::{Audience, Output};
use serde::{Deserialize, Serialize};

/// The first byte of every packet. Packets of another version cannot be read and count as lost.
const VERSION: u8 = 3;

/// What follows the version.
#[derive(Serialize, Deserialize)]
pub struct Packet<'a> {
    /// The random number of the host.
    pub origin: u64,
    /// Counts the packets of this host to the receiver. A `Beat` has the number of the packet before
    /// it. A packet to all hosts has 0.
    pub number: u64,
    pub body: Body<'a>,
}

/// `Hello` goes to all hosts, and so do the `Outputs` of a host that does not know the others yet, and
/// its `Goodbye`. Everything else goes to one host.
#[derive(Serialize, Deserialize)]
pub enum Body<'a> {
    /// This host is there.
    Hello,
    /// The first packet to a host. Says whether there were outputs before that were not for this
    /// host because it was not known.
    Greeting {
        has_told: bool,
        /// Whether it answers one: its sender had not forgotten this host.
        is_answer: bool,
    },
    Outputs(Vec<Cow<'a, Output>>),
    /// Everything that the sender wants: see `Wanted::words`. Until then, it wants all.
    Wants(Cow<'a, [(u32, u64)]>),
    /// What it wants besides, and since when, by its own clock.
    More {
        since: i64,
        buckets: Cow<'a, [u32]>,
    },
    /// What it no longer wants.
    Fewer(Cow<'a, [u32]>),
    /// The answer to `More`: for each bucket, how many milliseconds ago the last push was that the
    /// receiver may not have got.
    Skipped {
        since: i64,
        buckets: Vec<(u32, i64)>,
    },
    /// The sender does not know what the receiver wants. If packets were lost, it did not know that
    /// for a while and left out what the receiver wanted.
    Ask {
        has_lost: bool,
    },
    Beat,
    /// The last packet.
    Goodbye,
    /// How many sockets got some outputs of the packet `number`, by their places there: see
    /// `Unpaid`.
    Delivered {
        number: u64,
        sockets: Vec<(u32, u32)>,
    },
}

impl Packet<'_> {
    pub fn encode(&self) -> Bytes {
        let packet = postcard::to_extend(self, vec![VERSION]);
        packet
            .expect("numbers, bytes and lists always serialise")
            .into()
    }

    /// `None` if it is of another version, or not a packet at all.
    pub fn decode(payload: &[u8]) -> Option<Packet<'static>> {
        let (version, packet) = payload.split_first()?;
        (*version == VERSION)
            .then(|| postcard::from_bytes(packet).ok())
            .flatten()
    }
}

/// The bytes of an output in a packet, approximately.
pub fn bytes(output: &Output) -> usize {
    match output {
        Output::Push { to, event, .. } => {
            event.len()
                + match to {
                    Audience::Users(ids) => ids.len() * 4,
                    Audience::Conversation { .. } => 8,
                    Audience::MembersExcept { except, .. } => 8 + except.len() * 4,
                }
        }
        Output::Join(change) | Output::Leave(change) => change.user_ids.len() * 4,
        Output::EndLogins(ended) => ended.sessions.len() * 10,
    }
}

#[cfg(test)]
mod tests {
    use handler::MembersChange;
    use handler::account::login_id::{EndedLogins, SessionId};

    use super::*;

    fn packet(number: u64, body: Body) -> Packet {
        Packet {
            origin: 1,
            number,
            body,
        }
    }

    fn outputs(number: u64) -> Packet<'static> {
        packet(number, Body::Outputs(Vec::new()))
    }

    #[test]
    fn a_packet_arrives_as_it_was_sent() {
        let change = MembersChange {
            conversation_id: -1,
            user_ids: vec![],
            before: 0,
            members_rev: i64::MAX,
        };
        let sent = [
            Output::Push {
                to: Audience::Conversation {
                    id: 7,
                    members_rev: 3,
                },
                event: "{}".into(),
                is_droppable: true,
            },
            Output::Push {
                to: Audience::MembersExcept {
                    id: 7,
                    members_rev: 3,
                    except: vec![2, 9],
                },
                event: "{}".into(),
                is_droppable: true,
            },
            Output::Push {
                to: Audience::Users(vec![1, i64::MAX]),
                event: "{\"type\":\"é\"}".into(),
                is_droppable: false,
            },
            Output::Join(change.clone()),
            Output::Leave(change),
            Output::EndLogins(EndedLogins {
                user_id: 7,
                sessions: vec![SessionId::new([7; 8])],
                tokens_until: Some(i64::MAX),
            }),
        ];
        let outputs = sent.iter().map(Cow::Borrowed).collect();
        let payload = packet(3, Body::Outputs(outputs)).encode();
        let received = Packet::decode(&payload).expect("a packet");
        assert_eq!((received.origin, received.number), (1, 3));
        let Body::Outputs(outputs) = received.body else {
            panic!("not outputs");
        };
        let outputs: Vec<_> = outputs.into_iter().map(Cow::into_owned).collect();
        assert_eq!(outputs, sent);
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        let good = outputs(1).encode();
        assert!(Packet::decode(&good).is_some());
        let mut other_version = good.to_vec();
        other_version[0] = VERSION + 1;
        for bad in [&[][..], &[VERSION], &good[..good.len() - 1], &other_version] {
            assert!(Packet::decode(bad).is_none(), "{bad:?}");
        }
    }
}
