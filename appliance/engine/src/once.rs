//! Remembers the answers of operations that must not be carried out twice.
//!
//! A client that lost its connection sends its unanswered calls again. An unlink that had been done
//! would then answer "no such file", and a create "exists", for what in truth succeeded; and a repeated
//! write, carried out late, would put its bytes over newer ones. So a frontend names such calls by a key
//! (`CallKey`): the first of its kind is carried out and its answer kept, a repetition gets that answer,
//! and a repetition that arrives while the first is still running waits for it.
//!
//! The memory is that of the shard that applies the operation, so it does not matter which shard
//! took the client's connection. It ends with the daemon.
//!
//! What always holds: a call in progress is never forgotten; finished ones are forgotten oldest
//! first, above the number that is configured or after `ANSWER_AGE_MAX`. Calls in progress are bounded by what
//! connections and peers may have open. What was refused before it began (`Busy`, `Offline`) is not kept: the
//! next repetition carries it out. `Stopped` is: some of it may have been done, here or on another shard.
//! Writes are remembered apart from the rest, or a stream of them would soon push out what a slow client
//! asks again.

use crate::error::FsError;
use crate::limits::{ANSWER_AGE_MAX, ANSWERS_DEFAULT};
use crate::op::{Reply, Request};
use crate::sabotage::{Sabotage, planted};
use crate::shard::Shard;
use cairn_base::Nanos;
use cairn_base::door::Doors;
use cairn_base::hash::Map;
use cairn_reactor::WaitList;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::collections::hash_map::Entry as Slot;
use std::rc::Rc;

/// What makes two calls the same call; a hash that nobody outside can steer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallKey(pub u128);

type Outcome = Result<Reply, FsError>;

/// Memory of one kept answer: its box, its slot in a map that is two thirds full, and its place in the
/// order.
pub const ANSWER_BYTES: usize =
    size_of::<Outcome>() + 16 + 3 * size_of::<(CallKey, Entry)>() / 2 + 32;

pub(crate) struct Answers {
    state: RefCell<State>,
    most: usize,
}

impl Default for Answers {
    fn default() -> Answers {
        Answers::new(ANSWERS_DEFAULT)
    }
}

#[derive(Default)]
struct State {
    entries: Map<CallKey, Entry>,
    /// The finished ones, oldest first.
    finished: VecDeque<(CallKey, Nanos)>,
}

/// A call that is being carried out.
struct Claim<'a> {
    answers: &'a Answers,
    key: CallKey,
    open: bool,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.open {
            self.answers.abandon(self.key);
        }
    }
}

enum Entry {
    Running(Rc<WaitList>),
    Finished(Box<Outcome>),
}

impl Answers {
    pub fn new(most: usize) -> Answers {
        Answers { state: RefCell::default(), most }
    }

    pub fn kept(&self) -> usize {
        self.state.borrow().finished.len()
    }

    /// The answer of the call, if it was carried out before; waits while it is running. `None`: carry
    /// it out now, and tell `finish`.
    async fn admit(&self, key: CallKey) -> Option<Outcome> {
        loop {
            let running = match self.state.borrow_mut().entries.entry(key) {
                Slot::Vacant(place) => {
                    place.insert(Entry::Running(Rc::new(WaitList::new())));
                    return None;
                }
                Slot::Occupied(entry) => match entry.get() {
                    Entry::Finished(outcome) => return copy_of(outcome),
                    Entry::Running(waiting) => waiting.clone(),
                },
            };
            running.until(|| (!self.runs_under(key, &running)).then_some(())).await;
        }
    }

    fn runs_under(&self, key: CallKey, waiting: &Rc<WaitList>) -> bool {
        match self.state.borrow().entries.get(&key) {
            Some(Entry::Running(current)) => Rc::ptr_eq(current, waiting),
            Some(Entry::Finished(_)) | None => false,
        }
    }

    /// Forgets a call that came to no end.
    fn abandon(&self, key: CallKey) {
        let before = self.state.borrow_mut().entries.remove(&key);
        if let Some(Entry::Running(waiting)) = before {
            waiting.wake_all();
        }
    }

    fn finish(&self, key: CallKey, outcome: &Outcome, now: Nanos) {
        let mut state = self.state.borrow_mut();
        let before = match copy_of(outcome) {
            Some(kept) if !planted(Sabotage::AnsweredAnew) => {
                state.finished.push_back((key, now));
                state.entries.insert(key, Entry::Finished(Box::new(kept)))
            }
            _ => state.entries.remove(&key),
        };
        state.shrink(now, self.most);
        drop(state);
        if let Some(Entry::Running(waiting)) = before {
            waiting.wake_all();
        }
    }
}

impl State {
    fn shrink(&mut self, now: Nanos, most: usize) {
        while let Some((key, finished_at)) = self.finished.front().copied() {
            let old = now.saturating_sub(finished_at) > ANSWER_AGE_MAX;
            if !old && self.finished.len() <= most {
                break;
            }
            self.finished.pop_front();
            self.entries.remove(&key);
        }
    }
}

