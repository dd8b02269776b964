//! The polled loop of one shard's thread: devices and network, mail, control calls, then a turn of
//! the reactor; and between two rounds the choice to spin or to sleep.
//!
//! A shard sleeps in its ring, where a completion or a timer ends the sleep. Two things arrive past
//! the ring: mail from other shards and calls from the control thread. Both wake the ring through
//! its `RingWaker`. Mail only does so when the shard has said that it sleeps, so the order here
//! matters: say so, look once more, then sleep (`reactor/src/mail.rs` has the proof). A control call
//! always wakes, so for those there is no order to keep.
//!
//! The clock is read once per round. The share of useful work counts the time of rounds that did
//! something, sleeping excluded; it is the number that tells an overloaded shard from a polling one.

use crate::doors::SystemClock;
use cairn_base::Nanos;
use cairn_base::door::Clock;
use cairn_base::ring::Ring;
use cairn_reactor::{Action, Idle, IdlePolicy, Reactor};
use nix::sys::resource::{UsageWho, getrusage};
use std::cell::Cell;
use std::rc::Rc;

/// Rounds of the measurement below, and the sleep asked for in each.
const PROBES: usize = 9;
const PROBE_SLEEP: Nanos = Nanos(20_000);
/// What the measurement may say, so that a stall while measuring does not make a shard spin for
/// milliseconds ever after.
const SPIN_MIN: Nanos = Nanos(5_000);
const SPIN_MAX: Nanos = Nanos(200_000);

/// What arrives from other threads.
pub trait Mailbox {
    /// Takes in what has arrived; how much it was.
    fn poll(&self) -> usize;
    /// False when something waits; else others wake the ring from now on.
    fn prepare_sleep(&self) -> bool;
    fn awake(&self);
}

/// Time by what it was spent on, since the loop began.
#[derive(Clone, Default)]
pub struct Share {
    useful: Rc<Cell<Nanos>>,
    total: Rc<Cell<Nanos>>,
}

impl Share {
    fn note(&self, spent: Nanos, useful: bool) {
        self.total.set(self.total.get() + spent);
        if useful {
            self.useful.set(self.useful.get() + spent);
        }
    }

    /// The time that did something.
    pub fn useful(&self) -> Nanos {
        self.useful.get()
    }

    /// Of 1000 parts of the time, those that did something.
    pub fn permille(&self) -> u32 {
        let total = u128::from(self.total.get().0.max(1));
        let permille = u128::from(self.useful.get().0) * 1000 / total;
        u32::try_from(permille).unwrap_or(1000).min(1000)
    }
}

pub struct ShardLoop {
    ring: Ring,
    reactor: Reactor,
    clock: SystemClock,
    idle: Idle,
    share: Share,
    round_began: Nanos,
    switches: u64,
}

impl ShardLoop {
    /// Measures on the calling thread what a sleep costs, which takes a millisecond or two.
    pub fn new(ring: Ring, reactor: Reactor, clock: SystemClock, policy: IdlePolicy) -> ShardLoop {
        let spin_for = measure_sleep(&ring, &clock);
        let round_began = clock.monotonic();
        let idle = Idle::new(policy, spin_for);
        let share = Share::default();
        ShardLoop { ring, reactor, clock, idle, share, round_began, switches: 0 }
    }

    pub fn share(&self) -> Share {
        self.share.clone()
    }

    /// One round, with a sleep at its end when there is nothing to do.
    pub fn round(&mut self, mailbox: &impl Mailbox) {
        let arrived = self.ring.poll() + mailbox.poll();
        let now = self.clock.monotonic();
        let turn = self.reactor.turn(now);
        let worked = arrived > 0 || turn.ran > 0;
        let ended = self.clock.monotonic();
        self.share.note(ended.saturating_sub(self.round_began), worked);
        self.round_began = ended;
        if turn.ready {
            return;
        }
        if !worked {
            self.switches = involuntary_switches();
        }
        if self.idle.step(ended, worked, self.switches) == Action::Spin || !mailbox.prepare_sleep()
        {
            return;
        }
        let at_most = turn.next_timer.map(|due| due.saturating_sub(ended));
        self.ring.wait(at_most);
        mailbox.awake();
        let woke = self.clock.monotonic();
        self.share.note(woke.saturating_sub(ended), false);
        self.round_began = woke;
    }
}

/// How often the kernel has taken the core from this thread.
fn involuntary_switches() -> u64 {
    getrusage(UsageWho::RUSAGE_THREAD)
        .map_or(0, |usage| u64::try_from(usage.involuntary_context_switches()).unwrap_or(0))
}

/// What it costs to sleep and be back, beyond the time asked for: the median of a few sleeps.
fn measure_sleep(ring: &Ring, clock: &SystemClock) -> Nanos {
    let mut costs: Vec<Nanos> = (0..PROBES)
        .map(|_| {
            let before = clock.monotonic();
            ring.wait(Some(PROBE_SLEEP));
            clock.monotonic().saturating_sub(before).saturating_sub(PROBE_SLEEP)
        })
        .collect();
    costs.sort_unstable();
    costs[PROBES / 2].clamp(SPIN_MIN, SPIN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::ring::RingWaker;
    use std::sync::mpsc;

    /// Mail from a thread over a channel, which wakes always.
    struct Channel {
        mail: mpsc::Receiver<u32>,
        sum: Cell<u32>,
    }

    impl Mailbox for Channel {
        fn poll(&self) -> usize {
            let mut count = 0;
            while let Ok(number) = self.mail.try_recv() {
                self.sum.set(self.sum.get() + number);
                count += 1;
            }
            count
        }

        fn prepare_sleep(&self) -> bool {
            true
        }

        fn awake(&self) {}
    }

    #[test]
    fn a_loop_that_sleeps_is_woken_by_mail_and_by_timers() {
        let waker = RingWaker::new().unwrap();
        let ring = Ring::with_waker(8, &waker).unwrap();
        let reactor = Reactor::new(cairn_reactor::Config::default());
        let handle = reactor.handle();
        let mut shard = ShardLoop::new(ring, reactor, SystemClock::new(), IdlePolicy::Adaptive);
        let (send, mail) = mpsc::channel();
        let mailbox = Channel { mail, sum: Cell::new(0) };
        let sender = std::thread::spawn(move || {
            for _ in 0..100 {
                send.send(1).unwrap();
                waker.wake();
            }
        });
        while mailbox.sum.get() < 100 {
            shard.round(&mailbox);
        }
        sender.join().unwrap();
        let rung = Rc::new(Cell::new(false));
        let rings = rung.clone();
        let gate = handle.gate("alarm");
        gate.spawn(async move {
            handle.sleep(Nanos::from_millis(5)).await;
            rings.set(true);
        })
        .unwrap();
        while !rung.get() {
            shard.round(&mailbox);
        }
        assert!(shard.share().permille() <= 1000);
    }

    #[test]
    fn the_share_counts_only_rounds_that_did_something() {
        let share = Share::default();
        assert_eq!(share.permille(), 0);
        share.note(Nanos(300), true);
        share.note(Nanos(700), false);
        assert_eq!(share.permille(), 300);
    }
}
