//! Who is connected to this host, and which conversations they listen to: plain maps.
//!
//! If several hosts share a database, a host may learn of a change of a conversation's members
//! late, out of order or never, because the bus loses packets. So each member is stored with the
//! `members_rev` as of which the membership is known, and each push carries the `members_rev` for
//! which it is meant ([`handler::Audience`]). The push goes to the members who are known as of that
//! `members_rev` or a later one. For the others it is held until the change arrives or the database
//! has been read again. So users who have left receive nothing that was committed after they left,
//! whatever is lost.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use handler::MembersChange;
use handler::cluster::memberships::Memberships;

use crate::cluster::wanted::{Wanted, bucket_of_conversation, bucket_of_user};
use crate::delivery::Arriving;

/// Conversations of a user that are added or removed at once. In between, others have their turn.
const CONVERSATIONS_AT_ONCE: usize = 1_000;
/// Pushes that may be held, counted once for each user who waits for one.
pub const HELD_MAX: usize = 10_000;

/// Users with their sockets `S`; for some of them pushes `F` are held.
pub struct Listeners<S, F> {
    users: HashMap<i64, User<S>>,
    /// The online members of each conversation that has any, and the `members_rev` as of which each
    /// membership is known.
    conversations: HashMap<i64, HashMap<i64, i64>>,
    /// Whether other hosts change members too.
    is_shared: bool,
    held: Vec<Held<F>>,
    /// Users who have gone from more than `CONVERSATIONS_AT_ONCE` conversations, each with those that
    /// still name the user.
    departing: HashMap<i64, Vec<i64>>,
    /// Users whose conversations are not all known yet.
    arriving: HashMap<i64, Arrival>,
    arrivals: Arriving,
    /// Users whose conversations have to be read again.
    doubted: HashSet<i64>,
    /// The read of users' conversations that is under way.
    reading: Option<Reading>,
    /// What other hosts should tell this one, if there are any.
    wanted: Wanted,
}

/// A user with at least one open socket.
pub struct User<S> {
    pub sockets: Vec<S>,
    /// Sorted.
    conversations: Vec<i64>,
}

/// A push to a user who may no longer be a member.
struct Held<F> {
    user_id: i64,
    conversation_id: i64,
    members_rev: i64,
    push: F,
}

/// A user is in too many conversations to read them all in the transaction that stores the socket.
/// They are read after the user has arrived, so this read lacks nothing that came before the arrival.
struct Arrival {
    name: Arriving,
    /// The conversations that the user has left since, which may still be in that read, each with the
    /// `members_rev` of the leaving.
    left: HashMap<i64, i64>,
}

/// What has happened since a read began, and may be missing in it.
#[derive(Default)]
struct Reading {
    arrived: HashSet<i64>,
    /// Pairs of a user and a conversation.
    joined: HashSet<(i64, i64)>,
}

impl<S, F: Clone> Listeners<S, F> {
    pub fn new(is_shared: bool) -> Self {
        Listeners {
            users: HashMap::new(),
            conversations: HashMap::new(),
            is_shared,
            held: Vec::new(),
            departing: HashMap::new(),
            arriving: HashMap::new(),
            arrivals: 0,
            doubted: HashSet::new(),
            reading: None,
            wanted: Wanted::default(),
        }
    }

    pub fn wanted(&mut self) -> &mut Wanted {
        &mut self.wanted
    }

    /// The users who want one of these buckets.
    pub fn users_in(&self, buckets: &[u32]) -> Vec<i64> {
        let buckets: HashSet<u32> = buckets.iter().copied().collect();
        let users = self.users.keys().copied();
        let own = users.filter(|id| buckets.contains(&bucket_of_user(*id)));
        let conversations = self.conversations.iter();
        let members = conversations
            .filter(|(id, _)| buckets.contains(&bucket_of_conversation(**id)))
            .flat_map(|(_, members)| members.keys().copied());
        let all: HashSet<i64> = own.chain(members).collect();
        all.into_iter().collect()
    }

    pub fn user(&self, user_id: i64) -> Option<&User<S>> {
        self.users.get(&user_id)
    }

    pub fn users(&self) -> impl Iterator<Item = (i64, &User<S>)> {
        self.users.iter().map(|(id, user)| (*id, user))
    }

