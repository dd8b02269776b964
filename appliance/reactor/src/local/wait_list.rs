//! The waiters of one condition, in order of arrival; and `Notify`, the simplest condition.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

#[derive(Default)]
pub struct WaitList {
    waiting: RefCell<BTreeMap<u64, Waker>>,
    next_place: Cell<u64>,
}

impl WaitList {
    pub fn new() -> WaitList {
        WaitList::default()
    }

    /// Waits until `check` has an answer. It is asked at once and after every wake, and whoever
    /// changes what it looks at calls `wake_one` or `wake_all`.
    pub fn until<T, F: FnMut() -> Option<T>>(&self, check: F) -> Until<'_, F> {
        Until { list: self, check, place: None }
    }

    /// Wakes the one that has waited longest.
    pub fn wake_one(&self) {
        let first = self.waiting.borrow_mut().pop_first();
        if let Some((_, waker)) = first {
            waker.wake();
        }
    }

    pub fn wake_all(&self) {
        for waker in self.waiting.take().into_values() {
            waker.wake();
        }
    }

    fn new_place(&self) -> u64 {
        let place = self.next_place.get();
        self.next_place.set(place + 1);
        place
    }

    fn wait_at(&self, place: u64, waker: Waker) {
        let old = self.waiting.borrow_mut().insert(place, waker);
        drop(old); // outside of the borrow: it may be the last hold on a task
    }

    fn leave(&self, place: u64) -> Option<Waker> {
        self.waiting.borrow_mut().remove(&place)
    }
}

#[must_use = "a future does nothing unless awaited"]
pub struct Until<'a, F> {
    list: &'a WaitList,
    check: F,
    place: Option<u64>,
}

// The closure is only called, never pinned.
impl<F> Unpin for Until<'_, F> {}

impl<T, F: FnMut() -> Option<T>> Future for Until<'_, F> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(output) = (self.check)() {
            if let Some(place) = self.place.take() {
                drop(self.list.leave(place));
            }
            return Poll::Ready(output);
        }
        let list = self.list;
        let place = *self.place.get_or_insert_with(|| list.new_place());
        list.wait_at(place, cx.waker().clone());
        Poll::Pending
    }
}

impl<F> Drop for Until<'_, F> {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        // Not in the list any more: it was woken and never looked, so the wake is the next one's.
        if self.list.leave(place).is_none() {
            self.list.wake_one();
        }
    }
}

/// Something happened; whoever waits shall look again. Not remembered for those who come later.
#[derive(Clone, Default)]
pub struct Notify {
    state: Rc<NotifyState>,
}

#[derive(Default)]
struct NotifyState {
    times: Cell<u64>,
    list: WaitList,
}

impl Notify {
    pub fn new() -> Notify {
        Notify::default()
    }

    pub fn notify_all(&self) {
        self.state.times.set(self.state.times.get() + 1);
        self.state.list.wake_all();
    }

    /// Ends at the first `notify_all` after this call (not after the first poll).
    pub fn wait(&self) -> impl Future<Output = ()> + use<> {
        let state = self.state.clone();
        let before = state.times.get();
        async move { state.list.until(|| (state.times.get() != before).then_some(())).await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::testing::ByHand;

    #[test]
    fn waiters_are_woken_in_order_of_arrival_one_at_a_time() {
        let list = WaitList::new();
        let tokens = Cell::new(0);
        let take = || (tokens.get() > 0).then(|| tokens.set(tokens.get() - 1));
        let mut first = ByHand::new(list.until(take));
        let mut second = ByHand::new(list.until(take));
        assert!(first.poll().is_pending() && second.poll().is_pending());
        tokens.set(1);
        list.wake_one();
        assert!(first.woken() && !second.woken());
        assert!(first.poll().is_ready() && second.poll().is_pending());
    }

    #[test]
    fn a_waiter_whose_turn_was_taken_keeps_its_place() {
        let list = WaitList::new();
        let open = Cell::new(false);
        let check = || open.get().then_some(());
        let mut first = ByHand::new(list.until(check));
        let mut second = ByHand::new(list.until(check));
        assert!(first.poll().is_pending() && second.poll().is_pending());
        list.wake_one();
        assert!(first.poll().is_pending(), "woken, but somebody was faster");
        let mut third = ByHand::new(list.until(check));
        assert!(third.poll().is_pending());
        open.set(true);
        list.wake_one();
        assert!(first.poll().is_ready() && !second.woken() && !third.woken());
    }

    #[test]
    fn a_wake_for_a_dropped_waiter_passes_to_the_next() {
        let list = WaitList::new();
        let mut first = ByHand::new(list.until(|| None::<()>));
        let mut second = ByHand::new(list.until(|| None::<()>));
        assert!(first.poll().is_pending() && second.poll().is_pending());
        list.wake_one();
        drop(first);
        assert!(second.woken());
    }

    #[test]
    fn notify_counts_from_the_call_not_from_the_first_poll() {
        let notify = Notify::new();
        let mut early = ByHand::new(notify.wait());
        notify.notify_all();
        let mut late = ByHand::new(notify.wait());
        assert!(early.poll().is_ready());
        assert!(late.poll().is_pending());
        notify.notify_all();
        assert!(late.woken() && late.poll().is_ready());
    }
}
