//! The memory that the server holds for all clients together.

use crate::limits::answer_room::AllAnswers;
use crate::limits::unfinished::Unfinished;

pub struct AllMemory {
    pub answers: AllAnswers,
    pub unfinished: Unfinished,
}

impl AllMemory {
    pub fn new() -> Self {
        AllMemory {
            answers: AllAnswers::new(),
            unfinished: Unfinished::of_all(),
        }
    }
}
