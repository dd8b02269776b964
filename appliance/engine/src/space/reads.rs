//! Who is still reading: a block that was freed may be reused only when every read that began
//! before it was freed has ended.
//!
//! Reads count by age. Each freeing opens a new age; a run freed in age `a` is safe when no reader
//! of age `a` or older is left.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

#[derive(Default)]
pub struct Reads {
    age: Cell<u64>,
    readers: RefCell<BTreeMap<u64, usize>>,
}

/// Keeps every block that was readable when it was made.
pub struct ReadGuard {
    reads: Rc<Reads>,
    age: u64,
}

impl Reads {
    pub fn begin(self: &Rc<Self>) -> ReadGuard {
        let age = self.age.get();
        *self.readers.borrow_mut().entry(age).or_insert(0) += 1;
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
        self.readers.borrow().keys().next().is_none_or(|oldest| *oldest > age)
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
        if let Some(count) = readers.get_mut(&self.age) {
            *count -= 1;
            if *count == 0 {
                readers.remove(&self.age);
            }
        }
    }
}
