//! Simulated time: it moves only when the world moves it.
//!
//! The monotonic clock jumps to the next event. The wall clock is the monotonic one plus an offset
//! that a scenario may change, also by years and also back, as an operator's clock does.

use cairn_base::Nanos;
use cairn_base::door;
use std::cell::Cell;
use std::rc::Rc;

/// Where simulated wall clocks begin: 2026-01-01.
const WALL_START_NS: i64 = 1_767_225_600_000_000_000;

#[derive(Clone)]
pub struct Clock {
    now: Rc<Cell<Nanos>>,
    wall_offset_ns: Rc<Cell<i64>>,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock {
            // Not zero: a time of zero must not pass for "never".
            now: Rc::new(Cell::new(Nanos::from_secs(1))),
            wall_offset_ns: Rc::new(Cell::new(WALL_START_NS)),
        }
    }
}

impl Clock {
    pub fn now(&self) -> Nanos {
        self.now.get()
    }

    /// Another clock that goes on from the same moment.
    pub fn fork(&self) -> Clock {
        Clock {
            now: Rc::new(Cell::new(self.now.get())),
            wall_offset_ns: Rc::new(Cell::new(self.wall_offset_ns.get())),
        }
    }

    /// Moves to `to`; earlier than now means now, for time does not go back.
    pub fn advance_to(&self, to: Nanos) {
        self.now.set(self.now.get().max(to));
    }

    pub fn advance_by(&self, by: Nanos) {
        self.now.set(self.now.get() + by);
    }

    /// The machine's idea of the date changes by `by_ns`, either way.
    pub fn jump_wall(&self, by_ns: i64) {
        self.wall_offset_ns.set(self.wall_offset_ns.get().saturating_add(by_ns));
    }
}

impl door::Clock for Clock {
    fn monotonic(&self) -> Nanos {
        self.now.get()
    }

    fn wall(&self) -> i64 {
        self.wall_offset_ns.get().saturating_add_unsigned(self.now.get().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::door::Clock as _;

    #[test]
    fn a_wall_jump_back_leaves_the_monotonic_clock_alone() {
        let clock = Clock::default();
        let (mono, wall) = (clock.monotonic(), clock.wall());
        clock.jump_wall(-86_400_000_000_000);
        assert_eq!(clock.monotonic(), mono);
        assert_eq!(clock.wall(), wall - 86_400_000_000_000);
        clock.advance_to(Nanos(0));
        assert_eq!(clock.monotonic(), mono);
    }
}
