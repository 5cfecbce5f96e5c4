//! The other hosts: what each of them is told, and whether something of theirs was lost.
//!
//! A host tells each other host only what that one wants: pushes to its online users and to their
//! conversations, and every change of members and logins. So what a host hears grows with what it
//! delivers, and not with the number of hosts.
//!
//! - **Packets are addressed.** Each pair of hosts has two streams of numbered packets, one in each
//!   direction, and a NATS subject for each receiver. The alternative, a NATS subject for each
//!   conversation, would need half a million subscriptions for 50,000 users, each with a queue of its
//!   own in the client library (7 KB), and would lose the order between subjects. A fixed number of
//!   subjects would have to be as large to be of use.
//! - **What a host wants** is a set of buckets ([`Wanted`]), by a hash of the ids of users and
//!   conversations. It tells all other hosts of changes. A host that is not known, or whose packets
//!   were lost, is told everything until it has said again what it wants.
//! - **Nothing is missed in silence.** What a host wants besides takes effect a moment later, when the
//!   others have heard it. They answer which pushes they have left out lately, and how long ago. If
//!   that is no longer ago than the question, the push may have been committed after the user had
//!   read the database, and the user is told to catch up. Users who join a conversation may
//!   have missed what was committed since then: there the question is asked as of `LOOK_BACK` ago.
//! - **Loss.** A missing number is noticed with the next packet, a second later at the latest. The
//!   receiver has missed something, and asks for what the sender wants. The sender may have missed
//!   something too: pushes that were left out because the receiver had not heard that it wants them.
//!
//! This assumes of NATS that packets from one host to another keep their order. They may be lost.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use handler::{Audience, Output};
use tokio::sync::mpsc;

use crate::cluster::unpaid::{self, Bill, Unpaid};
use crate::cluster::wanted::{
    BUCKETS, News, Wanted, Wants, bucket_of_conversation, bucket_of_user,
};
use crate::cluster::wire::{self, Body, Packet};
use crate::delivery::Payer;

/// How often a host announces the number of its last packet.
pub const BEAT: Duration = Duration::from_secs(1);
/// A host that was silent for this long may have died with packets unsent.
const SILENCE: Duration = Duration::from_secs(5);
/// A change of members is heard this long after its commit at the latest: an operation takes 10 s, and
/// then there is silence.
pub const LOOK_BACK: Duration = Duration::from_secs(15);
/// Outputs of one commit with more than this many bytes are sent in several packets.
const PACKET_BYTES: usize = 256 * 1024;
/// Packets, and their bytes, that may wait for a slow bus; further ones are left out, which the
/// other hosts notice.
const QUEUED_MAX: usize = 4096;
const QUEUED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What this host wants, up to 850 KB for each other host, is said while no more than this waits.
const QUEUED_BYTES_CALM: usize = QUEUED_BYTES_MAX / 4;

/// An output for other hosts.
pub struct Told {
    pub output: Output,
    /// The user who pays for the pushes of other hosts, if there is one.
    pub payer: Payer,
    /// Whether all hosts hear it: the members of its conversation are just changing.
    pub is_for_all: bool,
}

impl Told {
    fn bill(&self) -> Bill {
        let Output::Push { event, .. } = &self.output else {
            return None;
        };
        self.payer.clone().map(|payer| (payer, event.len()))
    }
}

/// What a packet of another host means for this one.
#[derive(Default)]
pub struct Heard {
    pub outputs: Vec<Output>,
    /// Whether something may have been missed.
    pub has_missed: bool,
    /// Buckets in which single pushes may have been missed.
    pub missed_in: Vec<u32>,
}

/// A packet on its way to the bus.
pub struct Parcel {
    /// `None`: to all hosts.
    pub to: Option<u64>,
    pub packet: Bytes,
}

/// The end of the bus that sends.
pub struct Parcels {
    pub queue: mpsc::Receiver<Parcel>,
    pub shared: Arc<Shared>,
}

/// What both ends share.
#[derive(Default)]
pub struct Shared {
    pub queued_bytes: AtomicUsize,
    /// The other hosts have had time to answer a greeting.
    pub is_introduced: AtomicBool,
}

pub struct Peers {
    origin: u64,
    start: Instant,
    queue: mpsc::Sender<Parcel>,
    shared: Arc<Shared>,
    peers: HashMap<u64, Peer>,
    /// Whether there were outputs that a host which is not known yet has not been told.
    has_told: bool,
    /// By bucket, when a push was last left out for some host: see `millis`. 0 if never.
    skipped: Vec<u32>,
}

/// Another host.
struct Peer {
    /// The number of the last packet to it, sent or left out.
    told: u64,
    /// The number of the last packet from it.
    heard: Option<u64>,
    heard_at: Instant,
    /// `None` if that is not known.
    wants: Option<Wants>,
    /// What it has begun to want lately, in the last `LOOK_BACK` or two.
    news: [HashSet<u32>; 2],
    news_since: Instant,
    /// It does not know what this host wants.
    is_asking: bool,
    /// When it was told that last. If it keeps losing packets, that is not said for each.
    answered_at: Option<Instant>,
    has_said_goodbye: bool,
    unpaid: Unpaid,
}

