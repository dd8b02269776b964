//! The process's allocator, which counts: how much a thread holds more than when counting began, at
//! the most.
//!
//! It passes everything on to the system's allocator, so the sanitizers that replace that one still
//! see each allocation. Counters are the thread's own and need no drop, so they are there at any
//! moment of a thread's life. Memory that another thread frees makes a thread's own count too high;
//! no target starts threads.
//!
//! What always holds, for the notes below: pointer and layout are passed on unchanged, and the
//! answer is given back unchanged.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

pub struct Tally;

/// Runs `body`, and says how many bytes it held at once beyond what was held before.
pub fn most_during<T>(body: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    MOST.set(before);
    let answer = body();
    let most = MOST.get() - before;
    (answer, usize::try_from(most).unwrap_or(0))
}

fn note(change: isize) {
    let held = HELD.get() + change;
    HELD.set(held);
    MOST.set(MOST.get().max(held));
}

/// No allocation is larger than `isize::MAX` (`Layout`).
fn signed(bytes: usize) -> isize {
    bytes as isize
}

// SAFETY: every method is the system allocator's with the same arguments and the same answer.
unsafe impl GlobalAlloc for Tally {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(signed(layout.size()));
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(signed(layout.size()));
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-signed(layout.size()));
        // SAFETY: `pointer` came from one of the methods above, hence from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(signed(bytes) - signed(layout.size()));
        // SAFETY: as for `dealloc`, and the caller's promise about `bytes` is passed on.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::most_during;

    #[test]
    fn the_most_that_is_held_at_once_is_counted_and_what_was_freed_before_is_not() {
        let (_, most) = most_during(|| {
            drop(vec![1u8; 1000]);
            drop(vec![2u8; 3000]);
        });
        assert_eq!(most, 3000);
        let (kept, most) = most_during(|| (vec![1u8; 1000], vec![0u8; 500]));
        assert_eq!(most, 1500);
        let (_, most) = most_during(|| drop(kept));
        assert_eq!(most, 0);
    }

    #[test]
    fn an_allocation_that_is_never_touched_counts() {
        let (_, most) = most_during(|| Vec::<u8>::with_capacity(64 << 20));
        assert_eq!(most, 64 << 20);
    }
}
