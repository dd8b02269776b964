//! A task: one future that runs on one core, and the wakers that make it run again.
//!
//! A task is a reference-counted cell with the future inside. Its wakers count references to the
//! same cell, so waking is pushing the cell onto its core's ready queue, with no atomics and no
//! search. When the future ends it is dropped at once and the cell stays empty for as long as
//! wakers remain; a waker of a finished task therefore finds nothing to do, whatever the reactor
//! has made of the task's slot since. The cell's identity is its generation.
//!
//! `std::task::Waker` is `Send`, and these are not. Safe code can still carry one to another thread,
//! where touching the count would be a data race. So every waker operation first compares the
//! thread with the task's: to clone or wake from another core panics, in every build, and a waker
//! dropped there is leaked, cell and all. Another core wakes this one by mail.
//!
//! What always holds, and what the unsafe code rests on:
//! - a raw waker's data pointer came from `Rc::into_raw` of a `Task` and owns one count of it;
//! - `owner` is written before the first waker exists and never changes, so reading it from any
//!   thread is no race; the waker's own count keeps the cell alive meanwhile;
//! - a count is only changed on the owner's thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

/// Tasks that have something to do, oldest first. One per reactor.
#[derive(Default)]
pub(crate) struct ReadyQueue {
    tasks: RefCell<VecDeque<Rc<Task>>>,
}

impl ReadyQueue {
    pub(crate) fn pop(&self) -> Option<Rc<Task>> {
        let task = self.tasks.borrow_mut().pop_front()?;
        task.queued.set(false);
        Some(task)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.borrow().is_empty()
    }
}

pub(crate) struct Task {
    owner: ThreadNo,
    ready: Rc<ReadyQueue>,
    queued: Cell<bool>,
    future: RefCell<Option<TaskFuture>>,
    pub(crate) name: &'static str,
    /// The task's place in its reactor's table, meaningless once the future has ended.
    pub(crate) slot: usize,
}

impl Task {
    pub(crate) fn new(
        name: &'static str,
        slot: usize,
        ready: &Rc<ReadyQueue>,
        future: impl Future<Output = ()> + 'static,
    ) -> Rc<Task> {
        Task::over(name, slot, ready, Some(Box::pin(future)))
    }

    /// A task that only collects wakes, for a future that its caller polls itself.
    pub(crate) fn without_future(name: &'static str, ready: &Rc<ReadyQueue>) -> Rc<Task> {
        Task::over(name, usize::MAX, ready, None)
    }

    fn over(
        name: &'static str,
        slot: usize,
        ready: &Rc<ReadyQueue>,
        future: Option<TaskFuture>,
    ) -> Rc<Task> {
        Rc::new(Task {
            owner: ThreadNo::current(),
            ready: ready.clone(),
            queued: Cell::new(false),
            future: RefCell::new(future),
            name,
            slot,
        })
    }

    /// Puts the task at the end of the ready queue, unless it waits there already.
    pub(crate) fn make_ready(self: &Rc<Task>) {
        if !self.queued.replace(true) {
            self.ready.tasks.borrow_mut().push_back(self.clone());
        }
    }

    /// True when the future ended now. A task whose future is gone is left alone.
    pub(crate) fn poll(self: &Rc<Task>) -> bool {
        // Taken out, so that no borrow is held while foreign code runs.
        let Some(mut future) = self.future.take() else { return false };
        let waker = self.waker();
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                self.future.replace(Some(future));
                false
            }
            Poll::Ready(()) => true,
        }
    }

    /// Drops the future where it stands.
    pub(crate) fn abandon(&self) {
        drop(self.future.take());
    }

    pub(crate) fn waker(self: &Rc<Task>) -> Waker {
        let raw = raw_waker(self.clone());
        // SAFETY: the table below meets the waker contract on the owning thread, and refuses to
        // run, without touching the count, on any other (module head).
        unsafe { Waker::from_raw(raw) }
    }
}

static WAKER: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

fn raw_waker(task: Rc<Task>) -> RawWaker {
    RawWaker::new(Rc::into_raw(task).cast(), &WAKER)
}

