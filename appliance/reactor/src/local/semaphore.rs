//! A count of something scarce, handed out strictly in order of arrival.
//!
//! A request that does not fit waits, and everything behind it waits too, however small: otherwise a
//! stream of small requests keeps a large one out for ever.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

#[derive(Clone)]
pub struct Semaphore {
    state: Rc<State>,
}

struct State {
    total: usize,
    available: Cell<usize>,
    waiting: RefCell<BTreeMap<u64, (usize, Waker)>>,
    /// Their units are taken; their tasks have been woken and have not looked yet.
    granted: RefCell<BTreeSet<u64>>,
    next_place: Cell<u64>,
}

impl Semaphore {
    pub fn new(units: usize) -> Semaphore {
        let state = State {
            total: units,
            available: Cell::new(units),
            waiting: RefCell::default(),
            granted: RefCell::default(),
            next_place: Cell::new(0),
        };
        Semaphore { state: Rc::new(state) }
    }

    /// Panics when more is asked for than there will ever be.
    pub fn acquire(&self, units: usize) -> Acquire {
        assert!(units <= self.state.total, "a request this large would wait for ever");
        Acquire { state: self.state.clone(), units, place: None }
    }

    /// Only what is free right now, with nobody waiting for it.
    pub fn try_acquire(&self, units: usize) -> Option<Guard> {
        let taken = self.state.waiting.borrow().is_empty() && self.state.take(units);
        taken.then(|| Guard { state: self.state.clone(), units })
    }

    pub fn available(&self) -> usize {
        self.state.available.get()
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.state.waiting.borrow().len()
    }
}

impl State {
    fn take(&self, units: usize) -> bool {
        let rest = self.available.get().checked_sub(units);
        rest.inspect(|&rest| self.available.set(rest)).is_some()
    }

    fn give(&self, units: usize) {
        self.available.set(self.available.get() + units);
        self.grant();
    }

    /// Serves the front of the queue as far as the units go.
    fn grant(&self) {
        loop {
            let served = {
                let mut waiting = self.waiting.borrow_mut();
                let Some(first) = waiting.first_entry() else { return };
                if !self.take(first.get().0) {
                    return;
                }
                first.remove_entry()
            };
            let (place, (_, waker)) = served;
            self.granted.borrow_mut().insert(place);
            waker.wake();
        }
    }
}

#[must_use = "a future does nothing unless awaited"]
pub struct Acquire {
    state: Rc<State>,
    units: usize,
    place: Option<u64>,
}

impl Acquire {
    fn guard(&mut self) -> Guard {
        self.place = None;
        Guard { state: self.state.clone(), units: self.units }
    }
}

impl Future for Acquire {
    type Output = Guard;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Guard> {
        let place = match self.place {
            Some(place) => {
                if self.state.granted.borrow_mut().remove(&place) {
                    return Poll::Ready(self.guard());
                }
                place
            }
            None => {
                let idle = self.state.waiting.borrow().is_empty();
                if idle && self.state.take(self.units) {
                    return Poll::Ready(self.guard());
                }
                let place = self.state.next_place.get();
                self.state.next_place.set(place + 1);
                place
            }
        };
        let entry = (self.units, cx.waker().clone());
        let old = self.state.waiting.borrow_mut().insert(place, entry);
        drop(old);
        self.place = Some(place);
        Poll::Pending
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        if self.state.granted.borrow_mut().remove(&place) {
            self.state.give(self.units);
            return;
        }
        let left = self.state.waiting.borrow_mut().remove(&place);
        drop(left);
        // It may have been the large one at the front that kept smaller ones waiting.
        self.state.grant();
    }
}

/// Units held; dropping it gives them back.
pub struct Guard {
    state: Rc<State>,
    units: usize,
}

impl Guard {
    pub fn units(&self) -> usize {
        self.units
    }

    /// Gives back all but `units`. Panics when that is more than is held.
    pub fn shrink(&mut self, units: usize) {
        let surplus = self.units.checked_sub(units).expect("a guard only shrinks");
        self.units = units;
        self.state.give(surplus);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.state.give(self.units);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::testing::ByHand;

    fn granted(acquire: &mut ByHand<Acquire>) -> Guard {
        match acquire.poll() {
            Poll::Ready(guard) => guard,
            Poll::Pending => panic!("not granted"),
        }
    }

    #[test]
    fn a_small_request_does_not_overtake_a_large_one() {
        let semaphore = Semaphore::new(4);
        let held = granted(&mut ByHand::new(semaphore.acquire(3)));
        let mut large = ByHand::new(semaphore.acquire(4));
        let mut small = ByHand::new(semaphore.acquire(1));
        assert!(large.poll().is_pending() && small.poll().is_pending());
        assert!(semaphore.try_acquire(1).is_none(), "nor does one that does not wait");
        drop(held);
        assert!(!small.woken());
        drop(granted(&mut large));
        drop(granted(&mut small));
        assert_eq!(semaphore.available(), 4);
    }

    #[test]
    fn a_large_request_that_gives_up_lets_the_small_ones_in() {
        let semaphore = Semaphore::new(4);
        let _held = granted(&mut ByHand::new(semaphore.acquire(3)));
        let mut large = ByHand::new(semaphore.acquire(4));
        let mut small = ByHand::new(semaphore.acquire(1));
        assert!(large.poll().is_pending() && small.poll().is_pending());
        drop(large);
        assert!(small.woken());
        granted(&mut small);
    }

    #[test]
    fn units_granted_to_a_dropped_request_are_not_lost() {
        let semaphore = Semaphore::new(1);
        let held = granted(&mut ByHand::new(semaphore.acquire(1)));
        let mut first = ByHand::new(semaphore.acquire(1));
        let mut second = ByHand::new(semaphore.acquire(1));
        assert!(first.poll().is_pending() && second.poll().is_pending());
        drop(held);
        assert!(first.woken() && !second.woken());
        drop(first);
        assert!(second.woken());
        granted(&mut second);
        assert_eq!(semaphore.available(), 1);
    }

    #[test]
    fn a_shrunk_guard_gives_back_the_rest() {
        let semaphore = Semaphore::new(8);
        let mut guard = granted(&mut ByHand::new(semaphore.acquire(8)));
        guard.shrink(3);
        assert_eq!((semaphore.available(), guard.units()), (5, 3));
        drop(guard);
        assert_eq!(semaphore.available(), 8);
    }
}
