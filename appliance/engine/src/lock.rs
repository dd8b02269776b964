//! Inodes that an operation over tablets holds against change, between its prepare and its apply.
//!
//! Held in memory only: a crash releases them, and open applies what was committed before anybody
//! is served. Local operations hold no locks; they wait, in *gather*, until an inode they want to
//! change is free. Reading is always allowed.

use crate::error::FsError;
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
    /// Operations of which nobody will tell how they ended, since their coordinator has stopped.
    doubtful: RefCell<Set<OpId>>,
    released: WaitList,
}

impl Locks {
    /// Is `ino` held by another than `me`?
    pub fn is_held(&self, ino: InodeNo, me: Option<OpId>) -> bool {
        self.held.borrow().get(&ino).is_some_and(|holder| Some(*holder) != me)
    }

    /// `Stopped` when it is held by an operation in doubt.
    pub async fn acquire(&self, ino: InodeNo, me: OpId) -> Result<(), FsError> {
        self.released
            .until(|| {
                if self.is_held(ino, Some(me)) {
                    return self.in_doubt(ino);
                }
                self.held.borrow_mut().insert(ino, me);
                Some(Ok(()))
            })
            .await
    }

    /// Waits until nothing stands in the way of `ino`; `Stopped` as in `acquire`.
    pub async fn free(&self, ino: InodeNo, me: Option<OpId>) -> Result<(), FsError> {
        self.released
            .until(|| {
                let waits = self.is_held(ino, me) || self.is_unborn(ino);
                if waits { self.in_doubt(ino) } else { Some(Ok(())) }
            })
            .await
    }

    fn in_doubt(&self, ino: InodeNo) -> Option<Result<(), FsError>> {
        let held = self.held.borrow();
        let holder = held.get(&ino)?;
        self.doubtful.borrow().contains(holder).then_some(Err(FsError::Stopped))
    }

    /// `op` may be committed or not, and keeps what it holds: whoever wants it is refused.
    pub fn doubt(&self, op: OpId) {
        self.doubtful.borrow_mut().insert(op);
        self.released.wake_all();
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

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_format::{Epoch, NodeId, ShardId};
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn op(counter: u64) -> OpId {
        OpId { node: NodeId(0), shard: ShardId(0), epoch: Epoch(1), counter }
    }

    fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn what_an_operation_in_doubt_holds_is_refused_and_not_waited_for() {
        let locks = Locks::default();
        assert_eq!(poll(locks.acquire(InodeNo::ROOT, op(1))), Poll::Ready(Ok(())));
        assert!(poll(locks.free(InodeNo::ROOT, None)).is_pending());
        locks.doubt(op(1));
        assert_eq!(poll(locks.free(InodeNo::ROOT, None)), Poll::Ready(Err(FsError::Stopped)));
        let other = locks.acquire(InodeNo::ROOT, op(2));
        assert_eq!(poll(other), Poll::Ready(Err(FsError::Stopped)));
        assert!(locks.is_held(InodeNo::ROOT, None));
    }
}
