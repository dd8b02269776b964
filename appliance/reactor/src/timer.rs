//! Timers: which task wants to be woken when.
//!
//! An ordered map by (deadline, order of registration), so that timers of one moment fire in the
//! order they were set and a simulated run repeats. A sleep takes its place at its first poll and
//! gives it up when it is dropped; nothing fires for a future that is gone. Time is the `now` of the
//! reactor's turn: a timer fires in the first turn at or after its deadline, never before.

use crate::reactor::Handle;
use cairn_base::Nanos;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The time given to `timeout` passed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    deadline: Nanos,
    order: u64,
}

#[derive(Default)]
pub(crate) struct Timers {
    waiting: BTreeMap<Key, Waker>,
    next_order: u64,
}

impl Timers {
    pub(crate) fn next(&self) -> Option<Nanos> {
        self.waiting.keys().next().map(|key| key.deadline)
    }

    pub(crate) fn pop_due(&mut self, now: Nanos) -> Option<Waker> {
        let first = self.waiting.first_entry()?;
        (first.key().deadline <= now).then(|| first.remove())
    }

    /// Empties the map, handing out the wakers so that they are dropped outside of any borrow.
    pub(crate) fn clear(&mut self) -> BTreeMap<Key, Waker> {
        std::mem::take(&mut self.waiting)
    }

    fn insert(&mut self, deadline: Nanos, waker: Waker) -> Key {
        let key = Key { deadline, order: self.next_order };
        self.next_order += 1;
        self.waiting.insert(key, waker);
        key
    }
}

/// Ends at its deadline. Made by `Handle::sleep` and `Handle::sleep_until`.
#[must_use = "a future does nothing unless awaited"]
pub struct Sleep {
    handle: Handle,
    deadline: Nanos,
    key: Option<Key>,
}

impl Sleep {
    pub(crate) fn new(handle: Handle, deadline: Nanos) -> Sleep {
        Sleep { handle, deadline, key: None }
    }

    fn forget(&mut self) {
        if let Some(key) = self.key.take() {
            let waker = self.handle.timers().borrow_mut().waiting.remove(&key);
            drop(waker); // outside of the borrow: a waker may own the last count of its task
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.handle.now() >= self.deadline {
            self.forget();
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        match self.key {
            Some(key) => {
                let old = self.handle.timers().borrow_mut().waiting.insert(key, waker);
                drop(old);
            }
            None => {
                let key = self.handle.timers().borrow_mut().insert(self.deadline, waker);
                self.key = Some(key);
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.forget();
    }
}
