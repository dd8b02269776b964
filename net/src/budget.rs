//! What the connections of one shard may hold together, whoever they are.
//!
//! Each connection has limits of its own (`server.rs`), and many connections have many times those. So
//! they share a sum of bytes: of calls taken and of answers not sent. Once it is used up, each takes no
//! more than its even part. Nobody needs to be woken when others give back: a part is never nothing, so
//! a connection whose own answers have left may always take the next call.
//!
//! Records that are only announced are another matter, since the peer decides how long they stay so
//! (`inbox.rs`): they get a small part of the arena, and the heap beyond.

use cairn_base::Arena;
use std::cell::Cell;
use std::rc::Rc;

/// Records that may be incomplete at once in buffers of the arena: sixty of the largest, where nothing
/// else is said.
const OPEN_BYTES_MAX: usize = 64 << 20;

/// Cheap to clone; clones are one budget. Those that came early may hold all of it and the others their
/// parts as well, so the sum stays below twice `bytes_max` and one call for each connection.
#[derive(Clone)]
pub struct Budget {
    inner: Rc<Shared>,
}

struct Shared {
    bytes_max: usize,
    bytes: Cell<usize>,
    connections: Cell<usize>,
    open_bytes: Cell<usize>,
    open_bytes_max: usize,
    heap: Arena,
}

impl Budget {
    pub fn new(bytes_max: usize) -> Budget {
        Budget::with_open(bytes_max, OPEN_BYTES_MAX)
    }

    /// Incomplete records take `open_bytes_max` of the arena at most.
    pub fn with_open(bytes_max: usize, open_bytes_max: usize) -> Budget {
        let shared = Shared {
            bytes_max,
            bytes: Cell::new(0),
            connections: Cell::new(0),
            open_bytes: Cell::new(0),
            open_bytes_max,
            heap: Arena::heap(),
        };
        Budget { inner: Rc::new(shared) }
    }

    /// Bytes that are held now.
    pub fn bytes(&self) -> usize {
        self.inner.bytes.get()
    }

    /// Bytes of records that are not complete.
    pub fn open_bytes(&self) -> usize {
        self.inner.open_bytes.get()
    }

    /// What one connection may hold now. Never nothing, so each comes to its turn by itself.
    pub(crate) fn part(&self) -> usize {
        let Shared { bytes_max, bytes, connections, .. } = &*self.inner;
        match bytes.get() < *bytes_max {
            true => usize::MAX,
            false => (bytes_max / connections.get().max(1)).max(1),
        }
    }

    pub(crate) fn grow(&self, from: usize, to: usize) {
        self.inner.bytes.set(self.inner.bytes.get() - from + to);
    }

    /// A record of so many bytes has been announced: where its buffer is to come from.
    pub(crate) fn open<'a>(&'a self, bytes: usize, arena: &'a Arena) -> (Opening<'a>, &'a Arena) {
        let open = &self.inner.open_bytes;
        open.set(open.get() + bytes);
        let fits = open.get() <= self.inner.open_bytes_max;
        (Opening { open, bytes }, if fits { arena } else { &self.inner.heap })
    }
}

/// A record that is not complete.
pub(crate) struct Opening<'a> {
    open: &'a Cell<usize>,
    bytes: usize,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.open.set(self.open.get() - self.bytes);
    }
}

/// One connection's place in a budget.
pub(crate) struct Seat<'a>(&'a Budget);

impl<'a> Seat<'a> {
    pub fn take(budget: &'a Budget) -> Seat<'a> {
        let connections = &budget.inner.connections;
        connections.set(connections.get() + 1);
        Seat(budget)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let connections = &self.0.inner.connections;
        connections.set(connections.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_all_until_all_is_held_and_never_nothing() {
        let budget = Budget::new(100);
        let _seats = [Seat::take(&budget), Seat::take(&budget), Seat::take(&budget)];
        assert_eq!(budget.part(), usize::MAX);
        budget.grow(0, 100);
        assert_eq!(budget.part(), 33);
        assert_eq!(Budget::new(0).part(), 1);
    }

    #[test]
    fn records_that_are_only_announced_do_not_eat_the_arena() {
        let budget = Budget::new(0);
        let arena = Arena::heap();
        let is_of_arena = |from: &Arena| std::ptr::eq(from, &raw const arena);
        let half = OPEN_BYTES_MAX / 2;
        let (first, from) = budget.open(half, &arena);
        assert!(is_of_arena(from));
        let (_second, from) = budget.open(half, &arena);
        assert!(is_of_arena(from));
        assert!(!is_of_arena(budget.open(1, &arena).1));
        drop(first);
        assert!(is_of_arena(budget.open(1, &arena).1), "what is given back is there again");
    }
}
