//! The orderly end, in step: no shard goes further than all of them may.
//!
//! A request that one shard still works on may need another shard, so nobody may close its engine
//! before everybody has closed its frontends, and nobody may stop answering mail before every engine
//! is closed. Each shard walks through the stages by itself and waits at the end of each for the
//! last one to arrive; the last one wakes the others.
//!
//! Nothing here is needed for safety: a daemon that is killed loses nothing it promised. An orderly
//! end spares the next start the replay, and clients a repeated request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No listener, no connection, no request of a client on this shard.
    FrontendsClosed,
    /// Nothing of this shard is only in memory.
    EngineClosed,
}

const STAGES: usize = 2;

/// Shared by all shards and the control thread. Cheap to clone.
#[derive(Clone)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

struct Inner {
    asked: AtomicBool,
    arrived: [AtomicUsize; STAGES],
    shards: usize,
    wake_all: Box<dyn Fn() + Send + Sync>,
}

impl Shutdown {
    /// `wake_all` makes every shard look.
    pub fn new(shards: usize, wake_all: impl Fn() + Send + Sync + 'static) -> Shutdown {
        let inner = Inner {
            asked: AtomicBool::new(false),
            arrived: Default::default(),
            shards,
            wake_all: Box::new(wake_all),
        };
        Shutdown { inner: Arc::new(inner) }
    }

    pub fn ask(&self) {
        self.inner.asked.store(true, Ordering::SeqCst);
        (self.inner.wake_all)();
    }

    pub fn is_asked(&self) -> bool {
        self.inner.asked.load(Ordering::Relaxed)
    }

    /// Called once by each shard for each stage.
    pub fn arrive(&self, stage: Stage) {
        let before = self.inner.arrived[stage as usize].fetch_add(1, Ordering::SeqCst);
        assert!(before < self.inner.shards, "a shard arrives once");
        if before + 1 == self.inner.shards {
            (self.inner.wake_all)();
        }
    }

    pub fn all_arrived(&self, stage: Stage) -> bool {
        self.inner.arrived[stage as usize].load(Ordering::SeqCst) == self.inner.shards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_shard_to_arrive_wakes_the_others() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counted = wakes.clone();
        let shutdown = Shutdown::new(2, move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        shutdown.ask();
        assert!(shutdown.is_asked());
        shutdown.arrive(Stage::FrontendsClosed);
        assert_eq!(wakes.load(Ordering::SeqCst), 1);
        assert!(!shutdown.all_arrived(Stage::FrontendsClosed));
        shutdown.arrive(Stage::FrontendsClosed);
        assert_eq!(wakes.load(Ordering::SeqCst), 2);
        assert!(shutdown.all_arrived(Stage::FrontendsClosed));
        assert!(!shutdown.all_arrived(Stage::EngineClosed));
    }
}
