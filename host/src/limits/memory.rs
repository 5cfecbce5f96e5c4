//! The bounds that all clients share: on the memory that the server holds for them, and on its threads.

use crate::limits::answer_room::AllAnswers;
use crate::limits::arrivals::Arrivals;
use crate::limits::large_events::LargeEvents;
use crate::limits::unfinished::Unfinished;

pub struct AllMemory {
    pub answers: AllAnswers,
    pub unfinished: Unfinished,
    pub bodies: Unfinished,
    pub large_events: LargeEvents,
    pub arrivals: Arrivals,
}

impl AllMemory {
    pub fn new() -> Self {
        AllMemory {
            answers: AllAnswers::new(),
            unfinished: Unfinished::of_all(),
            bodies: Unfinished::of_all(),
            large_events: LargeEvents::default(),
            arrivals: Arrivals::of_all(),
        }
    }
}
