//! Merges neighbouring log trees of a tablet into one, a step at a time, while it is served.
//!
//! Readers ask every log tree, so there may be only a few; folding each one by itself would rewrite a
//! large part of the fs tree for a few items (`choice.rs`). A merge reads its trees in key order
//! (`tree/merge.rs`), writes one tree (`tree/grow.rs`), and names it by one root record in the place of
//! all of them, which frees their blocks.
//!
//! A step reads and writes a bounded number of nodes and waits for nobody but the device, so a freeze that
//! is due waits for one step at most. Between steps a merge keeps its place in each tree, the items that do not fill a node
//! yet, and its filter. What always holds: its trees stay named and whole until they are replaced; a fold does
//! not touch them; freezes only add younger ones; deletion marks go on as marks.
//!
//! A merge is a convenience, so it takes only what nobody misses. It never asks for a zone and never
//! waits for space: it holds ready blocks of those that the tablet keeps for freezes and folds, and it is
//! given up, with all it has written, as soon as somebody looks for a zone in vain. Where its trees or
//! its blocks lie in too many pieces for one record it is given up as well. The tablet then folds, and
//! may merge again when that fold has ended. Nothing of it was named, so a crash has the same effect
//! (docs/decisions/0013-merges-begin-again.md).
//!
//! Not here: when and what to merge (`pace.rs`, `choice.rs`), and what waits between steps (`merges.rs`).

use crate::block::FilterBuf;
use crate::error::FsError;
use crate::limits::{
    MERGE_NODES_SPARE, MERGE_RUNS_MAX, MERGE_RUNS_MIN, NODE_FILL_MIN, NODE_UNIT, RUN_EDIT_BYTES,
};
use crate::log::fold::coalesce;
use crate::log::freeze::RootChange;
use crate::log::merges::{GrowingFilter, Merge, MergeId};
use crate::log::{LogClass, is_damage};
use crate::shard::Shard;
use crate::space::{Promise, Reservation, RunSet};
use crate::tablet::{LogTree, Tablet, filter_hash};
use crate::tree::{Growing, Inputs, NodePlaces, OutOfPlaces, Packing, Unread, write_nodes};
use cairn_base::door::{Disk, Doors, Durability};
use cairn_base::{BLOCK_BYTES, DmaSlice, Run};
use cairn_format::TabletId;
use cairn_format::filter::{FilterBuilder, FilterRef, filter_blocks};
use cairn_format::key::{Key, Purpose};
use cairn_format::node::NODE_BLOCKS;
use cairn_format::tablet_root::{LogTreeEntry, TreeRef};
use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

/// What a step came to.
enum Stepped {
    Some,
    All(LogTree),
    /// It cannot be brought to an end.
    GivenUp,
    Unread(Unread),
}

impl<D: Doors> Shard<D> {
    /// Begins to merge the log trees of `range`, unless there is no space for it.
    pub(crate) async fn begin_merge(
        self: &Rc<Self>,
        id: TabletId,
        range: Range<usize>,
    ) -> Result<(), FsError> {
        let tablet = self.core.tablet(id);
        let _turn = tablet.remaking.acquire(1).await;
        let trees: Vec<LogTreeEntry> = {
            let root = tablet.root.borrow();
            root.log_trees.get(range).unwrap_or(&[]).iter().map(|tree| tree.entry).collect()
        };
        if trees.len() < 2 {
            return Ok(());
        }
        let Some((reservation, promise, filter_run, mut places)) =
            self.room_for_merge(&tablet, &trees).await?
        else {
            tablet.merges.refuse();
            self.pace.wake_all();
            return Ok(());
        };
        let keys_max = filter_keys(&trees);
        let filter = filter_run.and_then(|blocks| places.take(blocks)).map(|run| GrowingFilter {
            buf: self.disk.arena().alloc_zeroed(filter_blocks(keys_max) as usize * BLOCK_BYTES),
            run,
            keys: 0,
            keys_max,
        });
        let inputs = Inputs::begin(&*self.disk, trees.iter().map(|entry| &entry.tree)).await;
        let inputs = match inputs {
            Ok(inputs) => inputs,
            Err(unread) => return self.bar_unread(&tablet, &trees, unread),
        };
        tablet.merges.put_back(Merge {
            id: tablet.merges.next_id(),
            trees,
            inputs,
            growing: Growing::default(),
            filter,
            places,
            read: RunSet::default(),
            _reservation: reservation,
            _promise: promise,
        });
        self.pace.wake_all();
        Ok(())
    }