/// The task behind a waker without taking its count; `None` on a thread that is not the task's.
unsafe fn behind(data: *const ()) -> Option<ManuallyDrop<Rc<Task>>> {
    let task: *const Task = data.cast();
    // SAFETY: the caller's waker owns a count, so the cell is alive.
    let owner: *const ThreadNo = unsafe { &raw const (*task).owner };
    // SAFETY: as above, and `owner` never changes while wakers exist.
    if unsafe { *owner } != ThreadNo::current() {
        return None;
    }
    // SAFETY: the pointer came from `Rc::into_raw`, and `ManuallyDrop` leaves the waker its count.
    Some(ManuallyDrop::new(unsafe { Rc::from_raw(task) }))
}

const FOREIGN: &str = "a task is woken on its own core only; other cores send mail";

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: called through the table with a waker's own data.
    let task = unsafe { behind(data) }.expect(FOREIGN);
    raw_waker(Rc::clone(&task))
}

unsafe fn wake(data: *const ()) {
    // SAFETY: called through the table with a waker's own data.
    let task = unsafe { behind(data) }.expect(FOREIGN);
    ManuallyDrop::into_inner(task).make_ready(); // drops the waker's count with the value
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: called through the table with a waker's own data.
    let task = unsafe { behind(data) }.expect(FOREIGN);
    task.make_ready();
}

unsafe fn drop_waker(data: *const ()) {
    // SAFETY: called through the table with a waker's own data.
    if let Some(task) = unsafe { behind(data) } {
        drop(ManuallyDrop::into_inner(task));
    }
}

/// Names a thread; never used again for another one, unlike its address or the kernel's number.
#[derive(Clone, Copy, PartialEq, Eq)]
struct ThreadNo(u64);

impl ThreadNo {
    fn current() -> ThreadNo {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        thread_local!(static CURRENT: ThreadNo = ThreadNo(NEXT.fetch_add(1, Ordering::Relaxed)));
        CURRENT.with(|thread| *thread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    struct SetOnDrop(Rc<Cell<bool>>);

    impl Drop for SetOnDrop {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }

    #[test]
    fn a_task_woken_twice_waits_once_in_the_queue() {
        let ready = Rc::new(ReadyQueue::default());
        let task = Task::new("twice", 0, &ready, std::future::pending());
        let waker = task.waker();
        waker.wake_by_ref();
        let second = waker.clone();
        second.wake();
        assert!(ready.pop().is_some_and(|popped| !popped.poll()));
        assert!(ready.pop().is_none());
        waker.wake();
        assert!(ready.pop().is_some());
    }

    #[test]
    fn the_future_is_dropped_when_it_ends_even_if_wakers_remain() {
        let ready = Rc::new(ReadyQueue::default());
        let dropped = Rc::new(Cell::new(false));
        let held = SetOnDrop(dropped.clone());
        let task = Task::new("ends", 0, &ready, async move { drop(held) });
        let waker = task.waker();
        assert!(task.poll());
        assert!(dropped.get());
        drop(task);
        waker.wake();
        assert!(!ready.pop().expect("a late wake still queues the empty cell").poll());
    }

    #[test]
    fn a_waker_on_another_thread_panics_and_leaks_instead_of_racing() {
        let ready = Rc::new(ReadyQueue::default());
        let task = Task::new("foreign", 0, &ready, std::future::pending());
        let waker = task.waker();
        let refused = Arc::new(AtomicBool::new(false));
        let seen = refused.clone();
        let other = std::thread::spawn(move || {
            let woke = std::panic::catch_unwind(|| waker.wake_by_ref()).is_ok();
            seen.store(!woke, Ordering::Relaxed);
            drop(waker); // leaked: the count stays
        });
        other.join().expect("dropping a foreign waker does not panic");
        assert!(refused.load(Ordering::Relaxed));
        assert!(ready.is_empty());
        assert_eq!(Rc::strong_count(&task), 2);
        // Given back, so that leak checkers stay quiet about this test.
        // SAFETY: the leaked waker's count is still there, as just asserted.
        unsafe { Rc::decrement_strong_count(Rc::as_ptr(&task)) };
    }
}
