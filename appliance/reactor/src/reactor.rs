//! The reactor: the tasks and timers of one core, advanced one turn at a time.
//!
//! `turn` is the whole of it. It takes the time, wakes the timers that are due, and polls ready
//! tasks, oldest first, until none is ready or the budget of polls is spent. What it could not get to
//! stays ready for the next turn, so devices, network and mail are looked at between any two budgets.
//! A task that yields runs again in the next turn, not in this one, for the same reason.
//!
//! There is no I/O in here and no clock. Whoever owns the loop calls `turn(now)` and decides, from
//! what it returns, whether to poll again or to sleep until the next timer. The simulator calls it
//! for several reactors on one thread.
//!
//! What always holds: time never goes back (an earlier `now` is ignored); the order of polls
//! depends on the order of wakes alone; after the reactor is dropped no future of it lives, even
//! where a task holds a handle to its own reactor.

use crate::Closed;
use crate::gate::Gate;
use crate::race::{Either, race};
use crate::stall::{StallLimit, Stalls};
use crate::task::{ReadyQueue, Task};
use crate::timer::{Elapsed, Sleep, Timers};
use cairn_base::Nanos;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

pub struct Config {
    /// Tasks polled in one turn before devices and mail are looked at again.
    pub polls_per_turn: usize,
    pub stall: Option<StallLimit>,
}

impl Default for Config {
    /// 256 polls of about a microsecond: a quarter of a millisecond between looks at the devices.
    fn default() -> Config {
        Config { polls_per_turn: 256, stall: None }
    }
}

/// What one turn did, and what there is to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Tasks polled.
    pub ran: usize,
    /// More could run at once.
    pub ready: bool,
    pub next_timer: Option<Nanos>,
}

/// The owner of one core's tasks. Dropping it drops them.
pub struct Reactor {
    core: Rc<Core>,
}

/// What tasks hold of their reactor.
#[derive(Clone)]
pub struct Handle {
    core: Rc<Core>,
}

struct Core {
    ready: Rc<ReadyQueue>,
    tasks: RefCell<Slab<Rc<Task>>>,
    timers: RefCell<Timers>,
    yielded: RefCell<Vec<Waker>>,
    now: Cell<Nanos>,
    ended: Cell<bool>,
    polls_per_turn: usize,
    stall: Option<StallLimit>,
    stalls: Cell<Stalls>,
}

impl Reactor {
    pub fn new(config: Config) -> Reactor {
        assert!(config.polls_per_turn > 0, "a turn that polls nothing never ends anything");
        let core = Core {
            ready: Rc::default(),
            tasks: RefCell::default(),
            timers: RefCell::default(),
            yielded: RefCell::default(),
            now: Cell::default(),
            ended: Cell::new(false),
            polls_per_turn: config.polls_per_turn,
            stall: config.stall,
            stalls: Cell::default(),
        };
        Reactor { core: Rc::new(core) }
    }

    pub fn handle(&self) -> Handle {
        Handle { core: self.core.clone() }
    }

    pub fn turn(&self, now: Nanos) -> Turn {
        let core = &*self.core;
        core.now.set(core.now.get().max(now));
        for waker in core.yielded.take() {
            waker.wake();
        }
        loop {
            // One at a time, so that no borrow is held while a waker runs.
            let due = core.timers.borrow_mut().pop_due(core.now.get());
            let Some(waker) = due else { break };
            waker.wake();
        }
        let ran = match &core.stall {
            None => core.run(|task| task.poll()),
            Some(stall) => {
                let mut before = (stall.clock)();
                core.run(|task| {
                    let ended = task.poll();
                    let after = (stall.clock)();
                    let mut stalls = core.stalls.get();
                    stalls.note(stall.limit, task.name, after.saturating_sub(before));
                    core.stalls.set(stalls);
                    before = after;
                    ended
                })
            }
        };
        Turn {
            ran,
            ready: !core.ready.is_empty() || !core.yielded.borrow().is_empty(),
            next_timer: core.timers.borrow().next(),
        }
    }

