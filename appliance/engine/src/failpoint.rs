//! A point where something that can fail does fail: the n-th from when it was set, on this thread.
//!
//! What can fail for want of something are permits, promises, zones and reservations; what a device does
//! is the disk door's to say, and memory for buffers never fails (`cairn_base::Arena` falls back to the
//! heap). A test sets the first point, then the second, and so on until a run reaches none: so every
//! place is met, also those that a pool runs short at once in a year.
//!
//! In a daemon only a trigger does (`trigger.rs`). Asking costs a read of two thread-local numbers.

use std::cell::Cell;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// An operation is refused its permit.
    Permit,
    /// A tablet does not promise blocks that it has.
    Promise,
    /// No tablet has a zone.
    Zone,
    /// Blocks that were promised are not ready yet.
    Reservation,
}

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(0) };
    static FAILED: Cell<Option<Point>> = const { Cell::new(None) };
}

/// The `nth` point that is reached from now on fails, counted from 1; none where that is 0.
pub fn fail_at(nth: u64) {
    LEFT.set(nth);
    FAILED.set(None);
}

/// What failed since, if anything did.
pub fn failed() -> Option<Point> {
    FAILED.get()
}

pub(crate) fn fails(point: Point) -> bool {
    let left = LEFT.get();
    if left == 0 {
        return crate::trigger::refuses(point);
    }
    LEFT.set(left - 1);
    if left == 1 {
        FAILED.set(Some(point));
    }
    left == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_point_fails_once_and_none_where_none_is_set() {
        assert!(!fails(Point::Zone));
        fail_at(2);
        assert!(!fails(Point::Zone) && fails(Point::Permit) && !fails(Point::Permit));
        assert_eq!(failed(), Some(Point::Permit));
        fail_at(1);
        assert_eq!(failed(), None);
        fail_at(0);
        assert!(!fails(Point::Permit));
    }
}
