//! The executor, its timers and its gates, as a component sees them.

use cairn_base::Nanos;
use cairn_reactor::{
    Closed, Config, Elapsed, Handle, Notify, Reactor, StallLimit, oneshot, virtual_time,
};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

fn reactor() -> Reactor {
    Reactor::new(Config::default())
}

#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<&'static str>>>);

impl Log {
    fn add(&self, what: &'static str) {
        self.0.borrow_mut().push(what);
    }

    fn take(&self) -> Vec<&'static str> {
        self.0.take()
    }
}

struct LogOnDrop(Log, &'static str);

impl Drop for LogOnDrop {
    fn drop(&mut self) {
        self.0.add(self.1);
    }
}

#[test]
fn ready_tasks_run_in_the_order_they_became_ready() {
    let reactor = reactor();
    let gate = reactor.handle().gate("test");
    let log = Log::default();
    let notify = Notify::new();
    for name in ["first", "second"] {
        let (log, notify) = (log.clone(), notify.clone());
        gate.spawn(async move {
            notify.wait().await;
            log.add(name);
        })
        .unwrap();
    }
    assert_eq!(reactor.turn(Nanos(0)).ran, 2);
    assert_eq!(reactor.turn(Nanos(0)).ran, 0, "nothing has woken them");
    let late = log.clone();
    gate.spawn(async move { late.add("spawned before the wake") }).unwrap();
    notify.notify_all();
    assert_eq!(reactor.turn(Nanos(0)).ran, 3);
    assert_eq!(log.take(), ["spawned before the wake", "first", "second"]);
    assert_eq!(reactor.handle().tasks_len(), 0);
}

#[test]
fn a_turn_stops_at_its_budget_and_says_there_is_more() {
    let reactor = Reactor::new(Config { polls_per_turn: 2, stall: None });
    let gate = reactor.handle().gate("test");
    for _ in 0..3 {
        gate.spawn(async {}).unwrap();
    }
    let turn = reactor.turn(Nanos(0));
    assert_eq!((turn.ran, turn.ready), (2, true));
    let turn = reactor.turn(Nanos(0));
    assert_eq!((turn.ran, turn.ready), (1, false));
}

#[test]
fn a_task_that_yields_runs_again_in_the_next_turn_only() {
    let reactor = reactor();
    let handle = reactor.handle();
    let polls = Rc::new(Cell::new(0));
    let count = polls.clone();
    let yields = async move {
        for _ in 0..3 {
            count.set(count.get() + 1);
            handle.yield_now().await;
        }
    };
    reactor.handle().gate("test").spawn(yields).unwrap();
    for turns in 1..=3 {
        assert!(reactor.turn(Nanos(0)).ready);
        assert_eq!(polls.get(), turns);
    }
    assert!(!reactor.turn(Nanos(0)).ready);
}

#[test]
fn a_stale_waker_does_not_touch_the_task_that_took_the_slot() {
    let reactor = reactor();
    let gate = reactor.handle().gate("test");
    let kept: Rc<RefCell<Option<Waker>>> = Rc::default();
    let keep = kept.clone();
    let first = poll_fn(move |cx| {
        keep.replace(Some(cx.waker().clone()));
        Poll::Ready(())
    });
    gate.spawn(first).unwrap();
    reactor.turn(Nanos(0));
    assert_eq!(reactor.handle().tasks_len(), 0);

    let polls = Rc::new(Cell::new(0));
    let count = polls.clone();
    let second = poll_fn(move |_| {
        count.set(count.get() + 1);
        Poll::<()>::Pending
    });
    gate.spawn(second).unwrap();
    reactor.turn(Nanos(0));
    assert_eq!(polls.get(), 1);
    kept.take().unwrap().wake();
    reactor.turn(Nanos(0));
    assert_eq!(polls.get(), 1);
    assert_eq!(reactor.handle().tasks_len(), 1);
}

#[test]
fn dropping_the_reactor_drops_every_future_even_one_that_holds_its_handle() {
    let log = Log::default();
    let reactor = reactor();
    let gate = reactor.handle().gate("test");
    let (handle, held) = (reactor.handle(), LogOnDrop(log.clone(), "sleeper dropped"));
    gate.spawn(async move {
        handle.sleep(Nanos(100)).await;
        drop(held);
    })
    .unwrap();
    reactor.turn(Nanos(0));
    let never_polled = LogOnDrop(log.clone(), "unpolled dropped");
    gate.spawn(async move { drop(never_polled) }).unwrap();
    drop(reactor);
    assert_eq!(log.take(), ["sleeper dropped", "unpolled dropped"]);
    assert_eq!(gate.spawn(async {}), Err(Closed));
    assert_eq!(gate.inside(), 0);
}

#[test]
fn timers_fire_in_order_of_deadline_then_of_registration() {
    let reactor = reactor();
    let log = Log::default();
    let gate = reactor.handle().gate("test");
    for (name, at) in [("late", 30), ("early", 10), ("twin one", 20), ("twin two", 20)] {
        let (log, handle) = (log.clone(), reactor.handle());
        gate.spawn(async move {
            handle.sleep_until(Nanos(at)).await;
            log.add(name);
        })
        .unwrap();
    }
    assert_eq!(reactor.turn(Nanos(0)).next_timer, Some(Nanos(10)));
    assert_eq!(reactor.turn(Nanos(9)).ran, 0);
    assert_eq!(reactor.turn(Nanos(10)).next_timer, Some(Nanos(20)));
    assert_eq!(reactor.turn(Nanos(99)).next_timer, None);
    assert_eq!(log.take(), ["early", "twin one", "twin two", "late"]);
}

#[test]
fn a_dropped_sleep_leaves_no_timer_and_time_does_not_go_back() {
    let reactor = reactor();
    let handle = reactor.handle();
    let answered: Result<u8, Elapsed> =
        reactor.run_until(handle.timeout(Nanos(50), async { 1 }), virtual_time());
    assert_eq!(answered, Ok(1));
    assert_eq!(reactor.turn(Nanos(7)).next_timer, None);
    reactor.turn(Nanos(3));
    assert_eq!(handle.now(), Nanos(7));
}

#[test]
fn a_timeout_drops_what_took_too_long() {
    let reactor = reactor();
    let handle = reactor.handle();
    let log = Log::default();
    let held = LogOnDrop(log.clone(), "dropped");
    let slow = async move {
        let _held = held;
        std::future::pending::<()>().await;
    };
    let result = reactor.run_until(handle.timeout(Nanos(50), slow), virtual_time());
    assert_eq!(result, Err(Elapsed));
    assert_eq!(handle.now(), Nanos(50));
    assert_eq!(log.take(), ["dropped"]);
}

#[test]
fn a_closing_gate_lets_nobody_in_and_waits_for_everybody_inside() {
    let reactor = reactor();
    let handle = reactor.handle();
    let gate = handle.gate("test");
    let log = Log::default();
    let worker = |handle: Handle, log: Log| async move {
        handle.sleep(Nanos(500)).await;
        log.add("worked to the end");
    };
    gate.spawn(worker(handle.clone(), log.clone())).unwrap();
    let (loops, leaving) = (log.clone(), gate.clone());
    gate.spawn(async move {
        leaving.closing().await;
        loops.add("left");
    })
    .unwrap();
    reactor.turn(Nanos(0));
    let closed = gate.close();
    assert_eq!(gate.spawn(async {}), Err(Closed));
    assert!(gate.spawn_with(async {}).is_err());
    assert_eq!(gate.inside(), 2);
    reactor.run_until(closed, virtual_time());
    assert_eq!(log.take(), ["left", "worked to the end"]);
    assert_eq!(handle.now(), Nanos(500));
}

#[test]
fn a_joined_task_gives_its_answer_and_one_whose_handle_is_dropped_runs_on() {
    let reactor = reactor();
    let gate = reactor.handle().gate("test");
    let (sender, receiver) = oneshot();
    let joined = gate.spawn_with(async { 6 * 7 }).unwrap();
    drop(gate.spawn_with(async move { sender.send("still ran").unwrap() }).unwrap());
    let both = async { (joined.await, receiver.await) };
    assert_eq!(reactor.run_until(both, virtual_time()), (42, Ok("still ran")));
}

#[test]
fn the_stall_detector_names_the_worst_task() {
    let clock = Rc::new(Cell::new(0));
    let read = clock.clone();
    let limit = StallLimit { limit: Nanos(100), clock: Rc::new(move || Nanos(read.get())) };
    let reactor = Reactor::new(Config { stall: Some(limit), ..Config::default() });
    let handle = reactor.handle();
    for (name, takes) in [("quick", 100), ("worst", 900), ("slow", 101)] {
        let clock = clock.clone();
        handle.gate(name).spawn(async move { clock.set(clock.get() + takes) }).unwrap();
    }
    reactor.turn(Nanos(0));
    let stalls = handle.stalls();
    assert_eq!((stalls.count, stalls.worst_task, stalls.worst), (2, "worst", Nanos(900)));
}
