//! The way from the control thread into a shard and back.
//!
//! A shard is a polled loop that knows no tokio; the control thread is a tokio runtime that owns no
//! state of the file system. Between them stands one bounded queue per shard. The control thread
//! pushes a request with a place for its answer and wakes the shard, which may sleep in its ring;
//! the shard's loop polls its end of the queue, runs the request as a task of its own, and fills the
//! answer's place, which wakes the control thread. Nobody waits for room: a full queue is answered
//! `Busy` at once, since control calls are few and a queue that fills is a shard in trouble.
//!
//! What always holds: each request that was taken is answered exactly once, and when it is dropped
//! unanswered (the shard ends), the caller learns `Gone`. A request pushed while the shard's end goes
//! away is drained by whichever side sees it last.

use crate::request::{ControlReply, ControlRequest};
use cairn_engine::error::FsError;
use crossbeam_queue::ArrayQueue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::oneshot;

/// Requests that may wait for one shard. A walk and a check hold one at a time each.
const REQUESTS_MAX: usize = 64;

/// Why a request has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The file system's own answer.
    Fs(FsError),
    /// The shard's queue is full.
    Busy,
    /// The shard has ended, or ended while it worked on this.
    Gone,
}

/// The control thread's end. Cheap to clone.
#[derive(Clone)]
pub struct Caller {
    lane: Arc<Lane>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// The shard's end: held by the shard's loop.
pub struct Bridge {
    lane: Arc<Lane>,
}

/// The place of one answer. Dropping it answers `Gone`.
pub struct Answer(oneshot::Sender<Result<ControlReply, FsError>>);

struct Lane {
    requests: ArrayQueue<(ControlRequest, Answer)>,
    closed: AtomicBool,
}

/// Both ends of one shard's bridge. `wake` is called from the control thread after each request and
/// must make a sleeping shard look.
pub fn bridge(wake: impl Fn() + Send + Sync + 'static) -> (Caller, Bridge) {
    let lane =
        Arc::new(Lane { requests: ArrayQueue::new(REQUESTS_MAX), closed: AtomicBool::new(false) });
    (Caller { lane: lane.clone(), wake: Arc::new(wake) }, Bridge { lane })
}

impl Caller {
    pub async fn call(&self, request: ControlRequest) -> Result<ControlReply, CallError> {
        let (sender, receiver) = oneshot::channel();
        self.lane.requests.push((request, Answer(sender))).map_err(|_| CallError::Busy)?;
        if self.lane.closed.load(Ordering::SeqCst) {
            self.lane.drain();
        }
        (self.wake)();
        match receiver.await {
            Ok(reply) => reply.map_err(CallError::Fs),
            Err(_) => Err(CallError::Gone),
        }
    }
}

impl Bridge {
    /// Hands every waiting request to `take`, which must not block. Returns how many there were.
    pub fn poll(&self, mut take: impl FnMut(ControlRequest, Answer)) -> usize {
        let mut taken = 0;
        while taken < REQUESTS_MAX {
            let Some((request, answer)) = self.lane.requests.pop() else { break };
            take(request, answer);
            taken += 1;
        }
        taken
    }

    /// Whether a request waits: the last look before a loop goes to sleep.
    pub fn is_empty(&self) -> bool {
        self.lane.requests.is_empty()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.lane.closed.store(true, Ordering::SeqCst);
        self.lane.drain();
    }
}

impl Lane {
    fn drain(&self) {
        while self.requests.pop().is_some() {}
    }
}

impl Answer {
    pub fn send(self, reply: Result<ControlReply, FsError>) {
        // A caller that went away does not want it any more.
        let _ = self.0.send(reply);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Target;
    use cairn_format::InodeNo;
    use std::sync::atomic::AtomicUsize;

    fn request() -> ControlRequest {
        ControlRequest::Stat(Target::Ino(InodeNo::ROOT))
    }

    #[tokio::test]
    async fn a_request_wakes_the_shard_and_its_answer_comes_back() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counted = wakes.clone();
        let (caller, shard) = bridge(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let asked = tokio::spawn(async move { caller.call(request()).await });
        tokio::task::yield_now().await;
        assert_eq!(wakes.load(Ordering::SeqCst), 1);
        assert_eq!(shard.poll(|_, answer| answer.send(Err(FsError::Stale))), 1);
        assert_eq!(asked.await.unwrap().unwrap_err(), CallError::Fs(FsError::Stale));
    }

    #[tokio::test]
    async fn a_full_queue_is_busy_at_once() {
        let (caller, _shard) = bridge(|| ());
        let mut waiting = Vec::new();
        for _ in 0..REQUESTS_MAX {
            let caller = caller.clone();
            waiting.push(tokio::spawn(async move { caller.call(request()).await }));
        }
        while !caller.lane.requests.is_full() {
            tokio::task::yield_now().await;
        }
        assert_eq!(caller.call(request()).await.unwrap_err(), CallError::Busy);
    }

    #[tokio::test]
    async fn requests_to_a_shard_that_ends_learn_it() {
        let (caller, shard) = bridge(|| ());
        let early = caller.clone();
        let early = tokio::spawn(async move { early.call(request()).await });
        tokio::task::yield_now().await;
        drop(shard);
        assert_eq!(early.await.unwrap().unwrap_err(), CallError::Gone);
        assert_eq!(caller.call(request()).await.unwrap_err(), CallError::Gone);
    }

    #[tokio::test]
    async fn an_answer_that_is_dropped_is_gone() {
        let (caller, shard) = bridge(|| ());
        let asked = tokio::spawn(async move { caller.call(request()).await });
        tokio::task::yield_now().await;
        shard.poll(|_, answer| drop(answer));
        assert_eq!(asked.await.unwrap().unwrap_err(), CallError::Gone);
    }
}