impl Peers {
    /// Both ends for the host with this random number.
    pub fn new(origin: u64, start: Instant) -> (Peers, Parcels) {
        let (queue, parcels) = mpsc::channel(QUEUED_MAX);
        let shared = Arc::new(Shared::default());
        let peers = Peers {
            origin,
            start,
            queue,
            shared: shared.clone(),
            peers: HashMap::new(),
            has_told: false,
            skipped: vec![0; BUCKETS],
        };
        let queue = parcels;
        (peers, Parcels { queue, shared })
    }

    /// Tells the other hosts what this one wants, and what they want of these outputs.
    pub fn tell(&mut self, outputs: &[Told], wanted: &mut Wanted, now: Instant) {
        self.tell_news(wanted.news(), now);
        if outputs.is_empty() {
            return;
        }
        if !self.shared.is_introduced.load(Ordering::Acquire) {
            self.tell_all(outputs);
            return;
        }
        self.has_told = true;
        self.note_skipped(outputs, now);
        let Peers {
            origin,
            queue,
            shared,
            peers,
            ..
        } = self;
        for (id, peer) in peers.iter_mut().filter(|(_, peer)| !peer.has_said_goodbye) {
            let wanted = outputs.iter();
            let wanted = wanted.filter_map(|told| Some((peer.part(told)?, told.bill())));
            for (outputs, bills) in packets(wanted.collect()) {
                for (payer, bytes) in bills.iter().flatten() {
                    payer.charge_push(*bytes, 1);
                }
                let number = peer.next();
                peer.unpaid.add(number, bills);
                let body = Body::Outputs(outputs);
                send(queue, shared, *origin, Some(*id), number, body);
            }
        }
    }

    /// Notes that something may have been committed that is not known here: the other hosts miss a
    /// number.
    pub fn skip(&mut self) {
        self.has_told = true;
        for peer in self.peers.values_mut() {
            peer.told += 1;
        }
    }

    pub fn say_goodbye(&mut self) {
        let ids: Vec<_> = self.peers.keys().copied().collect();
        for id in ids {
            self.send_to(id, Body::Goodbye);
        }
        // Others may have heard of this host and not yet been heard.
        let body = Body::Goodbye;
        send(&self.queue, &self.shared, self.origin, None, 0, body);
    }

    /// Takes a packet.
    pub fn hear(&mut self, packet: Packet<'static>, wanted: &Wanted, now: Instant) -> Heard {
        let Packet {
            origin: id,
            number,
            body,
        } = packet;
        let mut heard = Heard::default();
        if id == self.origin {
            return heard;
        }
        // Packets to all.
        match body {
            Body::Hello => {
                self.meet(id, wanted, now);
                return heard;
            }
            Body::Outputs(outputs) if number == 0 => {
                heard.outputs = outputs.into_iter().map(Cow::into_owned).collect();
                return heard;
            }
            Body::Goodbye if number == 0 => {
                let peer = self.peers.get_mut(&id);
                if let Some(peer) = peer.filter(|peer| peer.heard.is_none()) {
                    peer.has_said_goodbye = true;
                }
                return heard;
            }
            _ => {}
        }
        self.meet(id, wanted, now);
        let millis = self.millis(now);
        let Some(peer) = self.peers.get_mut(&id) else {
            return heard;
        };
        let before = peer.heard.replace(number);
        peer.heard_at = now;
        if let Body::Greeting {
            has_told,
            is_answer,
        } = body
        {
            heard.has_missed = has_told && wanted.is_needed();
            peer.wants = None;
            if before.is_some() && !is_answer {
                // It had forgotten this host, and knows neither the numbers nor what is wanted.
                peer.told = 0;
                self.greet(id, true, wanted, now);
            }
            return heard;
        }
        let is_numbered = !matches!(body, Body::Beat);
        if before.is_none_or(|before| before + u64::from(is_numbered) != number) {
            heard.has_missed = true;
            peer.wants = None;
            self.send_to(id, Body::Ask { has_lost: true });
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return heard;
        };
        match body {
            Body::Outputs(outputs) => {
                heard.outputs = outputs.into_iter().map(Cow::into_owned).collect();
            }
            Body::Wants(words) => peer.wants = Some(Wants::new(&words)),
            Body::More { since, buckets } => {
                let skipped = peer.want_more(&buckets, &self.skipped, millis);
                if !skipped.is_empty() {
                    let buckets = skipped;
                    self.send_to(id, Body::Skipped { since, buckets });
                }
            }
            Body::Fewer(buckets) => {
                if let Some(wants) = &mut peer.wants {
                    buckets.iter().for_each(|bucket| wants.set(*bucket, false));
                }
            }
            Body::Skipped { since, buckets } => {
                // Both clocks have been rounded.
                let since_then = millis - since + 2;
                let late = buckets.into_iter().filter(|(_, ago)| *ago <= since_then);
                heard.missed_in = late.map(|(bucket, _)| bucket).collect();
            }
            Body::Ask { has_lost } => {
                heard.has_missed |= has_lost;
                peer.is_asking = true;
                self.answer(wanted, now);
            }
            Body::Delivered { number, sockets } => peer.unpaid.charge(number, &sockets),
            Body::Goodbye => peer.has_said_goodbye = true,
            Body::Hello | Body::Greeting { .. } | Body::Beat => {}
        }
        heard
    }