    pub fn sockets(&self) -> impl Iterator<Item = &S> {
        self.users.values().flat_map(|user| &user.sockets)
    }

    /// Adds a socket of a user who is in these conversations, each with its `members_rev`. If these are
    /// not all, and the others are not known, returns the name of the arrival, for `complete`.
    pub fn arrive(
        &mut self,
        user_id: i64,
        socket: S,
        conversations: Vec<(i64, i64)>,
        is_complete: bool,
    ) -> Option<Arriving> {
        let user = self.users.entry(user_id).or_insert_with(|| User {
            sockets: Vec::new(),
            conversations: match self.departing.remove(&user_id) {
                Some(conversations) => conversations,
                None => Vec::with_capacity(conversations.len()),
            },
        });
        let is_first = user.sockets.is_empty();
        if is_first && self.is_shared {
            self.wanted.need(bucket_of_user(user_id));
        }
        // Most users have one socket, and there are many users.
        user.sockets.reserve_exact(1);
        user.sockets.push(socket);
        if let Some(reading) = &mut self.reading {
            reading.arrived.insert(user_id);
        }
        for (id, members_rev) in conversations {
            self.learn(id, user_id, members_rev);
        }
        if is_first && !is_complete {
            self.arrivals += 1;
            let name = self.arrivals;
            let left = HashMap::new();
            self.arriving.insert(user_id, Arrival { name, left });
        }
        self.arriving.get(&user_id).map(|arrival| arrival.name)
    }

    /// Adds conversations of an arriving user, which were read after the arrival, except those that the
    /// user has left since: `CONVERSATIONS_AT_ONCE`, the first of which is the one at `start`. Returns
    /// where to go on. If they are known already, or the user has gone, does nothing.
    pub fn complete(&mut self, name: Arriving, read: &Memberships, start: usize) -> Option<usize> {
        let user_id = read.user_id;
        let arrival = self.arriving.remove(&user_id)?;
        if arrival.name != name {
            self.arriving.insert(user_id, arrival);
            return None;
        }
        let rest = &read.conversations[start..];
        let (some, rest) = rest.split_at(rest.len().min(CONVERSATIONS_AT_ONCE));
        for (id, members_rev) in some {
            let has_left = arrival.left.get(id);
            if !has_left.is_some_and(|left| !self.is_shared || members_rev < left) {
                self.learn(*id, user_id, *members_rev);
            }
        }
        if !rest.is_empty() {
            self.arriving.insert(user_id, arrival);
            return Some(start + some.len());
        }
        if let Some(reading) = &mut self.reading {
            reading.arrived.insert(user_id);
        }
        None
    }

    /// Removes the sockets of a user for which `is_closed` holds. Returns how many they were, and
    /// whether they were the last.
    pub fn depart(&mut self, user_id: i64, is_closed: impl Fn(&S) -> bool) -> (usize, bool) {
        let Some(user) = self.users.get_mut(&user_id) else {
            return (0, false);
        };
        let before = user.sockets.len();
        user.sockets.retain(|socket| !is_closed(socket));
        let closed = before - user.sockets.len();
        if !user.sockets.is_empty() {
            return (closed, false);
        }
        if let Some(user) = self.users.remove(&user_id) {
            if self.is_shared {
                self.wanted.free(bucket_of_user(user_id));
            }
            self.remove_some(user_id, user.conversations);
        }
        self.held.retain(|held| held.user_id != user_id);
        self.arriving.remove(&user_id);
        self.doubted.remove(&user_id);
        (closed, true)
    }

    /// Whether conversations still name users who have gone.
    pub fn has_departing(&self) -> bool {
        !self.departing.is_empty()
    }

    /// Removes a user who has gone from `CONVERSATIONS_AT_ONCE` more conversations.
    pub fn go_on_departing(&mut self) {
        let user_id = self.departing.keys().next().copied();
        if let Some((user_id, conversations)) =
            user_id.and_then(|user_id| self.departing.remove_entry(&user_id))
        {
            self.remove_some(user_id, conversations);
        }
    }

    fn remove_some(&mut self, user_id: i64, mut conversations: Vec<i64>) {
        let rest = conversations.len().saturating_sub(CONVERSATIONS_AT_ONCE);
        for id in conversations.split_off(rest) {
            self.remove(id, user_id);
        }
        if !conversations.is_empty() {
            self.departing.insert(user_id, conversations);
        }
    }

