//! Requests between shards, and their replies, over the rings of `mail.rs`.
//!
//! A shard has a fixed number of slots for each peer. Opening one is where an operation may meet
//! `Busy`; whoever holds a slot can ask through it, again and again, one request at a time, and never
//! meets it again. A ring has room for a request of every slot one way and a reply to every slot the
//! other way, so neither a second phase nor a reply ever finds it full: the answer to "what when
//! full" is given once, at the start, where nothing has been done yet.
//!
//! A slot that is dropped while its request is under way is not free: the reply would find a
//! stranger there. It is freed when the reply has come. Likewise an `ask` that was dropped unanswered
//! is waited out by the next `ask` of its slot. So every request must get a reply: a `Replier` that
//! is dropped silently costs the asker a slot for good.

use crate::mail::{Port, mesh};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Every slot to that peer is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// What travels in the rings.
pub enum Letter<Q, R> {
    Ask { slot: usize, question: Q },
    Reply { slot: usize, reply: R },
}

/// One shard's requests to its peers and theirs to it.
pub struct Post<Q, R> {
    inner: Rc<Inner<Q, R>>,
}

struct Inner<Q, R> {
    port: Port<Letter<Q, R>>,
    peers: Vec<Peer<R>>,
    kept: usize,
}

struct Peer<R> {
    slots: RefCell<Vec<State<R>>>,
    free: RefCell<Vec<usize>>,
    open: Cell<usize>,
}

enum State<R> {
    /// Nothing under way.
    Quiet,
    Asked(Option<Waker>),
    Answered(R),
    /// The slot was dropped before its reply came.
    Orphaned,
}

impl<Q: Send, R: Send> Post<Q, R> {
    /// Ports with room for `open_max` requests and as many replies each way.
    pub fn mesh(shards: usize, open_max: usize) -> Vec<Port<Letter<Q, R>>> {
        mesh(shards, 2 * open_max)
    }

    /// Of the `open_max` slots to each peer `kept` are for `open_kept` alone.
    pub fn new(port: Port<Letter<Q, R>>, open_max: usize, kept: usize) -> Post<Q, R> {
        assert!(open_max > kept, "without a slot nothing can be asked");
        assert!(port.capacity() >= 2 * open_max, "a reply must never find its ring full");
        let peers = (0..port.shards()).map(|_| Peer::new(open_max)).collect();
        Post { inner: Rc::new(Inner { port, peers, kept }) }
    }

    /// For `prepare_sleep`, `awake` and `set_wake`.
    pub fn port(&self) -> &Port<Letter<Q, R>> {
        &self.inner.port
    }

    pub fn me(&self) -> usize {
        self.inner.port.me()
    }

    pub fn open(&self, to: usize) -> Result<Slot<Q, R>, Busy> {
        let free = self.inner.peers[to].free.borrow().len();
        if free > self.inner.kept { self.open_kept(to) } else { Err(Busy) }
    }

    /// The same for what others wait for while they hold slots: it may have the last ones.
    pub fn open_kept(&self, to: usize) -> Result<Slot<Q, R>, Busy> {
        let peer = &self.inner.peers[to];
        let index = peer.free.borrow_mut().pop().ok_or(Busy)?;
        peer.open.set(peer.open.get() + 1);
        Ok(Slot { inner: self.inner.clone(), to, index })
    }

    /// Slots to that peer that are in use, for metrics.
    pub fn open_slots(&self, to: usize) -> usize {
        self.inner.peers[to].open.get()
    }

    /// Takes in what has arrived: replies wake their askers, requests go to `serve`, which must see
    /// to it that each is answered, now or later. Returns how many letters there were. Bounded by
    /// what all rings hold, so that peers cannot keep a shard in here.
    pub fn poll(&self, mut serve: impl FnMut(usize, Q, Replier<Q, R>)) -> usize {
        let letters_max = self.inner.port.capacity() * self.inner.port.shards();
        for count in 0..letters_max {
            let Some((from, letter)) = self.inner.port.recv() else { return count };
            match letter {
                Letter::Ask { slot, question } => {
                    serve(from, question, Replier { inner: self.inner.clone(), from, slot });
                }
                Letter::Reply { slot, reply } => self.inner.peers[from].settle(slot, reply),
            }
        }
        letters_max
    }
}

impl<Q, R> Clone for Post<Q, R> {
    fn clone(&self) -> Post<Q, R> {
        Post { inner: self.inner.clone() }
    }
}

