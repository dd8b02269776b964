//! Who is still reading: a block that was freed may be reused only when every read that began
//! before it was freed has ended.
//!
//! Reads count by age. Each freeing opens a new age; a run freed in age `a` is safe when no reader
//! of age `a` or older is left. Every stretch of every operation counts here, and nearly all of them
//! in the newest age: so the ages are in a row, which costs nothing to keep when it is short.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

#[derive(Default)]
pub struct Reads {
    age: Cell<u64>,
    /// Ages that have readers and how many, oldest first.
    readers: RefCell<VecDeque<(u64, usize)>>,
}

/// Keeps every block that was readable when it was made.
pub struct ReadGuard {
    reads: Rc<Reads>,
    age: u64,
}

impl Reads {
    pub fn begin(self: &Rc<Self>) -> ReadGuard {
        let age = self.age.get();
        let mut readers = self.readers.borrow_mut();
        match readers.back_mut() {
            Some((newest, count)) if *newest == age => *count += 1,
            _ => readers.push_back((age, 1)),
        }
        drop(readers);
        ReadGuard { reads: Rc::clone(self), age }
    }

    /// Closes the current age: readers from now on cannot see what was freed in it.
    pub fn close_age(&self) -> u64 {
        let age = self.age.get();
        self.age.set(age + 1);
        age
    }

    /// Has every reader of `age` and before ended?
    pub fn is_over(&self, age: u64) -> bool {
        self.readers.borrow().front().is_none_or(|(oldest, _)| *oldest > age)
    }
}

impl ReadGuard {
    /// What is freed at this age or later cannot be reused while this lives.
    pub fn age(&self) -> u64 {
        self.age
    }
}

impl Drop for ReadGuard {
    fn drop(&mut self) {
        let mut readers = self.reads.readers.borrow_mut();
        let at = readers.binary_search_by_key(&self.age, |(age, _)| *age);
        let at = at.expect("an age with a reader is in the row");
        readers[at].1 -= 1;
        if readers[at].1 == 0 {
            readers.remove(at);
        }
    }
}
