//! Mail between shards: a bounded ring from each shard to each, itself included.
//!
//! A ring has one writer and one reader, so sending is a store and receiving a load, with no lock and
//! no line that three cores fight over. A full ring is an answer, `Full`, that carries the message
//! back; nothing grows. A shard reads its rings in turn, one message each, so that a busy peer does
//! not shut out a quiet one.
//!
//! A shard that is about to sleep says so with `prepare_sleep` and then looks at its rings once more;
//! a sender stores its message and then looks whether the receiver sleeps. Both put a sequentially
//! consistent fence between their store and their look, so at least one of them sees the other: either
//! the shard finds the message and stays awake, or the sender finds it sleeping and calls its wake
//! hook. Only one sender calls it: the flag is taken.
//!
//! A `Port` is made anywhere, moved to its shard's thread, and used there. It works the same when
//! all the shards are stepped on one thread. Requests with replies are one storey up, in `post.rs`.

use rtrb::{Consumer, Producer, PushError, RingBuffer};
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};

/// The ring to that shard has no room; the message comes back.
#[derive(Debug, PartialEq, Eq)]
pub struct Full<M>(pub M);

/// One shard's end of all its rings.
pub struct Port<M> {
    me: usize,
    outgoing: Vec<RefCell<Producer<M>>>,
    incoming: Vec<RefCell<Consumer<M>>>,
    next: Cell<usize>,
    beds: Arc<[Bed]>,
    capacity: usize,
}

/// Where one shard sleeps. A cache line (and its neighbour) of its own: all senders read it.
#[repr(align(128))]
#[derive(Default)]
struct Bed {
    sleeping: AtomicBool,
    wake: OnceLock<Arc<dyn Fn() + Send + Sync>>,
}

/// The ports of `shards` shards; each ring holds `capacity` messages.
pub fn mesh<M: Send>(shards: usize, capacity: usize) -> Vec<Port<M>> {
    let beds: Arc<[Bed]> = (0..shards).map(|_| Bed::default()).collect();
    let port = |me| Port {
        me,
        outgoing: Vec::with_capacity(shards),
        incoming: Vec::with_capacity(shards),
        next: Cell::new(0),
        beds: beds.clone(),
        capacity,
    };
    let mut ports: Vec<Port<M>> = (0..shards).map(port).collect();
    for from in 0..shards {
        for to in 0..shards {
            let (producer, consumer) = RingBuffer::new(capacity);
            ports[from].outgoing.push(RefCell::new(producer)); // becomes outgoing[to]
            ports[to].incoming.push(RefCell::new(consumer)); // becomes incoming[from]
        }
    }
    ports
}

impl<M: Send> Port<M> {
    pub fn me(&self) -> usize {
        self.me
    }

    pub fn shards(&self) -> usize {
        self.outgoing.len()
    }

