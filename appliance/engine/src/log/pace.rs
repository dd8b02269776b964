//! When to freeze, relog, merge, fold and trim.
//!
//! One task a shard does one thing at a time, the most urgent first: what the log's tail waits for,
//! then memory, then the steps of merges and folds. Nothing here has a clock: work follows from how full
//! things are, so an idle shard does nothing and the simulator repeats.
//!
//! Steps come in between the records of those who write, so that they do not take the device from them.
//! A tablet that has gathered more log trees gets them sooner, in small degrees (`records_between`), so that
//! nobody meets an edge: not when a merge begins, and not when log trees are as many as there may be and
//! the next freeze would have to wait. A tablet's merges and its fold take turns. When it is behind, the
//! merge of its youngest trees comes first, as that one ends soonest.

use crate::limits::{
    LOG_TREES_FOLD, LOG_TREES_STOP, MERGE_FILTERS_PART, MERGES_MAX, MERGES_TABLET_MAX,
    RELOG_BYTES_MAX, STEP_RECORDS_MAX,
};
use crate::log::choice::{Begin, MayMerge, TreeSize, choose};
use crate::log::merges::MergeId;
use crate::shard::Shard;
use crate::tablet::{LogTree, Paying, Tablet};
use cairn_base::door::Doors;
use cairn_format::TabletId;
use smallvec::SmallVec;
use std::ops::Range;
use std::rc::Rc;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Freeze(TabletId),
    Relog(TabletId),
    Fold(TabletId),
    BeginMerge(TabletId, Range<usize>),
    Merge(TabletId, MergeId),
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
                Action::BeginMerge(tablet, range) => self.begin_merge(tablet, range).await,
                Action::Merge(tablet, merge) => self.merge_step(tablet, merge).await.map(drop),
                Action::Trim => self.trim().await,
            };
            if let Err(error) = done {
                // A tree that cannot be written holds the tail for ever: better to say so now.
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
        self.step_waits.get().is_some_and(|records| self.records_since_step() >= records)
            || self.core.memtable_bytes() > self.config.memtable_bytes / 2
            || self.memory_wanted.get() > 0
            || self.log.next_position().0 - self.log.tail().0 > self.log.paced_from()
    }

    fn records_since_step(&self) -> u64 {
        self.core.counters.log_records.get() - self.stepped_at.get()
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
                let action = if relog {
                    Some(Action::Relog(tablet.id))
                } else {
                    self.freeze_or_fold(tablet.id)
                };
                if action.is_some() {
                    return action;
                }
            }
        }
        let memory = self.core.memtable_bytes();
        let budget = self.config.memtable_bytes;
        if memory > budget / 2 || memory + self.memory_wanted.get() > budget {
            let largest = self.core.tablets().max_by_key(|t| t.active.borrow().bytes())?;
            if largest.active.borrow().bytes() > 0 {
                if let Some(action) = self.freeze_or_fold(largest.id) {
                    return Some(action);
                }
                // It is stuck: the others have to do.
                let mut some = self.core.tablets().filter(|t| t.active.borrow().bytes() > 0);
                if let Some(action) = some.find_map(|tablet| self.freeze_or_fold(tablet.id)) {
                    return Some(action);
                }
            }
        }
        if let Some(action) = self.core.tablets().find_map(|tablet| self.payment(tablet)) {
            return Some(action);
        }
        self.next_step()
    }

    /// The next step of a merge or fold, of the tablet with the most log trees, once it is its time.
    fn next_step(&self) -> Option<Action> {
        self.step_waits.set(None);
        let merges: usize = self.core.tablets().map(|tablet| tablet.merges.len()).sum();
        let steps = self.core.tablets().filter_map(|tablet| {
            let step = self.step_of(tablet, merges < MERGES_MAX)?;
            Some((tablet.root.borrow().log_trees.len(), tablet, step))
        });
        let (log_trees, tablet, step) = steps.max_by_key(|(log_trees, _, _)| *log_trees)?;
        let records = records_between(log_trees);
        if self.records_since_step() < records {
            self.step_waits.set(Some(records));
            return None;
        }
        tablet.merges.next_turn();
        Some(step)
    }

    /// What a tablet would do next of its own accord.
    pub(crate) fn step_of(&self, tablet: &Tablet, is_free: bool) -> Option<Action> {
        let root = tablet.root.borrow();
        if root.log_trees.is_empty() {
            return None;
        }
        let is_barred = |tree: &LogTree| tablet.barred.has(&tree.entry.tree.root);
        let mut is_folding =
            root.fold_cursor.is_some() && !root.log_trees.first().is_some_and(is_barred);
        let trees: SmallVec<[TreeSize; 12]> = root
            .log_trees
            .iter()
            .enumerate()
            .map(|(index, tree)| TreeSize {
                nodes: tree.entry.tree.nodes.get(),
                busy: index == 0 && is_folding
                    || tablet.merges.has(&tree.entry.tree.root)
                    || is_barred(tree),
            })
            .collect();
        let filters: usize = root.log_trees.iter().map(|tree| tree.entry.filter.bytes()).sum();
        let may_merge = if tablet.merges.is_refused()
            || filters > self.config.filter_bytes / MERGE_FILTERS_PART
        {
            MayMerge::No
        } else if is_free && tablet.merges.len() < MERGES_TABLET_MAX {
            MayMerge::Now
        } else {
            MayMerge::Later
        };
        match choose(&trees, root.fs.nodes.get(), may_merge) {
            Some(Begin::Merge(range)) => return Some(Action::BeginMerge(tablet.id, range)),
            Some(Begin::Fold) => is_folding = true,
            None => {}
        }
        let mut merges = tablet.merges.ids();
        let turns = usize::from(is_folding) + tablet.merges.len();
        let is_behind = trees.len() > LOG_TREES_FOLD + 2;
        let turn = if is_behind { turns.checked_sub(1)? } else { tablet.merges.turn(turns) };
        match turn.checked_sub(usize::from(is_folding)) {
            Some(merge) => merges.nth(merge).map(|merge| Action::Merge(tablet.id, merge)),
            None => Some(Action::Fold(tablet.id)),
        }
    }

    /// The next step for somebody who waits for node space; a tablet whose last one is done is
    /// marked so.
    fn payment(&self, tablet: &Tablet) -> Option<Action> {
        if tablet.paying.get() == Paying::Memtable {
            self.give_up_merges(tablet);
            if !tablet.active.borrow().is_empty()
                && let Some(action) = self.freeze_or_fold(tablet.id)
            {
                if matches!(action, Action::Freeze(_)) {
                    tablet.paying.set(Paying::LogTrees);
                }
                return Some(action);
            }
            tablet.paying.set(Paying::LogTrees);
        }
        if tablet.paying.get() == Paying::LogTrees {
            let oldest = tablet.root.borrow().log_trees.first().map(|tree| tree.entry.tree.root);
            if oldest.is_some_and(|oldest| !tablet.barred.has(&oldest)) {
                return Some(Action::Fold(tablet.id));
            }
            tablet.paying.set(Paying::Nobody);
            self.pace.wake_all();
        }
        None
    }

    /// `None` where damage leaves nothing that could be done.
    fn freeze_or_fold(&self, id: TabletId) -> Option<Action> {
        let tablet = self.core.tablet(id);
        if tablet.has_room_for_log_tree() {
            return Some(Action::Freeze(id));
        }
        // Where there is no room the merge of the youngest trees makes some soonest.
        if let Some(merge) = tablet.merges.ids().next_back() {
            return Some(Action::Merge(id, merge));
        }
        let step = self.step_of(&tablet, true);
        if step.is_some() || tablet.barred.is_empty() {
            return Some(step.unwrap_or(Action::Fold(id)));
        }
        self.has_last_room(&tablet).then_some(Action::Freeze(id))
    }
}

/// Records to wait for between two steps while a tablet has so many log trees: the square of what is
/// left until freezes have to wait. A step takes in as much as many records bring, so with the most room it
/// goes ten times as fast as they do.
fn records_between(log_trees: usize) -> u64 {
    let room = LOG_TREES_STOP.saturating_sub(log_trees + 1) as u64;
    (room * room).min(STEP_RECORDS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_the_sooner_the_more_log_trees_there_are() {
        let waits: Vec<u64> = (LOG_TREES_FOLD..=LOG_TREES_STOP + 1).map(records_between).collect();
        assert_eq!(waits, [16, 16, 9, 4, 1, 0, 0, 0]);
    }
}