    /// Blocks for the new tree and its filter, where they are ready and nobody will miss them.
    async fn room_for_merge(
        &self,
        tablet: &Rc<Tablet>,
        trees: &[LogTreeEntry],
    ) -> Result<Option<(Reservation, Promise, Option<u64>, NodePlaces)>, FsError> {
        let nodes: u64 = trees.iter().map(|entry| entry.tree.nodes.get()).sum();
        let filters: u64 = trees.iter().map(filter_room).sum();
        let keys = filter_keys(trees);
        let filter = (keys > 0).then(|| filter_blocks(keys).next_multiple_of(NODE_UNIT));
        let filter_more = filter.unwrap_or(0).saturating_sub(filters);
        // As a log tree, and twice more for its fold: what a tablet keeps for each of its nodes.
        let more = 3 * MERGE_NODES_SPARE * NODE_UNIT + filter_more;
        let kept = crate::txn::node_blocks_kept(tablet);
        let Some(promise) = tablet.space.promise(Purpose::Node, more, kept) else {
            return Ok(None);
        };
        let want = (nodes + MERGE_NODES_SPARE) * NODE_UNIT + filter.unwrap_or(0);
        let reservation = loop {
            self.mature(tablet);
            if let Some(held) = tablet.space.reserve_longest(want, self.merge_runs_max()) {
                break held;
            }
            if tablet.space.unloaded_from(Purpose::Node).is_none() {
                return Ok(None);
            }
            self.load_runs(tablet, Purpose::Node).await?;
        };
        let places = NodePlaces::new(reservation.runs().iter().copied());
        Ok(Some((reservation, promise, filter, places)))
    }

    /// One step; true when it finished the merge.
    pub(crate) async fn merge_step(
        self: &Rc<Self>,
        id: TabletId,
        merge: MergeId,
    ) -> Result<bool, FsError> {
        let tablet = self.core.tablet(id);
        let _turn = tablet.remaking.acquire(1).await;
        let Some(mut merge) = tablet.merges.take(merge) else { return Ok(false) };
        let stepped = self.merge_some(&tablet, &mut merge).await;
        let is_wanted = tablet.merges.end_step();
        self.core.counters.merge_steps.add(1);
        let mut is_done = false;
        match stepped? {
            _ if !is_wanted => {}
            Stepped::GivenUp => {
                self.core.counters.merges_given_up.add(1);
                tablet.merges.refuse();
            }
            Stepped::Unread(unread) => {
                self.core.counters.merges_given_up.add(1);
                self.bar_unread(&tablet, &merge.trees, unread)?;
            }
            Stepped::Some => tablet.merges.put_back(merge),
            Stepped::All(tree) => {
                self.replace_merged(&tablet, merge, tree).await?;
                is_done = true;
            }
        }
        self.stepped_at.set(self.core.counters.log_records.get());
        self.pace.wake_all();
        Ok(is_done)
    }

    async fn merge_some(&self, tablet: &Rc<Tablet>, merge: &mut Merge) -> Result<Stepped, FsError> {
        let Merge { inputs, growing, filter, places, read, .. } = merge;
        let each = |key: &Key| {
            if let (Some(filter), Some(hash)) = (filter.as_mut(), filter_hash(key)) {
                filter.add(hash);
            }
        };
        let bytes = self.step_leaves() * NODE_FILL_MIN;
        if let Err(unread) = inputs.take(&*self.disk, bytes, growing, each).await {
            return Ok(Stepped::Unread(unread));
        }
        for block in inputs.take_visited() {
            read.insert(Run::new(block, NODE_BLOCKS));
        }
        if read.len() > self.merge_runs_max() {
            return Ok(Stepped::GivenUp);
        }
        let is_end = inputs.is_at_end();
        let generation = tablet.root.borrow().generation + 1;
        let (arena, built) = (self.disk.arena(), Vec::new());
        let mut packing = Packing { arena, tablet: tablet.id, generation, places, built };
        let packed = growing.pack(&mut packing);
        let tree = match (packed, is_end) {
            (Ok(()), true) => std::mem::take(growing).finish(&mut packing),
            (Ok(()), false) => Ok(TreeRef::EMPTY),
            (Err(OutOfPlaces), _) => Err(OutOfPlaces),
        };
        let Ok(tree) = tree else { return Ok(Stepped::GivenUp) };
        let blocks = packing.built.len() as u64 * NODE_BLOCKS;
        self.core.counters.merge_blocks_written.add(blocks);
        write_nodes(&*self.disk, packing.built).await?;
        if !is_end {
            return Ok(Stepped::Some);
        }
        let (filter, held) = match merge.filter.take() {
            Some(filter) => self.write_merged_filter(filter).await?,
            None => (FilterRef::NONE, None),
        };
        self.flush(tree.root.block_no().device()).await?;
        let seq = merge.trees.iter().map(|entry| entry.frozen_seq.get()).max().unwrap_or(0);
        let entry = LogTreeEntry { tree, filter, frozen_seq: seq.into(), ..LogTreeEntry::EMPTY };
        Ok(Stepped::All(LogTree { entry, filter: RefCell::new(held) }))
    }

