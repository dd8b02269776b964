//! One value, once, from one task to another.

use crate::Closed;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

struct Place<T> {
    value: Option<T>,
    waker: Option<Waker>,
    sender_gone: bool,
    receiver_gone: bool,
}

pub struct OneshotSender<T> {
    place: Rc<RefCell<Place<T>>>,
}

#[must_use = "a future does nothing unless awaited"]
pub struct OneshotReceiver<T> {
    place: Rc<RefCell<Place<T>>>,
}

pub fn oneshot<T>() -> (OneshotSender<T>, OneshotReceiver<T>) {
    let place = Place { value: None, waker: None, sender_gone: false, receiver_gone: false };
    let place = Rc::new(RefCell::new(place));
    (OneshotSender { place: place.clone() }, OneshotReceiver { place })
}

impl<T> OneshotSender<T> {
    /// Gives the value back when nobody waits for it any more.
    pub fn send(self, value: T) -> Result<(), T> {
        let mut place = self.place.borrow_mut();
        if place.receiver_gone {
            return Err(value);
        }
        place.value = Some(value);
        Ok(())
        // Dropping `self` wakes the receiver.
    }

    pub fn is_unwanted(&self) -> bool {
        self.place.borrow().receiver_gone
    }
}

impl<T> Drop for OneshotSender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut place = self.place.borrow_mut();
            place.sender_gone = true;
            place.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for OneshotReceiver<T> {
    type Output = Result<T, Closed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Closed>> {
        let mut place = self.place.borrow_mut();
        if let Some(value) = place.value.take() {
            return Poll::Ready(Ok(value));
        }
        if place.sender_gone {
            return Poll::Ready(Err(Closed));
        }
        let old = place.waker.replace(cx.waker().clone());
        drop(place);
        drop(old);
        Poll::Pending
    }
}

impl<T> Drop for OneshotReceiver<T> {
    fn drop(&mut self) {
        let mut place = self.place.borrow_mut();
        place.receiver_gone = true;
        let left = (place.value.take(), place.waker.take());
        drop(place);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::testing::ByHand;

    #[test]
    fn the_value_arrives_once_and_wakes() {
        let (sender, receiver) = oneshot();
        let mut receiver = ByHand::new(receiver);
        assert!(receiver.poll().is_pending());
        assert_eq!(sender.send(5), Ok(()));
        assert!(receiver.woken());
        assert_eq!(receiver.poll(), Poll::Ready(Ok(5)));
    }

    #[test]
    fn each_side_learns_that_the_other_is_gone() {
        let (sender, receiver) = oneshot::<u8>();
        let mut receiver = ByHand::new(receiver);
        assert!(receiver.poll().is_pending());
        drop(sender);
        assert!(receiver.woken());
        assert_eq!(receiver.poll(), Poll::Ready(Err(Closed)));

        let (sender, receiver) = oneshot();
        drop(receiver);
        assert!(sender.is_unwanted());
        assert_eq!(sender.send(5), Err(5));
    }
}