    /// Says how many sockets got the outputs of a packet from this host, each with its bytes: see
    /// `Unpaid`.
    pub fn report(
        &mut self,
        id: u64,
        number: u64,
        delivered: impl Iterator<Item = (usize, usize)>,
    ) {
        let sockets = delivered.enumerate();
        let sockets = sockets.filter_map(|(place, delivered)| unpaid::report(place, delivered));
        let sockets: Vec<_> = sockets.collect();
        if !sockets.is_empty() {
            self.send_to(id, Body::Delivered { number, sockets });
        }
    }

    /// Does what is due each `BEAT`. Returns whether something may have been missed.
    pub fn beat(&mut self, wanted: &Wanted, now: Instant) -> bool {
        let mut has_missed = false;
        self.peers.retain(|_, peer| {
            let is_silent = now - peer.heard_at >= SILENCE;
            has_missed |= is_silent && !peer.has_said_goodbye;
            !is_silent
        });
        let ids: Vec<_> = self.peers.keys().copied().collect();
        for id in ids {
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            if now - peer.news_since > LOOK_BACK + SILENCE {
                let [news, older] = &mut peer.news;
                *older = std::mem::take(news);
                peer.news_since = now;
            }
            match peer.wants.is_none() && peer.heard.is_some() {
                true => self.send_to(id, Body::Ask { has_lost: false }),
                false => self.send_to(id, Body::Beat),
            }
        }
        self.answer(wanted, now);
        has_missed
    }

    /// Greets a host that was not known.
    fn meet(&mut self, id: u64, wanted: &Wanted, now: Instant) {
        if self.peers.contains_key(&id) {
            return;
        }
        let peer = Peer {
            told: 0,
            heard: None,
            heard_at: now,
            wants: None,
            news: Default::default(),
            news_since: now,
            is_asking: true,
            answered_at: None,
            has_said_goodbye: false,
            unpaid: Unpaid::default(),
        };
        self.peers.insert(id, peer);
        self.greet(id, false, wanted, now);
    }

    fn greet(&mut self, id: u64, is_answer: bool, wanted: &Wanted, now: Instant) {
        let greeting = Body::Greeting {
            has_told: self.has_told,
            is_answer,
        };
        self.send_to(id, greeting);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.is_asking = true;
        }
        self.answer(wanted, now);
    }

    /// Says what this host wants to those who do not know, unless the bus is slow.
    fn answer(&mut self, wanted: &Wanted, now: Instant) {
        let is_due = |peer: &Peer| peer.answered_at.is_none_or(|at| now - at >= BEAT);
        let peers = self.peers.iter();
        let asking = peers.filter(|(_, peer)| peer.is_asking && is_due(peer));
        let ids: Vec<_> = asking.map(|(id, _)| *id).collect();
        if ids.is_empty() {
            return;
        }
        let words = wanted.words();
        for id in ids {
            if self.shared.queued_bytes.load(Ordering::Relaxed) > QUEUED_BYTES_CALM {
                return;
            }
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.is_asking = false;
                peer.answered_at = Some(now);
            }
            self.send_to(id, Body::Wants(words.as_slice().into()));
        }
    }

    fn tell_news(&mut self, news: News, now: Instant) {
        let News {
            more,
            since,
            joined,
            fewer,
        } = news;
        let asked = [
            (fewer, None),
            (more, Some(self.millis(since.unwrap_or(now)))),
            (
                joined,
                Some(self.millis(now) - LOOK_BACK.as_millis() as i64),
            ),
        ];
        for (buckets, since) in asked {
            if buckets.is_empty() {
                continue;
            }
            // Also to those who wait for an answer: they may go by an earlier one until then.
            let ids: Vec<_> = self.peers.keys().copied().collect();
            for id in ids {
                let buckets = buckets.as_slice().into();
                let body = match since {
                    Some(since) => Body::More { since, buckets },
                    None => Body::Fewer(buckets),
                };
                self.send_to(id, body);
            }
        }
    }

    /// Outputs while the other hosts may not all be known. If a part is left out, those that are known
    /// miss a number. NATS disconnects a host that is too slow for the rest.
    fn tell_all(&mut self, outputs: &[Told]) {
        // Nobody pays: the others may not be known.
        let outputs = outputs
            .iter()
            .map(|told| (Cow::Borrowed(&told.output), None));
        let mut is_told = true;
        for (outputs, _) in packets(outputs.collect()) {
            let body = Body::Outputs(outputs);
            is_told &= send(&self.queue, &self.shared, self.origin, None, 0, body);
        }
        if !is_told {
            self.skip();
        }
    }

    /// Notes which pushes may be left out for some host. Droppable ones are worth nothing later.
    fn note_skipped(&mut self, outputs: &[Told], now: Instant) {
        if self.peers.is_empty() {
            return;
        }
        let stamp = (self.millis(now) as u32).max(1);
        for told in outputs.iter().filter(|told| !told.is_for_all) {
            let Output::Push {
                to,
                is_droppable: false,
                ..
            } = &told.output
            else {
                continue;
            };
            match to {
                Audience::Users(ids) => {
                    for id in ids {
                        self.skipped[bucket_of_user(*id) as usize] = stamp;
                    }
                }
                Audience::Conversation { id, .. } | Audience::MembersExcept { id, .. } => {
                    self.skipped[bucket_of_conversation(*id) as usize] = stamp;
                }
            }
        }
    }

    /// Milliseconds of this host's clock.
    fn millis(&self, at: Instant) -> i64 {
        at.saturating_duration_since(self.start).as_millis() as i64
    }

    fn send_to(&mut self, id: u64, body: Body) {
        let peer = self.peers.get_mut(&id);
        if let Some(peer) = peer.filter(|peer| !peer.has_said_goodbye) {
            let number = match body {
                Body::Beat => peer.told,
                _ => peer.next(),
            };
            send(
                &self.queue,
                &self.shared,
                self.origin,
                Some(id),
                number,
                body,
            );
        }
    }
}