    /// Users have joined a conversation.
    pub fn join(&mut self, change: &MembersChange) {
        self.follow(change);
        let mut here = change.user_ids.iter();
        if self.is_shared && here.any(|user_id| self.users.contains_key(user_id)) {
            self.wanted
                .join(bucket_of_conversation(change.conversation_id));
        }
        for user_id in &change.user_ids {
            if self.users.contains_key(user_id) {
                self.learn(change.conversation_id, *user_id, change.members_rev);
                if let Some(reading) = &mut self.reading {
                    reading.joined.insert((*user_id, change.conversation_id));
                }
            }
        }
    }

    /// Users have left a conversation.
    pub fn leave(&mut self, change: &MembersChange) {
        for user_id in &change.user_ids {
            if let Some(arrival) = self.arriving.get_mut(user_id) {
                arrival
                    .left
                    .insert(change.conversation_id, change.members_rev);
            }
            let known = self.known_as_of(change.conversation_id, *user_id);
            // A membership that is known as of a later change stays: the user has come back.
            if known.is_some_and(|known| !self.is_shared || known < change.members_rev) {
                self.forget(change.conversation_id, *user_id);
            }
        }
        self.follow(change);
    }

    /// Members who were known as of the change before this one are now known as of this one.
    fn follow(&mut self, change: &MembersChange) {
        if let Some(members) = self.conversations.get_mut(&change.conversation_id) {
            for known in members
                .values_mut()
                .filter(|known| **known == change.before)
            {
                *known = change.members_rev;
            }
        }
    }

    /// Calls `tell` for each online member of a conversation as of `members_rev`. Returns the users
    /// who may no longer be members; their conversations have to be read again.
    pub fn tell(
        &mut self,
        conversation_id: i64,
        members_rev: i64,
        mut tell: impl FnMut(&User<S>),
    ) -> Vec<i64> {
        let mut doubtful = Vec::new();
        let members = self.conversations.get(&conversation_id);
        for (user_id, known) in members.into_iter().flatten() {
            // The user may have gone.
            let Some(user) = self.users.get(user_id) else {
                continue;
            };
            match self.is_shared && *known < members_rev {
                true => doubtful.push(*user_id),
                false => tell(user),
            }
        }
        self.doubted.extend(&doubtful);
        doubtful
    }

