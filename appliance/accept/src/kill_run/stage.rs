//! What the workers and the one who kills share: which start of the daemon is current, and the work.

use super::job::{Step, plan};
use super::source::Original;
use crate::served::Address;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Behind it a worker looks again whether the run has been abandoned.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Files above this are copied once and not in later rounds.
const ROUND_BYTES_MAX: u64 = 256 << 10;

/// Starts of the daemon, numbered from 1.
#[derive(Default)]
pub struct Stage {
    current: Mutex<(u64, Option<Address>)>,
    changed: Condvar,
    abandoned: AtomicBool,
}

impl Stage {
    /// The daemon serves (again).
    pub fn started(&self, address: Address) {
        let mut current = self.current();
        *current = (current.0 + 1, Some(address));
        self.changed.notify_all();
    }

    /// Nobody shall wait any more.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// The first start later than `after`; nothing when the run is abandoned.
    pub fn wait_for_start(&self, after: u64) -> Option<(u64, Address)> {
        let mut current = self.current();
        loop {
            if self.is_abandoned() {
                return None;
            }
            if let (number, Some(address)) = &*current
                && *number > after
            {
                return Some((*number, address.clone()));
            }
            let waited = self.changed.wait_timeout(current, LOOK_AGAIN);
            current = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn current(&self) -> MutexGuard<'_, (u64, Option<Address>)> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The files still to copy. When all have been, it goes round again under other names, so that the
/// killing may go on for as long as it takes, until `close`.
pub struct Queue {
    originals: Vec<Original>,
    next: AtomicUsize,
    finished: AtomicUsize,
    closed: AtomicBool,
}

impl Queue {
    pub fn new(originals: Vec<Original>) -> Queue {
        let (next, finished) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Queue { originals, next, finished, closed: AtomicBool::new(false) }
    }

    /// The steps of the next file.
    pub fn next(&self) -> Option<Vec<Step>> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let round = number / self.originals.len();
            let original = &self.originals[number % self.originals.len()];
            if round == 0 {
                return Some(plan(number as u64, original, "src"));
            }
            if self.closed.load(Ordering::Relaxed) {
                return None;
            }
            if original.body.bytes() <= ROUND_BYTES_MAX {
                return Some(plan(number as u64, original, &format!("round-{round}")));
            }
        }
    }

    pub fn finished_one(&self) {
        self.finished.fetch_add(1, Ordering::Relaxed);
    }

    pub fn finished(&self) -> usize {
        self.finished.load(Ordering::Relaxed)
    }

    /// Every file has been begun; with a round more for those in the workers' hands, it has been
    /// copied.
    pub fn first_round_is_over(&self) -> bool {
        self.next.load(Ordering::Relaxed) >= self.originals.len()
    }

    /// No rounds after the first.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::Body;
    use super::*;

    #[test]
    fn the_first_round_is_whole_even_when_closed_and_later_ones_leave_large_files_out() {
        let file = |name: &str, bytes| Original {
            path: name.into(),
            body: Body::Made { number: 1, bytes },
        };
        let queue = Queue::new(vec![file("small", 10), file("large", 1 << 20)]);
        assert!(queue.next().is_some() && !queue.first_round_is_over());
        assert!(queue.next().is_some() && queue.first_round_is_over());
        let third = queue.next().expect("goes round again");
        assert!(third.iter().any(|step| matches!(step, Step::Create { at, .. }
            if at.0.ends_with(b"small") || at.0.starts_with(b"incoming"))));
        let fourth = queue.next().expect("and again, past the large file");
        assert!(!fourth.is_empty());
        queue.close();
        assert!(queue.next().is_none());
    }

    #[test]
    fn an_abandoned_run_keeps_nobody_waiting() {
        let stage = Stage::default();
        stage.started(Address::of_cairn(2049));
        assert_eq!(stage.wait_for_start(0).map(|(number, _)| number), Some(1));
        stage.abandon();
        assert!(stage.wait_for_start(1).is_none());
    }
}