impl Peer {
    fn next(&mut self) -> u64 {
        self.told += 1;
        self.told
    }

    /// The part of an output that this host wants.
    fn part<'a>(&self, told: &'a Told) -> Option<Cow<'a, Output>> {
        let output = Cow::Borrowed(&told.output);
        let (Some(wants), false) = (&self.wants, told.is_for_all) else {
            return Some(output);
        };
        match &told.output {
            Output::Push {
                to: Audience::Users(ids),
                event,
                is_droppable,
            } => {
                let wanted = ids.iter().filter(|id| wants.has(bucket_of_user(**id)));
                let wanted: Vec<_> = wanted.copied().collect();
                match wanted.len() {
                    0 => None,
                    all if all == ids.len() => Some(output),
                    _ => Some(Cow::Owned(Output::Push {
                        to: Audience::Users(wanted),
                        event: event.clone(),
                        is_droppable: *is_droppable,
                    })),
                }
            }
            Output::Push {
                to: Audience::Conversation { id, .. } | Audience::MembersExcept { id, .. },
                ..
            } => wants.has(bucket_of_conversation(*id)).then_some(output),
            Output::Join(_) | Output::Leave(_) | Output::EndLogins(_) => Some(output),
        }
    }

    /// Returns for which of the buckets a push may have been left out, and how long ago, if this host
    /// did not want it or only wants it since lately.
    fn want_more(&mut self, buckets: &[u32], skipped: &[u32], millis: i64) -> Vec<(u32, i64)> {
        // Nothing is left out for a host that is told everything.
        let Some(wants) = &mut self.wants else {
            return Vec::new();
        };
        let mut left_out = Vec::new();
        for bucket in buckets {
            let is_new = !wants.has(*bucket) || self.news.iter().any(|news| news.contains(bucket));
            let stamp = skipped.get(*bucket as usize).copied().unwrap_or(0);
            let ago = i64::from((millis as u32).wrapping_sub(stamp));
            // Later, it was silent meanwhile, or the question is not about that.
            let is_recent = ago <= (2 * (LOOK_BACK + SILENCE)).as_millis() as i64;
            if is_new && stamp != 0 && is_recent {
                left_out.push((*bucket, ago));
            }
            wants.set(*bucket, true);
            self.news[0].insert(*bucket);
        }
        left_out
    }
}

/// Outputs in packets of at most `PACKET_BYTES`, or of one output, with who pays for each.
fn packets(outputs: Vec<(Cow<Output>, Bill)>) -> Vec<(Vec<Cow<Output>>, Vec<Bill>)> {
    let mut packets: Vec<(Vec<_>, Vec<_>)> = Vec::new();
    let mut room = 0;
    for (output, bill) in outputs {
        let bytes = wire::bytes(&output);
        match packets.last_mut().filter(|_| bytes <= room) {
            Some((outputs, bills)) => {
                outputs.push(output);
                bills.push(bill);
            }
            None => {
                packets.push((vec![output], vec![bill]));
                room = PACKET_BYTES;
            }
        }
        room = room.saturating_sub(bytes);
    }
    packets
}

