//! A gate: the tasks of one component, and the way to end them.
//!
//! Nothing is spawned detached. A component has a gate, spawns through it, and is over when its gate
//! has been closed: from then on nothing enters, and `close` ends when everyone inside has left.
//! Closing does not cancel. A task that would otherwise run for ever waits for `closing` beside its
//! work (`race`), so that it leaves at a point of its own choice, with nothing half done.
//!
//! A task that closes its own gate and waits would wait for itself; it only calls `close` and lets
//! another await the result.

use crate::Closed;
use crate::local::{OneshotReceiver, WaitList, oneshot};
use crate::reactor::Handle;
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

#[derive(Clone)]
pub struct Gate {
    handle: Handle,
    state: Rc<State>,
}

struct State {
    name: &'static str,
    inside: Cell<usize>,
    closed: Cell<bool>,
    changed: WaitList,
}

/// Counts one task for as long as it lives, however it ends.
struct Inside(Rc<State>);

impl Drop for Inside {
    fn drop(&mut self) {
        let inside = self.0.inside.get() - 1;
        self.0.inside.set(inside);
        if inside == 0 {
            self.0.changed.wake_all();
        }
    }
}

impl Gate {
    /// `name` is what the stall detector and status pages call its tasks.
    pub fn new(handle: &Handle, name: &'static str) -> Gate {
        let state = State {
            name,
            inside: Cell::new(0),
            closed: Cell::new(false),
            changed: WaitList::new(),
        };
        Gate { handle: handle.clone(), state: Rc::new(state) }
    }

    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) -> Result<(), Closed> {
        let inside = self.enter()?;
        self.handle.spawn(self.state.name, async move {
            let _inside = inside;
            future.await;
        })
    }

    /// Dropping the handle lets the task run on; it is still inside the gate.
    pub fn spawn_with<T: 'static>(
        &self,
        future: impl Future<Output = T> + 'static,
    ) -> Result<JoinHandle<T>, Closed> {
        let (sender, receiver) = oneshot();
        self.spawn(async move {
            // The answer is nobody's when the handle was dropped.
            let _unwanted: Result<(), T> = sender.send(future.await);
        })?;
        Ok(JoinHandle { receiver })
    }

    fn enter(&self) -> Result<Inside, Closed> {
        if self.state.closed.get() {
            return Err(Closed);
        }
        self.state.inside.set(self.state.inside.get() + 1);
        Ok(Inside(self.state.clone()))
    }

    /// Shuts the gate at once; the future ends when the last task inside has ended.
    pub fn close(&self) -> impl Future<Output = ()> + use<> {
        self.state.closed.set(true);
        self.state.changed.wake_all();
        let state = self.state.clone();
        async move { state.changed.until(|| (state.inside.get() == 0).then_some(())).await }
    }

    /// Ends when the gate is being closed.
    pub fn closing(&self) -> impl Future<Output = ()> + use<> {
        let state = self.state.clone();
        async move { state.changed.until(|| state.closed.get().then_some(())).await }
    }

    pub fn is_closed(&self) -> bool {
        self.state.closed.get()
    }

    /// Tasks inside.
    pub fn inside(&self) -> usize {
        self.state.inside.get()
    }

    pub fn name(&self) -> &'static str {
        self.state.name
    }
}

/// The answer of a task spawned with `spawn_with`.
pub struct JoinHandle<T> {
    receiver: OneshotReceiver<T>,
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match Pin::new(&mut self.receiver).poll(cx) {
            Poll::Ready(Ok(output)) => Poll::Ready(output),
            // The task was dropped unfinished, which only the end of its reactor does: nobody on
            // this core runs again.
            Poll::Ready(Err(Closed)) | Poll::Pending => Poll::Pending,
        }
    }
}