    /// Runs the loop until `future` has its answer. `pump` stands for everything around the
    /// reactor: it is told what the last turn left, does its I/O, perhaps sleeps, and says what time
    /// it is. It is asked once before the first turn.
    pub fn run_until<T>(
        &self,
        future: impl Future<Output = T>,
        mut pump: impl FnMut(Turn) -> Nanos,
    ) -> T {
        let mut future = pin!(future);
        let wakes = Rc::new(ReadyQueue::default());
        let root = Task::without_future("run_until", &wakes);
        root.make_ready();
        let mut turn = Turn { ran: 0, ready: true, next_timer: None };
        loop {
            let now = pump(turn);
            turn = self.turn(now);
            if wakes.pop().is_some() {
                let waker = root.waker();
                if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker))
                {
                    return output;
                }
                turn.ran += 1;
                // The poll may have woken tasks or set a timer since the turn looked.
                turn.ready = true;
            }
        }
    }
}

impl Drop for Reactor {
    /// Futures hold handles and handles hold the core, so the circle is cut here.
    fn drop(&mut self) {
        let core = &*self.core;
        core.ended.set(true);
        loop {
            // A future's drop may use the table, so it happens outside of the borrow.
            let last = core.tasks.borrow().iter().next().map(|(slot, _)| slot);
            let Some(slot) = last else { break };
            let task = core.tasks.borrow_mut().remove(slot);
            task.abandon();
        }
        while core.ready.pop().is_some() {}
        drop(core.yielded.take());
        let timers = core.timers.borrow_mut().clear();
        drop(timers);
    }
}

impl Core {
    fn run(&self, mut poll: impl FnMut(&Rc<Task>) -> bool) -> usize {
        let mut ran = 0;
        while ran < self.polls_per_turn {
            let Some(task) = self.ready.pop() else { break };
            ran += 1;
            if poll(&task) {
                let gone = self.tasks.borrow_mut().remove(task.slot);
                drop(gone);
            }
        }
        ran
    }
}

impl Handle {
    /// The time of the current turn.
    pub fn now(&self) -> Nanos {
        self.core.now.get()
    }

    pub fn sleep(&self, duration: Nanos) -> Sleep {
        self.sleep_until(self.now() + duration)
    }

    pub fn sleep_until(&self, deadline: Nanos) -> Sleep {
        Sleep::new(self.clone(), deadline)
    }

    /// Gives `future` until `duration` from now, then drops it.
    pub async fn timeout<T>(
        &self,
        duration: Nanos,
        future: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        match race(future, self.sleep(duration)).await {
            Either::Left(output) => Ok(output),
            Either::Right(()) => Err(Elapsed),
        }
    }

    /// Lets everything else on this core have its turn, devices and mail included.
    pub fn yield_now(&self) -> impl Future<Output = ()> + use<> {
        let core = self.core.clone();
        let mut yielded = false;
        std::future::poll_fn(move |cx| {
            if yielded {
                return Poll::Ready(());
            }
            yielded = true;
            core.yielded.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
    }

    pub fn gate(&self, name: &'static str) -> Gate {
        Gate::new(self, name)
    }

    /// What the stall detector has seen.
    pub fn stalls(&self) -> Stalls {
        self.core.stalls.get()
    }

    /// Tasks that have not ended.
    pub fn tasks_len(&self) -> usize {
        self.core.tasks.borrow().len()
    }

    /// Only gates spawn.
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        future: impl Future<Output = ()> + 'static,
    ) -> Result<(), Closed> {
        if self.core.ended.get() {
            return Err(Closed);
        }
        let mut tasks = self.core.tasks.borrow_mut();
        let entry = tasks.vacant_entry();
        let task = Task::new(name, entry.key(), &self.core.ready, future);
        task.make_ready();
        entry.insert(task);
        Ok(())
    }

    pub(crate) fn timers(&self) -> &RefCell<Timers> {
        &self.core.timers
    }
}

/// A pump for simulated time: when nothing is ready it jumps to the next timer. Panics when
/// nothing can ever happen again, which in a test is a deadlock.
pub fn virtual_time() -> impl FnMut(Turn) -> Nanos {
    let mut now = Nanos(0);
    move |turn| {
        if !turn.ready {
            now = turn.next_timer.expect("nothing is ready and no timer is set: a deadlock");
        }
        now
    }
}