/// Hands a packet on without ever waiting. Returns whether there was room for it.
fn send(
    queue: &mpsc::Sender<Parcel>,
    shared: &Shared,
    origin: u64,
    to: Option<u64>,
    number: u64,
    body: Body,
) -> bool {
    let packet = Packet {
        origin,
        number,
        body,
    };
    let packet = packet.encode();
    let bytes = packet.len();
    let queued = &shared.queued_bytes;
    let fits = queued.fetch_add(bytes, Ordering::Relaxed) + bytes <= QUEUED_BYTES_MAX
        && queue.try_send(Parcel { to, packet }).is_ok();
    if !fits {
        queued.fetch_sub(bytes, Ordering::Relaxed);
    }
    fits
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet, VecDeque};

    use handler::MembersChange;

    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn push(to: Audience) -> Output {
        Output::Push {
            to,
            event: "x".into(),
            is_droppable: false,
        }
    }

    fn told(output: Output) -> Told {
        Told {
            output,
            payer: None,
            is_for_all: false,
        }
    }

    fn message(conversation_id: i64, text: impl Into<String>) -> Told {
        let to = Audience::Conversation {
            id: conversation_id,
            members_rev: 0,
        };
        told(Output::Push {
            to,
            event: text.into(),
            is_droppable: false,
        })
    }

    /// Some hosts, and what is on its way between them.
    struct Network {
        now: Instant,
        hosts: Vec<Host>,
        /// By sender and receiver. Packets of one sender to one subject keep their order.
        links: HashMap<(usize, usize, bool), VecDeque<Bytes>>,
        lost_of_hundred: u32,
        /// A link on which nothing arrives.
        stalled: Option<(usize, usize)>,
        random: fastrand::Rng,
        commits: u32,
    }

    struct Host {
        peers: Peers,
        parcels: Parcels,
        wanted: Wanted,
        /// Conversations with a user here. `false`: this host has not heard of it yet.
        members: HashMap<i64, bool>,
        /// Conversations that users have joined, as far as this host has heard.
        joins: HashSet<i64>,
        /// Messages that were committed elsewhere, and that the users here have not heard of.
        due: HashSet<(i64, u32)>,
        outputs: usize,
        unwanted: usize,
        hints: usize,
        misses: usize,
    }

    impl Network {
        fn new(count: u64, seed: u64) -> Self {
            let start = Instant::now();
            let host = |origin| {
                let host = Host::new(origin, start);
                host.introduce();
                host
            };
            let mut network = Network {
                now: start,
                hosts: (0..count).map(host).collect(),
                links: HashMap::new(),
                lost_of_hundred: 0,
                stalled: None,
                random: fastrand::Rng::with_seed(seed),
                commits: 0,
            };
            network.beat();
            network.arrive();
            network
        }

        fn beat(&mut self) {
            self.now += BEAT;
            for index in 0..self.hosts.len() {
                let hello = Packet {
                    origin: index as u64,
                    number: 0,
                    body: Body::Hello,
                };
                self.carry(index, None, hello.encode());
                let host = &mut self.hosts[index];
                host.wanted.sweep(self.now);
                if host.peers.beat(&host.wanted, self.now) {
                    host.catch_up();
                }
                self.tell(index, &[]);
            }
        }

        fn tell(&mut self, index: usize, outputs: &[Told]) {
            let host = &mut self.hosts[index];
            host.wanted.set_since(self.now);
            host.peers.tell(outputs, &mut host.wanted, self.now);
            self.collect(index);
        }

        fn collect(&mut self, index: usize) {
            while let Ok(Parcel { to, packet }) = self.hosts[index].parcels.queue.try_recv() {
                let queued = &self.hosts[index].parcels.shared.queued_bytes;
                queued.fetch_sub(packet.len(), Ordering::Relaxed);
                self.carry(index, to, packet);
            }
        }

        fn carry(&mut self, from: usize, to: Option<u64>, packet: Bytes) {
            for index in (0..self.hosts.len()).filter(|index| *index != from) {
                if to.is_none_or(|to| to == index as u64)
                    && self.random.u32(..100) >= self.lost_of_hundred
                {
                    let link = self.links.entry((from, index, to.is_none()));
                    link.or_default().push_back(packet.clone());
                }
            }
        }

        /// One of the packets arrives. Returns whether there was one.
        fn step(&mut self) -> bool {
            let links = self.links.iter().filter(|((from, to, _), link)| {
                !link.is_empty() && self.stalled != Some((*from, *to))
            });
            let mut ready: Vec<_> = links.map(|(ends, _)| *ends).collect();
            ready.sort_unstable();
            let Some(ends) = self.random.choice(ready) else {
                return false;
            };
            let packet = self
                .links
                .get_mut(&ends)
                .and_then(VecDeque::pop_front)
                .expect("it is ready");
            let packet = Packet::decode(&packet).expect("a packet");
            let host = &mut self.hosts[ends.1];
            let heard = host.peers.hear(packet, &host.wanted, self.now);
            if heard.has_missed {
                host.catch_up();
            }
            for output in heard.outputs {
                host.take(&output);
            }
            for bucket in heard.missed_in {
                host.hints += 1;
                host.due
                    .retain(|(id, _)| bucket_of_conversation(*id) != bucket);
            }
            let index = ends.1;
            self.tell(index, &[]);
            true
        }

        fn arrive(&mut self) {
            while self.step() {}
        }

        fn open(&mut self, index: usize, id: i64) {
            let host = &mut self.hosts[index];
            if host.members.insert(id, true) != Some(true) {
                host.wanted.need(bucket_of_conversation(id));
                // What was committed before, the user finds in the database.
                host.due.retain(|(of, _)| *of != id);
            }
            self.tell(index, &[]);
        }

        fn close(&mut self, index: usize, id: i64) {
            let host = &mut self.hosts[index];
            if host.members.get(&id) == Some(&true) {
                host.members.remove(&id);
                host.wanted.free(bucket_of_conversation(id));
                host.due.retain(|(of, _)| *of != id);
            }
        }

        fn send(&mut self, index: usize, id: i64) {
            self.commits += 1;
            let number = self.commits;
            for (other, host) in self.hosts.iter_mut().enumerate() {
                if other != index && host.members.contains_key(&id) {
                    host.due.insert((id, number));
                }
            }
            let mut message = message(id, number.to_string());
            // Nothing is lost if a host has forgotten the join.
            message.is_for_all = self.hosts[index].joins.contains(&id) && self.random.bool();
            self.tell(index, &[message]);
        }

        /// A user of another host becomes a member.
        fn join(&mut self, index: usize, id: i64) {
            let user = self.random.usize(..self.hosts.len());
            if user == index || self.hosts[user].members.contains_key(&id) {
                return;
            }
            self.hosts[user].members.insert(id, false);
            self.hosts[index].joins.insert(id);
            let join = Output::Join(MembersChange {
                conversation_id: id,
                user_ids: vec![user as i64],
                before: 0,
                members_rev: 0,
            });
            self.tell(index, &[told(join)]);
        }
    }

    impl Host {
        fn new(origin: u64, start: Instant) -> Self {
            let (peers, parcels) = Peers::new(origin, start);
            Host {
                peers,
                parcels,
                wanted: Wanted::default(),
                members: HashMap::new(),
                joins: HashSet::new(),
                due: HashSet::new(),
                outputs: 0,
                unwanted: 0,
                hints: 0,
                misses: 0,
            }
        }

        fn introduce(&self) {
            let shared = &self.parcels.shared;
            shared.is_introduced.store(true, Ordering::Relaxed);
        }

        fn take(&mut self, output: &Output) {
            match output {
                Output::Push {
                    to: Audience::Conversation { id, .. },
                    event,
                    ..
                } => {
                    self.outputs += 1;
                    self.unwanted += usize::from(!self.members.contains_key(id));
                    // If the join comes later, the registry notices.
                    self.due.remove(&(*id, event.parse().expect("a number")));
                }
                Output::Join(change) => {
                    let id = change.conversation_id;
                    self.joins.insert(id);
                    if let Some(is_known) = self.members.get_mut(&id).filter(|known| !**known) {
                        *is_known = true;
                        self.wanted.need(bucket_of_conversation(id));
                        self.wanted.join(bucket_of_conversation(id));
                    }
                }
                _ => {}
            }
        }

        /// The database says who is a member, and what was committed.
        fn catch_up(&mut self) {
            self.misses += 1;
            for (id, is_known) in &mut self.members {
                if !std::mem::replace(is_known, true) {
                    self.wanted.need(bucket_of_conversation(*id));
                }
            }
            self.due.clear();
        }
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Bus {
        Good,
        /// It loses a few packets in a row, now and then.
        Lossy,
        /// It carries nothing from one host to another for a while, or nothing at all.
        Stalling,
    }

    /// Users come, go, join and send on three hosts while packets are on their way. Whatever was
    /// committed while a user was there has arrived in the end, or the user was told to catch up.
    fn nothing_is_missed_in_silence(bus: Bus) {
        let (mut outputs, mut hints, mut misses) = (0, 0, 0);
        for seed in 0..600 {
            let mut network = Network::new(3, seed);
            let steps = network.random.u32(50..300);
            for _ in 0..steps {
                let index = network.random.usize(..3);
                let id = network.random.i64(1..6);
                match network.random.u32(..1000) {
                    0..120 => network.open(index, id),
                    120..200 => network.close(index, id),
                    200..260 => network.join(index, id),
                    260..500 => network.send(index, id),
                    500..560 => network.now += network.random.u32(..30) * MILLISECOND,
                    560..570 if bus != Bus::Good => network.beat(),
                    570..580 if bus == Bus::Lossy => {
                        network.lost_of_hundred = 40;
                        network.send(index, id);
                        network.open(index, id);
                        network.lost_of_hundred = 0;
                    }
                    580..600 if bus == Bus::Stalling => {
                        let ends = (index, (index + 1 + id as usize % 2) % 3);
                        network.stalled = network.random.bool().then_some(ends);
                        for _ in 0..network.random.u32(..7) {
                            network.beat();
                            for _ in 0..30 {
                                network.step();
                            }
                        }
                    }
                    _ => drop(network.step()),
                }
            }
            network.stalled = None;
            for _ in 0..3 {
                network.arrive();
                network.now += 10 * MILLISECOND;
                network.beat();
            }
            network.arrive();
            for host in &network.hosts {
                assert!(host.due.is_empty(), "seed {seed}: {:?}", host.due);
                outputs += host.outputs;
                hints += host.hints;
                misses += host.misses;
            }
        }
        assert!(hints > 0 && (misses > 0) == (bus != Bus::Good));
        assert!(outputs > 2 * hints, "{outputs}, {hints}: most arrives");
    }

    #[test]
    fn nothing_is_missed_in_silence_on_a_good_bus() {
        nothing_is_missed_in_silence(Bus::Good);
    }

    #[test]
    fn nothing_is_missed_in_silence_on_a_bus_that_loses_packets() {
        nothing_is_missed_in_silence(Bus::Lossy);
    }

    #[test]
    fn nothing_is_missed_in_silence_on_a_bus_that_stalls() {
        nothing_is_missed_in_silence(Bus::Stalling);
    }

    #[test]
    fn a_host_hears_what_it_wants_and_nothing_else() {
        let mut network = Network::new(4, 7);
        for index in 0..4 {
            network.open(index, index as i64);
            network.open(index, 10 + index as i64 / 2);
        }
        network.arrive();
        for round in 0..100 {
            network.now += MILLISECOND;
            for index in 0..4 {
                network.send(index, index as i64);
                network.send(index, 10 + index as i64 / 2);
            }
            if round % 20 == 0 {
                network.beat();
            }
            network.arrive();
        }
        for host in &network.hosts {
            let counts = (host.outputs, host.unwanted, host.hints, host.misses);
            assert_eq!(counts, (100, 0, 0, 0));
            assert!(host.due.is_empty());
        }
    }

    #[test]
    fn users_are_told_alone() {
        let mut network = Network::new(3, 7);
        for (index, id) in [(1, 5), (2, 6)] {
            network.hosts[index].wanted.need(bucket_of_user(id));
            network.tell(index, &[]);
        }
        network.arrive();
        let all = told(push(Audience::Users(vec![5, 6, 7])));
        let peers = &network.hosts[0].peers.peers;
        for (index, id) in [(1, 5), (2, 6)] {
            let part = peers[&index].part(&all).expect("a part").into_owned();
            assert_eq!(part, push(Audience::Users(vec![id])));
        }
        assert_eq!(
            peers[&1].part(&told(push(Audience::Users(vec![6, 7])))),
            None
        );
    }

    /// The packets to a host, as it hears them. `is_lost` chooses those that it does not hear.
    fn pass(network: &mut Network, mut is_lost: impl FnMut(&Body) -> bool) {
        for link in network.links.values_mut() {
            link.retain(|packet| !is_lost(&Packet::decode(packet).expect("a packet").body));
        }
        network.arrive();
    }

    #[test]
    fn a_lost_packet_is_noticed_by_both() {
        let is_output = |body: &Body| matches!(body, Body::Outputs(_));
        let is_more = |body: &Body| matches!(body, Body::More { .. });
        let misses = |network: &Network| {
            network
                .hosts
                .iter()
                .map(|host| host.misses)
                .collect::<Vec<_>>()
        };
        let mut network = Network::new(2, 7);
        network.open(1, 1);
        network.arrive();
        network.send(0, 1);
        pass(&mut network, is_output);
        assert_eq!(
            (misses(&network), network.hosts[1].due.len()),
            (vec![0, 0], 1)
        );
        // The last packet is missed as well as any other.
        network.beat();
        network.arrive();
        assert!(network.hosts[1].misses > 0 && network.hosts[1].due.is_empty());
        // If a wish is lost, pushes are left out.
        let mut network = Network::new(2, 7);
        network.open(1, 1);
        pass(&mut network, is_more);
        network.send(0, 1);
        network.arrive();
        assert_eq!(
            (misses(&network), network.hosts[1].due.len()),
            (vec![0, 0], 1)
        );
        network.beat();
        network.arrive();
        assert!(network.hosts[1].misses > 0 && network.hosts[1].due.is_empty());
        // It is known again.
        network.send(0, 1);
        network.arrive();
        assert_eq!(network.hosts[1].outputs, 1);
    }

    #[test]
    fn a_silent_host_is_noticed_once_and_one_that_says_goodbye_is_not() {
        for says_goodbye in [false, true] {
            let mut network = Network::new(3, 7);
            network.open(0, 1);
            network.open(1, 1);
            network.arrive();
            if says_goodbye {
                network.hosts[2].peers.say_goodbye();
                network.collect(2);
                network.arrive();
            }
            network.hosts.pop();
            for _ in 0..20 {
                network.beat();
                network.arrive();
            }
            let expected = usize::from(!says_goodbye);
            for host in &network.hosts {
                assert_eq!((host.misses, host.peers.peers.len()), (expected, 1));
            }
        }
    }

    #[test]
    fn one_who_comes_later_misses_nothing_that_it_could_have_heard() {
        let (start, mut network) = (Instant::now(), Network::new(2, 7));
        network.send(0, 1);
        network.open(1, 1);
        network.arrive();
        // A third host, which has told nothing before: nobody has missed anything.
        network.hosts.push(Host::new(2, start));
        // It does not know the others yet, and tells all.
        network.send(2, 1);
        network.arrive();
        assert_eq!(network.hosts[1].outputs, 1);
        network.beat();
        network.arrive();
        network.hosts[2].introduce();
        network.send(2, 1);
        network.arrive();
        assert_eq!(network.hosts[1].outputs, 2);
        for host in &network.hosts {
            assert_eq!((host.misses, host.due.len()), (0, 0));
        }
        // A user who was here before the hosts knew each other has missed something.
        network.hosts.push(Host::new(3, start));
        network.open(3, 1);
        network.send(0, 1);
        network.arrive();
        assert_eq!(network.hosts[3].due.len(), 1);
        network.beat();
        network.arrive();
        assert!(network.hosts[3].misses > 0 && network.hosts[3].due.is_empty());
    }

    #[test]
    fn a_slow_bus_is_given_no_more_than_it_can_hold() {
        let mut network = Network::new(2, 7);
        let outputs: Vec<_> = (0..10).map(|_| message(1, "x".repeat(60 * 1024))).collect();
        network.open(1, 1);
        network.arrive();
        let Network { hosts, now, .. } = &mut network;
        let told = |host: &Host| host.peers.peers[&1].told;
        let before = told(&hosts[0]);
        for _ in 0..100 {
            let host = &mut hosts[0];
            host.peers.tell(&outputs, &mut host.wanted, *now);
        }
        assert_eq!(told(&hosts[0]) - before, 300, "all are numbered");
        let (mut bytes, mut packets) = (0, 0);
        while let Ok(parcel) = hosts[0].parcels.queue.try_recv() {
            assert!(parcel.packet.len() <= PACKET_BYTES + 1024);
            bytes += parcel.packet.len();
            packets += 1;
        }
        assert!(bytes <= QUEUED_BYTES_MAX);
        assert!(packets > 10 && packets < 300, "{packets}");
    }

    #[test]
    fn what_is_wanted_while_an_answer_waits_is_asked_for() {
        let mut network = Network::new(2, 7);
        network.open(1, 1);
        network.arrive();
        // One host does not know what the other wants, and asks twice before it has the answer. The
        // other one has last said it at least a `BEAT` ago.
        network.now += BEAT;
        let asking = &mut network.hosts[0].peers;
        asking.peers.get_mut(&1).expect("it is known").wants = None;
        for _ in 0..2 {
            asking.send_to(1, Body::Ask { has_lost: false });
        }
        network.collect(0);
        assert!(network.step(), "the first question arrives");
        // The bus is slow, so the answer to the second one waits.
        let queue = |network: &Network, bytes| {
            let shared = &network.hosts[1].parcels.shared;
            shared.queued_bytes.store(bytes, Ordering::Relaxed);
        };
        queue(&network, QUEUED_BYTES_CALM + 1);
        network.arrive();
        let is_known = |peers: &Peers, id| peers.peers[&id].wants.is_some();
        assert!(is_known(&network.hosts[0].peers, 1) && network.hosts[1].peers.peers[&0].is_asking);
        network.open(1, 2);
        network.send(0, 2);
        network.arrive();
        queue(&network, 0);
        for _ in 0..3 {
            network.beat();
            network.arrive();
        }
        assert!(network.hosts[1].due.is_empty());
    }

    #[test]
    fn what_is_left_out_of_the_packets_to_all_is_noticed() {
        let mut network = Network::new(1, 7);
        network.hosts.push(Host::new(1, network.now));
        network.open(0, 1);
        network.beat();
        network.arrive();
        // The hosts have greeted each other. One of them still tells all, more than the bus can hold.
        let outputs: Vec<_> = (0..10).map(|_| message(1, "0".repeat(60 * 1024))).collect();
        let Network { hosts, now, .. } = &mut network;
        for _ in 0..10 {
            let host = &mut hosts[1];
            host.peers.tell(&outputs, &mut host.wanted, *now);
        }
        network.collect(1);
        network.arrive();
        let heard = &network.hosts[0];
        assert!(heard.outputs > 10 && heard.outputs < 100 && heard.misses == 0);
        network.hosts[1].introduce();
        network.beat();
        network.arrive();
        assert!(network.hosts[0].misses > 0);
    }
}
