//! Real time, for a harness that waits for another process.
//!
//! The rest of the tree takes time as an argument; here there is a real program on the other side
//! whose progress nobody can step, so the waits are real. They are all bounded, and no verdict
//! depends on how long anything took.

use std::time::{Duration, Instant};

/// A moment after which waiting is over.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    #[expect(clippy::disallowed_methods, reason = "bounds a wait for another process")]
    pub fn after(limit: Duration) -> Deadline {
        Deadline(Instant::now() + limit)
    }

    pub fn left(self) -> Duration {
        #[expect(clippy::disallowed_methods, reason = "bounds a wait for another process")]
        self.0.saturating_duration_since(Instant::now())
    }

    pub fn passed(self) -> bool {
        self.left().is_zero()
    }
}

/// How long something took, for people to read.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "a report for people; nothing depends on it")]
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Gives way to the processes we wait for.
#[expect(clippy::disallowed_methods, reason = "paces a poll; nothing is ordered by it")]
pub fn pause(length: Duration) {
    std::thread::sleep(length);
}

/// Polls until `done` answers something, or until `limit` has passed.
pub fn eventually<T>(limit: Duration, mut done: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Deadline::after(limit);
    loop {
        if let Some(value) = done() {
            return Some(value);
        }
        if deadline.passed() {
            return None;
        }
        pause(Duration::from_millis(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_the_answer_or_without() {
        let mut turns = 0;
        let third = eventually(Duration::from_secs(60), || {
            turns += 1;
            (turns == 3).then_some(turns)
        });
        assert_eq!(third, Some(3));
        assert_eq!(eventually(Duration::ZERO, || None::<u8>), None);
    }
}