impl<R> Peer<R> {
    fn new(open_max: usize) -> Peer<R> {
        Peer {
            slots: RefCell::new((0..open_max).map(|_| State::Quiet).collect()),
            free: RefCell::new((0..open_max).rev().collect()),
            open: Cell::new(0),
        }
    }

    fn settle(&self, slot: usize, reply: R) {
        let before = self.swap(slot, State::Answered(reply));
        match before {
            State::Asked(waker) => {
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            State::Orphaned => {
                drop(self.swap(slot, State::Quiet));
                self.release(slot);
            }
            State::Quiet | State::Answered(_) => panic!("a reply to a request nobody made"),
        }
    }

    fn swap(&self, slot: usize, state: State<R>) -> State<R> {
        std::mem::replace(&mut self.slots.borrow_mut()[slot], state)
    }

    fn release(&self, slot: usize) {
        self.free.borrow_mut().push(slot);
        self.open.set(self.open.get() - 1);
    }
}

/// The right to have one request at a time under way to one peer.
pub struct Slot<Q, R> {
    inner: Rc<Inner<Q, R>>,
    to: usize,
    index: usize,
}

impl<Q: Send, R: Send> Slot<Q, R> {
    pub fn to(&self) -> usize {
        self.to
    }

    /// Sends at the first poll. Dropping the future abandons the answer, not the request.
    pub fn ask(&mut self, question: Q) -> impl Future<Output = R> {
        let mut unsent = Some(question);
        let (inner, to, slot) = (&*self.inner, self.to, self.index);
        let peer = &inner.peers[to];
        poll_fn(move |cx| {
            let state = peer.swap(slot, State::Quiet);
            if let (State::Answered(_), None) = (&state, &unsent) {
                let State::Answered(reply) = state else { unreachable!("just matched") };
                return Poll::Ready(reply);
            }
            // A request is under way: ours, or one that was abandoned and must be waited out.
            if !matches!(state, State::Asked(_))
                && let Some(question) = unsent.take()
            {
                let sent = inner.port.send(to, Letter::Ask { slot, question });
                assert!(sent.is_ok(), "a ring has room for a request of every slot");
            }
            drop(peer.swap(slot, State::Asked(Some(cx.waker().clone()))));
            drop(state);
            Poll::Pending
        })
    }
}

impl<Q, R> Drop for Slot<Q, R> {
    fn drop(&mut self) {
        let peer = &self.inner.peers[self.to];
        let state = peer.swap(self.index, State::Quiet);
        if let State::Asked(_) = state {
            drop(peer.swap(self.index, State::Orphaned));
        } else {
            peer.release(self.index);
        }
    }
}

/// The duty to answer one request.
#[must_use = "an asker waits for the reply"]
pub struct Replier<Q, R> {
    inner: Rc<Inner<Q, R>>,
    from: usize,
    slot: usize,
}

impl<Q: Send, R: Send> Replier<Q, R> {
    pub fn reply(self, reply: R) {
        let sent = self.inner.port.send(self.from, Letter::Reply { slot: self.slot, reply });
        assert!(sent.is_ok(), "a ring has room for a reply to every slot");
    }
}

impl<Q, R> fmt::Debug for Slot<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({} to shard {})", self.index, self.to)
    }
}

