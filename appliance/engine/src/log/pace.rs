//! When to freeze, relog, fold and trim.
//!
//! One task a shard does one thing at a time, the most urgent first: what the log's tail waits for,
//! then memory, then folding. Nothing here has a clock: work follows from how full things are, so an
//! idle shard does nothing and the simulator repeats.

use crate::limits::{FOLD_STEP_RECORDS, LOG_TREES_FOLD, RELOG_BYTES_MAX};
use crate::log::fold::wants_fold;
use crate::shard::Shard;
use crate::tablet::{Paying, Tablet};
use cairn_base::door::Doors;
use cairn_format::TabletId;
use std::rc::Rc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Freeze(TabletId),
    Relog(TabletId),
    Fold(TabletId),
    Trim,
}

impl<D: Doors> Shard<D> {
    /// The pacing task: ends when the shard stops or its log fails.
    pub(crate) async fn run_pace(self: Rc<Self>) {
        loop {
            let next = self.pace.until(|| {
                if self.is_stopping() || self.log.has_failed() {
                    return Some(None);
                }
                self.next_action().map(Some)
            });
            let Some(action) = next.await else { return };
            let done = match action {
                Action::Freeze(tablet) => self.freeze(tablet).await,
                Action::Relog(tablet) => self.relog(tablet).await,
                Action::Fold(tablet) => self.fold_step(tablet).await.map(drop),
                Action::Trim => self.trim().await,
            };
            if let Err(error) = done {
                // A tree that cannot be written or read holds the tail for ever: better to say so now.
                self.log.fail(error);
                self.pace.wake_all();
                return;
            }
            self.handle.yield_now().await;
        }
    }

    /// Has what records do, one by one, come to where pacing may have to do something? All else
    /// that matters to it wakes it by itself.
    pub(crate) fn pace_is_due(&self) -> bool {
        self.fold_waits.get() && self.records_since_fold() >= FOLD_STEP_RECORDS
            || self.core.memtable_bytes() > self.config.memtable_bytes / 2
            || self.memory_wanted.get() > 0
            || self.log.next_position().0 - self.log.tail().0 > self.log.paced_from()
    }

    fn records_since_fold(&self) -> u64 {
        self.core.counters.log_records.get() - self.fold_paced_at.get()
    }

    fn next_action(&self) -> Option<Action> {
        let (from, next, tail) = (self.log.paced_from(), self.log.next_position(), self.log.tail());
        if next.0 - tail.0 > from {
            let pinning = self.core.tablets().filter_map(|t| Some((t.pinned_position()?, t)));
            let oldest = pinning.min_by_key(|(position, _)| *position);
            let reach = oldest.as_ref().map_or(next, |(position, _)| *position);
            // A trim writes root blocks and a record: worth it for a good part of the ring.
            if reach.0 - tail.0 > from / 4 {
                return Some(Action::Trim);
            }
            if let Some((_, tablet)) = oldest {
                let small = tablet.active.borrow().node_bytes() <= RELOG_BYTES_MAX;
                let relog = small && self.log.has_room_for_relog();
                return Some(if relog {
                    Action::Relog(tablet.id)
                } else {
                    self.freeze_or_fold(tablet.id)
                });
            }
        }
        let memory = self.core.memtable_bytes();
        let budget = self.config.memtable_bytes;
        if memory > budget / 2 || memory + self.memory_wanted.get() > budget {
            let largest = self.core.tablets().max_by_key(|t| t.active.borrow().bytes())?;
            if largest.active.borrow().bytes() > 0 {
                return Some(self.freeze_or_fold(largest.id));
            }
        }
        if let Some(action) = self.core.tablets().find_map(|tablet| self.payment(tablet)) {
            return Some(action);
        }
        let due = self.core.tablets().filter(|tablet| wants_fold(tablet));
        let due = due.max_by_key(|tablet| tablet.root.borrow().log_trees.len());
        let ready = due.filter(|tablet| self.fold_is_paced(tablet));
        self.fold_waits.set(due.is_some() && ready.is_none());
        ready.map(|tablet| Action::Fold(tablet.id))
    }

    /// The next step for somebody who waits for node space; a tablet whose last one is done is
    /// marked so.
    fn payment(&self, tablet: &Tablet) -> Option<Action> {
        if tablet.paying.get() == Paying::Memtable {
            if !tablet.active.borrow().is_empty() {
                let action = self.freeze_or_fold(tablet.id);
                if matches!(action, Action::Freeze(_)) {
                    tablet.paying.set(Paying::LogTrees);
                }
                return Some(action);
            }
            tablet.paying.set(Paying::LogTrees);
        }
        if tablet.paying.get() == Paying::LogTrees {
            if !tablet.root.borrow().log_trees.is_empty() {
                return Some(Action::Fold(tablet.id));
            }
            tablet.paying.set(Paying::Nobody);
            self.pace.wake_all();
        }
        None
    }

    /// A fold that has begun goes on as records come in, so that it never takes the device from
    /// those who write; when the tablet falls behind it goes on at once.
    fn fold_is_paced(&self, tablet: &Tablet) -> bool {
        let root = tablet.root.borrow();
        let behind = root.log_trees.len() > LOG_TREES_FOLD + 2;
        root.fold_cursor.is_none() || behind || self.records_since_fold() >= FOLD_STEP_RECORDS
    }

    fn freeze_or_fold(&self, id: TabletId) -> Action {
        let room = self.core.tablet(id).has_room_for_log_tree();
        if room { Action::Freeze(id) } else { Action::Fold(id) }
    }
}