    /// Holds a push for users who were not told. If more than `HELD_MAX` would be held, half of that
    /// is kept: the pushes of the conversations with the most held pushes are lost. Returns the users
    /// who lost one.
    #[must_use]
    pub fn hold(
        &mut self,
        conversation_id: i64,
        members_rev: i64,
        user_ids: Vec<i64>,
        push: F,
    ) -> HashSet<i64> {
        let held = user_ids.into_iter().map(|user_id| Held {
            user_id,
            conversation_id,
            members_rev,
            push: push.clone(),
        });
        self.held.extend(held);
        if self.held.len() <= HELD_MAX {
            return HashSet::new();
        }
        let mut counts = HashMap::<i64, usize>::new();
        for held in &self.held {
            *counts.entry(held.conversation_id).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_unstable_by_key(|(_, count)| Reverse(*count));
        let mut left = self.held.len();
        let most = counts.into_iter().take_while(|(_, count)| {
            let is_too_much = left > HELD_MAX / 2;
            left = left.saturating_sub(*count);
            is_too_much
        });
        let most: HashSet<_> = most.map(|(id, _)| id).collect();
        let is_lost = |held: &mut Held<F>| most.contains(&held.conversation_id);
        let lost = self.held.extract_if(.., is_lost);
        lost.map(|held| held.user_id).collect()
    }

    /// Returns the held pushes that go to their users now. Pushes to users who are no longer
    /// members are forgotten.
    pub fn release(&mut self) -> Vec<(i64, F)> {
        if self.held.is_empty() {
            return Vec::new();
        }
        let mut released = Vec::new();
        for held in std::mem::take(&mut self.held) {
            match self.known_as_of(held.conversation_id, held.user_id) {
                Some(known) if known >= held.members_rev => {
                    released.push((held.user_id, held.push));
                }
                Some(_) => self.held.push(held),
                None => {}
            }
        }
        released
    }

    pub fn is_doubted(&self) -> bool {
        !self.doubted.is_empty()
    }

    /// Begins a read of users' conversations, of all users or of the doubted ones. Returns these
    /// users.
    pub fn begin_reading(&mut self, is_of_all: bool) -> Vec<i64> {
        self.reading = Some(Reading::default());
        let doubted = std::mem::take(&mut self.doubted);
        match is_of_all {
            true => self.users.keys().copied().collect(),
            false => doubted.into_iter().collect(),
        }
    }

    pub fn end_reading(&mut self) {
        self.reading = None;
        // Users for whom the read came too early to see the change.
        let is_waiting = |held: &&Held<F>| {
            let known = self.known_as_of(held.conversation_id, held.user_id);
            known.is_some_and(|known| known < held.members_rev)
        };
        let waiting = self.held.iter().filter(is_waiting);
        let waiting: Vec<_> = waiting.map(|held| held.user_id).collect();
        self.doubted.extend(waiting);
    }

    /// Replaces the known conversations of a user by those that were read, except for what has
    /// happened since the read began. Returns whether they differ.
    pub fn replace(&mut self, read: &Memberships) -> bool {
        let Memberships {
            user_id,
            conversations,
        } = read;
        let user_id = *user_id;
        let (Some(user), Some(reading)) = (self.users.get(&user_id), &self.reading) else {
            return false;
        };
        if reading.arrived.contains(&user_id) {
            return false;
        }
        let read: HashSet<i64> = conversations.iter().map(|(id, _)| *id).collect();
        let is_gone = |id: &&i64| !read.contains(*id) && !reading.joined.contains(&(user_id, **id));
        let gone: Vec<i64> = user.conversations.iter().filter(is_gone).copied().collect();
        let mut is_other = !gone.is_empty();
        for id in gone {
            self.forget(id, user_id);
        }
        for (id, members_rev) in conversations {
            is_other |= self.learn(*id, user_id, *members_rev);
        }
        is_other
    }

    /// Notes that an online user is a member, as of this rev at least. Returns whether that is new.
    fn learn(&mut self, conversation_id: i64, user_id: i64, members_rev: i64) -> bool {
        let Some(user) = self.users.get_mut(&user_id) else {
            return false;
        };
        let members = self.conversations.entry(conversation_id).or_default();
        if members.is_empty() && self.is_shared {
            self.wanted.need(bucket_of_conversation(conversation_id));
        }
        let known = members.entry(user_id).or_insert(members_rev);
        *known = members_rev.max(*known);
        let place = user.conversations.binary_search(&conversation_id);
        if let Err(place) = place {
            user.conversations.insert(place, conversation_id);
        }
        place.is_err()
    }

    fn forget(&mut self, conversation_id: i64, user_id: i64) {
        let conversations = match self.users.get_mut(&user_id) {
            Some(user) => Some(&mut user.conversations),
            None => self.departing.get_mut(&user_id),
        };
        if let Some(conversations) = conversations
            && let Ok(place) = conversations.binary_search(&conversation_id)
        {
            conversations.remove(place);
            self.remove(conversation_id, user_id);
        }
    }

    fn remove(&mut self, conversation_id: i64, user_id: i64) {
        if let Some(members) = self.conversations.get_mut(&conversation_id) {
            members.remove(&user_id);
            if members.is_empty() {
                self.conversations.remove(&conversation_id);
                if self.is_shared {
                    self.wanted.free(bucket_of_conversation(conversation_id));
                }
            }
        }
    }

    fn known_as_of(&self, conversation_id: i64, user_id: i64) -> Option<i64> {
        let members = self.conversations.get(&conversation_id)?;
        members.get(&user_id).copied()
    }

    /// Panics if the maps contradict each other.
    pub fn check_invariants(&self) {
        let mut memberships = 0;
        for (user_id, user) in &self.users {
            assert!(!user.sockets.is_empty(), "user {user_id} has no socket");
            let is_gone = self.departing.contains_key(user_id);
            assert!(!is_gone, "user {user_id} has come back");
        }
        let users = self.users.iter();
        let users = users.map(|(user_id, user)| (user_id, &user.conversations));
        for (user_id, conversations) in users.chain(&self.departing) {
            let is_ordered = conversations.is_sorted_by(|a, b| a < b);
            assert!(is_ordered, "conversations of user {user_id}");
            memberships += conversations.len();
            for id in conversations {
                let known = self.known_as_of(*id, *user_id);
                assert!(known.is_some(), "conversation {id} of user {user_id}");
            }
        }
        let members = self.conversations.values();
        assert!(members.clone().all(|members| !members.is_empty()));
        assert_eq!(members.map(HashMap::len).sum::<usize>(), memberships);
        let needs = match self.is_shared {
            true => self.users.len() + self.conversations.len(),
            false => 0,
        };
        assert_eq!(self.wanted.count(), needs);
        assert!(self.held.len() <= HELD_MAX);
        for user_id in self.arriving.keys() {
            assert!(self.users.contains_key(user_id), "user {user_id} arrives");
        }
        for user_id in self.held.iter().map(|held| &held.user_id) {
            assert!(self.users.contains_key(user_id), "held for user {user_id}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The users who receive a push to conversation 1 that is meant for `members_rev`.
    fn heard(listeners: &mut Listeners<i64, &'static str>, members_rev: i64) -> Vec<i64> {
        let mut heard = Vec::new();
        let others = listeners.tell(1, members_rev, |user| heard.extend(&user.sockets));
        assert_eq!(
            listeners.hold(1, members_rev, others, "push"),
            HashSet::new()
        );
        listeners.check_invariants();
        heard.sort();
        heard
    }

    fn released(listeners: &mut Listeners<i64, &'static str>) -> Vec<i64> {
        listeners.check_invariants();
        let mut users: Vec<_> = listeners.release().into_iter().map(|(id, _)| id).collect();
        listeners.check_invariants();
        users.sort();
        users
    }

    fn change(user_ids: &[i64], before: i64, members_rev: i64) -> MembersChange {
        MembersChange {
            conversation_id: 1,
            user_ids: user_ids.to_vec(),
            before,
            members_rev,
        }
    }

    fn read(user_id: i64, conversations: &[(i64, i64)]) -> Memberships {
        let conversations = conversations.to_vec();
        Memberships {
            user_id,
            conversations,
        }
    }

    /// Users 1, 2 and 3 in conversation 1 as of 5. A user's socket has the user's number.
    fn three(is_shared: bool) -> Listeners<i64, &'static str> {
        let mut listeners = Listeners::new(is_shared);
        for id in [1, 2, 3] {
            assert_eq!(listeners.arrive(id, id, vec![(1, 5)], true), None);
        }
        listeners
    }

    #[test]
    fn a_join_is_asked_about_once_and_only_if_it_is_of_somebody_here() {
        let mut listeners = three(true);
        listeners.join(&change(&[1, 2, 3, 9], 5, 6));
        let joined = |listeners: &mut Listeners<_, _>| listeners.wanted().news().joined;
        assert_eq!(joined(&mut listeners), [bucket_of_conversation(1)]);
        listeners.join(&change(&[9], 6, 7));
        assert_eq!(joined(&mut listeners), [] as [u32; 0]);
    }

    #[test]
    fn on_a_file_every_change_is_told_in_order() {
        let mut listeners = three(false);
        // The revs do not matter: changes and pushes come in commit order.
        assert_eq!(heard(&mut listeners, 0), [1, 2, 3]);
        listeners.leave(&change(&[2], 0, 0));
        assert_eq!(heard(&mut listeners, 9), [1, 3]);
        listeners.join(&change(&[2, 4], 0, 0));
        assert_eq!(heard(&mut listeners, 7), [1, 2, 3]);
        assert_eq!(listeners.depart(3, |socket| *socket == 3), (1, true));
        assert_eq!(heard(&mut listeners, 0), [1, 2]);
        assert!(!listeners.is_doubted());
    }

    #[test]
    fn a_change_that_is_told_reaches_who_is_known_as_of_the_one_before() {
        let mut listeners = three(true);
        listeners.leave(&change(&[2], 5, 7));
        assert_eq!(heard(&mut listeners, 7), [1, 3]);
        listeners.join(&change(&[2], 7, 9));
        assert_eq!(heard(&mut listeners, 9), [1, 2, 3]);
        // A push that was committed before goes to the present members.
        assert_eq!(heard(&mut listeners, 5), [1, 2, 3]);
        assert!(!listeners.is_doubted());
    }

    #[test]
    fn a_push_that_comes_before_its_change_is_held_for_it() {
        let mut listeners = three(true);
        assert_eq!(heard(&mut listeners, 7), [] as [i64; 0]);
        assert_eq!(released(&mut listeners), [] as [i64; 0]);
        listeners.leave(&change(&[2], 5, 7));
        assert_eq!(released(&mut listeners), [1, 3]);
        assert_eq!(released(&mut listeners), [] as [i64; 0]);
    }

    #[test]
    fn one_who_has_left_hears_nothing_though_that_is_never_told() {
        let mut listeners = three(true);
        assert_eq!(heard(&mut listeners, 7), [] as [i64; 0]);
        assert!(listeners.is_doubted());
        let mut doubted = listeners.begin_reading(false);
        doubted.sort();
        assert_eq!(doubted, [1, 2, 3]);
        assert!(!listeners.replace(&read(1, &[(1, 7)])));
        assert!(listeners.replace(&read(2, &[])));
        assert!(!listeners.replace(&read(3, &[(1, 7)])));
        listeners.end_reading();
        assert_eq!(released(&mut listeners), [1, 3]);
        assert!(!listeners.is_doubted());
        assert_eq!(heard(&mut listeners, 7), [1, 3]);
    }

    #[test]
    fn changes_may_be_told_in_any_order() {
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let mut listeners = three(true);
            for index in order {
                match index {
                    0 => listeners.leave(&change(&[2], 5, 7)),
                    1 => listeners.join(&change(&[2], 7, 9)),
                    _ => listeners.leave(&change(&[2], 9, 11)),
                }
                listeners.check_invariants();
            }
            let heard = heard(&mut listeners, 11);
            assert!(!heard.contains(&2), "{order:?}");
            listeners.begin_reading(false);
            for user in [read(1, &[(1, 11)]), read(2, &[]), read(3, &[(1, 11)])] {
                listeners.replace(&user);
            }
            listeners.end_reading();
            let mut all = [heard, released(&mut listeners)].concat();
            all.sort();
            assert_eq!(all, [1, 3], "{order:?}");
        }
    }

    #[test]
    fn one_who_connects_with_an_old_view_waits_until_it_was_read_again() {
        let mut listeners = three(true);
        listeners.leave(&change(&[4], 5, 7));
        // What user 4 has read from the database is from before that change.
        listeners.arrive(4, 4, vec![(1, 5)], true);
        assert_eq!(heard(&mut listeners, 7), [1, 2, 3]);
        assert_eq!(listeners.begin_reading(false), [4]);
        listeners.replace(&read(4, &[]));
        listeners.end_reading();
        assert_eq!(released(&mut listeners), [] as [i64; 0]);
        assert_eq!(heard(&mut listeners, 7), [1, 2, 3]);
    }

    #[test]
    fn what_happens_while_members_are_read_is_not_undone() {
        let mut listeners = three(true);
        listeners.begin_reading(true);
        // Committed after the read saw the database, and delivered meanwhile.
        listeners.join(&MembersChange {
            conversation_id: 2,
            ..change(&[1], 0, 1)
        });
        listeners.leave(&change(&[2], 5, 7));
        listeners.depart(3, |_| true);
        listeners.arrive(3, 3, vec![(1, 7), (2, 1)], true);
        for user in 1..=3 {
            listeners.replace(&read(user, &[(1, 5)]));
            listeners.check_invariants();
        }
        listeners.end_reading();
        let mut hearing: Vec<i64> = Vec::new();
        let others = listeners.tell(2, 1, |user| hearing.extend(&user.sockets));
        assert_eq!(others, [] as [i64; 0]);
        hearing.sort();
        assert_eq!(hearing, [1, 3]);
        // The read has brought user 2 back, who receives nothing until the next read.
        assert_eq!(heard(&mut listeners, 7), [1, 3]);
        assert_eq!(listeners.begin_reading(false), [2]);
        listeners.replace(&read(2, &[]));
        listeners.end_reading();
        assert_eq!(released(&mut listeners), [] as [i64; 0]);
    }

    /// The users who receive a push to this conversation, which is meant for `members_rev`.
    fn hearing(
        listeners: &mut Listeners<i64, &'static str>,
        conversation_id: i64,
        members_rev: i64,
    ) -> Vec<i64> {
        let mut hearing = Vec::new();
        let _ = listeners.tell(conversation_id, members_rev, |user| {
            hearing.extend(&user.sockets)
        });
        listeners.check_invariants();
        hearing.sort();
        hearing
    }

    fn change_of(conversation_id: i64, user_id: i64, members_rev: i64) -> MembersChange {
        MembersChange {
            conversation_id,
            ..change(&[user_id], members_rev - 1, members_rev)
        }
    }

    /// What is read of an arriving user may be from before or after any change that is told
    /// meanwhile. In the end the user hears what a member hears, and nothing else.
    #[test]
    fn changes_during_an_arrival_count_whenever_its_conversations_were_read() {
        for is_shared in [false, true] {
            // The user joins 1, leaves 2, joins and leaves 3, and leaves and joins 4. In this order
            // they are committed and told.
            let changes = [
                (1, true),
                (2, false),
                (3, true),
                (3, false),
                (4, false),
                (4, true),
            ];
            for read_at in 0..=changes.len() {
                for told_at in 0..=changes.len() {
                    let mut listeners = Listeners::new(is_shared);
                    let name = listeners.arrive(9, 9, vec![(5, 1)], false).expect("a name");
                    // The members as the read has seen them, each with its `members_rev`.
                    let mut seen: HashMap<i64, i64> = [(2, 1), (4, 1), (5, 1)].into();
                    for (index, (id, joins)) in changes[..read_at].iter().enumerate() {
                        match joins {
                            true => drop(seen.insert(*id, 10 + index as i64)),
                            false => drop(seen.remove(id)),
                        }
                    }
                    let seen: Vec<_> = seen.into_iter().collect();
                    for (index, (id, joins)) in changes.into_iter().enumerate() {
                        if index == told_at {
                            listeners.complete(name, &read(9, &seen), 0);
                        }
                        let change = change_of(id, 9, 10 + index as i64);
                        match joins {
                            true => listeners.join(&change),
                            false => listeners.leave(&change),
                        }
                        listeners.check_invariants();
                    }
                    listeners.complete(name, &read(9, &seen), 0);
                    let case = format!("shared: {is_shared}, read at {read_at}, told at {told_at}");
                    for (id, members_rev, expected) in [
                        (1, 10, &[9][..]),
                        (2, 11, &[]),
                        (3, 13, &[]),
                        (4, 15, &[9]),
                        (5, 1, &[9]),
                    ] {
                        let heard = hearing(&mut listeners, id, members_rev);
                        assert_eq!(heard, expected, "conversation {id}, {case}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_read_for_an_earlier_arrival_is_not_taken() {
        let mut listeners: Listeners<i64, &'static str> = Listeners::new(false);
        let first = listeners.arrive(9, 9, vec![], false).expect("a name");
        // A further socket waits for the same.
        assert_eq!(listeners.arrive(9, 10, vec![], false), Some(first));
        listeners.depart(9, |_| true);
        let second = listeners.arrive(9, 11, vec![], false).expect("a name");
        listeners.complete(first, &read(9, &[(1, 1)]), 0);
        assert_eq!(hearing(&mut listeners, 1, 0), [] as [i64; 0]);
        listeners.complete(second, &read(9, &[(2, 1)]), 0);
        assert_eq!(hearing(&mut listeners, 2, 0), [11]);
        // Now all are known: a later socket needs no read, and an old one changes nothing.
        assert_eq!(listeners.arrive(9, 12, vec![], false), None);
        listeners.complete(second, &read(9, &[(1, 1)]), 0);
        assert_eq!(hearing(&mut listeners, 1, 0), [] as [i64; 0]);
    }

    /// A user of very many conversations comes and goes. In between, all hear what they should.
    #[test]
    fn many_conversations_are_added_and_removed_in_parts() {
        const LAST: i64 = 2 * CONVERSATIONS_AT_ONCE as i64 + 1;
        let many: Vec<_> = (1..=LAST).map(|id| (id, 1)).collect();
        for is_shared in [false, true] {
            let mut listeners: Listeners<i64, &'static str> = Listeners::new(is_shared);
            listeners.arrive(8, 8, vec![(1, 1), (LAST, 1)], true);
            let arrive = |listeners: &mut Listeners<_, _>, socket| {
                let name = listeners.arrive(9, socket, vec![], false);
                name.expect("a name")
            };
            let name = arrive(&mut listeners, 9);
            let next = listeners.complete(name, &read(9, &many), 0);
            assert_eq!(next, Some(CONVERSATIONS_AT_ONCE));
            assert_eq!(hearing(&mut listeners, 1, 1), [8, 9]);
            assert_eq!(hearing(&mut listeners, LAST, 1), [8]);
            listeners.leave(&change_of(2, 9, 2));
            listeners.leave(&change_of(LAST - 1, 9, 2));
            let next = listeners.complete(name, &read(9, &many), CONVERSATIONS_AT_ONCE);
            assert_eq!(next, Some(2 * CONVERSATIONS_AT_ONCE));
            assert_eq!(
                listeners.complete(name, &read(9, &many), 2 * CONVERSATIONS_AT_ONCE),
                None
            );
            assert_eq!(hearing(&mut listeners, LAST, 1), [8, 9]);
            assert_eq!(hearing(&mut listeners, 2, 2), [] as [i64; 0]);
            assert_eq!(hearing(&mut listeners, LAST - 1, 2), [] as [i64; 0]);

            assert_eq!(listeners.depart(9, |_| true), (1, true));
            assert!(listeners.has_departing());
            assert_eq!(hearing(&mut listeners, 1, 1), [8]);
            assert_eq!(hearing(&mut listeners, LAST, 1), [8]);
            // The user leaves one of those that are left, and comes back.
            listeners.leave(&change_of(3, 9, 2));
            let name = arrive(&mut listeners, 10);
            assert!(!listeners.has_departing());
            let other: Vec<_> = many
                .iter()
                .filter(|(id, _)| ![2, 3, LAST - 1].contains(id))
                .copied()
                .collect();
            let mut start = Some(0);
            while let Some(from) = start {
                start = listeners.complete(name, &read(9, &other), from);
                listeners.check_invariants();
            }
            assert_eq!(hearing(&mut listeners, 3, 2), [] as [i64; 0]);
            assert_eq!(hearing(&mut listeners, 4, 1), [10]);
            assert_eq!(hearing(&mut listeners, LAST, 1), [8, 10]);

            listeners.depart(9, |_| true);
            while listeners.has_departing() {
                listeners.go_on_departing();
                listeners.check_invariants();
            }
            listeners.depart(8, |_| true);
            assert!(listeners.conversations.is_empty());
        }
    }

    #[test]
    fn no_more_is_held_than_may_be() {
        let mut listeners = three(true);
        listeners.join(&change_of(2, 2, 5));
        assert_eq!(listeners.hold(2, 7, vec![2], "another"), HashSet::new());
        let mut lost = HashSet::new();
        for _ in 0..HELD_MAX / 3 + 1 {
            assert_eq!(lost, HashSet::new());
            let others = listeners.tell(1, 7, |_| {});
            lost = listeners.hold(1, 7, others, "push");
        }
        assert_eq!(lost, HashSet::from([1, 2, 3]));
        // The other conversation loses nothing.
        listeners.leave(&change(&[3], 5, 7));
        assert_eq!(released(&mut listeners), [] as [i64; 0]);
        listeners.join(&change_of(2, 9, 6));
        listeners.join(&change_of(2, 9, 7));
        assert_eq!(released(&mut listeners), [2]);
    }

    #[test]
    fn of_many_conversations_those_with_the_most_held_pushes_lose_them() {
        let mut listeners = three(true);
        let conversations = 10..10 + HELD_MAX as i64 / 2;
        for id in conversations.clone() {
            listeners.join(&change_of(id, 2, 5));
            assert_eq!(listeners.hold(id, 7, vec![2], "push"), HashSet::new());
            assert_eq!(listeners.hold(id, 7, vec![2], "push"), HashSet::new());
        }
        assert_eq!(
            listeners.hold(1, 7, vec![1, 2, 3], "push"),
            HashSet::from([1, 2, 3])
        );
        assert_eq!(listeners.held.len(), HELD_MAX / 2);
    }

    #[test]
    fn what_is_held_for_one_who_goes_is_forgotten() {
        let mut listeners = three(true);
        assert_eq!(heard(&mut listeners, 7), [] as [i64; 0]);
        assert_eq!(listeners.depart(1, |_| true), (1, true));
        listeners.check_invariants();
        listeners.leave(&change(&[2], 5, 7));
        assert_eq!(released(&mut listeners), [3]);
    }
}
