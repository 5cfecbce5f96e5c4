//! Memory for answers. Room for an answer is found before its request runs, and held until the
//! client has read the answer. So memory is bounded whatever clients do not read.

use std::cmp::Reverse;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use handler::{ANSWER_BYTES_MAX, Error};
use tokio::sync::{Mutex as Turn, Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

/// Bytes of answers that may be under way or unread, of one user, of one address and in all.
const USER_BYTES_MAX: usize = 32 * 1024 * 1024;
const ADDRESS_BYTES_MAX: usize = 64 * 1024 * 1024;
const ALL_BYTES_MAX: usize = 96 * 1024 * 1024;
/// Of these, what answers of more than `ANSWER_BYTES_MAX` may take until they are made. The rest is left
/// for the others, which do not have to wait for them.
const LARGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Answers that are not larger are not counted: few of them wait for one socket.
const FREE_BYTES: usize = 1024;
/// How long a request waits for room before it is refused as `Unavailable`.
const ROOM_WAIT: Duration = Duration::from_secs(2);
/// How often a request looks whether its address may have another answer made.
const MODEST_INTERVAL: Duration = Duration::from_millis(1);
/// How often another connection is closed while there is no room at all.
const PRESS_INTERVAL: Duration = Duration::from_millis(5);

/// Whether an answer of so many bytes needs no room.
pub fn is_free(bytes: usize) -> bool {
    bytes <= FREE_BYTES
}

/// The room of a user, or of an address.
pub struct AnswerShare {
    room: Arc<Semaphore>,
    /// An address has one large answer made at a time. So a request waits for at most one of each other
    /// address.
    large: Arc<Semaphore>,
    /// For those of answers of an address that are not made yet.
    making: Arc<Semaphore>,
    /// Held by the one request of an address that waits for the room of all.
    turn: Arc<Turn<()>>,
}

impl AnswerShare {
    pub fn of_user() -> Self {
        Self::new(USER_BYTES_MAX)
    }

    pub fn of_address() -> Self {
        Self::new(ADDRESS_BYTES_MAX)
    }

    /// A user at an address, if it is the room of the user.
    pub fn holder(&self, address: &AnswerShare) -> Holder {
        Holder {
            user: self.room.clone(),
            address: address.room.clone(),
        }
    }

    fn new(bytes_max: usize) -> Self {
        AnswerShare {
            room: Arc::new(Semaphore::new(bytes_max)),
            large: Arc::new(Semaphore::new(1)),
            making: Arc::new(Semaphore::new(bytes_max)),
            turn: Arc::default(),
        }
    }
}

/// Names the user who holds room, and the address.
#[derive(Clone)]
pub struct Holder {
    user: Arc<Semaphore>,
    address: Arc<Semaphore>,
}

impl Holder {
    /// Bytes: of the address, and of the user.
    fn held(&self) -> (usize, usize) {
        let held = |room: &Semaphore, max: usize| max.saturating_sub(room.available_permits());
        (
            held(&self.address, ADDRESS_BYTES_MAX),
            held(&self.user, USER_BYTES_MAX),
        )
    }
}

/// The room of all clients together.
pub struct AllAnswers {
    room: Arc<Semaphore>,
    /// For those of large answers.
    large: Arc<Semaphore>,
    /// Requests that wait for the room of all take turns.
    turn: Turn<()>,
    /// Connections whose clients do not read their answers, in the order in which they came.
    unread: Mutex<Vec<Unread>>,
}

/// A connection whose client does not read its answers.
struct Unread {
    user: Holder,
    /// Told when the connection has to give its room back.
    pressed: Arc<Notify>,
}

/// Room for one answer. The shares get it back when it is dropped.
pub struct AnswerRoom {
    shares: [OwnedSemaphorePermit; 3],
    /// Until the answer is made.
    _making: [OwnedSemaphorePermit; 3],
}

impl AllAnswers {
    pub fn new() -> Self {
        AllAnswers {
            room: Arc::new(Semaphore::new(ALL_BYTES_MAX)),
            large: Arc::new(Semaphore::new(LARGE_BYTES_MAX)),
            turn: Turn::default(),
            unread: Mutex::default(),
        }
    }

    /// Room for an answer of at most this many bytes. Waits for it, but at most `ROOM_WAIT`.
    pub async fn room(
        &self,
        user: &AnswerShare,
        address: &AnswerShare,
        bytes: usize,
    ) -> Result<AnswerRoom, Error> {
        // So that a user who has not read one answer can get another, however large.
        let bytes = bytes.min(USER_BYTES_MAX / 2);
        // Besides what an answer repeats of its request.
        let large = if bytes > 2 * ANSWER_BYTES_MAX {
            bytes
        } else {
            0
        } as u32;
        let (bytes, turns) = (bytes as u32, u32::from(large > 0));
        let AnswerShare {
            room: address,
            large: turn,
            making,
            turn: waiting,
        } = address;
        let user = &user.room;
        // An address leaves half of the free room to the others while its answers are made. Reads that
        // take long would otherwise hold all of it.
        let is_modest = || {
            let held = ADDRESS_BYTES_MAX.saturating_sub(making.available_permits());
            held == 0 || 2 * (held + bytes as usize) <= self.room.available_permits()
        };
        let at_once = || {
            if !is_modest() {
                return None;
            }
            let user = user.clone().try_acquire_many_owned(bytes).ok()?;
            let address = address.clone().try_acquire_many_owned(bytes).ok()?;
            let turn = turn.clone().try_acquire_many_owned(turns).ok()?;
            let large = self.large.clone().try_acquire_many_owned(large).ok()?;
            let making = making.clone().try_acquire_many_owned(bytes).ok()?;
            let all = self.room.clone().try_acquire_many_owned(bytes).ok()?;
            Some(AnswerRoom {
                shares: [user, address, all],
                _making: [turn, large, making],
            })
        };
        let in_time = async {
            let user = user.clone().acquire_many_owned(bytes).await.ok()?;
            let address = address.clone().acquire_many_owned(bytes).await.ok()?;
            let turn = turn.clone().acquire_many_owned(turns).await.ok()?;
            let large = self.large.clone().acquire_many_owned(large).await.ok()?;
            let _waiting = waiting.lock().await;
            while !is_modest() {
                sleep(MODEST_INTERVAL).await;
            }
            let making = making.clone().acquire_many_owned(bytes).await.ok()?;
            Some(AnswerRoom {
                shares: [user, address, self.press(bytes).await?],
                _making: [turn, large, making],
            })
        };
        let room = match at_once() {
            Some(room) => Some(room),
            None => timeout(ROOM_WAIT, in_time).await.ok().flatten(),
        };
        room.ok_or_else(no_room)
    }

    /// Waits for room, and has connections closed meanwhile, one after the other, whose clients do not
    /// read their answers. Otherwise a few could stop everybody else.
    async fn press(&self, bytes: u32) -> Option<OwnedSemaphorePermit> {
        let _turn = self.turn.lock().await;
        loop {
            let room = self.room.clone().acquire_many_owned(bytes);
            match timeout(PRESS_INTERVAL, room).await {
                Ok(room) => return room.ok(),
                Err(_) => self.press_one(),
            }
        }
    }

    /// Of the connections that wait for their clients, closes one of the address that holds the most room,
    /// and there of the user who does, the one that has waited longest. So who reads slowly is spared while
    /// others hold more, also if these are many users at one address.
    fn press_one(&self) {
        let mut unread = self.unread();
        let places = unread.iter().enumerate();
        let most = places.max_by_key(|(place, unread)| (unread.user.held(), Reverse(*place)));
        if let Some((place, _)) = most {
            unread.remove(place).pressed.notify_one();
        }
    }

    /// Waits until a connection of this user, whose client does not read its answers, has to give
    /// their room to others.
    pub async fn pressed(&self, user: Holder) {
        let pressed = Arc::new(Notify::new());
        let waiting = WaitingForClient {
            all: self,
            pressed: pressed.clone(),
        };
        self.unread().push(Unread { user, pressed });
        waiting.pressed.notified().await;
    }

    fn unread(&self) -> MutexGuard<'_, Vec<Unread>> {
        // A panic cannot leave a list half changed.
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Is in the list of unread answers until it is dropped or pressed.
struct WaitingForClient<'a> {
    all: &'a AllAnswers,
    pressed: Arc<Notify>,
}

impl Drop for WaitingForClient<'_> {
    fn drop(&mut self) {
        let is_this = |unread: &Unread| Arc::ptr_eq(&unread.pressed, &self.pressed);
        let mut unread = self.all.unread();
        if let Some(place) = unread.iter().position(is_this) {
            unread.remove(place);
        }
    }
}