    /// The filter stays in memory: to read it again would make somebody wait.
    async fn write_merged_filter(
        &self,
        filter: GrowingFilter,
    ) -> Result<(FilterRef, Option<Rc<FilterBuf>>), FsError> {
        let GrowingFilter { mut buf, run, keys, keys_max } = filter;
        let at = FilterBuilder::resume(&mut buf, keys_max, keys).finish(run.start);
        let held = DmaSlice::whole(buf);
        let wrote = self.disk.write(run.start, vec![held.clone()], Durability::Cached).await;
        wrote.map_err(|error| FsError::Media { block: run.start, error })?;
        self.core.counters.merge_blocks_written.add(u64::from(at.blocks.get()));
        Ok((at, Some(Rc::new(FilterBuf::verified(held)))))
    }

    /// Names the new tree in the place of those it was made of.
    async fn replace_merged(
        &self,
        tablet: &Rc<Tablet>,
        merge: Merge,
        tree: LogTree,
    ) -> Result<(), FsError> {
        let mut takes: Vec<Run> = merge.places.used().to_vec();
        let mut frees: Vec<Run> = merge.read.iter().collect();
        for entry in &merge.trees {
            if !entry.filter.is_none() {
                frees.push(Run::new(entry.filter.block_no(), filter_room(entry)));
            }
            if entry.spare_blocks.get() > 0 {
                frees.push(Run::new(entry.spare_start(), entry.spare_blocks.get()));
            }
        }
        coalesce(&mut takes);
        coalesce(&mut frees);
        let room = 4096 + RUN_EDIT_BYTES * (takes.len() + frees.len());
        let admission = self.log.admit(room, LogClass::Root).await?;
        let change = RootChange { takes, frees };
        self.change_root(tablet, change, |root| {
            let is_first = |tree: &LogTree| tree.entry == merge.trees[0];
            let first = root.log_trees.iter().position(is_first);
            let first = first.expect("trees that merge stay named");
            let range = first..first + merge.trees.len();
            let are_they = root.log_trees[range.clone()].iter().map(|tree| &tree.entry);
            assert!(are_they.eq(&merge.trees), "trees that merge stay neighbours");
            root.log_trees.splice(range, [tree]);
        });
        drop((admission, merge));
        self.core.counters.merges_finished.add(1);
        self.core.thin_out_filters(tablet.id, self.config.filter_bytes);
        Ok(())
    }

    /// A merge ends with a tree that damage keeps from being read; other errors stop the shard.
    fn bar_unread(
        &self,
        tablet: &Tablet,
        trees: &[LogTreeEntry],
        Unread { nth, error }: Unread,
    ) -> Result<(), FsError> {
        if !is_damage(error) {
            return Err(error);
        }
        self.bar(tablet, trees[nth].tree.root, error);
        Ok(())
    }

    /// Drops what the tablet's merges hold. Were there any?
    pub(crate) fn give_up_merges(&self, tablet: &Tablet) -> bool {
        let count = tablet.merges.give_up();
        self.core.counters.merges_given_up.add(count);
        count > 0
    }

    /// In how many pieces the blocks of a merge may lie, the old ones and the new ones each: they go
    /// into one record, and into the memtable.
    fn merge_runs_max(&self) -> usize {
        (self.config.memtable_bytes / RUN_EDIT_BYTES / 8).clamp(MERGE_RUNS_MIN, MERGE_RUNS_MAX)
    }
}

/// Blocks of a log tree's filter, as they were allocated.
fn filter_room(entry: &LogTreeEntry) -> u64 {
    u64::from(entry.filter.blocks.get()).next_multiple_of(NODE_UNIT)
}

/// Lookup entries of all `trees`, at most.
fn filter_keys(trees: &[LogTreeEntry]) -> u64 {
    let has_some = trees.iter().any(|entry| !entry.filter.is_none());
    let keys = |entry: &LogTreeEntry| match entry.filter.is_none() {
        // It has none, or found no run that was long enough for a filter.
        true => entry.tree.items.get(),
        false => u64::from(entry.filter.keys.get()),
    };
    if has_some { trees.iter().map(keys).sum() } else { 0 }
}
