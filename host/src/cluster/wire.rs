//! The packets between hosts.

use bytes::Bytes;
use handler::Audience;
use serde::{Deserialize, Serialize};

/// The first byte of every packet; a host of another version is not understood, and its packets count as lost.
const VERSION: u8 = 1;

/// A consequence of a commit, for the sockets of other hosts. `frame` is the whole WebSocket frame.
#[derive(Debug, Clone)]
pub enum BusOutput {
    Push {
        to: Audience,
        frame: Bytes,
        is_droppable: bool,
    },
    Join {
        conversation_id: i64,
        user_ids: Vec<i64>,
    },
}

/// After the version.
#[derive(Serialize, Deserialize)]
pub struct Packet<'a> {
    /// The host, by a random number.
    pub origin: u64,
    /// Of a `Beat` and a `Goodbye`: the number of the packet before.
    pub number: u64,
    #[serde(borrow)]
    pub body: Body<'a>,
}

#[derive(Serialize, Deserialize)]
pub enum Body<'a> {
    #[serde(borrow)]
    Outputs(Vec<WireOutput<'a>>),
    Beat,
    Goodbye,
}

#[derive(Serialize, Deserialize)]
pub enum WireOutput<'a> {
    Push {
        to: Audience,
        #[serde(borrow)]
        frame: &'a [u8],
        is_droppable: bool,
    },
    Join {
        conversation_id: i64,
        user_ids: Vec<i64>,
    },
}

impl Packet<'_> {
    pub fn encode(&self) -> Bytes {
        let packet = postcard::to_extend(self, vec![VERSION]);
        packet
            .expect("numbers, bytes and lists always serialise")
            .into()
    }

    /// `None`: it is of another version, or no packet at all.
    pub fn decode(payload: &[u8]) -> Option<Packet<'_>> {
        let (version, packet) = payload.split_first()?;
        (*version == VERSION)
            .then(|| postcard::from_bytes(packet).ok())
            .flatten()
    }
}

impl WireOutput<'_> {
    pub fn into_output(self) -> BusOutput {
        match self {
            WireOutput::Push {
                to,
                frame,
                is_droppable,
            } => BusOutput::Push {
                to,
                // A small frame that waits for a slow socket must not keep the packet it came in.
                frame: Bytes::copy_from_slice(frame),
                is_droppable,
            },
            WireOutput::Join {
                conversation_id,
                user_ids,
            } => BusOutput::Join {
                conversation_id,
                user_ids,
            },
        }
    }
}

impl BusOutput {
    pub fn wire(&self) -> WireOutput<'_> {
        match self {
            BusOutput::Push {
                to,
                frame,
                is_droppable,
            } => WireOutput::Push {
                to: to.clone(),
                frame,
                is_droppable: *is_droppable,
            },
            BusOutput::Join {
                conversation_id,
                user_ids,
            } => WireOutput::Join {
                conversation_id: *conversation_id,
                user_ids: user_ids.clone(),
            },
        }
    }

    /// About.
    pub fn bytes(&self) -> usize {
        match self {
            BusOutput::Push { to, frame, .. } => {
                frame.len()
                    + match to {
                        Audience::Users(ids) => ids.len() * 4,
                        Audience::Conversation(_) => 8,
                    }
            }
            BusOutput::Join { user_ids, .. } => user_ids.len() * 4,
        }
    }
}

#[cfg(test)]
mod tests {
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
        let frame = Bytes::from_static(b"\x81\x02{}");
        let sent = [
            BusOutput::Push {
                to: Audience::Conversation(7),
                frame: frame.clone(),
                is_droppable: true,
            },
            BusOutput::Push {
                to: Audience::Users(vec![1, i64::MAX]),
                frame,
                is_droppable: false,
            },
            BusOutput::Join {
                conversation_id: -1,
                user_ids: vec![],
            },
        ];
        let payload = packet(3, Body::Outputs(sent.iter().map(BusOutput::wire).collect())).encode();
        let received = Packet::decode(&payload).expect("a packet");
        assert_eq!((received.origin, received.number), (1, 3));
        let Body::Outputs(outputs) = received.body else {
            panic!("not outputs");
        };
        let outputs = outputs.into_iter().map(WireOutput::into_output);
        let received: Vec<_> = outputs.collect();
        assert_eq!(format!("{received:?}"), format!("{sent:?}"));
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