/// An answer's frame with its room.
struct Held {
    frame: Bytes,
    _shares: [OwnedSemaphorePermit; 3],
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

impl AnswerRoom {
    pub fn holder(&self) -> Holder {
        let [user, address, _] = &self.shares;
        Holder {
            user: user.semaphore().clone(),
            address: address.semaphore().clone(),
        }
    }

    /// Gives back what the answer does not need. If it needs more than was found for it, takes that
    /// too, or refuses the answer. The room is held as long as the frame exists.
    pub fn hold(mut self, frame: Bytes) -> Result<Bytes, Error> {
        if is_free(frame.len()) {
            return Ok(frame);
        }
        for permit in &mut self.shares {
            let (found, needed) = (permit.num_permits(), frame.len());
            if needed <= found {
                drop(permit.split(found - needed));
                continue;
            }
            let missing = u32::try_from(needed - found).map_err(|_| no_room())?;
            let share = permit.semaphore().clone();
            let more = share.try_acquire_many_owned(missing);
            permit.merge(more.map_err(|_| no_room())?);
        }
        Ok(Bytes::from_owner(Held {
            frame,
            _shares: self.shares,
        }))
    }
}

fn no_room() -> Error {
    Error::Unavailable {
        retry_after_seconds: 1,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const MIB: usize = 1024 * 1024;

    async fn take(
        all: &AllAnswers,
        user: &AnswerShare,
        address: &AnswerShare,
        bytes: usize,
    ) -> Result<Bytes, &'static str> {
        let room = all.room(user, address, bytes).await;
        let room = room.map_err(|error| error.code())?;
        let frame = Bytes::from(vec![0; bytes]);
        room.hold(frame).map_err(|error| error.code())
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_and_an_address_have_their_shares() {
        let (all, address) = (AllAnswers::new(), AnswerShare::of_address());
        let users: Vec<_> = (0..3).map(|_| AnswerShare::of_user()).collect();
        let mut unread = Vec::new();
        for user in &users[..2] {
            for _ in 0..2 {
                unread.push(take(&all, user, &address, 16 * MIB).await);
            }
            assert_eq!(take(&all, user, &address, MIB).await, Err("unavailable"));
        }
        assert!(unread.iter().all(Result::is_ok));
        // The address is full, but another one is not.
        let third = &users[2];
        assert_eq!(take(&all, third, &address, MIB).await, Err("unavailable"));
        let other = AnswerShare::of_address();
        assert!(take(&all, third, &other, 16 * MIB).await.is_ok());
        // An answer that was read makes room.
        unread.pop();
        assert!(take(&all, third, &address, 16 * MIB).await.is_ok());
    }

    /// Four users have a large answer each made. A small one does not wait for them.
    #[tokio::test(start_paused = true)]
    async fn large_answers_leave_room_for_others_while_they_are_made() {
        let all = AllAnswers::new();
        let users: Vec<_> = (0..6).map(|_| AnswerShare::of_user()).collect();
        let addresses: Vec<_> = (0..6).map(|_| AnswerShare::of_address()).collect();
        let mut made = Vec::new();
        for index in 0..4 {
            made.push(all.room(&users[index], &addresses[index], 16 * MIB).await);
        }
        assert!(made.iter().all(Result::is_ok));
        let large = all.room(&users[4], &addresses[4], 16 * MIB).await;
        assert!(large.is_err_and(|error| error.code() == "unavailable"));
        let started = tokio::time::Instant::now();
        assert!(all.room(&users[5], &addresses[5], MIB).await.is_ok());
        assert_eq!(started.elapsed(), Duration::ZERO);
        // A large answer that is made makes room for another, though it is not read.
        let room = made.pop().and_then(Result::ok).expect("room");
        let _unread = room.hold(vec![0; 16 * MIB].into()).expect("room");
        assert!(all.room(&users[4], &addresses[4], 16 * MIB).await.is_ok());
    }

    /// However many requests of an address wait, they have one turn together.
    #[tokio::test(start_paused = true)]
    async fn an_address_has_one_large_answer_made_at_a_time() {
        let all = AllAnswers::new();
        let addresses: Vec<_> = (0..5).map(|_| AnswerShare::of_address()).collect();
        let users: Vec<_> = (0..9).map(|_| AnswerShare::of_user()).collect();
        let room = |user: usize, address: usize| {
            Box::pin(all.room(&users[user], &addresses[address], 16 * MIB))
        };
        // Two users of each of four addresses, and then another one.
        let mut made = Vec::new();
        for address in 0..4 {
            made.push(room(2 * address, address).await.expect("room"));
        }
        let mut waiting: Vec<_> = (0..4)
            .map(|address| room(2 * address + 1, address))
            .collect();
        for request in &mut waiting {
            assert!(request.now_or_never().is_none());
        }
        let mut other = room(8, 4);
        assert!((&mut other).now_or_never().is_none());
        made.pop();
        let found = other.now_or_never().expect("its turn");
        assert!(found.is_ok());
        assert!((&mut waiting[3]).now_or_never().is_none(), "it came later");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_no_more_than_its_bytes() {
        let (all, user) = (AllAnswers::new(), AnswerShare::of_user());
        let address = AnswerShare::of_address();
        let mut unread = Vec::new();
        for _ in 0..100 {
            let room = all.room(&user, &address, 16 * MIB).await;
            let answer = room.expect("room").hold(vec![0; 64 * 1024].into());
            unread.push(answer.expect("room"));
        }
        drop(unread);
        let shares = [&user.room, &address.room, &all.room];
        let left = shares.map(|share| share.available_permits());
        assert_eq!(left, [USER_BYTES_MAX, ADDRESS_BYTES_MAX, ALL_BYTES_MAX]);
    }

    /// Reads that take long do not hold all the room while they wait for each other.
    #[tokio::test(start_paused = true)]
    async fn an_address_leaves_room_while_its_answers_are_made() {
        let all = AllAnswers::new();
        let mut made = Vec::new();
        for expected in [32, 21, 14] {
            let address = AnswerShare::of_address();
            let users = [(); 3].map(|()| AnswerShare::of_user());
            let mut count = 0;
            while let Ok(room) = all.room(&users[count / 30], &address, MIB).await {
                made.push(room);
                count += 1;
            }
            assert_eq!(count, expected);
        }
        let (user, address) = (AnswerShare::of_user(), AnswerShare::of_address());
        assert!(all.room(&user, &address, 8 * MIB).await.is_ok());
        // Unread answers are another matter.
        let unread: Vec<_> = made
            .drain(..40)
            .map(|room| room.hold(vec![0; MIB].into()))
            .collect();
        assert!(unread.iter().all(Result::is_ok));
    }

    /// If an answer is larger than was expected, all of it counts.
    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_all_of_its_bytes() {
        let (all, user) = (AllAnswers::new(), AnswerShare::of_user());
        let address = AnswerShare::of_address();
        let mut unread = Vec::new();
        let refused = loop {
            let room = all.room(&user, &address, 64 * 1024).await.expect("room");
            match room.hold(vec![0; MIB + 1].into()) {
                Ok(answer) => unread.push(answer),
                Err(error) => break error.code(),
            }
        };
        assert_eq!((unread.len(), refused), (31, "unavailable"));
        drop(unread);
        let shares = [&user.room, &address.room, &all.room];
        let left = shares.map(|share| share.available_permits());
        assert_eq!(left, [USER_BYTES_MAX, ADDRESS_BYTES_MAX, ALL_BYTES_MAX]);
    }

    /// Two addresses hold all the room. A third one gets some, because the answer that has waited
    /// longest is given up.
    #[tokio::test(start_paused = true)]
    async fn nobody_can_hold_all_the_room() {
        let all = Arc::new(AllAnswers::new());
        let (given_up, mut order) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..6 {
            let (all, given_up) = (all.clone(), given_up.clone());
            let (user, address) = (AnswerShare::of_user(), AnswerShare::of_address());
            let unread = take(&all, &user, &address, 16 * MIB).await;
            tokio::spawn(async move {
                all.pressed(user.holder(&address)).await;
                drop(unread);
                let _ = given_up.send(number);
            });
            tokio::task::yield_now().await;
        }
        let (user, address) = (AnswerShare::of_user(), AnswerShare::of_address());
        assert!(take(&all, &user, &address, 16 * MIB).await.is_ok());
        assert_eq!(order.recv().await, Some(0));
        assert!(order.try_recv().is_err(), "one was enough");
    }

    /// Otherwise those who renew their answers all the time would have honest clients closed.
    #[tokio::test]
    async fn who_holds_the_most_makes_room() {
        let all = AllAnswers::new();
        let users: Vec<_> = (0..3).map(|_| AnswerShare::of_user()).collect();
        let address = AnswerShare::of_address();
        let mut waiting = Vec::new();
        for (user, mib) in [(0, 1), (1, 2), (2, 1), (2, 2)] {
            let answer = take(&all, &users[user], &address, mib * MIB).await;
            let mut pressed = Box::pin(all.pressed(users[user].holder(&address)));
            assert!((&mut pressed).now_or_never().is_none());
            waiting.push((mib, answer, pressed));
        }
        // 1, 2 and 3 MiB; then 1, 2 and 2, and of those the one that has waited longest.
        for expected in [1, 2, 2, 1] {
            all.press_one();
            let is_pressed = waiting
                .iter_mut()
                .map(|(.., pressed)| pressed.now_or_never().is_some());
            let place = is_pressed
                .collect::<Vec<_>>()
                .iter()
                .position(|is_pressed| *is_pressed);
            let (mib, ..) = waiting.remove(place.expect("one is pressed"));
            assert_eq!(mib, expected);
        }
        assert!(all.unread().is_empty());
    }

    /// Many users at one address hold little each.
    #[tokio::test]
    async fn of_the_address_that_holds_the_most_somebody_makes_room() {
        let all = AllAnswers::new();
        let addresses = [(); 2].map(|()| AnswerShare::of_address());
        let users: Vec<_> = (0..4).map(|_| AnswerShare::of_user()).collect();
        let mut waiting = Vec::new();
        for (user, address, mib) in [(0, 0, 2), (1, 1, 1), (2, 1, 1), (3, 1, 1)] {
            let (user, address) = (&users[user], &addresses[address]);
            let answer = take(&all, user, address, mib * MIB).await;
            let mut pressed = Box::pin(all.pressed(user.holder(address)));
            assert!((&mut pressed).now_or_never().is_none());
            waiting.push((answer, pressed));
        }
        all.press_one();
        let pressed: Vec<_> = waiting
            .iter_mut()
            .map(|(_, pressed)| pressed.now_or_never().is_some())
            .collect();
        assert_eq!(pressed, [false, true, false, false]);
    }
}
