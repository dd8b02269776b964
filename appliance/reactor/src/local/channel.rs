//! A bounded queue between tasks of one core: several senders, one receiver.
//!
//! Full is an answer (`try_send`) or a wait (`send`), never growth.

use crate::Closed;
use crate::local::WaitList;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

struct Queue<T> {
    items: RefCell<VecDeque<T>>,
    capacity: usize,
    senders: Cell<usize>,
    receiver_gone: Cell<bool>,
    not_full: WaitList,
    not_empty: WaitList,
}

pub struct Sender<T> {
    queue: Rc<Queue<T>>,
}

pub struct Receiver<T> {
    queue: Rc<Queue<T>>,
}

/// The item comes back.
#[derive(Debug, PartialEq, Eq)]
pub enum TrySendError<T> {
    Full(T),
    Closed(T),
}

pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a channel without room passes nothing");
    let queue = Queue {
        items: RefCell::new(VecDeque::with_capacity(capacity)),
        capacity,
        senders: Cell::new(1),
        receiver_gone: Cell::new(false),
        not_full: WaitList::new(),
        not_empty: WaitList::new(),
    };
    let queue = Rc::new(queue);
    (Sender { queue: queue.clone() }, Receiver { queue })
}

impl<T> Sender<T> {
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        if self.queue.receiver_gone.get() {
            return Err(TrySendError::Closed(item));
        }
        let mut items = self.queue.items.borrow_mut();
        if items.len() == self.queue.capacity {
            return Err(TrySendError::Full(item));
        }
        items.push_back(item);
        drop(items);
        self.queue.not_empty.wake_one();
        Ok(())
    }

    /// Waits for room. When the receiver is gone the item is dropped.
    pub async fn send(&self, item: T) -> Result<(), Closed> {
        let mut unsent = Some(item);
        let attempt = || match self.try_send(unsent.take()?) {
            Ok(()) => Some(Ok(())),
            Err(TrySendError::Closed(_)) => Some(Err(Closed)),
            Err(TrySendError::Full(item)) => {
                unsent = Some(item);
                None
            }
        };
        self.queue.not_full.until(attempt).await
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.queue.senders.set(self.queue.senders.get() + 1);
        Sender { queue: self.queue.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let senders = self.queue.senders.get() - 1;
        self.queue.senders.set(senders);
        if senders == 0 {
            self.queue.not_empty.wake_all();
        }
    }
}

impl<T> Receiver<T> {
    pub fn try_recv(&self) -> Option<T> {
        let item = self.queue.items.borrow_mut().pop_front()?;
        self.queue.not_full.wake_one();
        Some(item)
    }

    /// `None` when the queue is empty and every sender is gone.
    pub async fn recv(&self) -> Option<T> {
        let attempt = || match self.try_recv() {
            Some(item) => Some(Some(item)),
            None => (self.queue.senders.get() == 0).then_some(None),
        };
        self.queue.not_empty.until(attempt).await
    }

    pub fn len(&self) -> usize {
        self.queue.items.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.items.borrow().is_empty()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.queue.receiver_gone.set(true);
        let unread = self.queue.items.take();
        drop(unread);
        self.queue.not_full.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::testing::ByHand;
    use std::task::Poll;

    #[test]
    fn a_full_channel_says_so_and_a_waiting_sender_gets_the_freed_place() {
        let (sender, receiver) = channel(1);
        assert_eq!(sender.try_send(1), Ok(()));
        assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
        let mut waiting = ByHand::new(sender.send(3));
        assert!(waiting.poll().is_pending());
        assert_eq!(receiver.try_recv(), Some(1));
        assert!(waiting.woken());
        assert_eq!(waiting.poll(), Poll::Ready(Ok(())));
        assert_eq!(receiver.try_recv(), Some(3));
    }

    #[test]
    fn what_was_sent_before_the_last_sender_left_is_still_received() {
        let (sender, receiver) = channel(4);
        let second = sender.clone();
        assert_eq!(sender.try_send(1), Ok(()));
        drop(sender);
        assert_eq!(second.try_send(2), Ok(()));
        drop(second);
        let mut all = Vec::new();
        while let Poll::Ready(Some(item)) = ByHand::new(receiver.recv()).poll() {
            all.push(item);
        }
        assert_eq!(all, [1, 2]);
        assert_eq!(ByHand::new(receiver.recv()).poll(), Poll::Ready(None));
    }

    #[test]
    fn a_waiting_sender_learns_that_the_receiver_left() {
        let (sender, receiver) = channel(1);
        assert_eq!(sender.try_send(1), Ok(()));
        let mut waiting = ByHand::new(sender.send(2));
        assert!(waiting.poll().is_pending());
        drop(receiver);
        assert!(waiting.woken());
        assert_eq!(waiting.poll(), Poll::Ready(Err(Closed)));
    }
}
