//! Inodes that an operation over tablets holds against change, between its prepare and its apply.
//!
//! Held in memory only: a crash releases them, and open applies what was committed before anybody
//! is served. Local operations hold no locks; they wait, in *gather*, until an inode they want to
//! change is free. Reading is always allowed.

use cairn_base::hash::{Map, Set};
use cairn_format::{InodeNo, OpId};
use cairn_reactor::WaitList;
use std::cell::RefCell;

#[derive(Default)]
pub struct Locks {
    held: RefCell<Map<InodeNo, OpId>>,
    /// Directories that have a name here by a committed operation, and whose own tablet has not
    /// applied its part yet: the name waits to be seen until the inode is there.
    unborn: RefCell<Set<InodeNo>>,
    released: WaitList,
}

impl Locks {
    /// Is `ino` held by another than `me`?
    pub fn is_held(&self, ino: InodeNo, me: Option<OpId>) -> bool {
        self.held.borrow().get(&ino).is_some_and(|holder| Some(*holder) != me)
    }

    pub async fn acquire(&self, ino: InodeNo, me: OpId) {
        self.released
            .until(|| {
                if self.is_held(ino, Some(me)) {
                    return None;
                }
                self.held.borrow_mut().insert(ino, me);
                Some(())
            })
            .await;
    }

    /// Waits until nothing stands in the way of `ino`.
    pub async fn free(&self, ino: InodeNo, me: Option<OpId>) {
        let waits = || self.is_held(ino, me) || self.is_unborn(ino);
        self.released.until(|| (!waits()).then_some(())).await;
    }

    pub fn is_unborn(&self, ino: InodeNo) -> bool {
        self.unborn.borrow().contains(&ino)
    }

    pub fn expect_birth(&self, ino: InodeNo) {
        self.unborn.borrow_mut().insert(ino);
    }

    pub fn born(&self, ino: InodeNo) {
        self.unborn.borrow_mut().remove(&ino);
        self.released.wake_all();
    }

    pub fn release(&self, me: OpId) {
        self.held.borrow_mut().retain(|_, holder| *holder != me);
        self.released.wake_all();
    }

    pub fn held_len(&self) -> usize {
        self.held.borrow().len()
    }
}
