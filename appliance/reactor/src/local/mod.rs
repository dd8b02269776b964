//! What the tasks of one core share and wait on: a wait list, and what is made of it.
//!
//! Everything here is for one thread. A value that changes only between two awaits needs no lock,
//! and a waiter that checks and then registers without an await in between misses no wake. So the
//! whole family is a condition and a list of wakers in order of arrival. First come, first served,
//! also when a waiter was woken and found its turn taken: it keeps its place. Dropping a waiting
//! future leaves the list, and a wake meant for it passes to the next.

mod channel;
mod oneshot;
mod semaphore;
mod wait_list;

pub use channel::{Receiver, Sender, TrySendError, channel};
pub use oneshot::{OneshotReceiver, OneshotSender, oneshot};
pub use semaphore::{Guard, Semaphore};
pub use wait_list::{Notify, WaitList};

#[cfg(test)]
pub(crate) mod testing {
    //! Polls a future by hand, with a waker that only counts.

    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) struct ByHand<F> {
        future: Pin<Box<F>>,
        count: Arc<Count>,
    }

    impl<F: Future> ByHand<F> {
        pub(crate) fn new(future: F) -> ByHand<F> {
            ByHand { future: Box::pin(future), count: Arc::default() }
        }

        pub(crate) fn poll(&mut self) -> Poll<F::Output> {
            let waker = Waker::from(self.count.clone());
            self.future.as_mut().poll(&mut Context::from_waker(&waker))
        }

        pub(crate) fn woken(&self) -> bool {
            self.count.0.load(Ordering::Relaxed) > 0
        }
    }
}
