//! Names the tasks that hold their core for too long.
//!
//! A task that computes for milliseconds between two awaits stalls every request of its shard, and
//! from outside it looks like a slow disk. When a limit is set the reactor reads a fine clock around
//! each poll and keeps a count, and the name (the gate's) and time of the worst. Without a limit no
//! clock is read. In a simulation there is no limit: simulated time stands still during a poll.

use cairn_base::Nanos;
use std::rc::Rc;

/// How long one poll of one task may take, and the clock to tell.
#[derive(Clone)]
pub struct StallLimit {
    pub limit: Nanos,
    pub clock: Rc<dyn Fn() -> Nanos>,
}

/// What the detector has seen since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stalls {
    pub count: u64,
    pub worst: Nanos,
    pub worst_task: &'static str,
}

impl Stalls {
    pub(crate) fn note(&mut self, limit: Nanos, task: &'static str, took: Nanos) {
        if took <= limit {
            return;
        }
        self.count += 1;
        if took > self.worst {
            self.worst = took;
            self.worst_task = task;
        }
    }
}