    /// Messages that one ring holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    pub fn send(&self, to: usize, message: M) -> Result<(), Full<M>> {
        let pushed = self.outgoing[to].borrow_mut().push(message);
        if let Err(PushError::Full(message)) = pushed {
            return Err(Full(message));
        }
        fence(Ordering::SeqCst); // against the one in `prepare_sleep`
        let bed = &self.beds[to];
        if bed.sleeping.load(Ordering::Relaxed) && bed.sleeping.swap(false, Ordering::AcqRel) {
            // Absent only where shards are stepped by hand and none really sleeps.
            if let Some(wake) = bed.wake.get() {
                wake();
            }
        }
        Ok(())
    }

    /// The next message, and the shard it is from.
    pub fn recv(&self) -> Option<(usize, M)> {
        let shards = self.shards();
        for step in 0..shards {
            let from = (self.next.get() + step) % shards;
            let popped = self.incoming[from].borrow_mut().pop();
            if let Ok(message) = popped {
                self.next.set((from + 1) % shards);
                return Some((from, message));
            }
        }
        None
    }

    pub fn is_empty(&self) -> bool {
        self.incoming.iter().all(|ring| ring.borrow().is_empty())
    }

    /// How this shard's sleep is ended from another thread. Once, before the first sleep.
    pub fn set_wake(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        let again = self.beds[self.me].wake.set(wake).is_err();
        assert!(!again, "a shard has one place to sleep");
    }

    /// From here on senders call the wake hook, until `awake`. False when there is mail to read
    /// first; then nothing has changed.
    #[must_use]
    pub fn prepare_sleep(&self) -> bool {
        self.beds[self.me].sleeping.store(true, Ordering::Release);
        fence(Ordering::SeqCst); // against the one in `send`
        if self.is_empty() {
            return true;
        }
        self.awake();
        false
    }

    pub fn awake(&self) {
        self.beds[self.me].sleeping.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    #[test]
    fn messages_of_one_sender_stay_in_order_and_senders_take_turns() {
        let ports = mesh(3, 4);
        for number in 0..2 {
            assert_eq!(ports[1].send(0, (1, number)), Ok(()));
            assert_eq!(ports[2].send(0, (2, number)), Ok(()));
        }
        let got: Vec<_> = std::iter::from_fn(|| ports[0].recv()).collect();
        assert_eq!(got, [(1, (1, 0)), (2, (2, 0)), (1, (1, 1)), (2, (2, 1))]);
        assert!(ports[1].recv().is_none());
    }

    #[test]
    fn a_full_ring_gives_the_message_back_and_other_rings_have_room() {
        let ports = mesh(2, 1);
        assert_eq!(ports[0].send(1, 'a'), Ok(()));
        assert_eq!(ports[0].send(1, 'b'), Err(Full('b')));
        assert_eq!(ports[0].send(0, 'c'), Ok(()));
        assert_eq!(ports[1].recv(), Some((0, 'a')));
        assert_eq!(ports[0].send(1, 'b'), Ok(()));
    }

    #[test]
    fn a_sleeper_is_woken_once_and_mail_keeps_a_shard_awake() {
        let ports = mesh(2, 8);
        let wakes = Arc::new(AtomicUsize::new(0));
        let count = wakes.clone();
        ports[1].set_wake(Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        assert_eq!(ports[0].send(1, 0), Ok(()));
        assert_eq!(wakes.load(Ordering::Relaxed), 0, "it is awake");
        assert!(!ports[1].prepare_sleep(), "there is mail");
        assert_eq!(ports[0].send(1, 1), Ok(()));
        assert_eq!(wakes.load(Ordering::Relaxed), 0);
        while ports[1].recv().is_some() {}
        assert!(ports[1].prepare_sleep());
        assert_eq!(ports[0].send(1, 2), Ok(()));
        assert_eq!(ports[0].send(1, 3), Ok(()));
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
    }

    /// Both sides sleep whenever they may, on a channel that stands for the ring. A wake-up that
    /// got lost leaves both asleep, and the test hangs.
    #[test]
    fn two_threads_that_sleep_between_messages_lose_no_wake_up() {
        let rounds: u32 = if cfg!(miri) { 50 } else { 20_000 };
        let ports = mesh::<u32>(2, 2);
        let threads: Vec<_> = ports
            .into_iter()
            .map(|port| {
                std::thread::spawn(move || {
                    let (wake, woken) = mpsc::channel();
                    port.set_wake(Arc::new(move || wake.send(()).expect("the sleeper lives")));
                    let peer = 1 - port.me();
                    if port.me() == 0 {
                        port.send(peer, 0).expect("room for the first");
                    }
                    loop {
                        let Some((_, number)) = port.recv() else {
                            if port.prepare_sleep() {
                                woken.recv().expect("the hook lives");
                                port.awake();
                            }
                            continue;
                        };
                        if number < rounds {
                            port.send(peer, number + 1).expect("one message is under way");
                        }
                        if number + 1 >= rounds {
                            return number;
                        }
                    }
                })
            })
            .collect();
        let last: Vec<u32> = threads.into_iter().map(|t| t.join().expect("no panic")).collect();
        assert_eq!(last.iter().max(), Some(&rounds));
    }
}