impl<D: Doors> Shard<D> {
    /// Runs an operation here, at most once for each key.
    ///
    /// To be run as a task of its own: when it is dropped half way the call is forgotten, and the next
    /// repetition carries it out.
    pub(crate) async fn run_once(
        self: &Rc<Self>,
        request: Request,
        once: Option<CallKey>,
    ) -> Outcome {
        let Some(key) = once else { return self.run_here(request).await };
        let answers = match request {
            Request::Write(_) => &self.written,
            _ => &self.answers,
        };
        match answers.admit(key).await {
            Some(outcome) => {
                self.core.counters.replayed_answers.add(1);
                outcome
            }
            None => {
                let mut claim = Claim { answers, key, open: true };
                // What a stopped shard shows may hold what the first try did and could not make durable: a
                // repetition would be told that its name is gone.
                let outcome = match self.log.has_failed() {
                    true => Err(FsError::Stopped),
                    false => self.run_here(request).await,
                };
                claim.open = false;
                answers.finish(key, &outcome, self.handle.now());
                outcome
            }
        }
    }
}

/// A copy of what may be answered again; `None` for what is not to be kept.
fn copy_of(outcome: &Outcome) -> Option<Outcome> {
    let reply = match outcome {
        Err(FsError::Busy | FsError::Offline) => return None,
        Err(error) => return Some(Err(*error)),
        Ok(reply) => reply,
    };
    let copy = match reply {
        Reply::Setattr(change) => Reply::Setattr(*change),
        Reply::Create(created) => Reply::Create(created.clone()),
        Reply::Mkdir(created) => Reply::Mkdir(created.clone()),
        Reply::Symlink(created) => Reply::Symlink(created.clone()),
        Reply::Mknod(created) => Reply::Mknod(created.clone()),
        Reply::Link(linked) => Reply::Link(linked.clone()),
        Reply::Unlink(change) => Reply::Unlink(*change),
        Reply::Rmdir(change) => Reply::Rmdir(*change),
        Reply::Rename(renamed) => Reply::Rename(renamed.clone()),
        Reply::Write(written) => Reply::Write(*written),
        Reply::SetXattr(attr) => Reply::SetXattr(*attr),
        Reply::RemoveXattr(attr) => Reply::RemoveXattr(*attr),
        Reply::Lookup(_)
        | Reply::Parent(_)
        | Reply::Getattr(_)
        | Reply::Attrs(_)
        | Reply::Access(_)
        | Reply::Readlink(_)
        | Reply::Read(_)
        | Reply::Release(_)
        | Reply::Stage(_)
        | Reply::Recall(_)
        | Reply::FailWaiters(_)
        | Reply::Restore(_)
        | Reply::Extents(_)
        | Reply::PunchOffline(_)
        | Reply::Commit(_)
        | Reply::PeekEntry(_)
        | Reply::Readdir(_)
        | Reply::GetXattr(_)
        | Reply::ListXattr(_)
        | Reply::Referring(_)
        | Reply::NameAt(_) => return None,
    };
    Some(Ok(copy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    const REFUSED: Outcome = Err(FsError::NotFound);

    /// What `admit` says without waiting: true for a new call, false for a known one.
    fn admit(answers: &Answers, key: u128) -> Option<bool> {
        match poll(pin!(answers.admit(CallKey(key)))) {
            Poll::Ready(None) => Some(true),
            Poll::Ready(Some(_)) => Some(false),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_repeated_call_gets_the_first_answer_and_waits_for_it() {
        let answers = Answers::default();
        assert_eq!(admit(&answers, 1), Some(true));
        let mut second = pin!(answers.admit(CallKey(1)));
        assert!(poll(second.as_mut()).is_pending());
        answers.finish(CallKey(1), &REFUSED, Nanos(5));
        let Poll::Ready(Some(Err(error))) = poll(second) else { panic!("a replay") };
        assert_eq!(error, FsError::NotFound);
        assert_eq!(admit(&answers, 2), Some(true));
    }

    #[test]
    fn what_was_refused_before_it_began_is_carried_out_by_one_of_its_repetitions() {
        let answers = Answers::default();
        assert_eq!(admit(&answers, 1), Some(true));
        let mut second = pin!(answers.admit(CallKey(1)));
        let mut third = pin!(answers.admit(CallKey(1)));
        assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
        answers.finish(CallKey(1), &Err(FsError::Busy), Nanos(5));
        assert!(matches!(poll(second), Poll::Ready(None)));
        assert!(poll(third.as_mut()).is_pending());
        answers.finish(CallKey(1), &REFUSED, Nanos(5));
        assert!(matches!(poll(third), Poll::Ready(Some(_))));
    }

    #[test]
    fn a_call_that_is_dropped_half_way_is_carried_out_by_its_repetition() {
        let answers = Answers::default();
        assert_eq!(admit(&answers, 1), Some(true));
        let mut second = pin!(answers.admit(CallKey(1)));
        assert!(poll(second.as_mut()).is_pending());
        drop(Claim { answers: &answers, key: CallKey(1), open: true });
        assert!(matches!(poll(second), Poll::Ready(None)));
    }

    #[test]
    fn the_oldest_answers_go_first_by_count_and_by_age() {
        let answers = Answers::default();
        for key in 0..=ANSWERS_DEFAULT as u128 {
            assert_eq!(admit(&answers, key), Some(true));
            answers.finish(CallKey(key), &REFUSED, Nanos(5));
        }
        assert_eq!(admit(&answers, 1), Some(false));
        let late = Nanos(6) + ANSWER_AGE_MAX;
        assert_eq!(admit(&answers, 0), Some(true), "it was the oldest of one too many");
        answers.finish(CallKey(0), &REFUSED, late);
        let state = answers.state.borrow();
        assert_eq!((state.finished.len(), state.entries.len()), (1, 1));
    }
}