impl<Q, R> fmt::Debug for Replier<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replier(slot {} of shard {})", self.slot, self.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::testing::ByHand;
    use crate::reactor::{Config, Reactor};
    use cairn_base::Nanos;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn pair(open_max: usize) -> (Post<u32, u32>, Post<u32, u32>) {
        let mut ports = Post::mesh(2, open_max).into_iter();
        let mut post = || Post::new(ports.next().expect("two ports"), open_max, 0);
        (post(), post())
    }

    fn no_requests(_: usize, _: u32, _: Replier<u32, u32>) {
        panic!("nobody asks here");
    }

    fn double(_: usize, question: u32, replier: Replier<u32, u32>) {
        replier.reply(2 * question);
    }

    #[test]
    fn a_slot_asks_twice_while_every_other_slot_is_taken() {
        let (here, there) = pair(2);
        let mut slot = here.open(1).expect("free");
        let _other = here.open(1).expect("free");
        assert_eq!(here.open(1).err(), Some(Busy));
        for phase in 1..3 {
            let mut ask = ByHand::new(slot.ask(phase));
            assert!(ask.poll().is_pending());
            assert_eq!(there.poll(double), 1);
            assert_eq!(here.poll(no_requests), 1);
            assert!(ask.woken());
            assert_eq!(ask.poll(), Poll::Ready(2 * phase));
        }
        drop(slot);
        assert!(here.open(1).is_ok());
    }

    #[test]
    fn a_slot_dropped_with_a_request_under_way_is_free_only_after_the_reply() {
        let (here, there) = pair(1);
        let mut slot = here.open(1).expect("free");
        let mut ask = ByHand::new(slot.ask(1));
        assert!(ask.poll().is_pending());
        drop(ask);
        drop(slot);
        assert_eq!(here.open(1).err(), Some(Busy));
        there.poll(double);
        here.poll(no_requests);
        let mut slot = here.open(1).expect("the reply has come");
        let mut ask = ByHand::new(slot.ask(5));
        assert!(ask.poll().is_pending(), "the late reply is not this one's");
        there.poll(double);
        here.poll(no_requests);
        assert_eq!(ask.poll(), Poll::Ready(10));
    }

    #[test]
    fn an_abandoned_ask_is_waited_out_by_the_next_one() {
        let (here, there) = pair(1);
        let mut slot = here.open(1).expect("free");
        assert!(ByHand::new(slot.ask(1)).poll().is_pending());
        let mut second = ByHand::new(slot.ask(7));
        assert!(second.poll().is_pending());
        assert_eq!(there.poll(double), 1);
        here.poll(no_requests);
        assert!(second.poll().is_pending(), "2 was the answer to another question");
        assert_eq!(there.poll(double), 1);
        here.poll(no_requests);
        assert_eq!(second.poll(), Poll::Ready(14));
    }

    #[test]
    fn late_replies_find_room_when_all_slots_ask_both_ways() {
        let (here, there) = pair(4);
        let mut kept: Vec<Replier<u32, u32>> = Vec::new();
        let mut slots: Vec<_> = (0..8)
            .map(|n| if n < 4 { here.open(1) } else { there.open(0) }.expect("free"))
            .collect();
        let mut asks: Vec<_> = slots.iter_mut().map(|slot| ByHand::new(slot.ask(21))).collect();
        assert!(asks.iter_mut().all(|ask| ask.poll().is_pending()));
        assert_eq!(here.poll(|_, _, replier| kept.push(replier)), 4);
        assert_eq!(there.poll(|_, _, replier| kept.push(replier)), 4);
        for replier in kept {
            replier.reply(42);
        }
        here.poll(no_requests);
        there.poll(no_requests);
        assert!(asks.iter_mut().all(|ask| ask.poll() == Poll::Ready(42)));
    }

    /// Two shards on two threads, each asking the other as fast as its slots allow.
    #[test]
    fn two_threads_ask_each_other_and_every_answer_fits_its_question() {
        let asks_each: u32 = if cfg!(miri) { 20 } else { 5_000 };
        let done = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = Post::<u32, u32>::mesh(2, 4)
            .into_iter()
            .map(|port| {
                let done = done.clone();
                std::thread::spawn(move || {
                    let reactor = Reactor::new(Config::default());
                    let gate = reactor.handle().gate("asker");
                    let post = Post::new(port, 4, 0);
                    let finished = Rc::new(Cell::new(0));
                    for asker in 0..4 {
                        let (post, finished) = (post.clone(), finished.clone());
                        let ask_all = async move {
                            let mut slot = post.open(1 - post.me()).expect("one slot an asker");
                            for number in 0..asks_each {
                                let question = number * 4 + asker;
                                assert_eq!(slot.ask(question).await, question + 1);
                            }
                            finished.set(finished.get() + 1);
                        };
                        gate.spawn(ask_all).expect("the gate is open");
                    }
                    let mut reported = false;
                    while done.load(Ordering::Acquire) < 2 {
                        let arrived = post.poll(|_, question, replier| replier.reply(question + 1));
                        let turn = reactor.turn(Nanos(0));
                        if finished.get() == 4 && !reported {
                            reported = true;
                            done.fetch_add(1, Ordering::AcqRel);
                        }
                        if arrived == 0 && turn.ran == 0 {
                            std::thread::yield_now();
                        }
                    }
                    finished.get()
                })
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().expect("no panic"), 4);
        }
    }

    #[test]
    fn the_last_slots_are_for_those_that_may_have_them() {
        let mut ports = Post::<u32, u32>::mesh(2, 4).into_iter();
        let here = Post::new(ports.next().expect("two ports"), 4, 2);
        let _two = (here.open(1).expect("free"), here.open(1).expect("free"));
        assert_eq!(here.open(1).err(), Some(Busy));
        let _kept = (here.open_kept(1).expect("kept"), here.open_kept(1).expect("kept"));
        assert_eq!(here.open_kept(1).err(), Some(Busy));
    }
}
